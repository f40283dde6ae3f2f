/**
 * Parameters that are parts of stored tensors: loaded from their own bytes with the bits of the whole tensor's slices, in every
 * format, and put together again.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { convert, type Device, openDevice, type Tensor, tensor } from '../../engine/index.ts';
import {
  type ByteFolder,
  type Checkpoint,
  joinStored,
  localFolder,
  openModelFiles,
  type Parameter,
  parametersOf,
  planMemory,
  type SynthDtype,
  synthesise,
  Transformer,
  WEIGHT_DTYPES,
  WeightLoader,
} from '../../models/index.ts';
import { storedAs } from '../../models/storage.ts';
import { storedTensors } from '../../models/stored.ts';

const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-stored-'));
let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device.destroy();
  rmSync(scratch, { recursive: true });
});

const CONFIGS: Record<string, object> = {
  gpt2: {
    model_type: 'gpt2',
    vocab_size: 60,
    n_positions: 32,
    n_embd: 48,
    n_layer: 2,
    n_head: 3,
    n_inner: 70,
    activation_function: 'gelu_new',
  },
  // Rows of odd length begin within a word of 16 bits.
  'gpt2, odd': {
    model_type: 'gpt2',
    vocab_size: 60,
    n_positions: 32,
    n_embd: 35,
    n_layer: 1,
    n_head: 5,
    n_inner: 51,
  },
  gpt_neox: {
    model_type: 'gpt_neox',
    vocab_size: 60,
    hidden_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 3,
    intermediate_size: 72,
    max_position_embeddings: 32,
  },
  phi3: {
    model_type: 'phi3',
    vocab_size: 60,
    hidden_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 6,
    num_key_value_heads: 2,
    intermediate_size: 76,
    max_position_embeddings: 32,
    pad_token_id: 0,
  },
};

/** A folder of such a model, drawn. */
async function drawn(name: string, dtype: SynthDtype, changes: object = {}): Promise<string> {
  const path = join(scratch, `${name}-${dtype}-${Object.values(changes)}`);
  await synthesise(path, { preset: { ...CONFIGS[name], ...changes }, dtype, seed: 5 }).catch((error) => {
    if (!/not empty/.test(error.message)) throw error;
  });
  return path;
}

