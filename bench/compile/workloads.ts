/**
 * What is compiled, and on a GPU measured beside what was predicted (suites/gpu.ts): the project's models and products, run as ever.
 * On a device that executes nothing weights need not be written and the sizes are true; every value read there is 0.
 */

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import {
  attention,
  candidates,
  type Device,
  type DType,
  empty,
  grad,
  matmul,
  scope,
  type Tensor,
} from '../../engine/index.ts';
import {
  type Choice,
  evenLayout,
  layoutName,
  multiplyBy,
  type OperandLayout,
  unitsCandidates,
} from '../../engine/matmulChoice.ts';
import {
  type ModelConfig,
  parametersOf,
  parseConfig,
  presetConfig,
  type RunOptions,
  Transformer,
} from '../../models/index.ts';
import { joinProjections } from '../../models/join.ts';
import { recordedText } from '../../models/recordedText.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { BERT_BASE, LLAMA_12 } from '../network.ts';

/** Has `once` run a few times first, which makes pipelines, buffers and bind groups, and counts one run as phase `name`. */
export type Phase = (name: string, once: () => Promise<void>) => Promise<void>;

interface Bench {
  readonly device: Device;
  readonly phase: Phase;
  /** Weights of this shape, as they come or drawn. */
  readonly weights: (shape: readonly number[], dtype: DType) => Tensor;
}

/** A model with weights of no meaning; matrices of the layers in `dtype`. */
function meaningless(
  { device, weights: drawn }: Bench,
  config: ModelConfig,
  dtype: DType = 'f32',
): Transformer {
  const weights = new Map(
    parametersOf(config.description).map(({ name, shape, kind, stage }) => {
      const kept = kind === 'matrix' && typeof stage === 'number' ? dtype : 'f32';
      return [name, drawn(shape, kept)] as const;
    }),
  );
  return new Transformer(device, config, weights, joinProjections(device, config.description, weights));
}

const idsOf = (length: number): number[] => Array.from({ length }, (_, i) => 1000 + i);

/** A forward pass, and one with the gradients of all neurons. */
async function passes({ phase }: Bench, name: string, model: Transformer, length: number): Promise<void> {
  const ids = [idsOf(length)];
  const position = [model.causal ? length - 1 : length >> 1];
  const run = (options: RunOptions) => async (): Promise<void> => {
    using result = model.run({ ids }, { logits: position, ...options });
    await result.logits.read();
  };
  const at = Array.from({ length: model.sizes.layers }, (_, layer) => `blocks.${layer}.mlp.hook_post`);
  await phase(`${name}, 1 x ${length}, forward`, run({}));
  await phase(
    `${name}, 1 x ${length}, forward and backward`,
    run({ grad: { at, of: { of: 'logprob', target: [7], position } } }),
  );
}

/** One more token of a text, its step replayed. */
async function decode({ phase }: Bench, name: string, model: Transformer, length: number): Promise<void> {
  const text = recordedText(model, length + 16);
  await text.extend(idsOf(length));
  await phase(`${name}, a token after ${length}`, async () => void (await text.extend([7])));
  text.dispose();
}

const SHIFTS = [-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2];

async function sweeps({ phase }: Bench, name: string, model: Transformer, length: number, count: number) {
  const { layers, width } = model.sizes;
  const neurons = Array.from({ length: count }, (_, i) => ({
    layer: i % layers,
    index: (i * 37) % width,
    site: model.paperSite,
  }));
  const probe = { ids: idsOf(length), position: model.causal ? length - 1 : length >> 1 };
  await phase(`sweep of ${name}, ${length} tokens, ${count} neurons x 8`, async () => {
    await sweep(model, probe, { neurons, shifts: SHIFTS, target: 7 });
  });
}

/** x [m, k] times w [n, k] transposed. */
async function products(
  { phase, weights }: Bench,
  [m, n, k]: readonly [number, number, number],
  dtype: DType,
): Promise<void> {
  const [x, w] = [weights([m, k], 'f32'), weights([n, k], dtype)];
  await phase(`${m} x ${n} x ${k}, ${dtype}`, async () => {
    scope(() => void matmul(x, w, { transB: true }));
  });
  for (const t of [x, w]) t.dispose();
}

const FORMATS = ['f32', 'f16', 'bf16', 'int8', 'int4'] as const;
const SIDE = 1024;
/** A K that many lanes share, as in large models: few rows of it have kernels of their own. */
const DEEP = 4096;

/** A product, and the kernels that may compute it, all with the same bits. */
export interface Contest {
  readonly name: string;
  readonly layout: OperandLayout;
  readonly shape: { readonly m: number; readonly n: number; readonly k: number };
  readonly choices: readonly Choice[];
}

/** Products of so many rows, `side` columns and a K of `deep`, in all layouts where B is f32, both where it is stored otherwise. */
function* productsOf(
  weights: readonly OperandLayout['weight'][],
  side: number,
  rows: readonly number[],
  deep = side,
) {
  for (const weight of weights)
    for (const transA of weight === 'f32' ? [false, true] : [false])
      for (const transB of [true, false])
        for (const m of rows)
          yield { layout: evenLayout(m, transA, transB, weight), shape: { m, n: side, k: deep } };
}

