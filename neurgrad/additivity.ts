/**
 * How far NeurGrad adds up (Zhao et al. 2025 name linear effects of many neurons at once a key property; nobody has measured how many): sets
 * of 1, 2, 4 … 4096 neurons of one prompt, each shifted together, the sum of NeurGrad times shift against what comes.
 *
 * Random sets are beginnings of one seeded order of all neurons, all shifted by s along the axis: what is foretold of each cancels in part.
 * Top sets are the neurons with the largest |NeurGrad|, each shifted by s times the sign of its own, so that all pull the same way.
 */

import { UserError } from '../engine/errors.ts';
import { callback, checkOptions, list, one, optionsSchema, whole } from '../engine/options.ts';
import type { LanguageModel, Site } from '../models/model.ts';
import { checkOther } from './answers.ts';
import { type Conventions, type Direction, type Measure, measureFields, type Sign } from './conventions.ts';
import { neuronGradients } from './gradients.ts';
import { shiftField } from './grid.ts';
import { intervene, type NeuronSet } from './intervene.ts';
import { type Neuron, neuronAt, resolveSite, SITES, siteHook } from './neuron.ts';
import { POINT_ENGINES, type PointEngine, pointEngine } from './points.ts';
import { checkProbe, checkTarget, neuronPosition, type Probe, tokenField } from './predict.ts';
import { seededRandom, seedField, shuffled } from './random.ts';
import { checkRecord, openRecord, type PromptRecord, recordField } from './record.ts';

/** How sets are made: `random`, or `top` by |NeurGrad|. */
export const SET_KINDS = ['random', 'top'] as const;
/** One of {@link SET_KINDS}. */
export type SetKind = (typeof SET_KINDS)[number];

/** Shifts that sets are given, where none are asked for. */
export const ADDITIVITY_SHIFTS = [-1, -0.1, -0.01, 0.01, 0.1, 1] as const;

