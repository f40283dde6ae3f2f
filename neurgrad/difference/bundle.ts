/**
 * The base of a sweep: everything of some prompts' plain forward that their differences are measured against, kept on the
 * device, packed token by token with no padding.
 *
 * What a causal model computes after the read position cannot matter, and before the neurons' position nothing changes:
 * queries, residuals and feed-forward values are kept from there on only, keys and values from the prompt's start.
 */

import {
  concat,
  gelu,
  integers,
  linear,
  logSoftmax,
  noGrad,
  permute,
  type RotaryTable,
  reshape,
  rotary,
  rotaryTable,
  scope,
  slice,
  type Tensor,
} from '../../engine/index.ts';
import { disown } from '../../engine/scope.ts';
import { Bert } from '../../models/bert.ts';
import { Llama } from '../../models/llama.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Probe } from '../predict.ts';
import { probeRows } from '../predict.ts';

/** A model whose differences can be propagated. */
export type DifferenceModel = Bert | Llama;

/** Whether this is one of the models themselves, whole on one device: not streamed, not split, not a stand-in. */
export function carriesDifferences(model: LanguageModel): model is DifferenceModel {
  return model instanceof Bert || model instanceof Llama;
}

/** One prompt to sweep. */
export interface SweepCase {
  readonly probe: Probe;
  /** Position whose neurons are shifted. */
  readonly at: number;
  readonly target: number;
}

/** Where a prompt's values lie in the bundle. */
export interface CasePlace {
  readonly at: number;
  readonly read: number;
  readonly target: number;
  /** Positions whose values can change: [low, high). */
  readonly low: number;
  readonly high: number;
  /** Keys that a query may see. */
  readonly keys: number;
  readonly queryStart: number;
  readonly keyStart: number;
  readonly patternStart: number;
}

/** Values kept of every layer, by the name used in the suffixes, and the hook each comes from. */
const KEPT = {
  bert: {
    q: 'attn.hook_q',
    k: 'attn.hook_k',
    v: 'attn.hook_v',
    pattern: 'attn.hook_pattern',
    middle: 'hook_resid_mid',
    pre: 'mlp.hook_pre',
    after: 'hook_resid_post',
  },
  llama: {
    before: 'hook_resid_pre',
    q: 'attn.hook_q',
    k: 'attn.hook_k',
    v: 'attn.hook_v',
    pattern: 'attn.hook_pattern',
    middle: 'hook_resid_mid',
    pre: 'mlp.hook_pre',
    up: 'mlp.hook_pre_linear',
  },
} as const;

/** Base tensors of a layer by name: values [tokens, width], pattern flat. */
export type LayerBase = Readonly<Record<string, Tensor>>;

export interface Bundle extends Disposable {
  readonly model: DifferenceModel;
  readonly cases: readonly CasePlace[];
  readonly layers: readonly LayerBase[];
  /** What the head's non-linear steps start from, [cases, hidden] each: BERT dense, gelu; Llama final. */
  readonly head: Readonly<Record<string, Tensor>>;
  /** Log-probabilities [cases, vocabulary]. */
  readonly logprobs: Tensor;
  /** [cases, vocabulary] */
  readonly logits: Tensor;
  /** pre (gate) and, for Llama, up of all neurons [layers * width] at each case's position, on the host. */
  readonly pre: readonly Float32Array[];
  readonly up: readonly Float32Array[];
  /** Root mean squares of the same, a number a layer for each case. */
  readonly scales: {
    readonly pre: readonly (readonly number[])[];
    readonly up: readonly (readonly number[])[];
  };
  readonly rotary: RotaryTable | null;
  /** Most keys of any case. */
  readonly keys: number;
  dispose(): void;
}

/** One plain forward a prompt, its values kept. The caller disposes of the bundle; where it throws, nothing is left. */
export async function openBundle(model: DifferenceModel, cases: readonly SweepCase[]): Promise<Bundle> {
  /** All that is made on the way, to be freed where a later step fails. */
  const made: Tensor[] = [];
  try {
    return await makeBundle(model, cases, (t) => {
      made.push(t);
      return t;
    });
  } catch (error) {
    for (const t of made) t.dispose();
    throw error;
  }
}