/** Every kernel that may compute a product, whatever is chosen. */
export function* contests(
  { capabilities }: Device,
  side: number,
  rows: readonly number[],
  deep = side,
): Generator<Contest> {
  for (const { layout, shape } of productsOf(FORMATS, side, rows, deep))
    yield { name: layoutName(layout), layout, shape, choices: candidates(shape, layout, capabilities) };
}

/** The same on matrix units, by precision; none where the device offers none (Dawn's toggle `allow_unsafe_apis`). */
export function* unitsContests(
  { capabilities }: Device,
  side: number,
  rows: readonly number[],
): Generator<Contest> {
  if (!capabilities.matrixUnit) return;
  for (const precision of ['f16', 'split-f16'] as const)
    for (const { layout, shape } of productsOf(['f32', 'f16'], side, rows)) {
      const choices = unitsCandidates(shape, precision, layout, capabilities);
      yield { name: `${layoutName(layout)}, ${precision}`, layout, shape, choices };
    }
}

async function run({ device }: Bench, all: Iterable<Contest>): Promise<void> {
  for (const { layout, shape, choices } of all) {
    const { m, n, k } = shape;
    const made = [
      empty(device, [m, k]),
      empty(device, [n, k], layout.weight, 'weights'),
      empty(device, [m, n]),
    ];
    const [a, b, c] = made.map((t) => t.storage.window());
    for (const choice of choices) multiplyBy(choice, device, [a!, b!, c!], shape, layout);
    for (const t of made) t.dispose();
  }
  await device.finish();
}

async function llama7b(bench: Bench, dtype: DType): Promise<void> {
  const config = parseConfig(presetConfig('llama2-7b'));
  const model = meaningless(bench, config, dtype);
  await decode(bench, `Llama 2 7B ${dtype}`, model, 520);
  model.dispose();
  bench.device.pool.trim();
}

/** Attention forward and back, of heads of every size that models have, and one row over a cache. */
async function attentions({ device, phase }: Bench): Promise<void> {
  const pass = async (
    name: string,
    tokens: number,
    keys: number,
    heads: number,
    size: number,
    back: boolean,
    keyHeads = heads,
  ) => {
    const made = [tokens, keys, keys].map((n, i) =>
      empty(device, [1, n, i === 0 ? heads : keyHeads, size]).requireGrad(),
    );
    const [q, k, v] = made as [Tensor, Tensor, Tensor];
    await phase(`attention ${name}`, async () => {
      scope(() => {
        const y = attention(q, k, v, { causal: true });
        if (back) grad(y, made, { cotangent: y.detach() });
      });
    });
    for (const t of made) t.dispose();
  };
  await pass('2048 tokens, 12 heads of 64', 2048, 2048, 12, 64, false);
  await pass('2048 tokens, 12 heads of 64, and back', 2048, 2048, 12, 64, true);
  for (const size of [80, 96, 128, 256])
    await pass(`512 tokens, 12 heads of ${size}, and back`, 512, 512, 12, size, true);
  await pass('1 over 2048, 32 heads of 128', 1, 2048, 32, 128, false);
  await pass('1 over 2048, 32 heads of 128, and back', 1, 2048, 32, 128, true);
  await pass('1 over 2048, 32 heads of 128 that share 8, and back', 1, 2048, 32, 128, true, 8);
  await pass('1 over 40, 12 heads of 64, and back', 1, 40, 12, 64, true);
}

export type Workload = (bench: Bench) => Promise<void>;

/** By name. */
export const WORKLOADS = {
  bert: async (bench) => {
    const model = meaningless(bench, BERT_BASE);
    await passes(bench, 'BERT-base', model, 16);
    await sweeps(bench, 'BERT-base', model, 16, 48);
    model.dispose();
  },
  llama: async (bench) => {
    const model = meaningless(bench, LLAMA_12);
    await passes(bench, 'Llama 12 x 768', model, 40);
    await decode(bench, 'Llama 12 x 768', model, 48);
    await sweeps(bench, 'Llama 12 x 768', model, 40, 120);
    model.dispose();
  },
  'llama-7b': async (bench) => {
    await llama7b(bench, 'bf16');
    await llama7b(bench, 'int4');
  },
  gemm: async (bench) => {
    for (const dtype of ['f32', 'bf16', 'int8', 'int4'] as const)
      await products(bench, [1, 4096, 4096], dtype);
    await products(bench, [16, 768, 768], 'f32');
    await products(bench, [512, 3072, 768], 'f32');
    await products(bench, [4096, 4096, 4096], 'f32');
  },
  products: async (bench) => {
    await run(bench, contests(bench.device, SIDE, [1, 2, 4, 16, 64, 512]));
    await run(bench, contests(bench.device, SIDE, [1, 2, 4, 16], DEEP));
  },
  attention: attentions,
  // The model knows no rate of theirs: no phases.
  units: (bench) => run(bench, unitsContests(bench.device, SIDE, [SIDE])),
} as const satisfies Record<string, Workload>;

export type WorkloadName = keyof typeof WORKLOADS;

/** Each compute entry point of a WGSL file, with the layout that its bindings ask for. */
export async function compileFile({ gpu }: Device, file: string): Promise<void> {
  const code = readFileSync(file, 'utf8');
  const module = gpu.createShaderModule({ code, label: basename(file, '.wgsl') });
  for (const [, entryPoint = ''] of code.matchAll(/@compute[\s\S]*?\bfn\s+(\w+)/g))
    gpu.createComputePipeline({ layout: 'auto', compute: { module, entryPoint } });
}
