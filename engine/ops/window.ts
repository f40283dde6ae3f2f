/**
 * Which keys a query sees by its place: all up to its own (causal), those of a window around it (Beltagy et al. 2020, "Longformer"),
 * or both.
 */

import { UNBOUNDED_KEYS } from '../../kernels/index.ts';
import { type OptionsSchema, optionsSchema, whole } from '../options.ts';

/** Keys that a query sees around its own, counted in columns: padding is none of them and counts. */
export interface KeyWindow {
  /** Keys before its own; default all. A causal window of W keys, its own included, is `{ before: W - 1 }` with `causal`. */
  readonly before?: number;
  /** Keys behind its own; default all, and none with `causal`. */
  readonly after?: number;
}

export const keyWindow: OptionsSchema<KeyWindow> = optionsSchema<KeyWindow>({
  before: whole(),
  after: whole(),
});

/** Query q's own key is q + past, the last query's the last; it sees keys from `before` before that to `after` behind. */
export function seenKeys(
  queries: number,
  keys: number,
  { causal = false, window = {} }: { readonly causal?: boolean; readonly window?: KeyWindow },
): { readonly before: number; readonly after: number; readonly past: number } {
  const { before = UNBOUNDED_KEYS, after = UNBOUNDED_KEYS } = window;
  return {
    before: Math.min(before, UNBOUNDED_KEYS),
    after: causal ? 0 : Math.min(after, UNBOUNDED_KEYS),
    past: keys - queries,
  };
}

/** Why queries and keys do not go together where a query's place counts, or null where they do. */
export function misplaced(
  queries: number,
  keys: number,
  { causal, window }: { readonly causal?: boolean; readonly window?: KeyWindow },
): string | null {
  return (causal || window) && keys < queries
    ? `${queries} ${causal ? 'causal queries' : 'queries with a window'} over ${keys} keys`
    : null;
}
