/**
 * `npm run test:bun`: the command line and the main job in Bun, which has no WebGPU of its own but loads Dawn's addon. Bun comes from npm,
 * into npm's own cache.
 */

import { spawnSync } from 'node:child_process';
import { compareMainJob, root, runtime } from './foreign.mjs';

const bun = runtime('bun@1.4.5');
const { status, stdout, stderr } = bun(['dist/cli/main.js', 'doctor', '--json']);
console.log(
  status === 0
    ? `doctor: ${JSON.parse(stdout).adapter.runtime}`
    : `doctor: status ${status}\n${stdout}${stderr}`,
);
const node = (command) => spawnSync(process.execPath, command, { cwd: root, encoding: 'utf8' });
// The same Dawn; another engine's exp and log may end on another bit of float64.
const equal = compareMainJob(
  [
    ['Node', node],
    ['Bun', bun],
  ],
  { tolerance: 1e-12 },
);
process.exit(status === 0 && equal ? 0 : 1);
