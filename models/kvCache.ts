/**
 * Key/value cache of a causal model: the keys and values of a prompt's tokens are computed once, and any number of rows
 * then run its last position against them (docs/science.md#exact-shortcuts).
 *
 * A later token changes no earlier key or value. So a patched, shifted or differentiated last position is one row through
 * the layers, R of them are a batch [R, 1, H], and the keys of a prompt are shared by its rows without a copy: all their
 * queries are one product, or rows of one kernel (engine/ops/prefixAttention.ts). Keys and values are constants of the tape,
 * so the backward of a row run is the single-position backward by itself; candidates of one prompt are rows with
 * different targets.
 *
 * Example: p of three targets and their gradients at the last token of a prompt.
 *
 *     using prefix = model.prefill(ids.slice(0, -1));
 *     using run = model.runRows({ prefix, ids: [last, last, last] }, {
 *       capture: ['blocks.4.mlp.hook_pre_linear'],                                                 // [3, 1, I]
 *       grad: { at: ['blocks.4.mlp.hook_pre_linear'], of: { of: 'prob', target: [a, b, c] } },     // [3, 1, I]
 *     });
 *     run.logits;                                                                                  // [3, V]
 */

import { ShapeError, UserError } from '../engine/errors.ts';
import {
  attention,
  concat,
  type Device,
  integers,
  noGrad,
  type PrefixAttentionOptions,
  permute,
  prefixAttention,
  reshape,
  scope,
  slice,
  Tensor,
} from '../engine/index.ts';
import { type CachedAttentionOptions, cachedAttention } from '../engine/ops/cachedAttention.ts';
import {
  checkOptions,
  checkValue,
  flag,
  instance,
  like,
  list,
  optionsSchema,
  required,
  show,
  whole,
} from '../engine/options.ts';
import { disown } from '../engine/scope.ts';
import { type AttendOptions, disposeTokens, type LayeredModel, type Tokens } from './causal.ts';
import { type Keep, pointOf, Taps } from './hooks.ts';
import type { ModelSizes, Objective, Patch, RunOptions, RunResult, ScalarOf } from './model.ts';
import { complete, loose, outlive, type Pass } from './pass.ts';
import type { Place } from './patches.ts';
import { type CheckedInput, runChecked } from './run.ts';
import {
  checkPatches,
  edits,
  GRAD_NAMES,
  names,
  objective,
  ofRows,
  onePatch,
  PATCH_NAMES,
  patchList,
} from './runOptions.ts';

/** Keys and values of consecutive tokens, a layer each: [keyValueHeads, tokens, headSize], keys turned by position. */
interface Segment {
  readonly keys: ReadonlyMap<number, Tensor>;
  readonly values: ReadonlyMap<number, Tensor>;
}

/**
 * The keys and values of a sequence of tokens at every layer, until `dispose()`. Those of a shared beginning are held once
 * however many prefixes extend it, and live as long as any of them.
 */
export class Prefix implements Disposable {
  readonly ids: readonly number[];
  readonly #segments: readonly Segment[];
  #logits: Tensor | null;

