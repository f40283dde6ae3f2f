/** Waiting with sleeps between the event loop's turns: values and errors come through, and other callbacks have their turn. */

import { expect, test } from 'vitest';
import { Patience } from '../../engine/patience.ts';

const after = <Value>(ms: number, value: Value): Promise<Value> =>
  new Promise((resolve) => setTimeout(() => resolve(value), ms));

test('gives what was waited for, or its error, also where waits overlap', async () => {
  const patience = new Patience();
  expect(await patience.wait(Promise.resolve(1))).toBe(1);
  const results = await Promise.allSettled([
    patience.wait(after(20, 'late')),
    patience.wait(after(5, 'early')),
    patience.wait(after(10, 0).then(() => Promise.reject(new Error('lost')))),
  ]);
  expect(results.map((r) => (r.status === 'fulfilled' ? r.value : (r.reason as Error).message))).toEqual([
    'late',
    'early',
    'lost',
  ]);
  expect(await patience.wait(after(5, 'again'))).toBe('again');
});

test('lets timers and immediates run meanwhile', async () => {
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  await new Patience().wait(after(50, null));
  clearInterval(timer);
  expect(ticks).toBeGreaterThan(2);
});
