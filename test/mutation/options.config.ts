/** The test of options.ts, which takes a minute. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: { include: ['test/mutation/options.ts'], pool: 'forks' },
});
