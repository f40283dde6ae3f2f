/**
 * Sets of neurons shifted together: what their NeurGrads foretell, and what comes (Zhao et al. 2025 name it a key property that linear
 * effects add up; it holds only as far as it is measured).
 *
 * Foretold of first order: the sum of NeurGrad times shift. Reached: the target's value with all shifts in place. A neuron's outward
 * axis is the sign of its activation in the plain run, whatever earlier shifts make of it. Engine `naive` is a full run with all of a
 * set's patches in one batch row; `differences` adds the shifts again at every layer to what has changed so far (difference/sets.ts).
 */

import { UserError } from '../engine/errors.ts';
import {
  callback,
  checkOptions,
  checkValue,
  like,
  list,
  one,
  optionsSchema,
  whole,
} from '../engine/options.ts';
import { rowsThatFit } from '../models/cost.ts';
import type { LanguageModel } from '../models/model.ts';
import { checkOther } from './answers.ts';
import {
  type Conventions,
  type Direction,
  type Measure,
  measureFields,
  neurGrad,
  numbersOf,
  outwardSign,
  type Sign,
} from './conventions.ts';
import { checkShift } from './grid.ts';
import { checkLengths } from './lists.ts';
import { formatNeuron, type Neuron, type NeuronOrName, neuronsOf, siteHook } from './neuron.ts';
import { recordedPrompts } from './openedPrompts.ts';
import { openPoints, POINT_ENGINES, type PointEngine, pointEngine } from './points.ts';
import { checkProbe, checkTarget, neuronPosition, type Probe, quantityOf, tokenField } from './predict.ts';
import { checkRecord, openRecord, type PromptRecord, recordField } from './record.ts';

/** Neurons to shift together. */
export interface NeuronSet {
  /** Or their names. Each once. */
  readonly neurons: readonly NeuronOrName[];
  /** Of all of them along the axis, or one a neuron. */
  readonly shift: number | readonly number[];
}

