/** `npm run kernels`: which kernels all tests execute, beside those that adapters would choose, as docs/kernels.md. Half an hour without a GPU. */

import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';

const executed = 'dist/executed';
const vitest = (env, ...args) =>
  spawnSync('node_modules/.bin/vitest', ['run', ...args], {
    env: { ...process.env, ...env },
    stdio: 'inherit',
  }).status;

rmSync(executed, { recursive: true, force: true });
process.exitCode =
  vitest({ EXECUTED: executed }) ||
  vitest({ EXECUTED: executed, KERNELS: 'docs/kernels.md' }, 'test/kernels/chosen.test.ts');
