/**
 * Tables of rotary angles as long as has been asked for. What turning does: the table of operations (cases.ts).
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  type Device,
  grad,
  integers,
  mul,
  noGrad,
  RotaryAngles,
  record,
  rotary,
  rotarySpeeds,
  rotaryTable,
  scope,
  square,
  sum,
  type Tensor,
} from '../../engine/index.ts';
import { cacheToken } from '../../engine/ops/cacheToken.ts';
import { rotaryOfBoth } from '../../engine/ops/rotary.ts';
import { compute, expectSameBits, heldBytes, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

describe('rotary angles', () => {
  it('make a table of the next power of two, up to all positions, with the same numbers however long', async () => {
    using angles = new RotaryAngles(device, rotarySpeeds(8, 500), 1500);
    const whole = rotaryTable(device, 1500, 8, 500);
    const [cosine, sine] = await Promise.all([whole.cosine.read(), whole.sine.read()]);
    for (const [asked, rows] of [
      [0, 256],
      [1, 256],
      [256, 256],
      [257, 512],
      [3, 512],
      [1400, 1500],
      [1500, 1500],
    ] as const) {
      const table = angles.table(asked);
      expect(table.cosine.shape).toEqual([rows, 4]);
      expectSameBits(await table.cosine.read(), cosine.slice(0, 4 * rows));
      expectSameBits(await table.sine.read(), sine.slice(0, 4 * rows));
    }
    expect(() => angles.table(1501)).toThrow('RotaryAngles: 1501 positions of 1500');
    whole.cosine.dispose();
    whole.sine.dispose();
  });

  it('outlive the scope that asks first, and are freed at the end', () => {
    const before = heldBytes(device);
    const angles = new RotaryAngles(device, Float64Array.of(0.5, 0.25), 1000);
    const first = scope(() => void angles.table(10)) ?? angles.table(1);
    expect(first.cosine.disposed).toBe(false);
    angles.table(1000);
    expect(heldBytes(device)).toBeGreaterThan(before);
    angles.dispose();
    expect(first.cosine.disposed).toBe(true);
    expect(heldBytes(device)).toBe(before);
  });

  it('keep what a plan names when they grow, and do not grow inside a recording', async () => {
    using angles = new RotaryAngles(device, Float64Array.of(0.5, 0.25), 4096);
    const x = upload(device, normal([1, 3, 5], 1));
    const position = integers(device, [7]);
    const turned = () => noGrad(() => rotary(x, position, angles.table(200)));
    const want = await turned().read();
    {
      using plan = record(device, turned);
      angles.table(4000);
      position.write([9]);
      plan.replay();
      const moved = await plan.result.read();
      expect(moved).not.toEqual(want);
      expectSameBits(moved, await turned().read());
      position.write([7]);
      plan.replay();
      expectSameBits(await plan.result.read(), want);
    }
    using fresh = new RotaryAngles(device, Float64Array.of(1), 10);
    expect(() => record(device, () => fresh.table(3))).toThrow(
      'a table of rotary positions is made inside a recording; ask for table(3) before it',
    );
  });

  it('are of speeds that are numbers', () => {
    for (const [speeds, says] of [
      [new Float64Array(), 'speeds []'],
      [Float64Array.of(1, Number.NaN), 'speeds [1, NaN]'],
      [[1], 'speeds is [1], expected a Float64Array of radians a position'],
    ] as const)
      expect(() => new RotaryAngles(device, speeds as Float64Array, 8)).toThrow(`RotaryAngles: ${says}`);
    expect(() => rotarySpeeds(3, 10)).toThrow('rotarySpeeds: 3 numbers, theta 10');
    expect(() => rotarySpeeds(4, 0)).toThrow('rotarySpeeds: 4 numbers, theta 0');
    expect([...rotarySpeeds(4, 100)]).toEqual([1, 0.1]);
  });
});

describe('queries and keys together', () => {
  it.each([
    ['all of a head turned', 4, 2, 4],
    ['a part of a head', 6, 2, 2],
    ['as many heads of both', 4, 4, 4],
  ] as const)(
    'are one kernel with the bits, and gradients, of two: %s',
    async (_, size, keyHeads, turned) => {
      const results = await compute(() => {
        const positions = integers(device, [0, 1, 2, 7, 8, 9]);
        const table = rotaryTable(device, 16, turned, 100);
        const [q, k] = [normal([2, 3, 4, size], 1), normal([2, 3, keyHeads, size], 2)].map((t) =>
          upload(device, t).requireGrad(),
        ) as [Tensor, Tensor];
        const before = device.queue.dispatches;
        const both = rotaryOfBoth(q, k, positions, table);
        expect(device.queue.dispatches - before).toBe(1);
        const apart = [rotary(q, positions, table), rotary(k, positions, table)];
        const gradients = ([a, b]: readonly Tensor[]) => grad(add(sum(square(a!)), sum(mul(b!, b!))), [q, k]);
        return [...both, ...gradients(both), ...apart, ...gradients(apart)];
      });
      for (let i = 0; i < 4; i++) expectSameBits(results[i]!.data, results[i + 4]!.data, `result ${i}`);
    },
  );
});

describe("a text's newest token", () => {
  it.each([
    ['all of a head turned', 4, 2, 4],
    ['a part of a head', 6, 2, 2],
    ['as many heads of both', 4, 4, 4],
    ['no head turned', 4, 2, 0],
  ] as const)(
    'goes into the cache in one dispatch, with the bits of several: %s',
    async (_, size, keyHeads, turned) => {
      const shapes = [4, keyHeads, keyHeads].map((heads) => [1, 1, heads, size]);
      const results: Record<string, Float32Array[]> = {};
      for (const [name, storageBuffers, dispatches] of [
        ['together', 9, 1],
        ['apart', 4, turned ? 3 : 2],
      ] as const) {
        const other = await open({ mask: { storageBuffers } });
        const tables = [0, 1].map((i) => upload(other, normal([keyHeads, 8, size], 4 + i))) as [
          Tensor,
          Tensor,
        ];
        const qkv = shapes.map((shape, i) => upload(other, normal(shape, 1 + i))) as [Tensor, Tensor, Tensor];
        const table = turned ? rotaryTable(other, 16, turned, 100) : undefined;
        const position = integers(other, [5]);
        const before = other.queue.dispatches;
        const q = cacheToken({ keys: tables[0], values: tables[1] }, qkv, position, table);
        expect(other.queue.dispatches - before).toBe(dispatches);
        results[name] = await Promise.all([q, ...tables].map((t) => t.read()));

        other.destroy();
      }
      results.together!.forEach((got, i) => {
        expectSameBits(got, results.apart![i]!, `result ${i}`);
      });
    },
  );
});
