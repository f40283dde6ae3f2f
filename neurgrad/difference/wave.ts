/**
 * One pass of many shifted rows through the rest of the model (docs/science.md#the-staircase).
 *
 * Rows are sorted by layer and join when the pass reaches theirs, so that each layer's weights are read once. A row is
 * the few tokens of one prompt that its shift has reached so far: none before its layer, the shifted one right after it,
 * then every token that may see it; in the last layer only the one that is read.
 */

import {
  concat,
  empty,
  integers,
  noGrad,
  reshape,
  scope,
  slice,
  type Tensor,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { CURVE_FIELDS } from '../../kernels/curve.ts';
import { body, decode, enter, finish, leave } from '../../models/block.ts';
import { rowsThatFit } from '../../models/cost.ts';
import type { Quantity } from '../../models/model.ts';
import type { Neuron } from '../neuron.ts';
import { Repeated, type RunTensors, WORTH } from '../repeated.ts';
import type { Rounding } from '../rounding.ts';
import type { Bundle } from './bundle.ts';
import { injection, injectionCondition } from './injection.ts';
import { lineNorm, runLines } from './lines.ts';
import {
  injectNeurons,
  type LineRow,
  NONE,
  type PromptRows,
  reduceCurves,
  TARGET_FIELDS,
  type TargetRow,
  type TokenRecord,
  targetDifference,
  targetRecord,
  tokenTensor,
} from './ops.ts';
import { Change, type Changed, type ChangedTokens, DifferenceWords, type LayerTokens } from './words.ts';

/** One neuron of one prompt of a bundle, shifted by d along the plain axis. */
export interface ShiftedRow {
  readonly case: number;
  readonly neuron: Neuron;
  readonly shift: number;
}

/**
 * What each row says of its tokens, a number a (row, token) under each of TARGET_FIELDS, in the order of the rows given: of a bundle of
 * one token a case a number a row.
 */
export type RowChanges = Readonly<Record<(typeof TARGET_FIELDS)[number], Float32Array>>;

/** How rows are run. */
export interface RowOptions {
  /** Default true: a wave that two others of its shape follow is recorded for them. False: each anew, to the same bits. */
  readonly replay?: boolean;
  readonly rowsPerPass?: number | undefined;
  readonly onProgress?: ((done: number, all: number) => void) | undefined;
  /** Default true: shifts in the last layer as lines where they are such (lines.ts); false: as those of any other layer. */
  readonly lines?: boolean;
}

/** A row of a wave, whatever is shifted in it. */
export type CaseRow = Pick<ShiftedRow, 'case'>;

/** Memory that the values of one wave may take, about. */
const WAVE_BYTES = 128 * 2 ** 20;
/** Rows of a wave at most: past this a device has all the work it can do at once. */
const WAVE_ROWS = 512;

/** Rows that one wave takes. */
export function waveRows(bundle: Bundle): number {
  const tokens = Math.max(...bundle.cases.map(({ low, high }) => high - low));
  return rowsThatFit(bundle.model.description, {
    tokens,
    keys: bundle.keys,
    // No two words are one kernel.
    tape: true,
    together: false,
    bytes: WAVE_BYTES,
    most: WAVE_ROWS,
  });
}

/** Changes of the targets for any number of rows, in waves of neighbouring layers. */
export async function rowChanges(
  bundle: Bundle,
  rows: readonly ShiftedRow[],
  options: RowOptions = {},
): Promise<RowChanges> {
  const tokens = tokensRead(bundle);
  const fields = TARGET_FIELDS.map((name) => [name, new Float32Array(rows.length * tokens)] as const);
  await forEachWave(bundle, rows, options, async (moved, chosen) => {
    try {
      const read = await moved.read();
      for (const [k, i] of chosen.entries())
        for (const [at, [, field]] of fields.entries())
          for (let t = 0; t < tokens; t++)
            field[i * tokens + t] = read[TARGET_FIELDS.length * (k * tokens + t) + at]!;
    } finally {
      moved.dispose();
    }
  });
  return Object.fromEntries(fields) as Record<(typeof TARGET_FIELDS)[number], Float32Array>;
}

/** The neurons of {@link curveSums}: of one case, all over the same shifts. */
export interface Curves {
  /** Default the first. */
  readonly case?: number;
  readonly neurons: readonly Neuron[];
  /** 1 or -1 a neuron: its shifts are these times those given. */
  readonly along: readonly number[];
  readonly shifts: readonly number[];
  readonly of: Quantity;
  readonly rounding: Rounding;
  /** |s| up to which points count; whether (0, 0) is one. */
  readonly range: number;
  readonly includeZero: boolean;
}

/**
 * The sums of {@link CURVE_FIELDS} for each neuron of a case, in a bundle of one token a case, made on the device, of p for a plain p of 1; nothing else is read back.
 * The same from the points themselves: `fitCurve`.
 */
export async function curveSums(
  bundle: Bundle,
  curves: Curves,
  options: RowOptions = {},
): Promise<Record<(typeof CURVE_FIELDS)[number], number>[]> {
  const { device } = bundle.model;
  const { neurons, shifts } = curves;
  const points = shifts.length;
  const rows = neurons.flatMap((neuron, n) =>
    shifts.map((shift): ShiftedRow => ({ case: curves.case ?? 0, neuron, shift: curves.along[n]! * shift })),
  );
  const first = new Uint32Array(neurons.length).fill(NONE);
  const waves: Tensor[] = [];
  let count = 0;
  try {
    await forEachWave(bundle, rows, options, (moved, chosen) => {
      waves.push(moved);
      // A neuron's rows stay in their order, one after the other, over the ends of waves.
      for (const [k, i] of chosen.entries()) if (i % points === 0) first[i / points] = count + k;
      count += chosen.length;
      return device.finish();
    });
    using sums = noGrad(() =>
      scope(() => {
        const y = empty(device, [neurons.length, CURVE_FIELDS.length]);
        const moved = waves.length > 0 ? concat(waves, 0) : zeros(device, [1, TARGET_FIELDS.length]);
        reduceCurves(curves, moved, integers(device, first), tensor(device, shifts, [points]), y);
        return y;
      }),
    );
    const read = await sums.read();
    return neurons.map((_, n) => {
      const values = CURVE_FIELDS.map((name, at) => [name, read[n * CURVE_FIELDS.length + at]!] as const);
      return Object.fromEntries(values) as Record<(typeof CURVE_FIELDS)[number], number>;
    });
  } finally {
    for (const wave of waves) wave.dispose();
  }
}

/**
 * Runs rows in waves of neighbouring layers, while the device still works on the one before.
 * @param take gets a wave's [rows, fields] to dispose of, and which rows they are; done once what it gives is.
 */
async function forEachWave(
  bundle: Bundle,
  rows: readonly ShiftedRow[],
  options: RowOptions,
  take: (moved: Tensor, chosen: readonly number[]) => Promise<void>,
): Promise<void> {
  const size = options.rowsPerPass ?? waveRows(bundle);
  const last = bundle.model.sizes.layers - 1;
  // A shift in the last layer away from the position that is read moves nothing.
  const order = [...rows.keys()]
    .filter((i) => {
      const { case: c, neuron } = rows[i]!;
      return neuron.layer < last || bundle.cases[c]!.at === bundle.cases[c]!.read;
    })
    .sort((a, b) => rows[a]!.neuron.layer - rows[b]!.neuron.layer || a - b);
  const lines = options.lines === false ? null : lineNorm(bundle.model);
  const isLine = (i: number): boolean => lines !== null && rows[i]!.neuron.layer === last;
  const parts = [order.filter((i) => !isLine(i)), order.filter(isLine)];
  const waves = parts.flatMap((part) =>
    Array.from({ length: Math.ceil(part.length / size) }, (_, w) => part.slice(w * size, (w + 1) * size)),
  );
  const shapes = waves.map((chosen) => (isLine(chosen[0]!) ? 'lines' : shapeOf(chosen.map((i) => rows[i]!))));
  using repeated = new Repeated<ReturnType<typeof rowNumbers>, Tensor>(
    bundle.model.device,
    (moved) => slice(moved, [], []),
    options.replay,
  );
  let done = rows.length - order.length;
  let before: Promise<void> = Promise.resolve();
  for (const [w, chosen] of waves.entries()) {
    const wave = chosen.map((i) => rows[i]!);
    const along = isLine(chosen[0]!) ? lines : null;
    if (along) repeated.dispose();
    const moved = noGrad(() =>
      along
        ? runLines(bundle, along, ...linesOf(bundle, wave))
        : repeated.run(shapes.slice(w, w + WORTH), rowNumbers(bundle, wave), (inputs) =>
            runWave(bundle, wave, inputs),
          ),
    );
    const now = take(moved, chosen).then(() => {
      done += chosen.length;
      options.onProgress?.(done, rows.length);
    });
    // Awaited a wave later; an earlier error is told instead of its own.
    now.catch(() => {});
    await before;
    before = now;
  }
  await before;
}

/** The neurons of some rows, and each row along the line of its own. */
function linesOf(bundle: Bundle, rows: readonly ShiftedRow[]): [neurons: number[], rows: LineRow[][]] {
  const neurons = [...new Set(rows.map(({ neuron }) => neuron.index))];
  const lineOf = new Map(neurons.map((index, line) => [index, line]));
  const along = (row: ShiftedRow, token: number): LineRow => ({
    ...targetRow(bundle, row, token),
    line: lineOf.get(row.neuron.index)!,
    scale: injectedBy(bundle, row),
  });
  return [neurons, eachToken(bundle, (token) => rows.map((row) => along(row, token)))];
}

/** Tokens that every row is read of. */
export const tokensRead = ({ cases }: Bundle): number => cases[0]!.tokens.length;

/** Something of each of them, in their order. */
export const eachToken = <Result>(bundle: Bundle, of: (token: number) => Result): Result[] =>
  Array.from({ length: tokensRead(bundle) }, (_, token) => of(token));

/** The same of waves whose rows differ in neurons of their layers and shifts alone. */
function shapeOf(rows: readonly ShiftedRow[]): string {
  const runs: [string, number][] = [];
  for (const { case: c, neuron } of rows) {
    const last = runs.at(-1);
    const name = `${c}.${neuron.layer}`;
    if (last?.[0] === name) last[1]++;
    else runs.push([name, 1]);
  }
  return runs.join(' ');
}

/** What waves of one shape differ in, a row each: columns of the output weights, how much of each, and a target record a token. */
const rowNumbers = (bundle: Bundle, rows: readonly ShiftedRow[]) => ({
  column: Uint32Array.from(rows, ({ neuron }) => neuron.index),
  scale: Float32Array.from(rows, (row) => injectedBy(bundle, row)),
  target: Uint32Array.from(
    eachToken(bundle, (token) => rows.flatMap((row) => targetRecord(targetRow(bundle, row, token)))).flat(),
  ),
});

/** What rows sorted by layer do to their tokens, [rows, tokens * fields]. */
function runWave(
  bundle: Bundle,
  rows: readonly ShiftedRow[],
  { column, scale, target }: RunTensors<ReturnType<typeof rowNumbers>>,
): Tensor {
  const { sizes, description } = bundle.model;
  return scope(() => {
    const part = (x: Tensor, from: number, to: number): Tensor =>
      to - from === rows.length ? x : slice(x, [from], [to]);
    let dx: Tensor | null = null;
    let now: readonly Changed[] = [];
    let entered = 0;
    for (let layer = rows[0]!.neuron.layer; layer < sizes.layers; layer++) {
      const before: Tensor | null = dx;
      const spec = description.layers[layer]!;
      const from = entered;
      while (entered < rows.length && rows[entered]!.neuron.layer === layer) entered++;
      const joining = Array.from({ length: entered - from }, (_, i) => from + i);
      const output: Changed[] = before ? outputs(bundle, rows, now, layer === sizes.layers - 1) : [];
      const injected = joining.map((row) => ({ row, position: caseOf(bundle, rows[row]!).at }));
      const next: Changed[] = [...output, ...injected];
      dx = scope((): Tensor => {
        const sums: Tensor[] = [];
        if (before) {
          const tokens = layerTokens(bundle, rows, now, output, layer === sizes.layers - 1);
          const words = new DifferenceWords(bundle, layer, tokens);
          const sum = scope(() => {
            const { residual, product } = body(words, spec, new Change(before, tokens.input));
            return words.made(words.add(residual, enter(words, spec, product))).x!;
          });
          sums.push(sum);
        }
        const words = new DifferenceWords(bundle, layer, null);
        if (joining.length > 0) {
          const product = injectNeurons(
            bundle.model.outWeight(layer),
            part(column, from, entered),
            part(scale, from, entered),
          );
          sums.push(words.made(enter(words, spec, new Change(product, based(bundle, rows, injected)))).x!);
        }
        const sum = sums.length === 1 ? sums[0]! : concat(sums, 0);
        return words.made(leave(words, spec, new Change(sum, based(bundle, rows, next)))).x!;
      });
      before?.dispose();
      now = next;
    }
    return wentThrough(bundle, rows, now, dx!, target);
  });
}

/**
 * From the changes after the last layer to what they do to the tokens, [rows, tokens * fields]. Every row is now one token, the one that is read; rows
 * left the layers in their order.
 * @param target a target record a row, of the first token, then of the others.
 */
export function wentThrough(
  bundle: Bundle,
  rows: readonly CaseRow[],
  now: readonly Changed[],
  dx: Tensor,
  target: Tensor,
): Tensor {
  const { sizes, description } = bundle.model;
  const read = lazyTokens(bundle, rows, now, () => rows.map((row) => ({ ...NOWHERE, base: row.case })));
  const logits = scope(() => {
    const words = new DifferenceWords(bundle, sizes.layers, null);
    const change = finish(words, description.head, new Change(dx, read));
    return words.made(decode(words, description.head, change)).x!;
  });
  const tokens = tokensRead(bundle);
  const size = target.size / tokens;
  const told = eachToken(bundle, (token) => {
    const records = tokens === 1 ? target : slice(target, [token * size], [(token + 1) * size]);
    return targetDifference(bundle.logprobs, reshape(records, [rows.length, -1]), logits);
  });
  return tokens === 1 ? told[0]! : concat(told, 1);
}

/** Tokens that go to the device where somebody asks for them. */
function lazyTokens(
  { model: { device }, cases }: Bundle,
  rows: readonly CaseRow[],
  tokens: readonly Changed[],
  list: () => readonly TokenRecord[],
): ChangedTokens {
  let records: Tensor | null = null;
  let positions: Tensor | null = null;
  const places = (): number[] => tokens.map(({ position }) => position);
  return {
    places: tokens,
    records: () => (records ??= tokenTensor(device, list())),
    positions: () => (positions ??= integers(device, places())),
    get prompts() {
      return promptsOf(cases, rows, tokens);
    },
  };
}

/** Neighbouring tokens of one prompt. */
function promptsOf(
  cases: Bundle['cases'],
  rows: readonly CaseRow[],
  tokens: readonly Changed[],
): PromptRows[] {
  const found: (PromptRows & { readonly case: number })[] = [];
  for (const [at, { row }] of tokens.entries()) {
    const { case: c } = rows[row]!;
    const { keys, keyStart } = cases[c]!;
    const last = found.at(-1);
    if (last?.case === c) found[found.length - 1] = { ...last, to: at + 1 };
    else found.push({ case: c, from: at, to: at + 1, keys, keyStart });
  }
  return found;
}

const caseOf = (bundle: Bundle, row: CaseRow) => bundle.cases[row.case]!;

/** Tokens that a layer changes: all that can see a changed one, in the last layer the one that is read. */
export function outputs(
  bundle: Bundle,
  rows: readonly CaseRow[],
  inputs: readonly Changed[],
  last: boolean,
): Changed[] {
  const active = inputs.length === 0 ? 0 : inputs.at(-1)!.row + 1;
  const found: Changed[] = [];
  for (let row = 0; row < active; row++) {
    const { low, high, read } = caseOf(bundle, rows[row]!);
    if (last) found.push({ row, position: read });
    else for (let position = low; position < high; position++) found.push({ row, position });
  }
  return found;
}

/** A neuron's plain values, `up` 0 where there is none, and root mean squares of its layer's. */
export function plainValues(bundle: Bundle, row: ShiftedRow) {
  const { width } = bundle.model.sizes;
  const { layer, index } = row.neuron;
  const value = (of: readonly Float32Array[]): number => of[row.case]?.[layer * width + index] ?? 0;
  const scale = (of: readonly (readonly number[])[]): number => of[row.case]?.[layer] ?? 0;
  return {
    at: { pre: value(bundle.pre), up: value(bundle.up) },
    scale: { pre: scale(bundle.scales.pre), up: scale(bundle.scales.up) },
  };
}

/** How much a row's shift adds to what its layer's output weights read. */
function injectedBy(bundle: Bundle, row: ShiftedRow): number {
  const { at } = plainValues(bundle, row);
  return injection(bundle.feedForward, row.neuron.site, at.pre, at.up, row.shift);
}

function targetRow(bundle: Bundle, row: ShiftedRow, token: number): TargetRow {
  const { at, scale } = plainValues(bundle, row);
  return {
    base: row.case,
    target: caseOf(bundle, row).tokens[token]!,
    condition: injectionCondition(bundle.feedForward, row.neuron.site, at, scale, row.shift),
  };
}

/** A token that no record tells of. */
export const NOWHERE: TokenRecord = {
  base: 0,
  own: NONE,
  query: NONE,
  first: 0,
  count: 0,
  keyFirst: 0,
  keys: 0,
  keyStart: 0,
  pattern: 0,
};

/** Tokens whose records say only where their base values lie. */
export const based = (bundle: Bundle, rows: readonly CaseRow[], tokens: readonly Changed[]): ChangedTokens =>
  lazyTokens(bundle, rows, tokens, () =>
    tokens.map(({ row, position }) => {
      const place = caseOf(bundle, rows[row]!);
      return { ...NOWHERE, base: place.queryStart + position - place.low };
    }),
  );

export function layerTokens(
  bundle: Bundle,
  rows: readonly CaseRow[],
  inputs: readonly Changed[],
  output: readonly Changed[],
  last: boolean,
): LayerTokens {
  const { sizes } = bundle.model;
  const first: number[] = [];
  const count: number[] = [];
  inputs.forEach(({ row }, i) => {
    first[row] ??= i;
    count[row] = (count[row] ?? 0) + 1;
  });
  const begins = (row: number): number => inputs[first[row]!]!.position;
  const queries = last
    ? [...inputs.keys()].filter((i) => inputs[i]!.position === caseOf(bundle, rows[inputs[i]!.row]!).read)
    : null;
  const queryOf = new Map(queries?.map((input, at) => [input, at]));
  const records = output.map(({ row, position }): TokenRecord => {
    const place = caseOf(bundle, rows[row]!);
    const along = position - begins(row);
    const own = along >= 0 && along < count[row]! ? first[row]! + along : NONE;
    return {
      base: place.queryStart + position - place.low,
      own,
      query: queries === null ? own : (queryOf.get(own) ?? NONE),
      first: first[row]!,
      count: count[row]!,
      keyFirst: begins(row),
      keys: place.keys,
      keyStart: place.keyStart,
      pattern: place.patternStart + (position - place.low) * sizes.heads * place.keys,
    };
  });
  return {
    input: based(bundle, rows, inputs),
    inOrder: records.length === (queries ?? inputs).length && records.every(({ query }, i) => query === i),
    changed: Math.max(...count.filter((c) => c !== undefined)),
    output: lazyTokens(bundle, rows, output, () => records),
    reading: queries && {
      queries: based(
        bundle,
        rows,
        queries.map((i) => inputs[i]!),
      ),
      inputs: queries,
      base: records.map(({ base }) => base),
    },
  };
}