/** What is measured, and how. */
export interface InterveneOptions {
  /** Token id; default the model's argmax. */
  readonly target?: number | undefined;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
  /** Token whose neurons are shifted; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default `prob`. `logit_diff`: the target's logit less that of `other`. */
  readonly of?: Measure;
  /** Axis of the shifts; default `outward`. */
  readonly direction?: Direction;
  /** Sign of NeurGrad; default `+`. */
  readonly sign?: Sign;
  /** `auto`, the default, is the fastest that the model has; see {@link POINT_ENGINES}. */
  readonly engine?: PointEngine | 'auto';
  /** Most batch rows of one pass; default as many as fit. */
  readonly rowsPerPass?: number;
  /** The prompt's run, where it is there already; its target and position are the default then. */
  readonly record?: PromptRecord | undefined;
  /** Told after each pass how many of all sets are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** {@link InterveneOptions} */
export const interveneOptions = optionsSchema<InterveneOptions>({
  target: tokenField,
  other: tokenField,
  neuronPosition: whole(),
  ...measureFields,
  engine: one(['auto', ...POINT_ENGINES]),
  rowsPerPass: whole(1),
  record: recordField,
  onProgress: callback(),
});

/** What a set does. */
export interface IntervenedSet {
  readonly neurons: readonly Neuron[];
  /** One a neuron, along the axis. */
  readonly shifts: readonly number[];
  /** Change of the quantity that NeurGrad foretells: the sum of NeurGrad times shift. */
  readonly predicted: number;
  /** Change that came. NaN where the logits are not finite. */
  readonly reached: number;
  /** What of `reached` may be rounding. */
  readonly noise: number;
  /** The target's probability with the shifts in place. */
  readonly p: number;
}

/** Sets of one prompt. */
export interface Intervention {
  /** What ran. */
  readonly engine: PointEngine;
  /** Where the target is read. */
  readonly position: number;
  /** Where the neurons are. */
  readonly neuronPosition: number;
  readonly target: number;
  /** What `logit_diff` subtracts. */
  readonly other?: number;
  /** The target's probability, nothing shifted. */
  readonly p: number;
  readonly sets: readonly IntervenedSet[];
  readonly conventions: Omit<Conventions, 'site'>;
}

const EXPECTED = "a list of sets: [{ neurons: ['L3.N327', …], shift: 0.5 }]";
const setList = list<NeuronSet>(
  like<NeuronSet>((value) => {
    const { neurons, shift } = (value ?? {}) as Partial<NeuronSet>;
    const number = (x: unknown): boolean => typeof x === 'number';
    return Array.isArray(neurons) && (number(shift) || (Array.isArray(shift) && shift.every(number)));
  }, 'a set: { neurons, shift }'),
  EXPECTED,
);

/** Memory that the activations of one pass may take, and its rows at most. */
const PASS = { bytes: 128 * 2 ** 20, most: 64 } as const;

/** Neurons and their shifts along the axis. @throws UserError for a neuron that is there twice, and a shift that is none. */
function checkedSet(model: LanguageModel, { neurons: given, shift }: NeuronSet) {
  const neurons = neuronsOf('intervene', given, model);
  if (neurons.length === 0) throw new UserError('neuron', 'intervene: a set has no neurons');
  const shifts = typeof shift === 'number' ? neurons.map(() => shift) : shift;
  checkLengths('intervene', { neurons, shift: shifts });
  for (const each of shifts) checkShift(each);
  const seen = new Set<string>();
  for (const { layer, index, site } of neurons) {
    const key = `${layer}.${index}.${site}`;
    if (seen.has(key))
      throw new UserError(
        'neuron',
        `intervene: ${formatNeuron({ layer, index, site })} is in a set twice; shift it once, by the sum`,
      );
    seen.add(key);
  }
  return { neurons, shifts };
}

/**
 * Shifts each set's neurons together, in a run of its own.
 * @throws UserError for an option, neuron, target or position that there is not, a set that names a neuron twice, shifts that are not finite
 *   or too large, and where the plain prompt's logits are not finite.
 * @example
 * ```ts
 * import { encodePrompt, intervene, loadModel, neuronAt, neuronGradients, strongest } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const { neurgrad, width } = await neuronGradients(model, prompt, { of: 'logit' });
 * const neurons = strongest(neurgrad, 8).positive.map((flat) => neuronAt(flat, width, 'post'));
 * const { sets } = await intervene(model, prompt, [{ neurons, shift: -0.01 }], { of: 'logit' });
 * const [{ predicted, reached }] = sets as [(typeof sets)[0]];
 * console.log(predicted < 0, Math.abs(reached / predicted - 1) < 0.1); // → true true
 * model.device.destroy();
 * ```
 */
export async function intervene(
  model: LanguageModel,
  probe: Probe,
  sets: readonly NeuronSet[],
  options: InterveneOptions = {},
): Promise<Intervention> {
  checkOptions('intervene', interveneOptions, options);
  checkProbe('intervene', model, probe);
  checkValue('intervene', 'sets', setList, sets);
  const { of = 'prob', direction = 'outward', sign = '+', engine: asked = 'auto', record: given } = options;
  if (sets.length === 0) throw new UserError('neuron', 'intervene: no sets of neurons to shift');
  const checked = sets.map((set) => checkedSet(model, set));
  const at = neuronPosition(probe, options.neuronPosition ?? given?.neuronPosition);
  const engine = pointEngine(model, { probe, at }, asked === 'auto' ? null : asked);
  const other = options.other ?? given?.other;
  checkOther('intervene', of, other);
  for (const id of [options.target, other]) if (id !== undefined) checkTarget(id, model.sizes.vocabulary);
  checkRecord('intervene', model, probe, options);
  const hookOf = ({ layer, site }: Neuron): string => siteHook(layer, site);
  const names = [...new Set(checked.flatMap(({ neurons }) => neurons.map(hookOf)))];
  const differences = engine === 'differences';
  using own = given
    ? null
    : await openRecord(model, probe, { at, names, of, target: options.target, other, differences });
  const record = given ?? own!;
  const base = record.hooks(names, of);
  const { target } = record;
  const quantity = quantityOf(of);
  const naive =
    options.rowsPerPass ??
    rowsThatFit(model.description, { tokens: probe.ids.length, keys: probe.ids.length, ...PASS });
  using opened = recordedPrompts(record, names, of, engine);
  using source = await openPoints(model, engine, opened, { asked: options.rowsPerPass, naive });
  const found = await source.runSets(
    checked.map(({ neurons, shifts }) =>
      neurons.map((neuron, i) => {
        const activation = base.activation.get(hookOf(neuron))![neuron.index]!;
        const axis = direction === 'outward' ? outwardSign(activation) : 1;
        return { neuron, shift: axis * shifts[i]! };
      }),
    ),
    options.onProgress,
  );
  return {
    engine,
    position: probe.position,
    neuronPosition: at,
    target,
    ...(other === undefined ? {} : { other }),
    p: base.target.prob,
    sets: checked.map(({ neurons, shifts }, n): IntervenedSet => {
      const { changes, noise, values } = found[n]!;
      const predicted = neurons.reduce((sum, neuron, i) => {
        const [activation, gradient] = [base.activation, base.gradient].map(
          (read) => read.get(hookOf(neuron))![neuron.index]!,
        ) as [number, number];
        return sum + neurGrad(activation, gradient, { direction, sign }) * shifts[i]!;
      }, 0);
      return {
        neurons,
        shifts,
        predicted,
        reached: changes[quantity],
        noise: noise[quantity],
        p: values.prob,
      };
    }),
    conventions: { of, direction, sign, dtype: numbersOf(model) },
  };
}
