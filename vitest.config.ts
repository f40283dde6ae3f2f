/**
 * Tests run in processes, not threads: Dawn's native code crashes worker threads. Two at most: on a machine without a GPU
 * the software adapter already uses every core.
 */

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/compileFast.ts', 'test/recordKernels.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
    // `npm run coverage`; not part of CI, which it would slow down.
    coverage: {
      provider: 'v8',
      include: ['kernels', 'engine', 'models', 'neurgrad', 'probing'].map((room) => `${room}/**/*.ts`),
      exclude: ['test/**'],
      reporter: ['text', 'json-summary'],
      reportsDirectory: 'dist/coverage',
      reportOnFailure: true,
      thresholds: { lines: 90 },
    },
  },
});
