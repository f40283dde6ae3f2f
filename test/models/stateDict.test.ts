/** Tensors by name, to a file and back: every dtype that is read, names that are not, and what is refused. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { convert, type Device, integers, openDevice, tensor } from '../../engine/index.ts';
import { blobSource, loadSafetensors, saveSafetensors } from '../../models/index.ts';

let device: Device;
let folder: string;
beforeAll(async () => {
  device = await openDevice();
  folder = mkdtempSync(join(tmpdir(), 'state-'));
});
afterAll(() => {
  device?.destroy();
  rmSync(folder, { recursive: true, force: true });
});

it('goes to a file and comes back to the same bits, by any name', async () => {
  const path = join(folder, 'a.safetensors');
  const x = [
    [1, -0, NaN],
    [3e38, Infinity, 1e-40],
  ];
  const half = convert(tensor(device, [[1, 0.1]]), 'f16');
  await saveSafetensors(path, {
    'layer.0.weight': tensor(device, x),
    __proto__x: tensor(device, 5),
    half,
    none: tensor(device, [], [0, 2]),
  });
  for (const source of [path, blobSource(new Blob([readFileSync(path)]), 'chosen')]) {
    const state = await loadSafetensors(source, device);
    expect(Object.keys(state).sort()).toEqual(['__proto__x', 'half', 'layer.0.weight', 'none']);
    expect(new Uint32Array((await state['layer.0.weight']!.read()).buffer)).toEqual(
      new Uint32Array(Float32Array.from(x.flat()).buffer),
    );
    expect(state.half!.dtype).toBe('f32');
    expect(await state.half!.array()).toEqual([[1, 0.0999755859375]]);
    expect(await state.__proto__x!.array()).toBe(5);
    expect(state.none!.shape).toEqual([0, 2]);
    expect(state.half!.storage.purpose).toBe('weights');
  }
});

it('reads integers of 32 bits as such, and others as numbers', async () => {
  const header = JSON.stringify({
    u: { dtype: 'U32', shape: [2], data_offsets: [0, 8] },
    i: { dtype: 'I64', shape: [1], data_offsets: [8, 16] },
  });
  const bytes = new Uint8Array(8 + header.length + 16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(header.length), true);
  bytes.set(new TextEncoder().encode(header), 8);
  view.setUint32(8 + header.length, 4294967295, true);
  view.setUint32(12 + header.length, 7, true);
  view.setBigInt64(16 + header.length, -3n, true);
  const path = join(folder, 'b.safetensors');
  writeFileSync(path, bytes);
  const { u, i } = await loadSafetensors(path, device);
  expect([u!.dtype, await u!.array(), i!.dtype, await i!.array()]).toEqual([
    'u32',
    [4294967295, 7],
    'f32',
    [-3],
  ]);
});

it('says what cannot be', async () => {
  await expect(loadSafetensors(join(folder, 'none'), device)).rejects.toThrow(/none: no such file/);
  await expect(saveSafetensors(join(folder, 'c'), { a: 3 as never })).rejects.toThrow(
    /c: a is 3, expected a tensor/,
  );
  await expect(saveSafetensors(join(folder, 'c'), { a: integers(device, [1]) })).rejects.toThrow(
    /a is u32; toF32\(\)/,
  );
});
