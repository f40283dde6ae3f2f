/**
 * Patch points: every name and Hugging Face alias by value, the semantics of patches, errors, poorer devices.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { affine, type Device, type DeviceOptions, openDevice } from '../../engine/index.ts';
import { loadModelWeights, localFolder } from '../../models/index.ts';
import type { LanguageModel, ModelInput, Patch } from '../../models/model.ts';

const FOLDERS = { bert: 'test/golden/models/bert-s', llama: 'test/golden/models/llama-gqa' } as const;
const IDS = [
  [5, 17, 4, 33, 8, 61],
  [9, 2, 71, 4, 12, 50],
];
const input: ModelInput = { ids: IDS };

let device: Device;
const models = new Map<string, LanguageModel>();
beforeAll(async () => {
  device = await openDevice();
  for (const [name, folder] of Object.entries(FOLDERS))
    models.set(name, await loadModelWeights(await localFolder(folder), device));
});
afterAll(() => {
  for (const model of models.values()) model.dispose();
  device.destroy();
});

const capture = async (
  model: LanguageModel,
  names: readonly string[],
): Promise<Map<string, Float32Array>> => {
  using run = model.run(input, { capture: names });
  const read = new Map<string, Float32Array>();
  for (const name of names) read.set(name, await run.captures.get(name)!.read());
  return read;
};

/** Rows of x through y = W x + b in float64, weights as stored. */
async function dense(model: LanguageModel, x: Float32Array, name: string): Promise<number[]> {
  const weight = model.parameters.get(`${name}.weight`)!;
  const w = await weight.read();
  const b = await model.parameters.get(`${name}.bias`)?.read();
  const [out, width] = weight.shape as [number, number];
  return Array.from({ length: (x.length / width) * out }, (_, i) => {
    const row = Math.floor(i / out) * width;
    let sum = b?.[i % out] ?? 0;
    for (let k = 0; k < width; k++) sum += x[row + k]! * w[(i % out) * width + k]!;
    return sum;
  });
}

/** Rows of x normalised in float64. */
async function normalise(
  model: LanguageModel,
  x: Float32Array,
  name: string,
  eps: number,
): Promise<number[]> {
  const w = await model.parameters.get(`${name}.weight`)!.read();
  const b = await model.parameters.get(`${name}.bias`)?.read();
  const n = w.length;
  return Array.from(x, (value, i) => {
    const row = x.subarray(Math.floor(i / n) * n, (Math.floor(i / n) + 1) * n);
    const mean = b ? row.reduce((s, v) => s + v, 0) / n : 0;
    const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / n;
    return ((value - mean) / Math.sqrt(variance + eps)) * w[i % n]! + (b?.[i % n] ?? 0);
  });
}

const close = (got: ArrayLike<number>, want: ArrayLike<number>, what: string, atol = 5e-5): void => {
  expect(got.length, what).toBe(want.length);
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!);
    worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
  }
  expect(worst, what).toBeLessThan(atol);
};
const plus = (a: Float32Array, b: Float32Array): number[] => Array.from(a, (v, i) => v + b[i]!);

