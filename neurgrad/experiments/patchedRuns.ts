/**
 * A prompt's run with one place after the other set to other values, each place a batch row.
 *
 * Engine `auto` computes a row from its place's layer on, tokens that no place can reach left out (downstream.ts), and none at all
 * where the other values are the same numbers. `naive` runs whole rows with patches; both give the same bits.
 */

import { broadcastTo, noGrad, scope, type Tensor } from '../../engine/index.ts';
import { callback, one, whole } from '../../engine/options.ts';
import { disown } from '../../engine/scope.ts';
import { hooksOf } from '../../models/description.ts';
import { type HookPoint, pointOf } from '../../models/hooks.ts';
import { type Captured, type LanguageModel, runModel } from '../../models/model.ts';
import { changesOf } from '../../models/patches.ts';
import { Transformer } from '../../models/transformer.ts';
import { type Probe, probeRows } from '../predict.ts';
import type { Downstream } from './downstream.ts';
import { type Answers, type MetricValues, metricRows, metricValues } from './metric.ts';
import { hookNames, indicesOf, type PatchPlace, patchOf } from './places.ts';

/** How the runs of an experiment are done. */
export interface RunsOptions {
  /** `auto` (default) computes what follows from a change alone, where the model is whole on one device; `naive` whole runs. */
  readonly engine?: 'auto' | 'naive';
  /** Most batch rows of one pass; default as many as fit, of `naive` 16. */
  readonly rowsPerPass?: number;
  /** Told after each pass how many of all rows are done. */
  readonly onProgress?: (done: number, all: number) => void;
}
/** Fields of {@link RunsOptions}. */
export const runsFields = {
  engine: one(['auto', 'naive']),
  rowsPerPass: whole(1),
  onProgress: callback<(done: number, all: number) => void>(),
};

/** The options of one of some pairs, whose runs are told as a part of all of theirs. */
export const optionsOfPair = <Options extends RunsOptions>(
  options: Options,
  n: number,
  pairs: number,
): Options => ({
  ...options,
  onProgress: (done: number, all: number) => options.onProgress?.(n * all + done, pairs * all),
});

/** Whether what follows from a change can be computed alone. */
export const computesDownstream = (
  model: LanguageModel,
  engine: RunsOptions['engine'],
): model is Transformer => engine !== 'naive' && model instanceof Transformer;

/** What places are set to: values by hook name, [1, tokens, …]. */
export type SourceValues = (hooks: readonly string[]) => Promise<ReadonlyMap<string, Tensor>>;

const ROWS = 16;

/** What the runs gave: metrics of the prompt itself, and of each place. */
export interface PatchedValues {
  readonly base: MetricValues;
  readonly values: readonly MetricValues[];
}

/** All from whole runs. */
export async function naivePatchedRuns(
  model: LanguageModel,
  base: Probe,
  answers: Answers,
  places: readonly PatchPlace[],
  source: Captured,
  { rowsPerPass = ROWS, onProgress }: RunsOptions,
): Promise<PatchedValues> {
  const { vocabulary } = model.sizes;
  using plain = await runModel(model, probeRows(base), { logits: [base.position] });
  const values: MetricValues[] = [];
  for (let start = 0; start < places.length; start += rowsPerPass) {
    const some = places.slice(start, start + rowsPerPass);
    using run = await runModel(model, probeRows(base, some.length), {
      patch: some.map((place, row) => patchOf(place, row, source)),
      logits: some.map(() => base.position),
    });
    values.push(...metricRows(await run.logits.read(), vocabulary, answers));
    onProgress?.(values.length, places.length);
  }
  return { base: metricValues(await plain.logits.read(), answers), values };
}

/** Values that meet a patched one and cannot have changed: taken from the plain run, they are not computed again. */
function beside(hook: string): string[] {
  const [, layer, part] = /^(blocks\.\d+\.attn\.hook_)(q|k|v|pattern)$/.exec(hook) ?? [];
  return layer === undefined
    ? []
    : ['q', 'k', 'v'].filter((other) => other !== part).map((other) => layer + other);
}

/** Names of the values that {@link patchedRuns} wants of the plain run. */
export const wantedOfPlain = (places: readonly PatchPlace[]): string[] => [
  ...new Set(places.flatMap(({ hook }) => [hook, ...beside(hook)])),
];

/** From each place's layer on. @param base its own values. */
export async function patchedRuns(
  base: Downstream,
  answers: Answers,
  places: readonly PatchPlace[],
  source: SourceValues,
  { rowsPerPass = base.rowsThatFit(), onProgress }: RunsOptions,
): Promise<PatchedValues> {
  const { model, first, tokens } = base;
  const { vocabulary } = model.sizes;
  const plain = metricValues(await base.logits.read(), answers);
  const values: MetricValues[] = places.map(() => plain);
  const hooks = hookNames(places);
  const table = hooksOf(model.description);
  const [ownValues, otherValues] = [base.values(wantedOfPlain(places)), await source(hooks)];
  let done = 0;
  for (const hook of hooks) {
    const [own, other] = [ownValues.get(hook)!, otherValues.get(hook)!];
    const [ownNumbers, otherNumbers] = await Promise.all([own.read(), other.read()]);
    const here = places.flatMap((place, i) => (place.hook === hook ? [{ place, i }] : []));
    const changed = here.filter(({ place }) =>
      differs(place, pointOf(table, hook), own, ownNumbers, otherNumbers, first),
    );
    done += here.length - changed.length;
    for (let start = 0; start < changed.length; start += rowsPerPass) {
      const some = changed.slice(start, start + rowsPerPass);
      const rows = some.length;
      const from: Captured = { captures: new Map([[hook, other]]) };
      const patches = some.map(({ place }, row) => patchOf(place, row, from, first));
      const resolve = (name: string): string => name;
      const where = { first: new Array<number>(rows).fill(0), keys: first + tokens };
      const changes = changesOf(patches, pointOf(table, hook), rows, tokens, where, resolve);
      const given = noGrad(() =>
        scope(() => {
          const repeated = broadcastTo(own, [rows, ...own.shape.slice(1)]);
          return changes.reduce((x, change) => change(x, repeated), repeated);
        }),
      );
      disown(given);
      try {
        using run = base.run({
          rows,
          given: new Map([
            [hook, given],
            ...beside(hook).map((name) => [name, ownValues.get(name)!] as const),
          ]),
        });
        const found = metricRows(await run.logits!.read(), vocabulary, answers);
        for (const [row, { i }] of some.entries()) values[i] = found[row]!;
      } finally {
        given.dispose();
      }
      done += rows;
      onProgress?.(done, places.length);
    }
  }
  return { base: plain, values };
}

/** Whether the other values of a place are other numbers. */
function differs(
  place: PatchPlace,
  point: HookPoint,
  { shape }: Tensor,
  own: Float32Array,
  other: Float32Array,
  first: number,
): boolean {
  const { position } = place;
  // Tokens that are not at hand are the same, or not seen by the one read.
  if (position !== null && (position < first || position - first >= shape[1]!)) return false;
  for (const i of indicesOf(place, point, shape, first)) if (own[i] !== other[i]) return true;
  return false;
}
