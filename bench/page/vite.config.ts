/** The benchmarks' page: a static folder with relative addresses. */

import { defineConfig } from 'vite';

export default defineConfig({
  root: import.meta.dirname,
  base: './',
  build: { target: 'es2022', outDir: 'dist', emptyOutDir: true },
  server: { fs: { allow: ['../..'] } },
});