describe('names by value', () => {
  test('BERT: every alias is its module and every module follows from its input', async () => {
    const model = models.get('bert')!;
    const { layers } = model.sizes;
    const eps = model.description.embedding.norm!.eps;
    const got = await capture(model, model.hookNames);
    const at = (name: string) => got.get(name)!;
    for (let l = 0; l < layers; l++) {
      const b = `blocks.${l}`;
      const m = `bert.encoder.layer.${l}`;
      const x = at(`${b}.hook_resid_pre`);
      if (l > 0) expect(x).toEqual(at(`blocks.${l - 1}.hook_normalized_resid_post`));
      else expect(x).toEqual(at('hook_full_embed'));
      for (const [part, hook] of [
        ['query', 'q'],
        ['key', 'k'],
        ['value', 'v'],
      ] as const)
        close(
          at(`${b}.attn.hook_${hook}`),
          await dense(model, x, `${m}.attention.self.${part}`),
          `${part} ${l}`,
        );
      close(
        at(`${b}.hook_attn_out`),
        await dense(model, at(`${b}.attn.hook_z`), `${m}.attention.output.dense`),
        'attn_out',
      );
      close(at(`${b}.hook_resid_mid`), plus(x, at(`${b}.hook_attn_out`)), 'resid_mid');
      close(
        at(`${b}.ln1.hook_normalized`),
        await normalise(model, at(`${b}.hook_resid_mid`), `${m}.attention.output.LayerNorm`, eps),
        'ln1',
      );
      close(
        at(`${b}.mlp.hook_pre`),
        await dense(model, at(`${b}.ln1.hook_normalized`), `${m}.intermediate.dense`),
        'pre',
      );
      close(
        at(`${b}.hook_mlp_out`),
        await dense(model, at(`${b}.mlp.hook_post`), `${m}.output.dense`),
        'mlp_out',
      );
      close(
        at(`${b}.hook_resid_post`),
        plus(at(`${b}.ln1.hook_normalized`), at(`${b}.hook_mlp_out`)),
        'resid_post',
      );
      close(
        at(`${b}.hook_normalized_resid_post`),
        await normalise(model, at(`${b}.hook_resid_post`), `${m}.output.LayerNorm`, eps),
        'ln2',
      );
      patternMixes(at(`${b}.attn.hook_pattern`), at(`${b}.attn.hook_v`), at(`${b}.attn.hook_z`), model);
      await sameAs(
        model,
        {
          [`${m}.attention.self.query`]: `${b}.attn.hook_q`,
          [`${m}.attention.self.key`]: `${b}.attn.hook_k`,
          [`${m}.attention.self.value`]: `${b}.attn.hook_v`,
          [`${m}.attention.self`]: `${b}.attn.hook_z`,
          [`${m}.attention.output.dense`]: `${b}.hook_attn_out`,
          [`${m}.attention.output`]: `${b}.ln1.hook_normalized`,
          [`${m}.attention`]: `${b}.ln1.hook_normalized`,
          [`${m}.intermediate.dense`]: `${b}.mlp.hook_pre`,
          [`${m}.intermediate`]: `${b}.mlp.hook_post`,
          [`${m}.output.dense`]: `${b}.hook_mlp_out`,
          [`${m}.output`]: `${b}.hook_normalized_resid_post`,
          [m]: `${b}.hook_normalized_resid_post`,
        },
        got,
      );
    }
    await sameAs(
      model,
      {
        'bert.embeddings.word_embeddings': 'hook_embed',
        'bert.embeddings': 'hook_full_embed',
        'cls.predictions.transform': 'ln_final.hook_normalized',
      },
      got,
    );
  });

  test('Llama: every alias is its module and every module follows from its input', async () => {
    const model = models.get('llama')!;
    const eps = model.description.head.norm!.eps;
    const got = await capture(model, model.hookNames);
    const at = (name: string) => got.get(name)!;
    for (let l = 0; l < model.sizes.layers; l++) {
      const b = `blocks.${l}`;
      const m = `model.layers.${l}`;
      const x = at(`${b}.hook_resid_pre`);
      expect(x).toEqual(l > 0 ? at(`blocks.${l - 1}.hook_resid_post`) : at('hook_embed'));
      close(at(`${b}.ln1.hook_normalized`), await normalise(model, x, `${m}.input_layernorm`, eps), 'ln1');
      for (const part of ['q', 'k', 'v'])
        close(
          at(`${b}.attn.hook_${part}`),
          await dense(model, at(`${b}.ln1.hook_normalized`), `${m}.self_attn.${part}_proj`),
          part,
        );
      close(
        at(`${b}.hook_attn_out`),
        await dense(model, at(`${b}.attn.hook_z`), `${m}.self_attn.o_proj`),
        'attn_out',
        2e-4,
      );
      close(at(`${b}.hook_resid_mid`), plus(x, at(`${b}.hook_attn_out`)), 'resid_mid');
      close(
        at(`${b}.ln2.hook_normalized`),
        await normalise(model, at(`${b}.hook_resid_mid`), `${m}.post_attention_layernorm`, eps),
        'ln2',
      );
      close(
        at(`${b}.mlp.hook_pre`),
        await dense(model, at(`${b}.ln2.hook_normalized`), `${m}.mlp.gate_proj`),
        'gate',
      );
      close(
        at(`${b}.mlp.hook_pre_linear`),
        await dense(model, at(`${b}.ln2.hook_normalized`), `${m}.mlp.up_proj`),
        'up',
      );
      const act = Array.from(at(`${b}.mlp.hook_pre`), (g) => g / (1 + Math.exp(-g)));
      close(at(`${b}.mlp.hook_act`), act, 'act');
      close(
        at(`${b}.mlp.hook_post`),
        act.map((s, i) => s * at(`${b}.mlp.hook_pre_linear`)[i]!),
        'post',
      );
      close(
        at(`${b}.hook_mlp_out`),
        await dense(model, at(`${b}.mlp.hook_post`), `${m}.mlp.down_proj`),
        'mlp_out',
        2e-4,
      );
      close(
        at(`${b}.hook_resid_post`),
        plus(at(`${b}.hook_resid_mid`), at(`${b}.hook_mlp_out`)),
        'resid_post',
      );
      patternMixes(at(`${b}.attn.hook_pattern`), at(`${b}.attn.hook_v`), at(`${b}.attn.hook_z`), model);
      await sameAs(
        model,
        {
          [m]: `${b}.hook_resid_post`,
          [`${m}.input_layernorm`]: `${b}.ln1.hook_normalized`,
          [`${m}.post_attention_layernorm`]: `${b}.ln2.hook_normalized`,
          [`${m}.self_attn`]: `${b}.hook_attn_out`,
          [`${m}.self_attn.q_proj`]: `${b}.attn.hook_q`,
          [`${m}.self_attn.k_proj`]: `${b}.attn.hook_k`,
          [`${m}.self_attn.v_proj`]: `${b}.attn.hook_v`,
          [`${m}.self_attn.o_proj`]: `${b}.hook_attn_out`,
          [`${m}.mlp`]: `${b}.hook_mlp_out`,
          [`${m}.mlp.gate_proj`]: `${b}.mlp.hook_pre`,
          [`${m}.mlp.up_proj`]: `${b}.mlp.hook_pre_linear`,
          [`${m}.mlp.act_fn`]: `${b}.mlp.hook_act`,
          [`${m}.mlp.down_proj`]: `${b}.hook_mlp_out`,
        },
        got,
      );
    }
    await sameAs(
      model,
      { 'model.embed_tokens': 'hook_embed', 'model.norm': 'ln_final.hook_normalized' },
      got,
    );
    const last = at(`blocks.${model.sizes.layers - 1}.hook_resid_post`);
    close(at('ln_final.hook_normalized'), await normalise(model, last, 'model.norm', eps), 'norm');
  });

  test('unknown and ambiguous names name what was meant', () => {
    const model = models.get('bert')!;
    expect(() => model.resolveHook('blocks.1.mlp.hook_pots')).toThrow(
      /did you mean "blocks.1.mlp.hook_post"/,
    );
    expect(() => model.resolveHook('mlp.hook_post')).toThrow(
      /ambiguous: blocks.0.mlp.hook_post, blocks.1.mlp.hook_post/,
    );
    expect(() => model.resolveHook('blocks.9.mlp.hook_post')).toThrow(/unknown hook/);
  });
});