  constructor(ids: readonly number[], segments: readonly Segment[], logits: Tensor | null) {
    this.ids = ids;
    this.#segments = segments;
    this.#logits = logits;
    for (const t of this.#tensors()) disown(t);
  }

  /** Tokens in the cache. */
  get length(): number {
    return this.ids.length;
  }

  /** Logits [V] after the last token. @throws UserError where `prefill` was not asked for them. */
  get logits(): Tensor {
    if (!this.#logits) throw new UserError('input', 'this prefix has no logits: prefill with logits: true');
    return this.#logits;
  }

  /** Keys of a layer [keyValueHeads, length, headSize], a new handle that belongs to the open scope. */
  keys(layer: number): Tensor {
    return joined(this.#segments.map((s) => s.keys.get(layer)!));
  }

  /** Values of a layer, as {@link keys}. */
  values(layer: number): Tensor {
    return joined(this.#segments.map((s) => s.values.get(layer)!));
  }

  /** The parts it is made of, as handles of their own. */
  segments(): Segment[] {
    const again = (list: ReadonlyMap<number, Tensor>) =>
      new Map([...list].map(([layer, t]) => [layer, t.detach()]));
    return this.#segments.map(({ keys, values }) => ({ keys: again(keys), values: again(values) }));
  }

  *#tensors(): Iterable<Tensor> {
    for (const { keys, values } of this.#segments) yield* [...keys.values(), ...values.values()];
    if (this.#logits) yield this.#logits;
  }

  /** Frees its own keys and values; those of a prefix before it stay. */
  dispose(): void {
    for (const t of this.#tensors()) t.dispose();
    this.#logits = null;
  }
  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

function joined(parts: readonly Tensor[]): Tensor {
  return parts.length === 1 ? parts[0]!.detach() : concat(parts, 1);
}

/** What a prefill goes on from, and what it keeps. */
export interface PrefillOptions {
  /** The tokens before these: computed once, shared by all that extend it. */
  readonly prefix?: Prefix | undefined;
  /** Also the logits after the last token. */
  readonly logits?: boolean;
  /** Keep the result in one piece instead of sharing `prefix`: for generation, which drops the old prefix at once. */
  readonly merge?: boolean;
  /** Where keys and values are put as the layers make them; default new maps. */
  readonly into?: Kept;
  /** As in {@link RunOptions}, row 0; positions count from the text's beginning, the prefix's tokens included. */
  readonly patch?: readonly Patch[] | undefined;
  /** As in {@link RunOptions}: values of these tokens, [1, tokens, …]. */
  readonly edit?: RunOptions['edit'];
  /**
   * Of a text that goes on by one prefill after the other: the length of its prompt, from which negative positions of patches count back,
   * and from which on tokens are new ones. Patches elsewhere than at these tokens are passed over.
   */
  readonly promptLength?: number | undefined;
}

/** Keys and values by layer. */
export interface Kept {
  /** [keyValueHeads, tokens, headSize] each. */
  readonly keys: Map<number, Tensor>;
  /** As the keys. */
  readonly values: Map<number, Tensor>;
}

/**
 * Computes the keys and values of `ids`, after those of `options.prefix`. No ids at all are the cache of a prompt of one token.
 * @throws UserError for an id outside the vocabulary, or more tokens than the model has positions.
 */
export function prefill(model: LayeredModel, ids: readonly number[], options: PrefillOptions = {}): Prefix {
  return complete(prefillPass(model, ids, options));
}

/** {@link prefill} in stages. */
export function* prefillPass(
  model: LayeredModel,
  ids: readonly number[],
  options: PrefillOptions = {},
): Pass<Prefix> {
  checkPrefill(options);
  checkCausal(model, 'prefill');
  const { sizes, device } = model;
  const { prefix, logits = false, merge = false, into } = options;
  checkIds(ids, sizes);
  checkLength((prefix?.length ?? 0) + ids.length, sizes);
  if (logits && ids.length === 0) throw new UserError('input', 'prefill: no token to give logits after');
  if (ids.length === 0) return new Prefix(prefix?.ids ?? [], prefix?.segments() ?? [], null);
  const { patch, edit, promptLength: newFrom } = options;
  const past = prefix?.length ?? 0;
  const end = newFrom ?? past + ids.length;
  const taps = new Taps(model.hooks, 1, ids.length, { patch, edit }, undefined, {
    first: [past],
    end,
    newFrom,
  });
  const { own, remember, places, tokens } = remembering(device, ids.length, prefix, merge, into);
  let x: Tensor | null = null;
  let finished = false;
  try {
    yield { stage: 'embed', next: 0, ids };
    x = loose(() => model.embed({ rows: 1, length: ids.length, ids, positions: places }, taps));
    for (let layer = 0; layer < sizes.layers; layer++) {
      // Nobody reads what the last layer makes of these tokens, only its keys and values.
      const last = layer === sizes.layers - 1;
      yield { stage: layer, next: !last ? layer + 1 : logits ? 'head' : null };
      const before: Tensor = x;
      if (last && !logits)
        noGrad(() =>
          scope(() => {
            const [k, v] = model.keysAndValues(layer, before, tokens, taps);
            remember(layer, k, v);
          }),
        );
      else {
        x = loose(() => model.layer(layer, before, tokens, taps));
        before.dispose();
      }
    }
    let row: Tensor | null = null;
    if (logits) {
      yield { stage: 'head', next: null };
      const rows = x;
      row = loose(() => decodeLast(model, rows, taps));
    }
    finished = true;
    return new Prefix(
      [...(prefix?.ids ?? []), ...ids],
      merge || !prefix ? [own] : [...prefix.segments(), own],
      row,
    );
  } finally {
    disposeTokens(tokens);
    x?.dispose();
    if (!finished) for (const t of [...own.keys.values(), ...own.values.values()]) t.dispose();
  }
}

/** Tokens of a prompt, after those of `prefix`, whose keys and values are kept as the layers make them. */
export function remembering(
  device: Device,
  count: number,
  prefix: Prefix | undefined,
  merge: boolean,
  own: Kept = { keys: new Map(), values: new Map() },
): {
  readonly own: Kept;
  /** Keeps a layer's new keys and values; gives those of all tokens so far. */
  readonly remember: (layer: number, k: Tensor, v: Tensor) => [Tensor, Tensor];
  /** Positions of the new tokens. */
  readonly places: readonly number[];
  readonly tokens: Tokens;
} {
  const past = prefix?.length ?? 0;
  const remember = (layer: number, k: Tensor, v: Tensor): [Tensor, Tensor] => {
    const fresh: [Tensor, Tensor] = [byKeyHead(k), byKeyHead(v)];
    const all: [Tensor, Tensor] = prefix?.length
      ? [concat([prefix.keys(layer), fresh[0]], 1), concat([prefix.values(layer), fresh[1]], 1)]
      : fresh;
    const [keys, values] = merge ? all : fresh;
    own.keys.set(layer, outlive(keys));
    own.values.set(layer, outlive(values));
    return all;
  };
  const places = Array.from({ length: count }, (_, i) => past + i);
  const positions = loose(() => integers(device, places));
  const tokens: Tokens = {
    positions,
    reach: past + count,
    attend: (layer, q, k, v, how) => {
      const all = remember(layer, k, v);
      // Somebody sees the pattern.
      if (how.onPattern) {
        const { turn: _, ...seen } = how;
        const [keys, values] = all.map(byToken) as [Tensor, Tensor];
        return attention(q, keys, values, { ...seen, causal: true });
      }
      return cachedAttention(q, ...all, withLast(how, count === 1 ? positions : undefined));
    },
  };
  return { own, remember, places, tokens };
}

/** Logits [V] of the last of one prompt's residuals [1, tokens, H]. */
export function decodeLast(model: LayeredModel, residuals: Tensor, taps: Taps): Tensor {
  const { hidden, layers, vocabulary } = model.sizes;
  const length = residuals.dim(1);
  // Final values are hook points of all tokens where somebody asks for them.
  if (taps.wantsOf(layers)) {
    const all = reshape(model.head(residuals, taps, [1, length, hidden]), [length, hidden]);
    return reshape(model.decode(slice(all, [length - 1], [length]), taps), [vocabulary]);
  }
  const end = reshape(length === 1 ? residuals : slice(residuals, [0, length - 1], [1, length]), [1, hidden]);
  return reshape(model.decode(model.head(end, taps, [1, hidden]), taps), [vocabulary]);
}

/** [heads, tokens, D] as [1, tokens, heads, D]. */
const byToken = (x: Tensor): Tensor => reshape(permute(x, [1, 0, 2]), [1, x.dim(1), x.dim(0), x.dim(2)]);

/** [1, tokens, heads, D] as [heads, tokens, D]. */
function byKeyHead(x: Tensor): Tensor {
  const [, tokens, heads, headSize] = x.shape as [number, number, number, number];
  return permute(reshape(x, [tokens, heads, headSize]), [1, 0, 2]);
}

/** How a token behind its text attends, where `lastKey` is given; the patterns of a cache's tokens nobody sees. */
export const withLast = (
  { onPattern: _, turn: __, ...how }: AttendOptions,
  lastKey?: Tensor,
): CachedAttentionOptions => ({ ...how, ...(lastKey ? { lastKey } : {}) });

/** Rows of one prompt. */
export interface RowGroup {
  /** The prompt without its last token. */
  readonly prefix: Prefix;
  /** The last token of each row: usually the same one. */
  readonly ids?: readonly number[];
  /** Instead of ids: the residual of each row before layer `from`, [R, H] or [R, 1, H]. Stays the caller's. */
  readonly residual?: Tensor;
}

/** A change to one value of one row. */
export type RowPatch = Omit<Patch, 'position'>;

/** As {@link RunOptions}; every row is one position, and values are [R, 1, ...] with R the rows of all groups. */
export interface RowOptions {
  /** First layer to run: earlier layers are in the `residual` given. Default 0. */
  readonly from?: number;
  readonly patch?: readonly RowPatch[] | undefined;
  /** As in {@link RunOptions}; the row itself counts among the keys. */
  readonly fusedAttention?: boolean | undefined;
  /** As in {@link RunOptions}. */
  readonly edit?: RunOptions['edit'];
  readonly capture?: readonly string[] | undefined;
  readonly grad?:
    | {
        readonly at: readonly string[];
        /** An objective with one target a row, or a {@link ScalarOf} the logits [R, V] and the captured values [R, 1, …]. */
        readonly of: Omit<Objective, 'position'> | ScalarOf;
      }
    | undefined;
  /** Default true: logits [R, V]. */
  readonly logits?: boolean;
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;
const rowPatchList = list<RowPatch>(
  optionsSchema<RowPatch>(onePatch, PATCH_NAMES),
  'a list of patches: [{ name, row, neuron, op, value }]',
);

const rowOptions = optionsSchema<RowOptions>({
  from: whole(),
  patch: rowPatchList,
  fusedAttention: flag,
  edit: edits,
  capture: names,
  grad: optionsSchema<NonNullable<RowOptions['grad']>>(
    { at: required(names), of: required(objective(optionsSchema<Omit<Objective, 'position'>>(ofRows))) },
    GRAD_NAMES,
  ),
  logits: flag,
});
const prefixField = like<Prefix>((value) => isObject(value) && 'segments' in value, 'what prefill gives');
const rowGroup = optionsSchema<RowGroup>({
  prefix: required(prefixField),
  ids: list(whole(), 'a list of token ids'),
  residual: instance(Tensor, 'a tensor'),
});
const groupList = list(rowGroup, 'a list of rows: [{ prefix, ids }]');
const prefillOptions = optionsSchema<PrefillOptions>({
  prefix: prefixField,
  logits: flag,
  merge: flag,
  into: like<Kept>(
    (value) => isObject(value) && 'keys' in value && 'values' in value,
    'maps of keys and values: { keys, values }',
  ),
  patch: patchList,
  edit: edits,
  promptLength: whole(),
});

/** The options of rows alone. @throws UserError */
export const checkRowOptions = (door: string, options: RowOptions): void => {
  checkOptions(door, rowOptions, options);
  checkPatches(door, options.patch);
};
/** Rows and their options. @throws UserError */
export function checkRows(groups: readonly RowGroup[], options: RowOptions): void {
  checkValue('runRows', 'rows', groupList, groups);
  checkRowOptions('runRows', options);
}

/** @throws UserError for a model whose tokens see those after them. */
function checkCausal({ description }: LayeredModel, door: string): void {
  if (!description.causal)
    throw new UserError('model', `${door}: a masked model has no cache: its tokens see those after them`);
}

/** The options of a prefill. @throws UserError */
export const checkPrefill = (options: PrefillOptions): void => {
  checkOptions('prefill', prefillOptions, options);
  checkPatches('prefill', options.patch);
};

/**
 * Runs rows, each the last token of its group's prompt: everything but attention is one batch over all groups, attention
 * one product, or one kernel, a group. Rows do not influence one another: a row gives the same bits alone and in any batch.
 * @param keep see {@link Keep}.
 * @throws UserError before any GPU work.
 */
export function runRows(
  model: LayeredModel,
  groups: readonly RowGroup[],
  options: RowOptions = {},
  keep?: Keep,
): RunResult {
  const rows = prepareRows(model, groups, options);
  const { device, sizes, description, hooks } = model;
  const { head, decode } = { head: model.head.bind(model), decode: model.decode.bind(model) };
  const forward = (_: CheckedInput, taps: Taps): Tensor => {
    const tokens = rows.tokens();
    return model.layers(rows.from, rows.start(taps), () => tokens, taps);
  };
  const rest = { device, sizes, description, hooks, forward, head, decode };
  return runChecked(rest, rows.input, rows.options, keep, rows.place);
}

/** Rows that have been checked, and what a run of them consists of. */
export interface PreparedRows {
  readonly input: CheckedInput;
  readonly from: number;
  /** Whether `start` reads the embedding. */
  readonly embeds: boolean;
  readonly start: (taps: Taps) => Tensor;
  readonly tokens: () => Tokens;
  readonly options: RunOptions;
  readonly place: Place;
}

/** @throws UserError for rows or options that do not fit. */
export function prepareRows(
  model: LayeredModel,
  groups: readonly RowGroup[],
  options: RowOptions = {},
): PreparedRows {
  checkRows(groups, options);
  checkCausal(model, 'runRows');
  const { sizes, device } = model;
  const { from = 0, patch = [], grad, logits = true } = options;
  if (!Number.isInteger(from) || from < 0 || from > sizes.layers)
    throw new UserError('input', `from: layer ${from} is outside 0..${sizes.layers}`);
  const counts = groups.map((group) => checkGroup(group, from, sizes));
  const rows = counts.reduce((a, b) => a + b, 0);
  if (rows === 0) throw new UserError('input', 'runRows: at least one row is needed');
  const embeds = groups[0]!.ids !== undefined;
  if (groups.some((g) => (g.ids !== undefined) !== embeds))
    throw new UserError('input', 'rows: give all groups ids, or all a residual');
  const names = [
    ...patch.map((p) => p.name),
    ...Object.keys(options.edit ?? {}),
    ...(options.capture ?? []),
    ...(grad?.at ?? []),
  ];
  for (const name of names) checkHook(model, name, from, groups.length);
  for (const { name } of patch)
    if (pointOf(model.hooks, name).heads !== undefined)
      throw new UserError(
        'patch',
        `patch of ${name}: rows of different prompts attend to different tokens; use edit`,
      );
  const zeros = new Array<number>(rows).fill(0);
  const positions = positionsAfter(groups, counts);
  const input: CheckedInput = { rows, length: 1, ids: groups.flatMap((group) => group.ids ?? []) };
  return {
    input,
    from,
    embeds,
    start: (taps) => {
      if (embeds) return model.embed({ rows, length: 1, ids: input.ids, positions }, taps);
      const residuals = groups.map((g) => reshape(g.residual!, [-1, 1, sizes.hidden]));
      return residuals.length === 1 ? residuals[0]! : concat(residuals, 0);
    },
    tokens: () => rowTokens(device, groups, counts),
    place: { first: zeros, told: positions },
    options: {
      patch: patch.map((p) => ({ ...p, position: 0 })),
      edit: options.edit,
      fusedAttention: options.fusedAttention,
      capture: options.capture,
      grad: grad && {
        at: grad.at,
        of: typeof grad.of === 'function' ? grad.of : { ...grad.of, position: zeros },
      },
      logits: logits ? zeros : 'none',
    },
  };
}

/** Rows of a group. */
function checkGroup({ prefix, ids, residual }: RowGroup, from: number, sizes: ModelSizes): number {
  checkLength(prefix.length + 1, sizes);
  if ((ids === undefined) === (residual === undefined))
    throw new UserError('input', 'rows: give either ids or residual');
  if (ids) {
    if (from > 0) throw new UserError('input', `rows from layer ${from} need a residual, not ids`);
    checkIds(ids, sizes);
    return ids.length;
  }
  const { shape } = residual!;
  if (shape.at(-1) !== sizes.hidden || residual!.size !== shape[0]! * sizes.hidden)
    throw new ShapeError('runRows', `residual [${shape.join(', ')}], should be [rows, ${sizes.hidden}]`);
  return shape[0]!;
}

const idsField = like<readonly number[]>(
  (value) => typeof value === 'object' && value !== null && Number.isInteger((value as number[]).length),
  'a list of token ids, which tokenizer.encode(text) gives',
);

/** @throws UserError for what is no list of ids, or an id outside the vocabulary. */
export function checkIds(ids: readonly number[], sizes: ModelSizes): void {
  if (typeof ids === 'string' || !Number.isInteger(ids?.length)) checkValue('prefill', 'ids', idsField, ids);
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (!Number.isInteger(id) || id < 0 || id >= sizes.vocabulary)
      throw new UserError('input', `ids: ${show(id)} at ${i} is outside 0..${sizes.vocabulary - 1}`);
  }
}

/** @throws UserError for more tokens than the model has positions. */
export function checkLength(tokens: number, sizes: ModelSizes): void {
  if (tokens > sizes.positions)
    throw new UserError(
      'input',
      `a prompt of ${tokens} tokens is longer than the model's ${sizes.positions} positions`,
    );
}

/** A value that the pass never makes would silently be missing. */
function checkHook(model: LayeredModel, name: string, from: number, groups: number): void {
  const { layer, heads } = pointOf(model.hooks, name);
  if (layer < 0 ? from > 0 : layer < from)
    throw new UserError('hook', `${name} lies before layer ${from}, where these rows begin`);
  if (heads !== undefined && groups > 1)
    throw new UserError(
      'hook',
      `${name}: prompts differ in length; run them one by one to see their patterns`,
    );
}

/** `counts` rows of each group, each the last token after its group's prefix: it attends to that and to itself. */
export function rowTokens(
  device: Device,
  groups: readonly Pick<RowGroup, 'prefix'>[],
  counts: readonly number[],
): Tokens {
  const positions = positionsAfter(groups, counts);
  return {
    positions: integers(device, positions),
    reach: Math.max(...positions) + 1,
    attend: attendToPrefixes(groups, counts),
  };
}

/** The position of each row of the groups. */
const positionsAfter = (
  groups: readonly Pick<RowGroup, 'prefix'>[],
  counts: readonly number[],
): readonly number[] => groups.flatMap(({ prefix }, i) => new Array<number>(counts[i]!).fill(prefix.length));

function attendToPrefixes(
  groups: readonly Pick<RowGroup, 'prefix'>[],
  counts: readonly number[],
): Tokens['attend'] {
  return (layer, q, k, v, how) => {
    if (groups.length === 1) return attendRows(layer, [q, k, v], groups[0]!.prefix, how);
    // Patterns of prompts of different lengths are no one tensor.
    const { onPattern: _, ...unseen } = how;
    let begin = 0;
    const parts = groups.map(({ prefix }, i) => {
      const end = begin + counts[i]!;
      const own = [q, k, v].map((t) => slice(t, [begin], [end]));
      begin = end;
      return attendRows(layer, own, prefix, unseen);
    });
    return concat(parts, 0);
  };
}

/** q [R, 1, heads, D] over the prefix and the row's own k, v [R, 1, keyHeads, D]; a pattern is [R, heads, 1, length + 1]. */
function attendRows(
  layer: number,
  [q, k, v]: readonly Tensor[],
  prefix: Prefix,
  how: PrefixAttentionOptions,
): Tensor {
  const row = (x: Tensor): Tensor => reshape(x, [x.dim(0), x.dim(2), x.dim(3)]);
  const shared = prefix.length > 0 ? { keys: prefix.keys(layer), values: prefix.values(layer) } : null;
  return reshape(prefixAttention(row(q!), row(k!), row(v!), shared, how), q!.shape);
}
