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

/** Pictures of a link are fetched by their whole address only: where LAB_SITE says what the page's will be, it is written out. */
function wholeAddressOfPicture(): Plugin {
  const { LAB_SITE } = process.env;
  const site = LAB_SITE ? LAB_SITE.replace(/\/*$/, '/') : null;
  return {
    name: 'whole-address-of-picture',
    enforce: 'post',
    generateBundle(_, files) {
      for (const file of Object.values(files)) {
        if (!site || file.type !== 'asset' || !file.fileName.endsWith('.html')) continue;
        file.source = String(file.source).replace(
          /(property="og:image" content=")\.\//,
          (_, before) => before + site,
        );
      }
    },
  };
}

export default defineConfig({
  root: import.meta.dirname,
  base: './',
  publicDir: '../models',
  plugins: [leaveOutNode(), wholeAddressOfPicture()],
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