/** z = pattern v, head by head. */
function patternMixes(pattern: Float32Array, v: Float32Array, z: Float32Array, model: LanguageModel): void {
  const { heads, keyValueHeads, headSize } = model.sizes;
  const [rows, length] = [IDS.length, IDS[0]!.length];
  const want = Array.from({ length: z.length }, (_, i) => {
    const d = i % headSize;
    const h = Math.floor(i / headSize) % heads;
    const q = Math.floor(i / (headSize * heads)) % length;
    const b = Math.floor(i / (headSize * heads * length));
    let sum = 0;
    for (let k = 0; k < length; k++) {
      const keyHead = Math.floor(h / (heads / keyValueHeads));
      sum +=
        pattern[((b * heads + h) * length + q) * length + k]! *
        v[((b * length + k) * keyValueHeads + keyHead) * headSize + d]!;
    }
    return sum;
  });
  close(z, want, 'z');
  for (let row = 0; row < rows * heads * length; row++)
    expect(pattern.subarray(row * length, (row + 1) * length).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
}

async function sameAs(
  model: LanguageModel,
  aliases: Record<string, string>,
  got: Map<string, Float32Array>,
): Promise<void> {
  const read = await capture(model, Object.keys(aliases));
  for (const [alias, hook] of Object.entries(aliases)) expect(read.get(alias), alias).toEqual(got.get(hook));
}

describe('patches', () => {
  const hook = 'blocks.1.mlp.hook_post';
  const at = (row: number, position: number, neuron: number, width: number) =>
    (row * 6 + position) * width + neuron;

  test('set, add, scale and outward, in the order given; others untouched', async () => {
    const model = models.get('bert')!;
    const { width } = model.sizes;
    const before = (await capture(model, [hook])).get(hook)!;
    const one = (patch: Omit<Patch, 'name'>): Patch => ({ name: hook, ...patch });
    const patch = [
      one({ position: 2, neuron: 3, op: 'set', value: 0.5 }),
      one({ row: 1, position: 0, neuron: [4, 5], op: 'add', value: 0.25 }),
      one({ row: 1, position: 1, neuron: 6, op: 'scale', value: -2 }),
      one({ position: 4, neuron: 7, op: 'add', value: 1.5, along: 'outward' }),
      // The sign is that of the value before any patch, also after it was set.
      one({ position: 5, neuron: 8, op: 'set', value: 3 }),
      one({ position: 5, neuron: 8, op: 'add', value: 1, along: 'outward' }),
    ];
    using run = model.run(input, { patch, capture: [hook], logits: 'none' });
    const after = await run.captures.get(hook)!.read();
    const want = Float32Array.from(before);
    want[at(0, 2, 3, width)] = 0.5;
    for (const n of [4, 5]) want[at(1, 0, n, width)]! += 0.25;
    want[at(1, 1, 6, width)]! *= -2;
    const sign = (i: number) => (before[i]! < 0 ? -1 : 1);
    want[at(0, 4, 7, width)]! += 1.5 * sign(at(0, 4, 7, width));
    want[at(0, 5, 8, width)] = 3 + sign(at(0, 5, 8, width));
    expect(after).toEqual(want);
  });

  test('rows of one pass equal runs of their own, bit for bit', async () => {
    for (const model of models.values()) {
      const name = `blocks.0.mlp.hook_${model.paperSite}`;
      const patches = [0.5, -1, 2].map(
        (value, row): Patch => ({ name, row, position: 3, neuron: 1, op: 'add', value }),
      );
      using together = model.run({ ids: patches.map(() => IDS[0]!) }, { patch: patches });
      const all = await together.logits.read();
      for (const [row, patch] of patches.entries()) {
        using alone = model.run({ ids: [IDS[0]!] }, { patch: [{ ...patch, row: 0 }] });
        const logits = await alone.logits.read();
        expect(all.slice(row * logits.length, (row + 1) * logits.length)).toEqual(logits);
      }
    }
  });

  test('an edit is any function, and gradients go through it', async () => {
    const model = models.get('llama')!;
    const name = 'blocks.0.mlp.hook_post';
    const options = { of: { of: 'logit', target: [3, 3], position: [5, 5] } } as const;
    using plain = model.run(input, {
      grad: { at: [name], ...options },
      edit: { [name]: (x) => affine(x, 1, 0) },
    });
    using half = model.run(input, {
      edit: { [name]: (x) => affine(x, 0.5, 0) },
      capture: [name],
      grad: { at: [name, 'blocks.0.mlp.hook_act'], ...options },
    });
    using scaled = model.run(input, {
      patch: IDS.flatMap((_, row) =>
        [...Array(6).keys()].map(
          (position): Patch => ({
            name,
            row,
            position,
            neuron: [...Array(model.sizes.width).keys()],
            op: 'scale',
            value: 0.5,
          }),
        ),
      ),
      capture: [name],
      grad: { at: [name, 'blocks.0.mlp.hook_act'], ...options },
    });
    expect(await half.logits.read()).toEqual(await scaled.logits.read());
    expect(await half.logits.read()).not.toEqual(await plain.logits.read());
    for (const at of [name, 'blocks.0.mlp.hook_act'])
      expect(await half.gradients.get(at)!.read()).toEqual(await scaled.gradients.get(at)!.read());
  });

  test.each([
    [{ name: hook, position: 6, neuron: 0, op: 'add', value: 1 }, /position 6 is outside 0..5/],
    [{ name: hook, position: 0, neuron: 64, op: 'add', value: 1 }, /neuron 64 is outside 0..63/],
    [{ name: hook, row: 2, position: 0, neuron: 0, op: 'add', value: 1 }, /row 2 is outside 0..1/],
    [{ name: hook, position: 0, neuron: 0, op: 'add', value: Number.NaN }, /NaN is not a finite number/],
    [{ name: hook, position: 0, neuron: 0, op: 'set', value: 1, along: 'outward' }, /goes with add only/],
    [{ name: 'nonsense', position: 0, neuron: 0, op: 'set', value: 1 }, /unknown hook "nonsense"/],
  ] as [Patch, RegExp][])('%j is refused', (patch, message) => {
    expect(() => models.get('bert')!.run(input, { patch: [patch] })).toThrow(message);
  });

  test.each([
    [{ ids: [] }, /at least one row/],
    [{ ids: [[1, 2], [3]] }, /rows of 2/],
    [{ ids: [[1, 120]] }, /120 at row 0, position 1 is outside 0..119/],
    [{ ids: [[1.5]] }, /1.5/],
    [{ ids: [Array(2000).fill(1)] }, /longer than the model/],
    [{ ids: [[1, 2]], attentionMask: [[1]] }, /attentionMask/],
  ] as [ModelInput, RegExp][])('input %# is refused', (bad, message) => {
    expect(() => models.get('bert')!.run(bad)).toThrow(message);
  });
});

describe('poorer devices compute the same', () => {
  const masks: [string, NonNullable<DeviceOptions['mask']>][] = [
    [
      'no f16, subgroups, immediates, timestamps',
      { f16: false, subgroups: false, immediates: false, timestamps: false },
    ],
    [
      '256 invocations, 8 storage buffers, 16 KiB workgroup memory',
      { invocations: 256, storageBuffers: 8, workgroupBytes: 16384 },
    ],
    ['bindings of 1 MiB: the embedding lies in seven buffers', { bindingBytes: 2 ** 20 }],
    // Wide subgroups: join.test.ts, which has their kernels compiled anyway.
  ];
  test.each(masks)('%s', async (_, mask) => {
    const poor = await openDevice({ mask });
    try {
      // A BERT large enough for panels and several buffers.
      for (const folder of [FOLDERS.llama, 'examples/models/facts-bert']) {
        const rich = await loadModelWeights(await localFolder(folder), device);
        const model = await loadModelWeights(await localFolder(folder), poor);
        const names = [0, 1].map((l) => `blocks.${l}.mlp.hook_post`);
        const options = {
          capture: names,
          grad: { at: names, of: { of: 'logprob', target: [7, 8], position: [2, 3] } },
        } as const;
        using want = rich.run(input, options);
        using got = model.run(input, options);
        close(await got.logits.read(), await want.logits.read(), `${folder} logits`);
        for (const name of names)
          close(
            await got.gradients.get(name)!.read(),
            await want.gradients.get(name)!.read(),
            `${folder} ${name}`,
            1e-5,
          );
        if (mask.bindingBytes && folder.endsWith('facts-bert')) {
          const { storage } = model.parameters.get('bert.embeddings.word_embeddings.weight')!;
          expect(storage.segments.length).toBe(7);
        }
        rich.dispose();
        model.dispose();
      }
    } finally {
      poor.destroy();
    }
  });
});

test('two hundred runs hold no more memory than one, and loading twice no more than once', async () => {
  const model = models.get('bert')!;
  const names = ['blocks.0.mlp.hook_post', 'blocks.1.mlp.hook_post'];
  const step = async (): Promise<void> => {
    using run = model.run(input, {
      patch: [{ name: names[0]!, position: 1, neuron: 2, op: 'add', value: 1 }],
      capture: names,
      grad: { at: names, of: { of: 'prob', target: [1, 2], position: [0, 0] } },
      logits: [2, 2],
    });
    await run.gradients.get(names[0]!)!.read();
  };
  await step();
  await step();
  const { total, activations, saved } = device.memory;
  for (let i = 0; i < 200; i++) await step();
  expect(device.memory.total).toBe(total);
  expect(device.memory.activations).toBe(activations);
  expect(device.memory.saved).toBe(saved);
  expect(saved).toBe(0);
});

describe("lastLayer 'read'", () => {
  const objective = { of: 'prob', target: [7, 8], position: [3, 1] } as const;
  test('gives what the whole last layer has at the tokens read, and the same gradients', async () => {
    const bert = models.get('bert')!;
    const end = `blocks.${bert.sizes.layers - 1}.mlp.hook_post`;
    const at = ['blocks.0.mlp.hook_post', end];
    const options = { capture: at, grad: { at, of: objective }, logits: [3, 1] };
    using whole = bert.run(input, options);
    using read = bert.run(input, { ...options, lastLayer: 'read' });
    const { width } = bert.sizes;
    const rowsOf = (values: Float32Array) =>
      [3, 6 + 1].flatMap((row) => [...values.subarray(row * width, (row + 1) * width)]);
    close(await read.logits.read(), await whole.logits.read(), 'logits', 1e-6);
    for (const kind of ['captures', 'gradients'] as const) {
      close(await read[kind].get(at[0]!)!.read(), await whole[kind].get(at[0]!)!.read(), kind, 1e-6);
      expect(read[kind].get(end)!.shape).toEqual([2, 1, width]);
      close(await read[kind].get(end)!.read(), rowsOf(await whole[kind].get(end)!.read()), kind, 1e-6);
    }
  });
  test('is refused where it could not mean that', () => {
    const bert = models.get('bert')!;
    const lastLayer = 'read';
    const refused = (model: LanguageModel, options: object) =>
      expect(() => model.run(input, { lastLayer, ...options })).toThrow(
        "lastLayer 'read' is for masked models",
      );
    refused(bert, {});
    refused(bert, { logits: [1, 1], grad: { at: ['hook_embed'], of: objective } });
    refused(bert, { logits: [1, 1], patch: [] });
    refused(models.get('llama')!, { logits: [1, 1] });
  });
});

describe('a patch point inside a fused kernel', () => {
  test.each(['bert', 'llama'])('takes the operations apart where it is observed: %s', async (name) => {
    const model = models.get(name)!;
    const last = model.hookNames.filter((n) => n.endsWith('hook_resid_post')).at(-1)!;
    const inside = model.hookNames.filter((n) =>
      /hook_attn_out|hook_mlp_out|mlp\.hook_(pre|pre_linear|act)$/.test(n),
    );
    const count = async (names: readonly string[]): Promise<[Float32Array, number]> => {
      const before = device.queue.dispatches;
      const found = await capture(model, names);
      return [found.get(last)!, device.queue.dispatches - before];
    };
    const [fused, few] = await count([last]);
    const [apart, many] = await count([last, ...inside]);
    expect(inside.length).toBeGreaterThan(4);
    expect(many).toBeGreaterThan(few);
    expect(apart).toEqual(fused);
    for (const one of inside) expect((await capture(model, [last, one])).get(last), one).toEqual(fused);
  });
});
