/**
 * Steering (the paper's outlook): choose neurons and shifts by NeurGrad so that a target's probability reaches a goal, apply
 * them together, see what came of it, and go on from there.
 *
 * Each neuron promises |NeurGrad| * s for a shift s along its outward axis, s within its linear range, negative where the
 * neuron works against the goal. The promise is of first order and of one neuron alone: after each round the gradient is
 * taken anew with the shifts in place, and the whole set of shifts is chosen again for what is left to go.
 */

import { UserError } from '../engine/errors.ts';
import {
  between,
  callback,
  checkOptions,
  like,
  one,
  optionsSchema,
  required,
  whole,
} from '../engine/options.ts';
import { checkFinite } from '../models/finite.ts';
import { type LanguageModel, type Patch, runModel, type Site } from '../models/model.ts';
import { type Asked, askedOf, productOf, type Target, targetField, tokensOf } from './answers.ts';
import { neurGrad } from './conventions.ts';
import { neuronGradients } from './gradients.ts';
import { LARGEST_SHIFT } from './grid.ts';
import {
  flatIndex,
  formatNeuron,
  type Neuron,
  type NeuronOrName,
  neuronAt,
  neuronList,
  neuronsOf,
  resolveSite,
  SITES,
  siteHook,
} from './neuron.ts';
import { checkProbe, neuronPosition, type Probe, probeRows, targetValues } from './predict.ts';
import { checkRecord, type PromptRecord, recordField } from './record.ts';

/** Where the probability is to go, and how far neurons may be shifted for it. */
export interface SteerOptions {
  /** Token id, or of causal models those of an answer of several tokens, whose probabilities are multiplied. */
  readonly target: Target;
  /** Probability to reach, above 0 and below 1. */
  readonly to: number;
  /** Those that may be shifted, or their names, at the site; default all. */
  readonly neurons?: readonly NeuronOrName[];
  /** Most neurons to shift; default 32. */
  readonly maxNeurons?: number;
  /** Largest shift of one neuron: the range in which curves are straight; default 2, the paper's. */
  readonly range?: number;
  /** Rounds of choosing and looking; default 10. */
  readonly rounds?: number;
  /** How near is near enough; default 0.01. */
  readonly tolerance?: number;
  readonly site?: Site | 'paper';
  /** Token whose neurons are shifted; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** The prompt's run for this target, where it is there already. */
  readonly record?: PromptRecord | undefined;
  /** Told after each round. */
  readonly onRound?: (round: SteerRound) => void;
}

/** {@link SteerOptions} */
export const steerOptions = optionsSchema<SteerOptions>({
  target: required(targetField),
  to: required(like((p) => typeof p === 'number' && p > 0 && p < 1, 'a probability above 0 and below 1')),
  neurons: neuronList,
  maxNeurons: whole(1),
  range: between(0, LARGEST_SHIFT, `a number above 0 and at most ${LARGEST_SHIFT}`, false),
  rounds: whole(1),
  tolerance: between(0, 1),
  site: one(SITES),
  neuronPosition: whole(),
  record: recordField,
  onRound: callback(),
});

/** A neuron and its shift along its outward axis. */
export interface SteeredNeuron extends Neuron {
  readonly shift: number;
  readonly activation: number;
  readonly neurgrad: number;
}

/** One round of choosing shifts and looking what they did. */
export interface SteerRound {
  /** p that first-order estimates foretold, and what came. */
  readonly predicted: number;
  readonly reached: number;
  readonly neurons: number;
}

/** The shifts found, and the probabilities before and with them. */
export interface Steering {
  readonly target: number;
  /** Of an answer of several tokens all of them; `target` is the first. */
  readonly answer?: readonly number[];
  /** Where the neurons are. */
  readonly neuronPosition: number;
  readonly goal: number;
  /** p without any shift. */
  readonly before: number;
  readonly reached: number;
  /** Whether p came within the tolerance of the goal. */
  readonly success: boolean;
  readonly neurons: readonly SteeredNeuron[];
  readonly rounds: readonly SteerRound[];
}

const logit = (p: number): number => Math.log(p) - Math.log1p(-p);

/**
 * @throws UserError for an option or value that there is not, such as a goal outside (0, 1).
 * @example
 * ```ts
 * import { encodePrompt, loadModel, resolveTarget, steer } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const target = resolveTarget(model, tokenizer, prompt, 'paris');
 * const { before, reached, success } = await steer(model, prompt, { target, to: 0.5 });
 * console.log(before > 0.9, Math.abs(reached - 0.5) < 0.01, success); // → true true true
 * model.device.destroy();
 * ```
 */
