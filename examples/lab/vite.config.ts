/**
 * The laboratory's build: a static folder with relative addresses, for any host and any sub-path.
 *
 * The bundled models are served and copied as they are. What only Node can do (the download cache, files of its own) is left
 * out: the page keeps models in the browser's own file system instead.
 */

import { join } from 'node:path';
import { defineConfig, type Plugin } from 'vite';

const NODE_ONLY = /\/(models\/(hubCache|seal)|engine\/(disk|lock))\.ts$/;

function leaveOutNode(): Plugin {
  return {
    name: 'leave-out-node',
    enforce: 'pre',
    load(id) {
      if (NODE_ONLY.test(id)) return 'export {};';
      return id === '\0node' ? 'export default {};' : null;
    },
    resolveId: (id) => (id.startsWith('node:') ? '\0node' : null),
  };
}

export default defineConfig({
  root: import.meta.dirname,
  base: './',
  publicDir: '../models',
  plugins: [leaveOutNode()],
  worker: { format: 'es', plugins: () => [leaveOutNode()] },
  build: {
    target: 'es2022',
    outDir: 'dist',
    emptyOutDir: true,
    rolldownOptions: {
      input: ['index.html', 'src/sw.ts'].map((name) => join(import.meta.dirname, name)),
      // A service worker's scope is the folder that it lies in.
      output: { entryFileNames: ({ name }) => (name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js') },
    },
  },
  server: { fs: { allow: ['../..'] } },
});
