/**
 * The base of a sweep: everything of some prompts' plain forward that their differences are measured against, kept on the
 * device, packed token by token with no padding.
 *
 * What a causal model computes after the read position cannot matter, and before the neurons' position nothing changes:
 * queries, residuals and feed-forward values are kept from there on only, keys and values from the prompt's start.
 */

import {
  concat,
  logSoftmax,
  noGrad,
  permute,
  reshape,
  scope,
  slice,
  type Tensor,
} from '../../engine/index.ts';
import { disown } from '../../engine/scope.ts';
import { feedForwardOf } from '../../models/description.ts';
import type { Keep } from '../../models/hooks.ts';
import { type Prefix, runRows } from '../../models/kvCache.ts';
import type { LanguageModel, Objective, RunOptions, RunResult } from '../../models/model.ts';
import { checkInput, runChecked } from '../../models/run.ts';
import { Transformer } from '../../models/transformer.ts';
import type { Probe } from '../predict.ts';
import { probeRows } from '../predict.ts';
import type { FeedForward } from './injection.ts';
import type { PromptRows } from './ops.ts';

/** A model whose differences can be propagated. */
export type DifferenceModel = Transformer;

/** Whether this is whole on one device: not streamed, not split, not a stand-in. */
export function carriesDifferences(model: LanguageModel): model is DifferenceModel {
  return model instanceof Transformer;
}

/** One prompt to sweep. */
export interface SweepCase {
  readonly probe: Probe;
  /** Position whose neurons are shifted. */
  readonly at: number;
  readonly target: number;
  /** More tokens that the same rows are read of. */
  readonly others?: readonly number[];
  /** The cache of all tokens before the one that is read, where that has the neurons and is the last: they are not run again. The bundle takes it over. */
  readonly prefix?: Prefix | null;
}

/** Where a prompt's values lie in the bundle. */
export interface CasePlace {
  readonly at: number;
  readonly read: number;
  /** What rows are read of: of each case as many as of any, the first once more where it has fewer. */
  readonly tokens: readonly number[];
  /** Positions whose values can change: [low, high). */
  readonly low: number;
  readonly high: number;
  /** Keys that a query may see. */
  readonly keys: number;
  readonly queryStart: number;
  readonly keyStart: number;
  readonly patternStart: number;
}

/** Values by the slots of the words that start from them: [tokens, width], pattern flat. */
export type Slots = ReadonlyMap<string, Tensor>;

export interface Bundle extends Disposable {
  readonly model: DifferenceModel;
  readonly cases: readonly CasePlace[];
  /** The queries of each case, and its keys. */
  readonly queries: readonly PromptRows[];
  /** What the words of each layer start from, and after them those of the head, a row a case. */
  readonly layers: readonly Slots[];
  /** Log-probabilities [cases, vocabulary]. */
  readonly logprobs: Tensor;
  /** [cases, vocabulary] */
  readonly logits: Tensor;
  readonly feedForward: FeedForward;
  /** pre and, where it gates, up of all neurons [layers * width] at each case's position, on the host. */
  readonly pre: readonly Float32Array[];
  readonly up: readonly Float32Array[];
  /** Root mean squares of the same, a number a layer for each case. */
  readonly scales: {
    readonly pre: readonly (readonly number[])[];
    readonly up: readonly (readonly number[])[];
  };
  /** Most keys of any case. */
  readonly keys: number;
  dispose(): void;
}

/**
 * One plain forward a prompt, its values kept; the cases' caches go. The caller disposes of the bundle; where it throws, nothing is left.
 * @param recorded runs that have been made with {@link keepRun}, a case each, which stay the caller's.
 */
export async function openBundle(
  model: DifferenceModel,
  cases: readonly SweepCase[],
  recorded?: readonly KeptRun[],
): Promise<Bundle> {
  /** All that is made on the way, to be freed where a later step fails. */
  const made: Tensor[] = [];
  for (const { kept } of recorded ?? []) for (const slots of kept) made.push(...slots.values());
  try {
    return await makeBundle(model, cases, recorded, (t) => {
      made.push(t);
      return t;
    });
  } catch (error) {
    for (const t of made) t.dispose();
    throw error;
  } finally {
    for (const { prefix } of cases) prefix?.dispose();
  }
}

/** A plain run of a prompt, and the values of each layer, and of the head, that differences start from. */
export interface KeptRun {
  readonly run: RunResult;
  /** Of a bundle made of it. */
  readonly kept: readonly Map<string, Tensor>[];
}

/** Positions of a case whose values can change, [low, high), and the keys that a query may see. */
function reachOf({ causal }: DifferenceModel, { probe, at }: Pick<SweepCase, 'probe' | 'at'>) {
  const read = probe.position;
  const keys = causal ? read + 1 : probe.ids.length;
  const [low, high] = causal ? [Math.min(at, read), read + 1] : [0, keys];
  return { read, keys, low, high };
}

