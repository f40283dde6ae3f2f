/**
 * From products of queries and keys to probabilities, for every attention: how a product becomes a score, and which keys a query
 * sees by its place. One options type for all of them.
 */

import { checkOptions, finite, flag, type OptionsSchema, optionsSchema, positive } from '../options.ts';
import { checkNumber, checkTensor, type Tensor, tensorField } from '../tensor.ts';
import { softcap } from './elementwise.ts';
import { softmax } from './softmax.ts';
import { type KeyWindow, keyWindow } from './window.ts';

/** How a product of a query and a key becomes a score, and which keys a query sees around its own. */
export interface ScoreOptions {
  /** Factor on the products; default 1 / sqrt(D). */
  readonly scale?: number;
  /** Only keys around a query's own, counted in columns; default all. */
  readonly window?: KeyWindow;
  /** Scores become cap tanh(score / cap), before masks ({@link softcap}); default as they are. */
  readonly cap?: number;
}

/** Schemas of {@link ScoreOptions}, for the options of an attention. */
export const scoreFields: OptionsSchema<ScoreOptions>['entries'] = {
  scale: finite,
  window: keyWindow,
  cap: positive,
};

/** What other libraries call them. */
export const SCORE_NAMES = {
  slidingWindow: 'window',
  windowSize: 'window',
  softcap: 'cap',
  logitsSoftCap: 'cap',
} as const;

/** {@link ScoreOptions} and masks. */
export interface PatternOptions extends ScoreOptions {
  /** u32 [batch, keys]: 0 hides a key from every query. */
  readonly keyMask?: Tensor;
  /** Query q sees keys 0 ... q + keys - queries. */
  readonly causal?: boolean;
  /** u32 [1]: keys after this one are hidden, as in `softmax`; it is the last query's own. */
  readonly lastKey?: Tensor;
}

const patternOptions = optionsSchema<PatternOptions>(
  { ...scoreFields, keyMask: tensorField, causal: flag, lastKey: tensorField },
  { mask: 'keyMask', isCausal: 'causal', ...SCORE_NAMES },
);

/**
 * Attention probabilities of products q k^T [batch, heads, queries, keys] of heads of `headSize`, shape kept: what stands between the
 * two products of an attention. Query q's own key is q + keys - queries.
 * @throws ShapeError
 */
export function attentionPattern(products: Tensor, headSize: number, options: PatternOptions = {}): Tensor {
  checkOptions('attentionPattern', patternOptions, options);
  checkTensor('attentionPattern', 'products', products);
  checkNumber('attentionPattern', 'headSize', headSize);
  const { scale = 1 / Math.sqrt(headSize), cap, ...seen } = options;
  return cap === undefined
    ? softmax(products, { ...seen, scale })
    : softmax(softcap(products, cap, scale), seen);
}
