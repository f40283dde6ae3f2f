/** `npm run test:firefox`: pages in Firefox, whose WebGPU is wgpu. */

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  test: {
    include: ['test/portability/firefox.ts'],
    pool: 'forks',
    // Node 20's WebSocket.
    execArgv: ['--experimental-websocket'],
    maxWorkers: 1,
    reporters: ['verbose'],
    testTimeout: 1_800_000,
    hookTimeout: 120_000,
  },
});
