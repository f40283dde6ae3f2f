/** When recorded dispatches reach the GPU. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { affine, type Device, type Tensor, tensor } from '../../engine/index.ts';
import { open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

/** After how many dispatches from now on there is a submit. */
function submits(x: Tensor, dispatches: number): number[] {
  const found: number[] = [];
  for (let i = 1; i <= dispatches; i++) {
    const before = device.queue.nextSerial;
    affine(x, 2, 0).dispose();
    if (device.queue.nextSerial > before) found.push(i);
  }
  return found;
}

it('are small at first, and again after a readback', async () => {
  using x = tensor(device, [1, 2]);
  const places = [8, 24, 56, 120, 220, 320];
  await x.read();
  expect(submits(x, 350)).toEqual(places);
  await x.read();
  expect(submits(x, 350)).toEqual(places);
});
