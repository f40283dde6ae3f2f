/**
 * What experiments measure at the position read: of the logits y there and the tokens a (answer) and b (other), y[a] - y[b], y[a],
 * log softmax(y)[a] or softmax(y)[a]. On the host in float64; gradients of the last two by way of the log odds of a (predict.ts).
 */

import { UserError } from '../../engine/errors.ts';
import { pick, sub, sum, type Tensor } from '../../engine/index.ts';
import { either, list, one } from '../../engine/options.ts';
import type { Quantity } from '../../models/model.ts';
import { objectiveValue } from '../../models/run.ts';
import type { Measure } from '../conventions.ts';
import { gradientFactor, targetValues } from '../predict.ts';

/** What an experiment measures. The default comes first. */
export const METRICS = ['logit_diff', 'logit', 'logprob', 'prob'] as const satisfies readonly Measure[];
/** One of {@link METRICS}. */
export type Metric = Measure;
/** A value for each metric; `logit_diff` is NaN where there is no other token. */
export type MetricValues = Readonly<Record<Metric, number>>;
/** One metric or several, as a field of options. */
export const metricField = either(
  one(METRICS),
  list(one(METRICS), 'a list of metrics'),
  'a metric or a list of them',
);

/** The tokens that a metric is of. */
export interface Answers {
  /** Token id: the clean prompt's answer. */
  readonly answer: number;
  /** Token id: what `logit_diff` subtracts; usually the corrupt prompt's answer. */
  readonly other?: number | undefined;
}

/** The metrics asked for. @throws UserError where `logit_diff` has no other token. */
export function metricsOf(
  asked: Metric | readonly Metric[] | undefined,
  pairs: readonly Answers[],
): readonly Metric[] {
  const metrics =
    asked === undefined ? (['logit_diff'] as const) : typeof asked === 'string' ? [asked] : asked;
  if (metrics.includes('logit_diff') && pairs.some(({ other }) => other === undefined))
    throw new UserError(
      'metric',
      "logit_diff needs other, the token that is subtracted; or take metric 'logprob'",
    );
  return metrics;
}

/** All metrics of a row of logits. @throws UserError for logits that are not finite. */
export function metricValues(logits: Float32Array, { answer, other }: Answers): MetricValues {
  const { prob, logprob, logit } = targetValues(logits, answer);
  return { logit_diff: other === undefined ? Number.NaN : logit - logits[other]!, logit, logprob, prob };
}

/** All metrics of each row of [rows, V]. */
export function metricRows(logits: Float32Array, vocabulary: number, answers: Answers): MetricValues[] {
  return Array.from({ length: logits.length / vocabulary }, (_, row) =>
    metricValues(logits.subarray(row * vocabulary, (row + 1) * vocabulary), answers),
  );
}

/**
 * What is differentiated on the device for a metric, of logits [rows, V] summed over rows, and by what a row's gradient is multiplied
 * then.
 */
export function differentiatedMetric(
  metric: Metric,
  { answer, other }: Answers,
): { readonly of: (logits: Tensor) => Tensor; readonly factor: (values: MetricValues) => number } {
  const all = (logits: Tensor, id: number): number[] => new Array<number>(logits.dim(0)).fill(id);
  if (metric === 'logit_diff')
    return {
      of: (logits) => sum(sub(pick(logits, all(logits, answer)), pick(logits, all(logits, other!)))),
      factor: () => 1,
    };
  const of: Quantity = metric;
  return {
    of: (logits) =>
      objectiveValue({ of: of === 'logit' ? 'logit' : 'logodds', target: all(logits, answer) }, logits),
    factor: (values) => gradientFactor(of, values),
  };
}
