/**
 * `npm run test:deno [-- --short | [-t PATTERN] FILE …]`: the tests in Deno, whose WebGPU is wgpu with the naga compiler (denoTests.ts),
 * and the main job, whose report has to equal Dawn's in every number. Deno comes from npm, into npm's own cache.
 */

import { compareMainJob, runtime } from './foreign.mjs';

const args = process.argv.slice(2);
const deno = runtime('deno@2.9.6');
const ANY = ['run', '--quiet', '--no-prompt', '--no-check', '--unstable-webgpu', '--allow-all'];
// Without leave to load native code there is no addon, so that it is Deno's own WebGPU that is found.
const OWN = [...ANY, '--deny-ffi'];
const imports = ['--import-map', 'test/portability/importMap.json'];

const { status } = deno([...OWN, ...imports, 'test/portability/denoTests.ts', ...args], { stdio: 'inherit' });
const short = args.length === 1 && args[0] === '--short';
// Both in Deno, so that nothing but WebGPU differs: Node's exp and log may end on another bit of float64.
const equal =
  (args.length > 0 && !short) ||
  compareMainJob(
    [
      ['Dawn', (command) => deno([...ANY, ...command])],
      ['wgpu', (command) => deno([...OWN, ...command])],
    ],
    { options: short ? ['--neurons', 'random:4'] : [] },
  );
process.exit(status === 0 && equal ? 0 : 1);
