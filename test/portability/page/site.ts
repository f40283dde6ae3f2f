/** The page of tests, built and behind a static server. */

import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { type Site, serve } from '../../lab/site.ts';

/** Builds the page into a folder, which is emptied. */
export async function serveTests(folder: string): Promise<Site> {
  await build({
    root: fileURLToPath(new URL('.', import.meta.url)),
    configFile: false,
    base: './',
    logLevel: 'error',
    resolve: {
      alias: [{ find: /^vitest$/, replacement: fileURLToPath(new URL('../vitest.ts', import.meta.url)) }],
    },
    // The package says that importing it does nothing, which is not so of its tests.
    plugins: [
      {
        name: 'tests-do-something',
        transform: (code, id) => (/\.test\.ts$/.test(id) ? { code, moduleSideEffects: true } : null),
      },
    ],
    build: { target: 'esnext', outDir: folder, emptyOutDir: true },
  });
  return serve(folder);
}
