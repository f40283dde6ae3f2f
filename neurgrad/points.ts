/**
 * Where the points of sweeps come from: full forwards, rows behind caches, or differences to the plain runs.
 *
 * Each gives what is measured for any list of (question, neuron, shift), as often as it is asked; what questions share of their prompts is
 * computed once and freed with them. A question is of one token, of the difference of two tokens' logits, or of an answer of several
 * tokens, each of which is read in a run of its own.
 */

import { UserError } from '../engine/errors.ts';
import type { Prefix } from '../models/kvCache.ts';
import { type LanguageModel, type Patch, type Quantity, type RunResult, runModel } from '../models/model.ts';
import { StreamedModel } from '../models/stream.ts';
import { productOf } from './answers.ts';
import { type Bundle, carriesDifferences } from './difference/bundle.ts';
import { setChanges } from './difference/sets.ts';
import { type ChangedTarget, changedTarget } from './difference/sweep.ts';
import { type RowChanges, type RowOptions, rowChanges } from './difference/wave.ts';
import { type Neuron, siteHook } from './neuron.ts';
import { measuredValuesOrNaN, type Probe, probeRows } from './predict.ts';
import type { Rounding } from './rounding.ts';

/** What can give points. */
export const POINT_ENGINES = ['naive', 'rows', 'differences'] as const;
/** One of {@link POINT_ENGINES}. */
export type PointEngine = (typeof POINT_ENGINES)[number];

/** A neuron shifted along the plain axis. */
export interface Point {
  /** Which question it is a point of; default the first. */
  readonly question?: number;
  readonly neuron: Neuron;
  readonly shift: number;
}

/** Gives points. */
export interface PointSource extends Disposable {
  run(points: readonly Point[], onProgress?: RowOptions['onProgress']): Promise<ChangedTarget[]>;
  /** The points of a set, of the first question, are shifted together. */
  runSets(
    sets: readonly (readonly Point[])[],
    onProgress?: RowOptions['onProgress'],
  ): Promise<ChangedTarget[]>;
}

/** A token that rows of a prompt are read of. */
export interface Read {
  readonly target: number;
  readonly plain: Record<Quantity, number>;
  readonly rounding: Rounding;
}

/** A prompt whose neurons at one position are shifted, and the tokens that its rows are read of. */
export interface PointCase {
  readonly probe: Probe;
  readonly at: number;
  readonly reads: readonly Read[];
}

/** Which token of which case is read, and the one whose logit is subtracted from its. */
export interface Part {
  readonly case: number;
  readonly read: number;
  readonly other: number | null;
}

/** What is asked: parts in the order of an answer's tokens. */
export interface Question {
  readonly parts: readonly Part[];
}

/** Whether a model gives points of a prompt by an engine. */
function gives(
  model: LanguageModel,
  { probe, at }: Pick<PointCase, 'probe' | 'at'>,
  engine: PointEngine,
): boolean {
  if (engine === 'naive') return true;
  // A bundle keeps no token of a causal model after the one that is read: nothing there is heard.
  if (engine === 'differences') return carriesDifferences(model) && (!model.causal || at <= probe.position);
  return model instanceof StreamedModel && at === probe.position && at === probe.ids.length - 1;
}

/**
 * The engine asked for, or the fastest one that there is for a model and a prompt.
 * @throws UserError where the model does not have the one asked for.
 */
export function pointEngine(
  model: LanguageModel,
  place: Pick<PointCase, 'probe' | 'at'>,
  asked: PointEngine | null,
): PointEngine {
  if (asked === null)
    return (['differences', 'rows'] as const).find((engine) => gives(model, place, engine)) ?? 'naive';
  if (gives(model, place, asked)) return asked;
  throw new UserError(
    'engine',
    asked === 'rows'
      ? "engine rows: it runs neurons at a prompt's last token for weights on disk; take auto, or naive"
      : 'engine differences: it needs a model that is whole on one device, and neurons no later than the token read; take auto, or naive',
  );
}

/** What is asked of prompts, and what is known of them. */
export interface Asking {
  readonly cases: readonly PointCase[];
  readonly questions: readonly Question[];
  /** What differences start from, its cases in the same order; it stays the caller's. */
  readonly bundle: Bundle | null;
}

/** One row: a case, and a neuron shifted in it. */
interface Row {
  readonly case: number;
  readonly neuron: Neuron;
  readonly shift: number;
}

/** One row of neurons shifted together. */
interface SetRow {
  readonly case: number;
  readonly shifts: readonly Pick<Row, 'neuron' | 'shift'>[];
}

/** Gives rows: what each does to the tokens that its case is read of. */
interface RowSource extends Disposable {
  run(rows: readonly Row[], onProgress?: RowOptions['onProgress']): Promise<ChangedTarget[][]>;
  runSets(sets: readonly SetRow[], onProgress?: RowOptions['onProgress']): Promise<ChangedTarget[][]>;
}

