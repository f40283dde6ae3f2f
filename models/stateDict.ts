/**
 * Tensors by name, to and from safetensors files: a state dict as PyTorch has it, without a model's config.
 */

import { UserError } from '../engine/errors.ts';
import { type Device, integers, Tensor, tensor, toF32 } from '../engine/index.ts';
import { show } from '../engine/options.ts';
import { type ByteSource, openFile } from './byteSource.ts';
import { decodeFloat32 } from './decode.ts';
import { readSafetensorsHeader, writeSafetensors } from './safetensors.ts';

/** Tensors by name. */
export type StateDict = Readonly<Record<string, Tensor>>;

/**
 * All tensors of a safetensors file, by name: numbers of 16, 32 and 64 bits as f32, U32 as u32, in the file's order. The caller disposes of them.
 * @param source the path of a file (Node), or a source of bytes, such as `blobSource` of one chosen in a browser, which the caller closes
 * @throws UserError `file`, `safetensors`, `decode` for a dtype that is not read
 * @example
 * ```ts
 * import { mkdtemp } from 'node:fs/promises';
 * import { tmpdir } from 'node:os';
 * import { join } from 'node:path';
 * import { openDevice, tensor } from 'neurgrad/engine';
 * import { loadSafetensors, saveSafetensors } from 'neurgrad/models';
 *
 * const device = await openDevice();
 * const file = join(await mkdtemp(join(tmpdir(), 'state-')), 'w.safetensors');
 * await saveSafetensors(file, { weight: tensor(device, [[1, 2], [3, 4]]), bias: tensor(device, [5, 6]) });
 * const state = await loadSafetensors(file, device);
 * console.log(Object.keys(state).sort(), await state.weight!.array()); // → [ 'bias', 'weight' ] [ [ 1, 2 ], [ 3, 4 ] ]
 * device.destroy();
 * ```
 */
export async function loadSafetensors(
  source: string | ByteSource,
  device: Device,
): Promise<Record<string, Tensor>> {
  const bytes = typeof source === 'string' ? await openFile(source) : source;
  const found: Record<string, Tensor> = Object.create(null);
  try {
    const { tensors } = await readSafetensorsHeader(bytes);
    for (const { name, dtype, shape, begin, end } of tensors) {
      const data = await bytes.read(begin, end);
      found[name] =
        dtype === 'U32'
          ? integers(device, new Uint32Array(data.slice().buffer), shape)
          : tensor(device, decodeFloat32(dtype, data), shape, 'weights');
    }
    return { ...found };
  } catch (error) {
    for (const t of Object.values(found)) t.dispose();
    throw error;
  } finally {
    if (typeof source === 'string') await bytes.close();
  }
}

/**
 * Writes tensors by name (f32, and 16-bit or quantised ones widened to it) as a safetensors file (Node), which appears when it is whole.
 * @throws UserError `save` for what is no tensor of numbers, `file` where the disk refuses
 */
export async function saveSafetensors(path: string, tensors: StateDict): Promise<void> {
  const list = Object.entries(tensors).map(([name, t]) => {
    if (!(t instanceof Tensor))
      throw new UserError('save', `${path}: ${name} is ${show(t)}, expected a tensor`);
    if (t.dtype === 'u32')
      throw new UserError('save', `${path}: ${name} is u32; toF32() makes numbers of it`);
    const data = async (): Promise<Float32Array> => {
      using plain = t.detach();
      using wide = toF32(plain);
      return await wide.read();
    };
    return { name, dtype: 'F32' as const, shape: t.shape, data };
  });
  await writeSafetensors(path, list);
}
