/**
 * Additivity over prompts: for sets of one kind, size and shift how much of what NeurGrad foretold came, and whether sets are told apart by
 * it, with jackknife-t intervals over prompts (neurgrad/intervals.ts).
 */

import { checkValue, like, list } from '../../engine/options.ts';
import { type AdditivitySet, SET_KINDS, type SetKind } from '../additivity.ts';
import { type Estimate, jackknifeT } from '../intervals.ts';
import { mean } from '../statistics.ts';
import { PEARSON, pearsonTerms, pooled, type Statistic } from './pooled.ts';

/** Sets of one kind, size and shift, over all prompts. */
export interface AdditivityCell {
  readonly kind: SetKind;
  readonly size: number;
  readonly shift: number;
  /** Sets that gave a number, of all prompts. */
  readonly sets: number;
  /** Those that did not: their logits were not finite. */
  readonly lost: number;
  /** Those whose change is no larger than its noise. */
  readonly belowNoise: number;
  /** Means of the absolute changes, foretold and reached; NaN without sets. */
  readonly predicted: number;
  readonly reached: number;
  /** What came of what was foretold: the slope through the origin of reached against foretold; 1 where it adds up. NaN without sets. */
  readonly share: Estimate;
  /** Of foretold and reached, over prompts and draws; NaN where there is none. */
  readonly pearson: Estimate;
  /** Share of sets whose change has the sign foretold; NaN without sets. */
  readonly sameSign: number;
}

/** Slope through the origin, of products and squares. */
const SLOPE: Statistic = {
  of: ([xy, xx]) => xy! / xx!,
  estimate: (value, leftOut, parts) => jackknifeT(value, leftOut, parts),
};

const setsField = list<readonly AdditivitySet[]>(
  list<AdditivitySet>(
    like<AdditivitySet>((value) => {
      const { kind, size, shift, predicted, reached, noise } = (value ?? {}) as Partial<AdditivitySet>;
      return (
        SET_KINDS.some((known) => known === kind) &&
        [size, shift, predicted, reached, noise].every((number) => typeof number === 'number')
      );
    }, 'a set, as additivity gives it'),
    'a list of sets',
  ),
  'a list of lists of sets, one a prompt',
);

/**
 * By kind, size and |shift|, those that lower before those that raise.
 * @param prompts the sets of each prompt, as {@link additivity} gives them.
 * @throws UserError for what are no such sets. Values are NaN where no set gave a number.
 */
export function summariseAdditivity(prompts: readonly (readonly AdditivitySet[])[]): AdditivityCell[] {
  checkValue('summariseAdditivity', 'prompts', setsField, prompts);
  const cells = new Map<string, Pick<AdditivitySet, 'kind' | 'size' | 'shift'>>();
  for (const { kind, size, shift } of prompts.flat())
    cells.set(`${kind} ${size} ${shift}`, { kind, size, shift });
  return [...cells.values()]
    .sort(
      (a, b) =>
        SET_KINDS.indexOf(a.kind) - SET_KINDS.indexOf(b.kind) ||
        a.size - b.size ||
        Math.abs(a.shift) - Math.abs(b.shift) ||
        a.shift - b.shift,
    )
    .map(({ kind, size, shift }): AdditivityCell => {
      const all = prompts.map((sets) =>
        sets.filter((set) => set.kind === kind && set.size === size && set.shift === shift),
      );
      const known = all
        .map((sets) => sets.filter(({ reached }) => Number.isFinite(reached)))
        .filter((sets) => sets.length > 0);
      const flat = known.flat();
      const [foretold, came] = (['predicted', 'reached'] as const).map((of) =>
        known.map((sets) => sets.map((set) => set[of])),
      ) as [number[][], number[][]];
      const slopes = foretold.map((row, p) => row.map((x, i) => [x * came[p]![i]!, x * x]));
      const average = (of: (set: AdditivitySet) => number): number =>
        flat.length === 0 ? Number.NaN : mean(flat.map(of));
      const { leftOut: _, ...share } = pooled(SLOPE, slopes, 'perPrompt');
      const { leftOut: __, ...pearson } = pooled(PEARSON, pearsonTerms(foretold, came), 'perPrompt');
      return {
        ...{ kind, size, shift, sets: flat.length, lost: all.flat().length - flat.length },
        belowNoise: flat.filter(({ reached, noise }) => Math.abs(reached) <= noise).length,
        predicted: average(({ predicted }) => Math.abs(predicted)),
        reached: average(({ reached }) => Math.abs(reached)),
        share,
        pearson,
        sameSign: average(({ predicted, reached }) => (Math.sign(predicted) === Math.sign(reached) ? 1 : 0)),
      };
    });
}
