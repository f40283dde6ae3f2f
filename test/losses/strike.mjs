/**
 * Preloaded into a process (`node --import`), loses its WebGPU devices:
 *
 *   LOSSES_AT=n:before,m:later  at these of its calls to WebGPU, from 1, and when: before the call, after it, or soon after
 *   LOSSES_EVERY=n              at every n-th
 *   LOSSES_LIST=file            the calls, one a line, at the end of the process
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { globals } from 'webgpu';

const source = readFileSync(new URL('lose.js', import.meta.url), 'utf8');
const loseDevices = new Function(`${source}\nreturn loseDevices;`)();
const places = new Map(
  (process.env.LOSSES_AT ?? '')
    .split(',')
    .filter((place) => place !== '')
    .map((place) => [Number(place.split(':')[0]), place.split(':')[1]]),
);
const every = Number(process.env.LOSSES_EVERY ?? 0);
const calls = loseDevices(globals, (n) => places.get(n) ?? (every > 0 && n % every === 0 ? 'after' : null));
const list = process.env.LOSSES_LIST;
if (list) process.on('exit', () => writeFileSync(list, calls.map((line) => `${line}\n`).join('')));
