/** Prompts as the probers of the registry see them: the gradients of some neurons for every candidate, and their activations. */

import { UserError } from '../engine/errors.ts';
import { show } from '../engine/options.ts';
import { below, checkNumbers, FINITE } from '../neurgrad/lists.ts';

/** Prompts to be answered. */
export interface Questions {
  readonly candidates: number;
  readonly neurons: number;
  /** NeurGrad [prompts, candidates, neurons]. */
  readonly gradients: Float32Array;
  /** [prompts, neurons] */
  readonly activations: Float32Array;
}

/** Prompts to learn from, or to be tested on. */
export interface Examples extends Questions {
  /** The right candidate of each prompt. */
  readonly gold: ArrayLike<number>;
}

const EXPECTED = 'examples: { candidates, neurons, gradients, activations, gold }';

const count = (value: unknown, least: number): boolean =>
  Number.isSafeInteger(value) && Number(value) >= least;

/** Prompts that the tables hold. @throws UserError where they do not fit together, or hold what is no finite number. */
export function checkQuestions(door: string, name: string, questions: Questions): number {
  const refused = (what: string): UserError => new UserError('option', `${door}: ${name} ${what}`);
  const { candidates, neurons, gradients, activations } = questions ?? ({} as Questions);
  if (!(gradients instanceof Float32Array && activations instanceof Float32Array))
    throw refused(`is ${show(questions)}, expected ${EXPECTED}`);
  if (!count(candidates, 2) || !count(neurons, 1))
    throw refused(`is of ${show(candidates)} candidates and ${show(neurons)} neurons; two and one at least`);
  const prompts = activations.length / neurons;
  if (!Number.isInteger(prompts) || gradients.length !== prompts * candidates * neurons)
    throw refused(
      `has ${gradients.length} gradients and ${activations.length} activations, which are not those of ${candidates} candidates and ${neurons} neurons`,
    );
  for (const table of [gradients, activations]) {
    const at = table.findIndex((value) => !Number.isFinite(value));
    if (at >= 0) throw refused(`holds ${table[at]} of neuron ${at % neurons}, expected a finite number`);
  }
  return prompts;
}

/** The same of examples, which have one right candidate a prompt. */
export function checkExamples(door: string, name: string, examples: Examples): number {
  const prompts = checkQuestions(door, name, examples);
  const { candidates, gold } = examples;
  checkNumbers(door, `${name}.gold`, gold, prompts > 0 ? below(candidates) : FINITE);
  if (gold.length !== prompts)
    throw new UserError('option', `${door}: ${name} has ${prompts} prompts but ${gold.length} labels`);
  return prompts;
}

/**
 * The same prompts with some of their neurons, in the order given.
 * @param places neurons' places among those of the examples.
 * @throws UserError for a place that there is not.
 * @example
 * ```ts
 * import { chooseNeurons } from 'neurgrad/probing';
 *
 * const [gradients, activations] = [Float32Array.of(1, 2, 3, 4, 5, 6), Float32Array.of(7, 8, 9)];
 * const examples = { candidates: 2, neurons: 3, gradients, activations, gold: [0] };
 * console.log([...chooseNeurons(examples, [2, 0]).gradients]); // → [ 3, 1, 6, 4 ]
 * ```
 */
export function chooseNeurons(examples: Examples, places: ArrayLike<number>): Examples {
  checkExamples('chooseNeurons', 'examples', examples);
  const { candidates, neurons, gold } = examples;
  checkNumbers('chooseNeurons', 'places', places, below(neurons), 1);
  const chosen = (table: Float32Array): Float32Array => {
    const rows = table.length / neurons;
    const some = new Float32Array(rows * places.length);
    for (let row = 0, at = 0; row < rows; row++)
      for (let i = 0; i < places.length; i++) some[at++] = table[row * neurons + places[i]!]!;
    return some;
  };
  return {
    candidates,
    neurons: places.length,
    gradients: chosen(examples.gradients),
    activations: chosen(examples.activations),
    gold,
  };
}

/** The gradients of one prompt, [candidates, neurons]. */
export const gradientsOf = ({ gradients, candidates, neurons }: Questions, prompt: number): Float32Array =>
  gradients.subarray(prompt * candidates * neurons, (prompt + 1) * candidates * neurons);

/** The activations of one prompt, [neurons]. */
export const activationsOf = ({ activations, neurons }: Questions, prompt: number): Float32Array =>
  activations.subarray(prompt * neurons, (prompt + 1) * neurons);
