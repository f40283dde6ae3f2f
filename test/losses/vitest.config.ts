/** `npm run losses`: a hundred losses, a fifth of them in each of four kinds of work in Node and in the laboratory. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: {
    include: ['test/losses/losses.test.ts', 'test/lab/losses.test.ts'],
    env: { LOSSES: process.env.LOSSES ?? '20', LOSSES_SEED: process.env.LOSSES_SEED ?? '1' },
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 7_200_000,
    hookTimeout: 600_000,
  },
});
