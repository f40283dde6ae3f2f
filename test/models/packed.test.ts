/**
 * Blocks of GGUF files that stay packed on the device: each format's numbers against ggml's, products and lookups against the same with
 * the blocks widened, and models whose weights are kept so against the same in float32. All of them bit for bit.
 */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  convert,
  type Device,
  empty,
  gatherRows,
  grad,
  linear,
  openDevice,
  panelSide,
  type Tensor,
  tensor,
  toF32,
} from '../../engine/index.ts';
import { bytesOf } from '../../engine/storage.ts';
import { matmulBlock, matmulGemv } from '../../kernels/index.ts';
import { gemvColumns, gemvUnit } from '../../kernels/matmulGemv.ts';
import { storedRow } from '../../kernels/packing.ts';
import { memorySource } from '../../models/byteSource.ts';
import { BLOCKS, unpackBlocks } from '../../models/gguf/blocks.ts';
import { readGgufHeader } from '../../models/gguf/header.ts';
import {
  isPackedDtype,
  PACKED,
  type PackedDtype,
  packedRowBytes,
  packRow,
  unpackRows,
} from '../../models/gguf/packed.ts';
import {
  type ByteFolder,
  loadModelWeights,
  openCheckpoint,
  planMemory,
  readConfig,
  runModel,
  streamModel,
  type WeightDtype,
} from '../../models/index.ts';
import { integrateNeurons, neuronGradients, sweep } from '../../neurgrad/index.ts';
import { folderOfGguf, gpt2File, llamaFile, randomBlocks } from './ggufFile.ts';

let device: Device;
/** The same with small bindings, so that weights are split over several buffers. */
let small: Device;
beforeAll(async () => {
  device = await openDevice();
  small = await openDevice({ mask: { bindingBytes: 128 * 1024 } });
});
afterAll(() => {
  device?.destroy();
  small?.destroy();
});

const FORMATS = Object.keys(PACKED) as PackedDtype[];
/** A driver on a CPU takes seconds to compile some of these. */
const PATIENCE = 600_000;

const same = (got: Float32Array, want: Float32Array): void => {
  const bytes = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  if (!bytes(got).equals(bytes(want))) expect(got).toEqual(want);
};

/** Rows of blocks as kernels have them. */
function packed(format: PackedDtype, file: Uint8Array, rows: number, length: number) {
  const { elements, bytes } = BLOCKS[format];
  const inFile = (length / elements) * bytes;
  const inRow = packedRowBytes(format, length);
  const out = new Uint8Array(rows * inRow);
  for (let row = 0; row < rows; row++)
    packRow(
      format,
      file.subarray(row * inFile, (row + 1) * inFile),
      out.subarray(row * inRow, (row + 1) * inRow),
    );
  return out;
}

/** Rows of random blocks on a device, and their numbers. */
function weights(on: Device, format: PackedDtype, rows: number, length: number): [Tensor, Float32Array] {
  const file = randomBlocks(format, rows * length, rows + length);
  const values = new Float32Array(rows * length);
  unpackBlocks(format, file, values);
  const t = empty(on, [rows, length], PACKED[format], 'weights');
  const bytes = packed(format, file, rows, length);
  for (const { buffer, begin, end } of t.storage.segments)
    on.queue.write(buffer, 0, bytes.slice(begin * bytesOf(t.dtype), end * bytesOf(t.dtype)));
  return [t, values];
}

const numbers = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin((i + 1) * seed));

