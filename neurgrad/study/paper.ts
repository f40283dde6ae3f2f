/** What the paper prints for its models (docs/conventions.md#the-sweep), to stand beside what a study measures. */

import { checkValue, text } from '../../engine/options.ts';
import { checkGiven } from '../lists.ts';
import type { ModelStamp } from './folder.ts';

/** What the paper says of a model: share of linear neurons, correlations with G_E, LG and PG. */
export interface PaperRow {
  readonly name: string;
  readonly linear: number;
  readonly gradient: number;
  readonly integrated: number | null;
  readonly neurgrad: number;
  readonly lg: number;
  readonly pg: number;
  /** Cost of IG and NeurGrad where G_C is 1. */
  readonly cost: { readonly integrated: number; readonly neurgrad: number } | null;
}

/** The models by the last part of their name, and by their layers and width: another model may bear the name. */
interface Model extends Omit<PaperRow, 'pg'> {
  readonly match: RegExp;
  readonly layers: number;
  readonly width: number;
}

/** The same for all of them. */
const PG = 0.9999;

const MODELS: readonly Model[] = [
  {
    name: 'BERT base',
    match: /^bert-base-(un)?cased$/i,
    layers: 12,
    width: 3072,
    linear: 0.9565,
    gradient: -0.9216,
    integrated: 0.8098,
    neurgrad: 0.9999,
    lg: 0.9844,
    cost: { integrated: 25.73, neurgrad: 1.04 },
  },
  {
    name: 'BERT large',
    match: /^bert-large-(un)?cased$/i,
    layers: 24,
    width: 4096,
    linear: 0.8756,
    gradient: -0.8986,
    integrated: 0.7317,
    neurgrad: 1,
    lg: 0.9492,
    cost: null,
  },
  {
    name: 'BERT large wwm',
    match: /^bert-large-(un)?cased-whole-word-masking$/i,
    layers: 24,
    width: 4096,
    linear: 0.9564,
    gradient: -0.9006,
    integrated: 0.8694,
    neurgrad: 0.9999,
    lg: 0.9494,
    cost: null,
  },
  {
    name: 'Llama2 7B',
    match: /^llama-?2-7b(-hf)?$/i,
    layers: 32,
    width: 11008,
    linear: 0.9387,
    gradient: 0.302,
    integrated: 0.5383,
    neurgrad: 0.8136,
    lg: 0.9518,
    cost: { integrated: 134.24, neurgrad: 1.04 },
  },
  {
    name: 'Llama2 13B',
    match: /^llama-?2-13b(-hf)?$/i,
    layers: 40,
    width: 13824,
    linear: 0.9677,
    gradient: -0.1973,
    integrated: 0.7261,
    neurgrad: 0.9965,
    lg: 0.9833,
    cost: null,
  },
  {
    name: 'Llama2 70B',
    match: /^llama-?2-70b(-hf)?$/i,
    layers: 80,
    width: 28672,
    linear: 0.9208,
    gradient: 0.0283,
    integrated: null,
    neurgrad: 1,
    lg: 0.978,
    cost: null,
  },
];

/** All rows of the paper, in its order, with each model's size. */
export const PAPER_MODELS: readonly (PaperRow & Pick<Model, 'layers' | 'width'>)[] = MODELS.map(
  ({ match: _, ...row }) => ({ ...row, pg: PG }),
);

/** A model's name: the last part of its path or Hub id. */
export function modelName(source: string): string {
  checkValue('modelName', 'source', text, source);
  return source
    .replace(/[/\\]+$/, '')
    .split(/[/\\]/)
    .at(-1)!;
}

/** The paper's row for a model, or null where it is none of the paper's. */
export function paperRow(stamp: Pick<ModelStamp, 'source' | 'layers' | 'width'>): PaperRow | null {
  checkGiven('paperRow', 'stamp', stamp, 'source', 'what stampModel gives');
  const name = modelName(stamp.source);
  const found = MODELS.find(
    ({ match, layers, width }) => match.test(name) && layers === stamp.layers && width === stamp.width,
  );
  if (!found) return null;
  const { match: _match, layers: _layers, width: _width, ...row } = found;
  return { ...row, pg: PG };
}
