/** How all of a model's weights are kept together, and what is said of it in one line: which blocks stay, what rounding costs. */

import type { DType } from '../engine/index.ts';
import { isPacked } from '../kernels/index.ts';
import type { Parameter } from './description.ts';
import { isPackedDtype } from './gguf/packed.ts';
import type { WeightDtype } from './storage.ts';

/** What was asked for; where nothing was, weights that come in blocks stay packed, and all others are float32. */
export const dtypeFor = (
  entries: Iterable<{ readonly dtype: string }>,
  wanted: WeightDtype | undefined,
): WeightDtype => wanted ?? ([...entries].some(({ dtype }) => isPackedDtype(dtype)) ? 'packed' : 'f32');

/** How a model's weights are kept, by the matrices of its layers: packed where any is, else the coarsest. */
export function weightDtypeAs(
  formats: Iterable<readonly [Pick<Parameter, 'kind' | 'stage'>, DType | undefined]>,
): WeightDtype {
  const found = [...formats].flatMap(([{ kind, stage }, dtype]) =>
    kind === 'matrix' && typeof stage === 'number' && dtype && dtype !== 'f32' && dtype !== 'u32'
      ? dtype
      : [],
  );
  if (found.some(isPacked)) return 'packed';
  const [coarsest = 'f32'] = found.sort((a, b) => order(b) - order(a));
  return coarsest as WeightDtype;
}

/** The largest change of a p, and the least Pearson r of NeurGrad, over the models of docs/dtypes.md. */
const COST: Partial<Record<DType, readonly [p: string, r: string]>> = {
  f16: ['0.0008', '0.9998'],
  bf16: ['0.0034', '0.998'],
  int8: ['0.02', '0.98'],
  int4: ['0.1', '0.84'],
};

/** A parameter, the dtype that it is stored as, and what it is kept in. */
export interface Kept {
  readonly parameter: Pick<Parameter, 'kind'>;
  readonly stored: string;
  readonly kept: DType;
}

const isRounded = ({ stored, kept }: Kept): boolean =>
  kept !== 'f32' && !isPacked(kept) && stored !== kept.toUpperCase();

/** Undefined where all numbers are the file's, and in no blocks. */
export function keptNote(all: readonly Kept[]): string | undefined {
  const counted = new Map<DType, number>();
  const matrices = all.filter(({ parameter: { kind } }) => kind !== 'norm' && kind !== 'bias');
  for (const { kept } of matrices) counted.set(kept, (counted.get(kept) ?? 0) + 1);
  const rounded = new Map<DType, number>();
  for (const each of matrices.filter(isRounded)) rounded.set(each.kept, (rounded.get(each.kept) ?? 0) + 1);
  const notes: string[] = [];
  if (matrices.some(({ stored, kept }) => isPackedDtype(stored) && isPacked(kept)))
    notes.push(
      `blocks stay packed on the device: ${[...counted].map(([format, count]) => `${count} ${format}`).join(', ')}`,
    );
  const [worst] = [...rounded.keys()].sort((a, b) => order(b) - order(a));
  const cost = worst && COST[worst];
  if (worst && cost)
    notes.push(
      `${worst} rounds ${rounded.get(worst)} matrices; on the models measured this changed a p by up to ${cost[0]}, and NeurGrad to a Pearson r of ${cost[1]} (docs/dtypes.md)`,
    );
  return notes.length > 0 ? notes.join('; ') : undefined;
}

const order = (format: DType): number => Object.keys(COST).indexOf(format);