describe.each(FORMATS)('%s', (format) => {
  const block = BLOCKS[format].elements;
  /** Rows of one block, and of an odd number. */
  const lengths = [block, block === 32 ? 27 * block : 3 * block];

  it("has ggml's numbers, on the host and on the device", async () => {
    const file = memorySource('blocks.gguf', new Uint8Array(await readFile('test/golden-gguf/blocks.gguf')));
    const { begin, end, shape } = [...(await readGgufHeader(file)).tensors.values()].find(
      (tensor) => tensor.format === format,
    )!;
    const [rows, length] = shape as [number, number];
    const raw = await file.read(begin, end);
    const values = new Float32Array(rows * length);
    unpackBlocks(format, raw, values);
    const bytes = packed(format, raw, rows, length);
    same(unpackRows(format, bytes, length), values);
    const t = empty(device, [rows, length], PACKED[format]);
    device.queue.write(t.storage.segments[0]!.buffer, 0, bytes);
    same(await toF32(t).read(), values);
    for (const length of lengths) {
      const [t, values] = weights(device, format, 5, length);
      same(await toF32(t).read(), values);
    }
  });

  it('is multiplied and gone back through as its numbers are', { timeout: PATIENCE }, async () => {
    for (const [m, rows, k] of [
      [1, 37, lengths[1]!],
      [11, 321, lengths[1]!],
    ] as const)
      for (const on of m === 11 ? [device, small] : [device]) {
        const [w, values] = weights(on, format, rows, k);
        const wide = tensor(device, values, [rows, k]);
        const results = [w, wide].map((weight) => {
          const on = weight.device;
          const x = tensor(on, numbers(m * k, 1.3), [m, k]).requireGrad();
          const y = linear(x, weight, tensor(on, numbers(rows, 2.1), [rows]));
          const cotangent = tensor(on, numbers(m * rows, 0.7), [m, rows]);
          return [y, grad(y, [x], { cotangent })[0]!] as const;
        });
        for (const i of [0, 1] as const) same(await results[0]![i].read(), await results[1]![i].read());
      }
  });

  it('gives its rows by index', async () => {
    for (const on of [device, small]) {
      const [rows, k] = [321, lengths[1]!];
      const [w, values] = weights(on, format, rows, k);
      const index = [320, 0, 7, 7, 128, 319];
      const got = await gatherRows(w, index).read();
      same(got, Float32Array.from(index.flatMap((row) => [...values.subarray(row * k, (row + 1) * k)])));
    }
  });

  it('is read by the kernels for GPUs', { timeout: PATIENCE }, async () => {
    const unit = gemvUnit(PACKED[format]);
    for (const [transB, m, n, k] of [
      [true, 1, 20, 2 * unit],
      [false, 2, 2 * unit, 12],
    ] as const) {
      const [w, values] = weights(device, format, transB ? n : k, transB ? k : n);
      const x = tensor(device, numbers(m * k, 1.1), [m, k]);
      const by = (weight: 'f32' | (typeof w)['dtype'], t: Tensor): Promise<Float32Array> => {
        const piece = transB ? gemvUnit(weight as 'f32') : 4;
        const form = { transB, weight: weight as 'f32', tileM: 1, tileN: 1, lanes: 2, piece } as const;
        const y = empty(device, [m, n]);
        device.dispatch(
          matmulGemv({ ...form, bias: false, accumulate: false }),
          [x, t, y].map((each) => each.storage.window()),
          [m, n, k, 0, 0, 0, k, storedRow(weight, transB ? k : n), n, 0, 0, 0, 0],
          [m, Math.ceil(n / gemvColumns(form)), 1],
        );
        return y.read();
      };
      same(await by(w.dtype, w), await by('f32', tensor(device, values, [transB ? n : k, transB ? k : n])));
    }
    const [m, n, k] = [16, 32, 2 * block];
    const [w, values] = weights(device, format, n, k);
    const x = tensor(device, numbers(m * k, 1.1), [m, k]);
    const by = (weight: 'f32' | (typeof w)['dtype'], t: Tensor): Promise<Float32Array> => {
      const y = empty(device, [m, n]);
      const form = { blockM: 16, blockN: 32, blockK: 16, tileM: 4, tileN: 4, fewRegisters: true } as const;
      device.dispatch(
        matmulBlock({
          ...form,
          ...{ transA: false, transB: true, vectorC: true, weight: weight as 'f32' },
          ...{ bias: false, accumulate: false },
        }),
        [x, t, y].map((each) => each.storage.window()),
        [m, n, k, 0, 0, 0, k, storedRow(weight, k), n, 0, 0, 0, 0],
        [1, 1, 1],
      );
      return y.read();
    };
    same(await by(w.dtype, w), await by('f32', tensor(device, values, [n, k])));
  });
});

it('nothing is rounded to them, and they are not trained', () => {
  const [x, w] = [empty(device, [4, 64]), empty(device, [4, 64], 'q8_0', 'weights')];
  expect(() => convert(x, 'q8_0')).toThrow('f32 to q8_0');
  expect(() => convert(w, 'int8')).toThrow('q8_0 to int8');
  expect(() => w.requireGrad()).toThrow("not q8_0; load the model with dtype 'f32' to train it");
});

const quiet = { onNote: () => {} };