async function makeBundle(
  model: DifferenceModel,
  cases: readonly SweepCase[],
  hold: (made: Tensor) => Tensor,
): Promise<Bundle> {
  const { device, sizes } = model;
  const causal = model.architecture === 'llama';
  const longest = Math.max(...cases.map(({ probe }) => probe.ids.length));
  const table =
    model.architecture === 'llama'
      ? scope(() => rotaryTable(device, longest, sizes.headSize, model.sizes.ropeTheta))
      : null;
  for (const t of table ? [table.cosine, table.sine] : []) {
    disown(t);
    hold(t);
  }

  const places: CasePlace[] = [];
  const parts: Record<string, Tensor>[][] = [];
  const finals: Tensor[] = [];
  const logitRows: Tensor[] = [];
  let [queryStart, keyStart, patternStart] = [0, 0, 0];
  for (const { probe, at, target } of cases) {
    const read = probe.position;
    const keys = causal ? read + 1 : probe.ids.length;
    const [low, high] = causal ? [Math.min(at, read), read + 1] : [0, keys];
    places.push({ at, read, target, low, high, keys, queryStart, keyStart, patternStart });
    queryStart += high - low;
    keyStart += keys;
    patternStart += (high - low) * sizes.heads * keys;

    const input: Probe = causal ? { ids: probe.ids.slice(0, keys), position: read } : probe;
    const layers = Array.from({ length: sizes.layers }, (): Record<string, Tensor> => ({}));
    const edit: Record<string, (value: Tensor) => Tensor> = {};
    const stash = (into: Record<string, Tensor>, name: string, make: () => Tensor): void => {
      const made = scope(make);
      disown(made);
      into[name] = hold(made);
    };
    for (const [layer, kept] of layers.entries())
      for (const [name, hook] of Object.entries(KEPT[model.architecture])) {
        edit[`blocks.${layer}.${hook}`] = (value) => {
          stash(kept, name, () => tokensOf(value, name, low, high, keys, table));
          return value;
        };
      }
    const last = `blocks.${sizes.layers - 1}.${causal ? 'hook_resid_post' : 'hook_normalized_resid_post'}`;
    const end: Record<string, Tensor> = {};
    const before = edit[last];
    edit[last] = (value) => {
      before?.(value);
      stash(end, 'final', () =>
        reshape(slice(value, [0, read, 0], [1, read + 1, sizes.hidden]), [1, sizes.hidden]),
      );
      return value;
    };
    using run = noGrad(() => model.run(probeRows(input), { edit, logits: [read] }));
    const row = hold(run.logits.detach());
    logitRows.push(row);
    parts.push(layers);
    finals.push(end.final!);
  }

  const packed = Array.from({ length: sizes.layers }, (_, layer) =>
    Object.fromEntries(
      Object.keys(parts[0]![layer]!).map((name) => [name, hold(pack(parts.map((p) => p[layer]![name]!)))]),
    ),
  );
  const final = hold(pack(finals));
  const logits = hold(pack(logitRows));
  const logprobs = hold(noGrad(() => scope(() => logSoftmax(logits))));
  const head = noGrad(() => scope(() => headBase(model, final)));
  for (const t of Object.values(head)) hold(t);
  const rowsAt = (name: string): Promise<Float32Array>[] =>
    places.map(async ({ at, low, queryStart: start }) => {
      const row = start + at - low;
      const all = scope(() =>
        concat(
          packed.map((layer) => slice(layer[name]!, [row, 0], [row + 1, sizes.width])),
          0,
        ),
      );
      try {
        return await all.read();
      } finally {
        all.dispose();
      }
    });
  const scalesOf = (values: Float32Array): number[] =>
    Array.from({ length: sizes.layers }, (_, layer) => {
      const some = values.subarray(layer * sizes.width, (layer + 1) * sizes.width);
      return Math.sqrt(some.reduce((sum, value) => sum + value * value, 0) / sizes.width);
    });
  const held = [...packed.flatMap((layer) => Object.values(layer)), ...Object.values(head), logprobs, logits];
  if (table) held.push(table.cosine, table.sine);
  const dispose = (): void => {
    for (const t of held) t.dispose();
  };
  const reading = [rowsAt('pre'), causal ? rowsAt('up') : []];
  // All of them, also after one has failed: what is being read is still held.
  await Promise.allSettled(reading.flat());
  const [pre, up] = await Promise.all(reading.map((rows) => Promise.all(rows)));
  return {
    model,
    cases: places,
    layers: packed,
    head,
    logprobs,
    logits,
    pre: pre!,
    up: up!,
    scales: { pre: pre!.map(scalesOf), up: up!.map(scalesOf) },
    rotary: table,
    keys: Math.max(...places.map((place) => place.keys)),
    dispose,
    [Symbol.dispose]: dispose,
  };
}

/** The tokens that are kept of one layer's value, as rows. */
function tokensOf(
  value: Tensor,
  name: string,
  low: number,
  high: number,
  keys: number,
  table: RotaryTable | null,
): Tensor {
  if (name === 'pattern') {
    const byQuery = permute(value, [0, 2, 1, 3]);
    const [, , heads] = byQuery.shape as [number, number, number, number];
    const part = slice(byQuery, [0, low, 0, 0], [1, high, heads, keys]);
    return reshape(part, [part.size]);
  }
  const [from, to] = name === 'k' || name === 'v' ? [0, keys] : [low, high];
  let part = slice(value, [0, from], [1, to]);
  if (table && (name === 'q' || name === 'k'))
    part = rotary(
      part,
      integers(
        value.device,
        Array.from({ length: to - from }, (_, i) => from + i),
      ),
      table,
    );
  return reshape(part, [to - from, part.size / (to - from)]);
}

/** Rows of all prompts one after the other; takes the parts over. */
function pack(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 1) return tensors[0]!;
  const all = noGrad(() => scope(() => concat(tensors, 0)));
  for (const t of tensors) t.dispose();
  return all;
}

/** Takes the final residual [cases, hidden] over. */
function headBase(model: DifferenceModel, final: Tensor): Record<string, Tensor> {
  if (model.architecture === 'llama') return { final };
  const weight = (name: string): Tensor => model.parameters.get(`cls.predictions.transform.dense.${name}`)!;
  const dense = linear(final, weight('weight'), weight('bias'));
  final.dispose();
  return { dense, gelu: gelu(dense) };
}