/** Which sets, and what is measured. */
export interface AdditivityOptions {
  /** Token id; default the model's argmax. */
  readonly target?: number | undefined;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
  /** Token whose neurons are shifted; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default `paper`. */
  readonly site?: Site | 'paper';
  /** Default `prob`. `logit_diff`: the target's logit less that of `other`. */
  readonly of?: Measure;
  /** Default `outward`. */
  readonly direction?: Direction;
  /** Sign of NeurGrad; default `+`. */
  readonly sign?: Sign;
  /** Neurons of a set; default 1, 2, 4 … 4096, as many as the model has. */
  readonly sizes?: readonly number[];
  /** Of each neuron of a set; default {@link ADDITIVITY_SHIFTS}. */
  readonly shifts?: readonly number[];
  /** Random sets of each size; default 4. */
  readonly draws?: number;
  /** Of the random sets; default 0. */
  readonly seed?: number;
  /** What runs the sets; default `auto`, the fastest that the model has. */
  readonly engine?: PointEngine | 'auto';
  /** Most batch rows of one pass; default as many as fit. */
  readonly rowsPerPass?: number;
  /** The prompt's run, where it is there already; its target and position are the default then. */
  readonly record?: PromptRecord | undefined;
  /** Told after each pass how many of all sets are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** {@link AdditivityOptions} */
export const additivityOptions = optionsSchema<AdditivityOptions>({
  target: tokenField,
  other: tokenField,
  neuronPosition: whole(),
  site: one(SITES),
  ...measureFields,
  sizes: list(whole(1), 'a list of numbers of neurons'),
  shifts: list(shiftField, 'a list of shifts'),
  draws: whole(),
  seed: seedField,
  engine: one(['auto', ...POINT_ENGINES]),
  rowsPerPass: whole(1),
  record: recordField,
  onProgress: callback(),
});

/** One set at one shift. */
export interface AdditivitySet {
  readonly kind: SetKind;
  /** Which of the random sets of its size; 0 of a top set. */
  readonly draw: number;
  /** Neurons in it. */
  readonly size: number;
  readonly shift: number;
  /** Change foretold: the sum of NeurGrad times shift. */
  readonly predicted: number;
  /** Change that came; NaN where the logits are not finite. */
  readonly reached: number;
  /** What of `reached` may be rounding. */
  readonly noise: number;
  /** The target's probability with the shifts in place. */
  readonly p: number;
}

/** Sets of one prompt. */
export interface Additivity {
  readonly engine: PointEngine;
  readonly target: number;
  /** What `logit_diff` subtracts. */
  readonly other?: number;
  /** The target's probability, nothing shifted. */
  readonly p: number;
  readonly position: number;
  readonly neuronPosition: number;
  /** By kind, draw, size and shift. */
  readonly sets: readonly AdditivitySet[];
  readonly conventions: Conventions;
}

/** 1, 2, 4 … 4096, as many as there are. */
const powersOfTwo = (total: number): number[] =>
  Array.from({ length: 13 }, (_, k) => 2 ** k).filter((size) => size <= total);

/**
 * @throws UserError for an option or value that there is not, a size beyond the model's neurons, and where there is no set at all.
 * @example
 * ```ts
 * import { additivity, encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const { sets } = await additivity(model, prompt, { of: 'logit', sizes: [1, 64], shifts: [0.001], draws: 1 });
 * for (const { kind, size, predicted, reached } of sets)
 *   console.log(kind, size, Math.abs(reached / predicted - 1) < 0.1); // → top 64 true
 * model.device.destroy();
 * ```
 */
export async function additivity(
  model: LanguageModel,
  probe: Probe,
  options: AdditivityOptions = {},
): Promise<Additivity> {
  checkOptions('additivity', additivityOptions, options);
  checkProbe('additivity', model, probe);
  const { of = 'prob', direction = 'outward', sign = '+', draws = 4, seed = 0, engine = 'auto' } = options;
  const { rowsPerPass, onProgress } = options;
  const { layers, width } = model.sizes;
  const total = layers * width;
  const { sizes = powersOfTwo(total), shifts = ADDITIVITY_SHIFTS } = options;
  const large = sizes.find((size) => size > total);
  if (large !== undefined)
    throw new UserError('size', `additivity: a set of ${large} neurons: the model has ${total}`);
  if (sizes.length === 0 || shifts.length === 0)
    throw new UserError('size', 'additivity: no sets: give one size and one shift at least');
  const site = resolveSite(options.site ?? 'paper', model);
  const at = neuronPosition(probe, options.neuronPosition ?? options.record?.neuronPosition);
  const other = options.other ?? options.record?.other;
  checkOther('additivity', of, other);
  for (const id of [options.target, other]) if (id !== undefined) checkTarget(id, model.sizes.vocabulary);
  const by = pointEngine(model, { probe, at }, engine === 'auto' ? null : engine);
  checkRecord('additivity', model, probe, options);
  const names = Array.from({ length: layers }, (_, layer) => siteHook(layer, site));
  using own = options.record
    ? null
    : await openRecord(model, probe, {
        at,
        names,
        of,
        target: options.target,
        other,
        differences: by === 'differences',
      });
  const record = options.record ?? own!;
  const { neurgrad, conventions } = await neuronGradients(model, probe, {
    ...{ record, site, of, other, direction, sign },
  });
  const orders = ordersOf(neurgrad, draws, seed);
  const asked = orders.flatMap(({ kind, draw, order, signs }) =>
    sizes.flatMap((size) =>
      shifts.map((shift): Asked => {
        const flat = order.slice(0, size);
        const neurons = flat.map((n): Neuron => neuronAt(n, width, site));
        return {
          kind,
          draw,
          size,
          shift,
          set: { neurons, shift: flat.map((n) => shift * (signs?.[n] ?? 1)) },
        };
      }),
    ),
  );
  const found = await intervene(
    model,
    probe,
    asked.map(({ set }) => set),
    {
      ...{ record, of, other, direction, sign, engine: by },
      ...(rowsPerPass === undefined ? {} : { rowsPerPass }),
      ...(onProgress ? { onProgress } : {}),
    },
  );
  const { target, p, position } = found;
  return {
    ...{ engine: by, target, p, position, neuronPosition: at, conventions },
    ...(other === undefined ? {} : { other }),
    sets: asked.map(({ set: _, ...one }, i): AdditivitySet => {
      const { predicted, reached, noise, p } = found.sets[i]!;
      return { ...one, predicted, reached, noise, p };
    }),
  };
}

type Asked = Pick<AdditivitySet, 'kind' | 'draw' | 'size' | 'shift'> & { readonly set: NeuronSet };

/** Orders of all neurons whose beginnings are sets, and by what the shift of each is multiplied. */
interface Order {
  readonly kind: SetKind;
  readonly draw: number;
  readonly order: readonly number[];
  readonly signs: ArrayLike<number> | null;
}

function ordersOf(neurgrad: Float64Array, draws: number, seed: number): Order[] {
  const total = neurgrad.length;
  const random = Array.from({ length: draws }, (_, draw): Order => {
    const next = seededRandom((seed + Math.imul(draw + 1, 0x9e3779b1)) >>> 0);
    return { kind: 'random', draw, order: [...shuffled(total, next)], signs: null };
  });
  const order = Array.from({ length: total }, (_, n) => n).sort(
    (a, b) => Math.abs(neurgrad[b]!) - Math.abs(neurgrad[a]!) || a - b,
  );
  const signs = neurgrad.map((value) => (value < 0 ? -1 : 1));
  return [...random, { kind: 'top', draw: 0, order, signs }];
}