/** What a model says of a text: logits, gradients, and with `science` what is made of them. */
async function said(folder: ByteFolder, dtype: WeightDtype | undefined, science: boolean) {
  const model = await loadModelWeights(folder, device, { ...quiet, ...(dtype ? { dtype } : {}) });
  const prompt = { ids: [3, 17, 5, 40, 22], position: 4 };
  using run = await runModel(model, { ids: [prompt.ids] }, { logits: [4] });
  const logits = await run.logits.read();
  const target = logits.indexOf(Math.max(...logits));
  const { neurgrad } = await neuronGradients(model, prompt, { target });
  const neurons = ['L0.N3', 'L0.N40'];
  const made = science && {
    swept: (await sweep(model, prompt, { target, neurons, shifts: [-2, -1, 0, 1, 2] })).neurons,
    integrated: await integrateNeurons(model, prompt, neurons, { target, steps: 4 }),
  };
  const { weightDtype, parameters } = model;
  const formats = new Map([...parameters].map(([name, { dtype }]) => [name, dtype]));
  model.dispose();
  return { weightDtype, formats, numbers: { logits, neurgrad, made } };
}

describe('a model', () => {
  it.each([
    ['of several formats', llamaFile(['Q4_K', 'Q4_1'], 'Q8_0'), true],
    ['whose rows are an odd number of blocks', llamaFile(['Q8_0'], 'Q8_0', 1, 96), false],
    ['that Hugging Face has the other way round', gpt2File('Q4_1'), false],
  ] as const)('%s gives the bits of the widened one', { timeout: PATIENCE }, async (_, file, science) => {
    const folder = await folderOfGguf(file);
    const [is, was] = [await said(folder, undefined, science), await said(folder, 'f32', science)];
    expect(is.numbers).toEqual(was.numbers);
    expect([is.weightDtype, was.weightDtype]).toEqual(['packed', 'f32']);
    const { tensors } = await openCheckpoint(folder);
    const inFile = [...tensors.values()].filter(({ dtype }) => isPackedDtype(dtype)).length;
    const kept = [...is.formats.values()].filter((format) => format.startsWith('q')).length;
    expect(kept).toBeGreaterThanOrEqual(inFile);
  });

  it('is planned to the byte, and streamed', { timeout: PATIENCE }, async () => {
    const folder = await folderOfGguf(llamaFile(['Q4_K', 'Q6_K', 'Q4_1', 'Q5_0'], 'Q8_0'));
    const checkpoint = await openCheckpoint(folder);
    const config = await readConfig(folder);
    for (const dtype of [undefined, 'f32', 'f16', 'int8', 'int4', 'packed'] as const) {
      const before = device.memory.weights;
      const kept = { ...quiet, ...(dtype ? { dtype } : {}) };
      const plan = planMemory(config, checkpoint, { ...kept, panelSide: panelSide(device.capabilities) });
      const model = await loadModelWeights(folder, device, kept);
      expect(device.memory.weights - before, dtype).toBe(
        Object.values(plan.weights).reduce((sum, bytes) => sum + bytes, 0),
      );
      expect(plan.dtype).toBe(dtype ?? 'packed');
      const streamed = await streamModel(folder, device, kept);
      expect(streamed.weightDtype).toBe(model.weightDtype);
      if (dtype) {
        for (const each of [model, streamed]) each.dispose();
        continue;
      }
      const logits = await Promise.all(
        [model, streamed].map(async (each) => {
          using run = await runModel(each, { ids: [[5, 6, 7]] }, { logits: [2] });
          return run.logits.read();
        }),
      );
      expect(logits[1]).toEqual(logits[0]);
      for (const each of [model, streamed]) each.dispose();
    }
  });

  it('in four bits is not rounded to four bits', async () => {
    const folder = await folderOfGguf(llamaFile(['Q4_K', 'Q4_0', 'Q4_1', 'Q5_K', 'Q5_1'], 'Q8_0', 1));
    const formats = async (dtype: WeightDtype): Promise<string[]> => {
      const model = await loadModelWeights(folder, device, { ...quiet, dtype });
      const names = ['q', 'k', 'v', 'o'].map((name) => `model.layers.0.self_attn.${name}_proj.weight`);
      const found = ['model.embed_tokens.weight', ...names, 'model.layers.0.mlp.gate_proj.weight'].map(
        (name) => model.parameters.get(name)!.dtype,
      );
      model.dispose();
      return found;
    };
    expect(await formats('int4')).toEqual(['q8_0', 'q4_k', 'q4_0', 'q4_1', 'int4', 'int4']);
    expect(await formats('int8')).toEqual(['q8_0', 'q4_k', 'q4_0', 'q4_1', 'q5_k', 'int8']);
    expect(await formats('f16')).toEqual(Array(6).fill('f16'));
    expect(await formats('packed')).toEqual(['q8_0', 'q4_k', 'q4_0', 'q4_1', 'q5_k', 'f32']);
  });
});
