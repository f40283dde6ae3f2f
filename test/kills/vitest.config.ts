/** `npm run kills`: a kill at every change of the disk. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: {
    include: ['test/kills/kills.test.ts'],
    env: { KILLS: 'all' },
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 7_200_000,
  },
});