/** Opens what gives points. `rowsPerPass`: of full forwards; the others choose for themselves where none were asked for. */
export async function openPoints(
  model: LanguageModel,
  engine: PointEngine,
  { cases, questions, bundle }: Asking,
  rows: { readonly asked?: number | undefined; readonly naive: number },
): Promise<PointSource> {
  const source = await openRows(model, engine, cases, bundle, rows);
  const asked = new Map<number, number>();
  for (const { parts } of questions)
    for (const part of parts) asked.set(part.case, (asked.get(part.case) ?? 0) + 1);
  // Rows of cases that several questions read; no others are asked for twice.
  const known = new Map<string, ChangedTarget[]>();
  return {
    async run(points, onProgress) {
      const wanted = points.flatMap(({ question = 0, neuron, shift }) =>
        questions[question]!.parts.map((part): Row => ({ case: part.case, neuron, shift })),
      );
      const keys = wanted.map(({ case: c, neuron, shift }, i) =>
        asked.get(c) === 1 ? `${i}` : `case ${c} L${neuron.layer}.N${neuron.index}@${neuron.site} ${shift}`,
      );
      const places = new Map<string, number>();
      const fresh: Row[] = [];
      for (const [i, key] of keys.entries()) {
        if (known.has(key) || places.has(key)) continue;
        places.set(key, fresh.length);
        fresh.push(wanted[i]!);
      }
      const made = await source.run(fresh, onProgress);
      const found = keys.map((key) => known.get(key) ?? made[places.get(key)!]!);
      for (const [key, place] of places) if (key.startsWith('case')) known.set(key, made[place]!);
      let next = 0;
      return points.map(({ question = 0 }) => {
        const { parts } = questions[question]!;
        const read = parts.map((part) => partOf(found[next++]!, part));
        return read.length === 1
          ? read[0]!
          : answerOf(
              read,
              parts.map((part) => cases[part.case]!.reads[part.read]!),
            );
      });
    },
    async runSets(sets, onProgress) {
      const [part] = questions[0]!.parts as [Part];
      const rows = sets.map((shifts): SetRow => ({ case: part.case, shifts }));
      return (await source.runSets(rows, onProgress)).map((read) => partOf(read, part));
    },
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

/** Of the tokens read the one asked for; where another is subtracted from it, `logit` is the difference, and its noise both theirs. */
function partOf(read: readonly ChangedTarget[], { read: own, other }: Part): ChangedTarget {
  const target = read[own]!;
  if (other === null) return target;
  const against = read[other]!;
  const less = (of: 'values' | 'changes'): Record<Quantity, number> => ({
    ...target[of],
    logit: target[of].logit - against[of].logit,
  });
  return {
    values: less('values'),
    changes: less('changes'),
    noise: { ...target.noise, logit: target.noise.logit + against.noise.logit },
  };
}

/** An answer's p is the product of its tokens', so that changes of log p, and what of them may be rounding, are sums. */
function answerOf(parts: readonly ChangedTarget[], reads: readonly Read[]): ChangedTarget {
  const total = (of: (part: ChangedTarget) => number): number =>
    parts.reduce((sum, part) => sum + of(part), 0);
  const plain = productOf(reads.map((read) => read.plain));
  const logprob = total((part) => part.changes.logprob);
  const noise = total((part) => part.noise.logprob);
  const after = Math.exp(plain.logprob + logprob);
  const prob = Math.abs(logprob) < 1 ? plain.prob * Math.expm1(logprob) : after - plain.prob;
  // Plain p's relative error, which a change by a factor has, too: each token's, of forwards in the noise of log p already.
  const share = reads.reduce((sum, { rounding }) => sum + rounding.share, 0);
  return {
    values: { prob: plain.prob + prob, logprob: plain.logprob + logprob, logit: Number.NaN },
    changes: { prob, logprob, logit: Number.NaN },
    noise: {
      prob: Math.max(after, plain.prob) * noise + share * Math.abs(prob),
      logprob: noise,
      logit: Number.NaN,
    },
  };
}

async function openRows(
  model: LanguageModel,
  engine: PointEngine,
  cases: readonly PointCase[],
  bundle: Bundle | null,
  rows: { readonly asked?: number | undefined; readonly naive: number },
): Promise<RowSource> {
  if (engine === 'differences' && bundle) {
    const stride = bundle.cases[0]!.tokens.length;
    const targets = (found: RowChanges, of: readonly { readonly case: number }[]): ChangedTarget[][] => {
      const names = Object.keys(found) as (keyof RowChanges)[];
      return of.map((one, i) =>
        cases[one.case]!.reads.map(({ plain, rounding }, t) => {
          const row = Object.fromEntries(names.map((name) => [name, found[name][i * stride + t]!]));
          return changedTarget(plain, row as Record<keyof RowChanges, number>, rounding);
        }),
      );
    };
    return {
      run: async (some, onProgress) =>
        targets(await rowChanges(bundle, some, { rowsPerPass: rows.asked, onProgress }), some),
      runSets: async (sets, onProgress) =>
        targets(await setChanges(bundle, sets, { rowsPerPass: rows.asked, onProgress }), sets),
      [Symbol.dispose]() {},
    };
  }
  if (engine === 'rows' && model instanceof StreamedModel) {
    const caches = (await model.prefillAsync(
      cases.map(({ probe }) => ({ ids: probe.ids.slice(0, -1) })),
    )) as Prefix[];
    const dispose = (): void => {
      for (const cache of caches) cache.dispose();
    };
    // Rows of all prompts ride one wave of weights: those of one behind its cache.
    return forwards(model, cases, rows.asked ?? ROWS_PER_WAVE, dispose, true, (some, patch) => {
      const groups: { prefix: Prefix; ids: number[]; case: number }[] = [];
      for (const { case: c } of some) {
        const id = cases[c]!.probe.ids.at(-1)!;
        if (groups.at(-1)?.case === c) groups.at(-1)!.ids.push(id);
        else groups.push({ prefix: caches[c]!, ids: [id], case: c });
      }
      return model.runRowsAsync(
        groups.map(({ prefix, ids }) => ({ prefix, ids })),
        { patch: patch.map(({ position: _, ...one }) => one) },
      );
    });
  }
  return forwards(
    model,
    cases,
    rows.naive,
    () => {},
    false,
    (some, patch) => {
      const { probe } = cases[some[0]!.case]!;
      return runModel(model, probeRows(probe, some.length), {
        patch,
        logits: some.map(() => probe.position),
      });
    },
  );
}

/** Rows of one wave of streamed weights: enough to be worth reading them. */
const ROWS_PER_WAVE = 1024;

/** Rows by forwards, each with its patches in a batch row of its own. @param mixed whether a pass takes several prompts. */
function forwards(
  { sizes: { vocabulary } }: LanguageModel,
  cases: readonly PointCase[],
  rowsPerPass: number,
  dispose: () => void,
  mixed: boolean,
  pass: (rows: readonly SetRow[], patch: readonly (Patch & { readonly row: number })[]) => Promise<RunResult>,
): RowSource {
  const runSets: RowSource['runSets'] = async (sets, onProgress) => {
    const found = new Array<ChangedTarget[]>(sets.length);
    const order = [...sets.keys()].sort((a, b) => sets[a]!.case - sets[b]!.case || a - b);
    let done = 0;
    while (done < order.length) {
      const next = order.slice(done, done + rowsPerPass);
      const some = mixed ? next : next.filter((i) => sets[i]!.case === sets[next[0]!]!.case);
      using run = await pass(
        some.map((i) => sets[i]!),
        some.flatMap((i, row) => patchesOf(sets[i]!.shifts, cases[sets[i]!.case]!.at, row)),
      );
      const logits = await run.logits.read();
      for (const [row, i] of some.entries()) {
        const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
        found[i] = cases[sets[i]!.case]!.reads.map((read) => ofForward(own, read));
      }
      done += some.length;
      onProgress?.(done, sets.length);
    }
    return found;
  };
  return {
    run: (rows, onProgress) =>
      runSets(
        rows.map((row) => ({ case: row.case, shifts: [row] })),
        onProgress,
      ),
    runSets,
    [Symbol.dispose]: dispose,
  };
}

/** A patch a hook point of the neurons shifted in a row. */
function patchesOf(points: SetRow['shifts'], at: number, row: number): (Patch & { readonly row: number })[] {
  const byHook = new Map<string, SetRow['shifts'][number][]>();
  for (const point of points) {
    const name = siteHook(point.neuron.layer, point.neuron.site);
    const here = byHook.get(name);
    if (here) here.push(point);
    else byHook.set(name, [point]);
  }
  return [...byHook].map(([name, here]) => ({
    ...{ name, position: at, op: 'add', along: 'plain', row },
    ...(here.length === 1
      ? { neuron: here[0]!.neuron.index, value: here[0]!.shift }
      : { neuron: here.map(({ neuron }) => neuron.index), value: here.map(({ shift }) => shift) }),
  }));
}

/** A full forward's values. Their changes are differences of two that were rounded. */
function ofForward(logits: Float32Array, { target, plain, rounding }: Read): ChangedTarget {
  const values = measuredValuesOrNaN(logits, { target });
  const rest = (of: Record<Quantity, number>): number => -Math.expm1(of.logprob);
  const noise = rounding.forwards * Math.max(rest(values), rest(plain));
  return {
    values,
    changes: {
      prob: values.prob - plain.prob,
      logprob: values.logprob - plain.logprob,
      logit: values.logit - plain.logit,
    },
    noise: {
      prob: Math.max(values.prob, plain.prob) * noise,
      logprob: noise,
      logit: rounding.forwards,
    },
  };
}
