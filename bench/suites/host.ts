/**
 * What the host spends on a dispatch, without a GPU behind it: Dawn's null backend runs nothing, so all time is ours and
 * the driver interface's. Measured with parameters as immediates and in a uniform ring, and for a recorded list of dispatches.
 */

import { add, affine, type Device, linear, openDevice, record, scope, tensor } from '../../engine/index.ts';
import { randomNumbers } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, processorClock } from '../timing.ts';
import type { Suite } from './suite.ts';

const DISPATCHES = 2000;
/** Turns of every loop before timing: a sweep's thousands of dispatches run compiled code, too. */
const WARM_UP = 10;

async function loops(device: Device): Promise<Record<string, () => Promise<void>>> {
  const x = tensor(device, randomNumbers(64 * 64, 1), [64, 64]);
  const w = tensor(device, randomNumbers(64 * 64, 2), [64, 64]);
  const b = tensor(device, randomNumbers(64, 3), [64]);
  const loop = (step: () => void) => async (): Promise<void> => {
    for (let i = 0; i < DISPATCHES / 20; i++) scope(() => Array.from({ length: 20 }, step).length);
    await device.finish();
  };
  const linears = record(device, () => Array.from({ length: 20 }, () => linear(x, w, b)));
  return {
    affine: loop(() => affine(x, 2, 1)),
    add: loop(() => add(x, w)),
    linear: loop(() => linear(x, w, b)),
    'linear, replayed': async () => {
      for (let i = 0; i < DISPATCHES / 20; i++) linears.replay();
      await device.finish();
    },
  };
}

export const hostSuite: Suite = async ({ rounds, progress }) => {
  progress('host cost on the null backend');
  const rows: Row[] = [];
  for (const immediates of [true, false]) {
    const device = await openDevice({ backend: 'null', mask: { immediates } });
    const work = await loops(device);
    for (let turn = 0; turn < WARM_UP; turn++) for (const loop of Object.values(work)) await loop();
    const times = await interleave(work, Math.max(rounds, 9), processorClock(1));
    for (const [op, t] of Object.entries(times))
      rows.push({
        suite: 'host',
        shape: `${op}, ${immediates ? 'immediates' : 'uniform ring'}`,
        unit: 'us a dispatch',
        ours: (t.median * 1000) / DISPATCHES,
        spread: t.spread,
        figures: { least: (t.least * 1000) / DISPATCHES },
        peers: {},
        ratio: null,
        ratioOf: '',
        checked: 'null backend',
      });
    device.destroy();
  }
  return rows;
};