/** Runs a prompt plain, and where that is asked for back. @param hold is told of each tensor kept. */
export function keepRun(
  model: DifferenceModel,
  { probe, at, prefix }: Pick<SweepCase, 'probe' | 'at' | 'prefix'>,
  hold: (made: Tensor) => Tensor,
  asked: Pick<RunOptions, 'capture'> & { readonly grad?: { at: readonly string[]; of: Objective } } = {},
): KeptRun {
  const { causal, sizes } = model;
  const { read, keys, low, high } = reachOf(model, { probe, at });
  const past = prefix?.length ? prefix : null;
  const input: Probe = causal ? { ids: probe.ids.slice(0, keys), position: read } : probe;
  const kept = Array.from({ length: sizes.layers + 1 }, () => new Map<string, Tensor>());
  const keep: Keep = (layer, slot, value) => {
    // Embeddings do not change.
    if (layer < 0) return;
    const part = noGrad(() =>
      scope(() => {
        if (layer === sizes.layers) return slice(value, [], []);
        if (!past) return tokensOf(value, slot, low, high, keys);
        const own = tokensOf(value, slot, 0, 1, slot === 'pattern' ? keys : 1);
        const before = slot === 'k' ? past.keys(layer) : slot === 'v' ? past.values(layer) : null;
        return before ? concat([reshape(permute(before, [1, 0, 2]), [read, own.dim(1)]), own], 0) : own;
      }),
    );
    disown(part);
    kept[layer]!.set(slot, hold(part));
  };
  const { grad, ...others } = asked;
  const run = (): RunResult =>
    past
      ? runRows(
          model,
          [{ prefix: past, ids: [probe.ids[read]!] }],
          {
            ...others,
            ...(grad ? { grad: { at: grad.at, of: withoutPosition(grad.of) } } : {}),
          },
          keep,
        )
      : runChecked(
          model,
          checkInput(probeRows(input), model.description),
          { ...others, ...(grad ? { grad } : {}), logits: [read] },
          keep,
        );
  return { run: grad ? run() : noGrad(run), kept };
}

const withoutPosition = ({ position: _, ...of }: Objective): Omit<Objective, 'position'> => of;

async function makeBundle(
  model: DifferenceModel,
  cases: readonly SweepCase[],
  recorded: readonly KeptRun[] | undefined,
  hold: (made: Tensor) => Tensor,
): Promise<Bundle> {
  const { sizes, description } = model;
  const feedForward = feedForwardOf(description);
  const places: CasePlace[] = [];
  const parts: (readonly Map<string, Tensor>[])[] = [];
  const logitRows: Tensor[] = [];
  let [queryStart, keyStart, patternStart] = [0, 0, 0];
  const most = Math.max(...cases.map(({ others = [] }) => 1 + others.length));
  const tokensOf = ({ target, others = [] }: SweepCase): number[] =>
    Array.from({ length: most }, (_, t) => [target, ...others][t] ?? target);
  for (const [number, one] of cases.entries()) {
    const { read, keys, low, high } = reachOf(model, one);
    places.push({
      ...{ at: one.at, read, tokens: tokensOf(one), low, high, keys },
      queryStart,
      keyStart,
      patternStart,
    });
    queryStart += high - low;
    keyStart += keys;
    patternStart += (high - low) * sizes.heads * keys;
    const own = recorded ? null : keepRun(model, one, hold);
    try {
      const { run, kept } = own ?? recorded![number]!;
      // A handle of the bundle's own.
      logitRows.push(hold(run.logits.detach()));
      parts.push(kept);
    } finally {
      own?.run.dispose();
    }
  }

  const layers = parts[0]!.map(
    (first, layer) =>
      new Map(
        [...first.keys()].map((slot) => [slot, hold(pack(parts.map((part) => part[layer]!.get(slot)!)))]),
      ),
  );
  const logits = hold(pack(logitRows));
  const logprobs = hold(noGrad(() => scope(() => logSoftmax(logits))));
  const rowsAt = (slot: string): Promise<Float32Array>[] =>
    places.map(async ({ at, low, queryStart: start }) => {
      const row = start + at - low;
      const all = scope(() =>
        concat(
          layers.slice(0, -1).map((kept) => slice(kept.get(slot)!, [row, 0], [row + 1, sizes.width])),
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
  const held = [...layers.flatMap((kept) => [...kept.values()]), logprobs, logits];
  const dispose = (): void => {
    for (const t of held) t.dispose();
  };
  const reading = [rowsAt('pre'), feedForward.gated ? rowsAt('up') : []];
  // All of them, also after one has failed: what is being read is still held.
  await Promise.allSettled(reading.flat());
  const [pre, up] = await Promise.all(reading.map((rows) => Promise.all(rows)));
  return {
    model,
    cases: places,
    queries: places.map(({ low, high, queryStart: from, keys, keyStart }) => ({
      ...{ from, to: from + high - low, keys, keyStart },
    })),
    layers,
    logprobs,
    logits,
    feedForward,
    pre: pre!,
    up: up!,
    scales: { pre: pre!.map(scalesOf), up: up!.map(scalesOf) },
    keys: Math.max(...places.map((place) => place.keys)),
    dispose,
    [Symbol.dispose]: dispose,
  };
}

/** The tokens that are kept of one layer's value, as rows. */
function tokensOf(value: Tensor, slot: string, low: number, high: number, keys: number): Tensor {
  if (slot === 'pattern') {
    const byQuery = permute(value, [0, 2, 1, 3]);
    const [, , heads] = byQuery.shape as [number, number, number, number];
    const part = slice(byQuery, [0, low, 0, 0], [1, high, heads, keys]);
    return reshape(part, [part.size]);
  }
  const [from, to] = slot === 'k' || slot === 'v' ? [0, keys] : [low, high];
  const part = slice(value, [0, from], [1, to]);
  return reshape(part, [to - from, part.size / (to - from)]);
}

/** Rows of all prompts one after the other; takes the parts over. */
function pack(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 1) return tensors[0]!;
  const all = noGrad(() => scope(() => concat(tensors, 0)));
  for (const t of tensors) t.dispose();
  return all;
}
