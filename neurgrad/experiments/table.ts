/**
 * The one shape in which experiments give their results: a row for each thing looked at and each metric, plain data that can be
 * joined, sorted and plotted. Several pairs of prompts are averaged, with standard errors.
 */

import { mean, sampleStandardDeviation } from 'simple-statistics';
import { checkValue, like, one } from '../../engine/options.ts';
import { METRICS, type Metric, type MetricValues } from './metric.ts';

/** Which prompt runs and which gives the values: the corrupt and the clean one, or the other way round. The default comes first. */
export const DIRECTIONS_OF_PATCHING = ['denoise', 'noise'] as const;
/** One of {@link DIRECTIONS_OF_PATCHING}. */
export type PatchDirection = (typeof DIRECTIONS_OF_PATCHING)[number];

/** What a row is of; what does not apply is null. */
export interface PlaceKeys {
  readonly component: string;
  readonly layer: number | null;
  readonly position: number | null;
  readonly head: number | null;
  readonly neuron: number | null;
}

/** A result: of one place and metric, the mean over pairs. */
export interface ExperimentRow extends PlaceKeys {
  readonly metric: Metric;
  /** The metric with this place changed (an estimate of it, where the experiment estimates), or the place's part of the metric. */
  readonly value: number;
  /** `value` less that of the run without the change; of a part of the metric the same as `value`. */
  readonly change: number;
  /** (value - corrupt) / (clean - corrupt): 0 what the corrupt prompt gives, 1 what the clean one gives; null without a corrupt prompt. */
  readonly recovered: number | null;
  /** Standard errors of the mean over pairs; null of one pair. */
  readonly changeError: number | null;
  /** As `changeError`. */
  readonly recoveredError: number | null;
}

/** A pair's metrics as its prompts give them. */
export interface PairValues {
  readonly clean: MetricValues;
  /** Null where there is none. */
  readonly corrupt: MetricValues | null;
}

/** What an experiment gives. */
export interface ExperimentTable {
  readonly experiment: string;
  /** Null where nothing is patched from one prompt into the other. */
  readonly direction: PatchDirection | null;
  readonly pairs: readonly PairValues[];
  /** By metric, then by layer and place. */
  readonly rows: readonly ExperimentRow[];
  /** How it was computed, where that depends on the model; else null. */
  readonly note: string | null;
}

/** A place's values of one pair, by metric. */
export type Values = Readonly<Partial<Record<Metric, number>>>;

/** What a pair found: for each place its values, and what they are changes from; a part of the metric changes from 0. */
export interface PairResult extends PairValues {
  readonly base: MetricValues | null;
  readonly values: readonly Values[];
}

const errorOf = (values: readonly number[]): number | null =>
  values.length < 2 ? null : sampleStandardDeviation([...values]) / Math.sqrt(values.length);

/** Joins what pairs found into a table. */
export function tableOf(
  experiment: string,
  direction: PatchDirection | null,
  metrics: readonly Metric[],
  places: readonly PlaceKeys[],
  pairs: readonly PairResult[],
  note: string | null = null,
): ExperimentTable {
  const rows = metrics.flatMap((metric) =>
    places.map((place, i): ExperimentRow => {
      const value = pairs.map(({ values }) => values[i]![metric]!);
      const change = pairs.map(({ base }, p) => value[p]! - (base?.[metric] ?? 0));
      const recovered = pairs.flatMap(({ clean, corrupt }, p) =>
        corrupt ? [(value[p]! - corrupt[metric]) / (clean[metric] - corrupt[metric])] : [],
      );
      const { component, layer, position, head, neuron } = place;
      return {
        component,
        layer,
        position,
        head,
        neuron,
        metric,
        value: mean(value),
        change: mean(change),
        recovered: recovered.length > 0 ? mean(recovered) : null,
        changeError: errorOf(change),
        recoveredError: errorOf(recovered),
      };
    }),
  );
  const known = pairs.map(({ clean, corrupt }) => ({ clean, corrupt }));
  return { experiment, direction, pairs: known, rows, note };
}

const oneMetric = one(METRICS);
const column = one(['value', 'change', 'recovered']);
const tableField = like<ExperimentTable>(
  (value) => Array.isArray((value as Partial<ExperimentTable> | null)?.rows),
  "an experiment's table",
);

/**
 * A column of a table as numbers by layer and place, in the table's order: what a heat map takes.
 * @param of default `value`; NaN where a row has none.
 */
export function tableGrid(
  table: ExperimentTable,
  metric: Metric,
  of: 'value' | 'change' | 'recovered' = 'value',
): number[][] {
  checkValue('tableGrid', 'table', tableField, table);
  checkValue('tableGrid', 'metric', oneMetric, metric);
  checkValue('tableGrid', 'of', column, of);
  const layers = new Map<number | null, number[]>();
  for (const row of table.rows)
    if (row.metric === metric)
      layers.set(row.layer, [...(layers.get(row.layer) ?? []), row[of] ?? Number.NaN]);
  return [...layers.values()];
}

/** Values of the clean and the corrupt prompt. */
export const ends = <V>(direction: PatchDirection, base: V, source: V): { clean: V; corrupt: V } =>
  direction === 'denoise' ? { clean: source, corrupt: base } : { clean: base, corrupt: source };