/** A parameter's numbers by the rows (columns) of the whole tensor, one at a time. */
async function sliced(checkpoint: Checkpoint, { name, shape, stored }: Parameter): Promise<Float32Array> {
  const whole = await checkpoint.readFloat32(name.replace(/\[.*/, ''));
  if (!stored) return whole;
  const rows = stored.rows.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
  const length = shape[1] ?? 1;
  const numbers = rows.flatMap((row) =>
    Array.from({ length }, (_, k) => whole[stored.transposed ? k * stored.of + row : row * length + k]!),
  );
  return Float32Array.from(numbers);
}

const words = async (x: Tensor): Promise<Buffer> =>
  Buffer.from(
    (await x.device.readWindows(x.storage.segments.map((s) => x.storage.window(s.begin, s.end)))).buffer,
  );

describe.each(Object.keys(CONFIGS))('%s', (name) => {
  test.each(['f32', 'f16', 'bf16'] as const)(
    'stored as %s: the bits of the whole tensor converted',
    async (dtype) => {
      const { config, checkpoint } = await openModelFiles(await localFolder(await drawn(name, dtype)));
      const parameters = parametersOf(config.description);
      expect(parameters.some(({ stored }) => stored)).toBe(true);
      const entries = { f32: 'F32', f16: 'F16', bf16: 'BF16' } as const;
      for (const wanted of WEIGHT_DTYPES) {
        const loader = new WeightLoader(device, checkpoint, config, { dtype: wanted });
        const weights = await loader.loadAll(loader.names);
        expect([...weights.keys()].sort()).toEqual(parameters.map((each) => each.name).sort());
        for (const parameter of parameters) {
          const got = weights.get(parameter.name)!;
          const kept = storedAs(parameter, entries[dtype], wanted);
          const want = convert(tensor(device, await sliced(checkpoint, parameter), parameter.shape), kept);
          expect([got.dtype, got.shape]).toEqual([kept, parameter.shape]);
          // What fills up the last word is nobody's.
          const bytes = 2 * Math.floor(want.size / (kept === 'f32' ? 0.5 : 1));
          const [a, b] = [await words(got), await words(want)];
          const end = kept === 'f16' || kept === 'bf16' || kept === 'f32' ? bytes : a.length;
          expect(a.subarray(0, end).equals(b.subarray(0, end)), `${parameter.name} ${wanted}`).toBe(true);
          for (const t of [got, want]) t.dispose();
        }
        // Each byte once, whoever shares a tensor.
        expect(loader.bytes).toBe(checkpoint.bytes);
        loader.dispose();
      }
      await checkpoint.close();
    },
  );

  test('put together again they are the stored tensors', async () => {
    const { config, checkpoint } = await openModelFiles(await localFolder(await drawn(name, 'f32')));
    const loader = new WeightLoader(device, checkpoint, config);
    const weights = await loader.loadAll(loader.names);
    const stored = joinStored(config.description, weights);
    expect([...stored.keys()]).toEqual([...storedTensors(parametersOf(config.description)).keys()]);
    expect([...stored.keys()].sort()).toEqual([...checkpoint.tensors.keys()].sort());
    for (const [name, t] of stored) {
      expect(t.shape).toEqual(checkpoint.tensors.get(name)!.shape);
      expect(await t.read()).toEqual(await checkpoint.readFloat32(name));
    }
    // A part alone keeps its name.
    const part = parametersOf(config.description).find((each) => each.name.endsWith('[q]'))!.name;
    const alone = joinStored(config.description, new Map([[part, weights.get(part)!]]));
    expect([...alone]).toEqual([[part, weights.get(part)]]);
    expect(() => joinStored(config.description, new Map([['x', weights.get(part)!]]))).toThrow(
      'x is no parameter',
    );
    const wrong = new Map([[part, tensor(device, [1])]]);
    expect(() => joinStored(config.description, wrong)).toThrow(/is \[1\], should be \[/);
    for (const t of weights.values()) t.dispose();
    loader.dispose();
    await checkpoint.close();
  });

  test('a plan knows what they take', async () => {
    const folder = await localFolder(await drawn(name, 'bf16'));
    for (const dtype of WEIGHT_DTYPES) {
      const { config, checkpoint } = await openModelFiles(folder);
      const { weights } = planMemory(config, checkpoint, { dtype, tokens: 8 });
      const loader = new WeightLoader(device, checkpoint, config, { dtype });
      const before = device.memory.weights;
      const model = new Transformer(device, config, await loader.loadAll(loader.names));
      expect(Object.values(weights).reduce((a, b) => a + b, 0)).toBe(device.memory.weights - before);
      model.dispose();
      loader.dispose();
      await checkpoint.close();
    }
  });
});

/** A folder that tells what is read of its weights. */
function watched(folder: ByteFolder, told: [begin: number, end: number][]): ByteFolder {
  return {
    ...folder,
    async open(name) {
      const source = await folder.open(name);
      return {
        ...source,
        async readInto(begin: number, target: Uint8Array) {
          told.push([begin, begin + target.byteLength]);
          await source.readInto(begin, target);
        },
      };
    },
  };
}

test.each([
  ['gpt_neox', 'gpt_neox.layers.1.attention.query_key_value.weight[k]', 3],
  ['gpt_neox', 'gpt_neox.layers.1.attention.query_key_value.bias[v]', 3],
  ['phi3', 'model.layers.0.mlp.gate_up_proj.weight[up]', 1],
  ['gpt2', 'transformer.h.0.attn.c_attn.bias[k]', 1],
])('%s: of %s only its rows are read, in %d runs', async (name, parameter, runs) => {
  const told: [number, number][] = [];
  const folder = watched(await localFolder(await drawn(name, 'f16')), told);
  const { config, checkpoint } = await openModelFiles(folder);
  const { shape, stored } = parametersOf(config.description).find((each) => each.name === parameter)!;
  const loader = new WeightLoader(device, checkpoint, config);
  told.length = 0;
  (await loader.load(parameter)).dispose();
  const row = 2 * (shape[1] ?? 1);
  const { begin } = checkpoint.tensors.get(parameter.replace(/\[.*/, ''))!;
  expect(stored!.rows).toHaveLength(runs);
  expect(told).toEqual(
    stored!.rows.map(([first, count]) => [begin + first * row, begin + (first + count) * row]),
  );
  loader.dispose();
  await checkpoint.close();
});

test('large matrices that are stored as [in, out] go to the device block by block: the same numbers', async () => {
  const folder = await localFolder(await drawn('gpt2', 'f32', { n_inner: 150_000, n_layer: 1 }));
  const { config, checkpoint } = await openModelFiles(folder);
  for (const dtype of ['f32', 'f16', 'int8'] as const) {
    const own = await openDevice();
    const loader = new WeightLoader(own, checkpoint, config, { dtype });
    const weights = await loader.loadAll(loader.names);
    await own.finish();
    // Two at once: a block of 16 MiB of one, and 48 rows of 600 kB of the other.
    expect(own.memory.peak - own.memory.weights, dtype).toBeLessThan(3 * 2 ** 24);
    if (dtype === 'f32')
      for (const part of ['c_fc', 'c_proj']) {
        const name = `transformer.h.0.mlp.${part}.weight`;
        const got = await weights.get(name)!.read();
        const whole = await checkpoint.readFloat32(name);
        const [rows, length] = weights.get(name)!.shape as [number, number];
        let wrong = 0;
        for (let r = 0; r < rows; r++)
          for (let k = 0; k < length; k++) if (got[r * length + k] !== whole[k * rows + r]) wrong++;
        expect(wrong).toBe(0);
      }
    loader.dispose();
    own.destroy();
  }
  await checkpoint.close();
});

describe('descriptions whose parts do not make up a tensor', () => {
  const part = (name: string, rows: [number, number][], of = 6, more: object = {}): Parameter => ({
    name: `m.weight[${name}]`,
    shape: [rows.reduce((sum, [, count]) => sum + count, 0), 4],
    kind: 'matrix',
    stage: 0,
    initial: null,
    stored: { rows, of, ...more },
  });
  test.each<[string, Parameter[]]>([
    ['a hole', [part('a', [[0, 2]]), part('b', [[3, 3]])]],
    ['an overlap', [part('a', [[0, 4]]), part('b', [[3, 3]])]],
    ['too few', [part('a', [[0, 4]])]],
    ['another size', [part('a', [[0, 3]]), part('b', [[3, 3]], 7)]],
    ['one the other way round', [part('a', [[0, 3]]), part('b', [[3, 3]], 6, { transposed: true })]],
    ['one by itself', [part('a', [[0, 6]]), { ...part('b', [[0, 6]]), stored: undefined }]],
    ['other rows than its shape', [{ ...part('a', [[0, 6]]), shape: [5, 4] }]],
  ])('%s', (_, parameters) => {
    expect(() => storedTensors(parameters)).toThrow(
      /^m\.weight: its parts m\.weight\[a\].* do not make up 6 rows/,
    );
  });
  test('runs that follow each other are one', () => {
    const [stored] = storedTensors([
      part('a', [
        [0, 2],
        [2, 1],
        [5, 1],
      ]),
      part('b', [[3, 2]]),
    ]).values();
    expect(stored!.parts.map(({ runs }) => runs)).toEqual([
      [
        [0, 3],
        [5, 1],
      ],
      [[3, 2]],
    ]);
  });
});