export async function steer(model: LanguageModel, probe: Probe, options: SteerOptions): Promise<Steering> {
  checkOptions('steer', steerOptions, options);
  checkProbe('steer', model, probe);
  const { target, to, maxNeurons = 32, range = 2, rounds = 10, tolerance = 0.01 } = options;
  const { record } = options;
  // Not the record's: one of another token is refused unless that token is asked for.
  const at = neuronPosition(probe, options.neuronPosition);
  const asked = askedOf('steer', model, probe, { at, of: 'prob', target, other: undefined });
  const site = resolveSite(options.site ?? 'paper', model);
  checkRecord('steer', model, probe, { record, target, neuronPosition: at });
  const plain = await neuronGradients(model, probe, { target, site, of: 'prob', neuronPosition: at, record });
  const before = plain.p;
  const allowed = options.neurons && placesOf(model, options.neurons, site);
  const order = Array.from(plain.neurgrad.keys())
    .filter((flat) => allowed?.has(flat) ?? true)
    .sort((a, b) => Math.abs(plain.neurgrad[b]!) - Math.abs(plain.neurgrad[a]!) || a - b)
    .slice(0, maxNeurons);
  const neurons = order.map((flat) => ({
    ...neuronAt(flat, plain.width, site),
    activation: plain.activation[flat]!,
    neurgrad: plain.neurgrad[flat]!,
  }));
  let shifts = neurons.map(() => 0);
  let reached = before;
  let slopes = neurons.map(({ neurgrad }) => neurgrad);
  let best = { shifts, reached };
  const told: SteerRound[] = [];
  for (let round = 0; round < rounds && Math.abs(reached - to) > tolerance; round++) {
    // Log-odds change more evenly with a shift than p does near 0 and 1, and are as good a goal.
    const odds = reached * (1 - reached);
    if (odds === 0 || slopes.every((slope) => slope === 0)) break;
    const chosen = chooseShifts(
      shifts,
      slopes.map((slope) => slope / odds),
      logit(to) - logit(reached),
      range,
    );
    const foretold = chosen.reduce(
      (sum, shift, i) => sum + ((shift - shifts[i]!) * slopes[i]!) / odds,
      logit(reached),
    );
    if (chosen.every((shift, i) => shift === shifts[i])) break;
    shifts = chosen;
    const seen = await look(model, asked, neurons, shifts);
    reached = seen.p;
    slopes = seen.slopes;
    told.push({
      predicted: 1 / (1 + Math.exp(-foretold)),
      reached,
      neurons: shifts.filter((shift) => shift !== 0).length,
    });
    options.onRound?.(told.at(-1)!);
    if (Math.abs(reached - to) < Math.abs(best.reached - to)) best = { shifts, reached };
  }
  return {
    target: plain.target,
    ...tokensOf(asked.parts),
    neuronPosition: at,
    goal: to,
    before,
    reached: best.reached,
    success: Math.abs(best.reached - to) <= tolerance,
    neurons: neurons
      .map((neuron, i) => ({ ...neuron, shift: best.shifts[i]! }))
      .filter(({ shift }) => shift !== 0),
    rounds: told,
  };
}

/** @throws UserError for a neuron that there is not, or at another site. */
function placesOf(model: LanguageModel, given: readonly NeuronOrName[], site: Site): ReadonlySet<number> {
  const neurons = neuronsOf('steer', given, model);
  const other = neurons.find((neuron) => neuron.site !== site);
  if (other)
    throw new UserError(
      'neuron',
      `steer: ${formatNeuron(other)} is not of the site ${site}; name the site that all are shifted at in site`,
    );
  return new Set(neurons.map((neuron) => flatIndex(neuron, model.sizes.width)));
}

/**
 * Shifts that together promise `change` more: steepest neurons first, each as far as its range allows.
 */
export function chooseShifts(
  now: readonly number[],
  slopes: readonly number[],
  change: number,
  range: number,
): number[] {
  const shifts = [...now];
  const order = [...slopes.keys()].sort((a, b) => Math.abs(slopes[b]!) - Math.abs(slopes[a]!) || a - b);
  let left = change;
  for (const i of order) {
    const slope = slopes[i]!;
    if (left === 0 || slope === 0) break;
    const wanted = shifts[i]! + left / slope;
    const given = Math.max(-range, Math.min(range, wanted));
    left -= (given - shifts[i]!) * slope;
    if (given === wanted) left = 0;
    shifts[i] = given;
  }
  return shifts;
}

/** p with the shifts in place, and its derivative along each neuron's outward axis there. */
async function look(
  model: LanguageModel,
  { parts, at: position }: Asked,
  neurons: readonly (Neuron & { readonly activation: number })[],
  shifts: readonly number[],
): Promise<{ p: number; slopes: number[] }> {
  const patch = neurons.map(
    (neuron, i): Patch => ({
      name: siteHook(neuron.layer, neuron.site),
      position,
      neuron: neuron.index,
      op: 'add',
      value: shifts[i]!,
      along: 'outward',
    }),
  );
  const at = [...new Set(patch.map(({ name }) => name))];
  const { width } = model.sizes;
  // p of an answer is the product of its tokens'; so its derivative is the sum of theirs to log p, times it.
  const several = parts.length > 1;
  const read: { values: ReturnType<typeof targetValues>; gradients: number[] }[] = [];
  for (const { probe, target } of parts) {
    using run = await runModel(model, probeRows(probe), {
      patch,
      grad: { at, of: { of: several ? 'logprob' : 'prob', target: [target!], position: [probe.position] } },
      logits: [probe.position],
    });
    const [logits, ...found] = await Promise.all([
      run.logits.read(),
      ...at.map((name) => run.gradients.get(name)!.read()),
    ]);
    for (const [i, name] of at.entries()) checkFinite(found[i]!, `the gradients at ${name}`, 'value');
    const gradients = neurons.map(
      ({ layer, site, index }) => found[at.indexOf(siteHook(layer, site))]![position * width + index]!,
    );
    read.push({ values: targetValues(logits, target!), gradients });
  }
  const { prob } = productOf(read.map(({ values }) => values));
  return {
    p: prob,
    slopes: neurons.map(({ activation }, i) => {
      const sum = read.reduce((total, { gradients }) => total + gradients[i]!, 0);
      // The axis is the sign of the original activation, also past zero.
      return neurGrad(activation, several ? prob * sum : sum, { direction: 'outward', sign: '+' });
    }),
  };
}
