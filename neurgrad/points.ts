/**
 * Where the points of a sweep come from: full forwards, rows behind one cache, or differences to the plain run.
 *
 * Each gives the target's values for any list of (neuron, shift) of one prompt, as often as it is asked; what they share of the
 * prompt is computed once and freed with them.
 */

import { UserError } from '../engine/errors.ts';
import type { Prefix } from '../models/kvCache.ts';
import { type LanguageModel, type Patch, type Quantity, type RunResult, runModel } from '../models/model.ts';
import { StreamedModel } from '../models/stream.ts';
import { type Bundle, carriesDifferences, openBundle, type SweepCase } from './difference/bundle.ts';
import { setChanges } from './difference/sets.ts';
import { type ChangedTarget, changedTarget } from './difference/sweep.ts';
import { type RowChanges, type RowOptions, rowChanges } from './difference/wave.ts';
import { type Neuron, siteHook } from './neuron.ts';
import { probeRows, targetValuesOrNaN } from './predict.ts';
import type { Rounding } from './rounding.ts';

/** What can give points. */
export const POINT_ENGINES = ['naive', 'rows', 'differences'] as const;
/** One of {@link POINT_ENGINES}. */
export type PointEngine = (typeof POINT_ENGINES)[number];

/** A neuron shifted along the plain axis. */
export interface Point {
  readonly neuron: Neuron;
  readonly shift: number;
}

/** Gives points of one prompt. */
export interface PointSource extends Disposable {
  run(points: readonly Point[], onProgress?: RowOptions['onProgress']): Promise<ChangedTarget[]>;
  /** The points of a set are shifted together. */
  runSets(
    sets: readonly (readonly Point[])[],
    onProgress?: RowOptions['onProgress'],
  ): Promise<ChangedTarget[]>;
}

/** The prompt that points are of, and what is known of it. */
export interface PointCase extends SweepCase {
  /** What differences start from, where it is there already; it stays the caller's. */
  readonly bundle?: Bundle | null;
  readonly plain: Record<Quantity, number>;
  readonly rounding: Rounding;
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

/** Opens what gives points of a prompt. `rowsPerPass`: of full forwards; the others choose for themselves where none were asked for. */
export async function openPoints(
  model: LanguageModel,
  engine: PointEngine,
  place: PointCase,
  rows: { readonly asked?: number | undefined; readonly naive: number },
): Promise<PointSource> {
  if (engine === 'differences' && carriesDifferences(model)) {
    const own = place.bundle ? null : await openBundle(model, [place]);
    const bundle = place.bundle ?? own!;
    const { plain, rounding } = place;
    const targets = (found: RowChanges, count: number): ChangedTarget[] => {
      const names = Object.keys(found) as (keyof RowChanges)[];
      return Array.from({ length: count }, (_, i) => {
        const row = Object.fromEntries(names.map((name) => [name, found[name][i]!]));
        return changedTarget(plain, row as Record<keyof RowChanges, number>, rounding);
      });
    };
    return {
      async run(points, onProgress) {
        const options = { rowsPerPass: rows.asked, onProgress };
        const shifted = points.map((point) => ({ ...point, case: 0 }));
        return targets(await rowChanges(bundle, shifted, options), points.length);
      },
      async runSets(sets, onProgress) {
        const options = { rowsPerPass: rows.asked, onProgress };
        const shifted = sets.map((shifts) => ({ case: 0, shifts }));
        return targets(await setChanges(bundle, shifted, options), sets.length);
      },
      [Symbol.dispose]: () => own?.dispose(),
    };
  }
  if (engine === 'rows' && model instanceof StreamedModel) {
    const { probe } = place;
    const [prefix] = (await model.prefillAsync([{ ids: probe.ids.slice(0, -1) }])) as [Prefix];
    const size = rows.asked ?? ROWS_PER_WAVE;
    return forwards(
      model,
      place,
      size,
      () => prefix.dispose(),
      (rows, patch) =>
        model.runRowsAsync(
          { prefix, ids: new Array<number>(rows).fill(probe.ids.at(-1)!) },
          { patch: patch.map(({ position: _, ...one }) => one) },
        ),
    );
  }
  const { probe } = place;
  return forwards(
    model,
    place,
    rows.naive,
    () => {},
    (rows, patch) =>
      runModel(model, probeRows(probe, rows), {
        patch,
        logits: new Array<number>(rows).fill(probe.position),
      }),
  );
}

/** Rows of one wave of streamed weights: enough to be worth reading them. */
const ROWS_PER_WAVE = 1024;

/** Points by forwards, each with a patch in a batch row of its own. */
function forwards(
  { sizes }: LanguageModel,
  { at, target, plain, rounding }: PointCase,
  rowsPerPass: number,
  dispose: () => void,
  pass: (rows: number, patch: readonly (Patch & { readonly row: number })[]) => Promise<RunResult>,
): PointSource {
  const change = ofForwards(plain, rounding);
  const runSets: PointSource['runSets'] = async (sets, onProgress) => {
    const found: ChangedTarget[] = [];
    for (let start = 0; start < sets.length; start += rowsPerPass) {
      const some = sets.slice(start, start + rowsPerPass);
      using run = await pass(
        some.length,
        some.flatMap((points, row) => patchesOf(points, at, row)),
      );
      const logits = await run.logits.read();
      for (let row = 0; row < logits.length; row += sizes.vocabulary)
        found.push(change(targetValuesOrNaN(logits.subarray(row, row + sizes.vocabulary), target)));
      onProgress?.(start + some.length, sets.length);
    }
    return found;
  };
  return {
    run: (points, onProgress) =>
      runSets(
        points.map((point) => [point]),
        onProgress,
      ),
    runSets,
    [Symbol.dispose]: dispose,
  };
}

/** A patch a hook point of the neurons shifted in a row. */
function patchesOf(points: readonly Point[], at: number, row: number): (Patch & { readonly row: number })[] {
  const byHook = new Map<string, Point[]>();
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
function ofForwards(plain: Record<Quantity, number>, rounding: Rounding) {
  const rest = (values: Record<Quantity, number>): number => -Math.expm1(values.logprob);
  const change = (of: Quantity, values: Record<Quantity, number>): number => values[of] - plain[of];
  return (values: Record<Quantity, number>): ChangedTarget => {
    const noise = rounding.forwards * Math.max(rest(values), rest(plain));
    return {
      values,
      changes: {
        prob: change('prob', values),
        logprob: change('logprob', values),
        logit: change('logit', values),
      },
      noise: {
        prob: Math.max(values.prob, plain.prob) * noise,
        logprob: noise,
        logit: rounding.forwards,
      },
    };
  };
}
