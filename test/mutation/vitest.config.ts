/** The gradient tests with one gradient broken: see scale.ts. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: {
    include: ['test/engine/gradients.test.ts', 'test/engine/door.test.ts', 'test/training/training.test.ts'],
    setupFiles: ['test/mutation/scale.ts'],
    pool: 'forks',
    maxWorkers: 1,
    bail: 1,
    testTimeout: 120_000,
  },
});
