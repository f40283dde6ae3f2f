/** Numbers and words that the linearity study's tables and figures share. */

import type { Estimate } from '../neurgrad/intervals.ts';
import type { Agreement } from '../neurgrad/study/agreement.ts';
import type { ModelSummary } from '../neurgrad/study/summary.ts';

export const correlation = (value: number): string => value.toFixed(4);
export const between = ({ low, high }: { low: number; high: number }): string =>
  `[${correlation(low)}, ${correlation(high)}]`;
/** `–` where there is none: of fewer than two pairs, of a side that is constant. */
export const orNone = (value: number): string => (Number.isNaN(value) ? '–' : correlation(value));
export const interval = ({ interval }: Estimate): string => (interval ? between(interval) : '–');
export const estimate = (found: Estimate): string =>
  found.interval ? `${orNone(found.value)} ${interval(found)}` : orNone(found.value);
export const effective = ({ effective }: Estimate): string =>
  effective === null ? '–' : effective.toFixed(1);
export const many = (count: number): string => count.toLocaleString('en');

/** What 95% is over. */
export const drawn = ({ sampling }: ModelSummary): string =>
  sampling === 'shared' ? 'prompts and neurons' : 'prompts';

export const QUANTITY = { prob: 'probability', logprob: 'log-probability', logit: 'logit' } as const;

/** A correlation with its interval and what it is over, for the head of a figure. */
export function headline({ pearson, pairs }: Agreement): string {
  const over = `${many(pairs)} pairs of ${many(pearson.count)} prompt${pearson.count === 1 ? '' : 's'}`;
  const why = pearson.reason === null ? '' : `, no interval (${pearson.reason})`;
  return `Pearson ${estimate(pearson)} over ${over}${why}`;
}
