/**
 * Parameters, and the tensors of a checkpoint that they are: most are one, some are rows of one that they share (q, k and v in
 * one matrix; gate and up), some lie in it the other way round ([in, out], as Conv1D of GPT-2 has them).
 *
 * Loading takes parameters out of stored tensors (weights.ts, {@link cutPart}); saving and gradients under the names of
 * transformers put them together again ({@link joinStored}).
 */

import { ShapeError, UserError } from '../engine/errors.ts';
import { type Description, type Parameter, parametersOf, storedName } from './description.ts';

/** Rows, first and count, one after the other. */
export type Runs = readonly (readonly [first: number, count: number])[];

/** A parameter in a stored tensor. */
export interface StoredPart {
  readonly parameter: Parameter;
  /** Its rows there; of a tensor that is stored the other way round, columns. */
  readonly runs: Runs;
}

/** A tensor of a checkpoint, and the parameters that make it up. */
export interface StoredTensor {
  readonly name: string;
  /** As stored. */
  readonly shape: readonly number[];
  /** Stored as [in, out]. */
  readonly transposed: boolean;
  readonly parts: readonly StoredPart[];
}

/**
 * The tensors that a checkpoint of these parameters has, by name, in the order of their first parameters.
 * @throws UserError `family` where parts do not make up a tensor: a mistake in the family's description.
 */
export function storedTensors(parameters: readonly Parameter[]): Map<string, StoredTensor> {
  const sharing = new Map<string, Parameter[]>();
  for (const parameter of parameters) {
    const name = storedName(parameter.name);
    const others = sharing.get(name);
    if (others) others.push(parameter);
    else sharing.set(name, [parameter]);
  }
  return new Map([...sharing].map(([name, all]) => [name, storedTensor(name, all)]));
}

function storedTensor(name: string, parameters: readonly Parameter[]): StoredTensor {
  const { shape, stored } = parameters[0]!;
  if (!stored && parameters.length === 1) return alone(parameters[0]!);
  const rows = stored?.of ?? 0;
  const transposed = stored?.transposed ?? false;
  const fits = ({ shape: [count, ...row], stored: other }: Parameter): boolean =>
    row.join() === shape.slice(1).join() &&
    other?.of === rows &&
    (other.transposed ?? false) === transposed &&
    count === other.rows.reduce((sum, [, each]) => sum + each, 0);
  const runs = parameters.flatMap((each) => each.stored?.rows ?? []).sort(([a], [b]) => a - b);
  const end = runs.reduce((at, [first, count]) => (first === at ? at + count : Number.NaN), 0);
  if (!parameters.every(fits) || end !== rows || (transposed && shape.length !== 2))
    throw new UserError(
      'family',
      `${name}: its parts ${parameters.map((each) => each.name).join(', ')} do not make up ${rows} rows; correct "stored" in the family's description`,
    );
  return {
    name,
    shape: transposed ? [shape[1]!, rows] : [rows, ...shape.slice(1)],
    transposed,
    parts: parameters.map((parameter) => ({ parameter, runs: joined(parameter.stored!.rows) })),
  };
}

/** Runs with those that follow each other as one. */
function joined(runs: Runs): Runs {
  const found: [number, number][] = [];
  for (const [first, count] of runs) {
    const last = found.at(-1);
    if (last && last[0] + last[1] === first) last[1] += count;
    else found.push([first, count]);
  }
  return found;
}

/** Whether a parameter's numbers are those of its stored tensor, in order. */
const isWhole = ({ transposed, parts }: StoredTensor): boolean =>
  !transposed && parts.length === 1 && parts[0]!.runs.length === 1;

/** Visits runs of numbers that a stored tensor and its part have both: place in it, place in the part, how many. */
function forEachRun(
  { shape, transposed }: StoredTensor,
  { runs }: StoredPart,
  visit: (stored: number, part: number, count: number) => void,
): void {
  const width = shape.slice(1).reduce((a, b) => a * b, 1);
  if (!transposed) {
    let at = 0;
    for (const [first, count] of runs) {
      visit(first * width, at, count * width);
      at += count * width;
    }
    return;
  }
  const length = shape[0]!;
  let row = 0;
  for (const [first, count] of runs) {
    for (let k = 0; k < length; k++)
      for (let r = 0; r < count; r++) visit(k * width + first + r, (row + r) * length + k, 1);
    row += count;
  }
}

function copy(x: Float32Array, from: number, y: Float32Array, to: number, count: number): void {
  // A view for each number of a transposed matrix would take longer than its copy.
  if (count === 1) y[to] = x[from]!;
  else y.set(x.subarray(from, from + count), to);
}

/** A parameter's numbers, out of its stored tensor's. */
export function cutPart(stored: StoredTensor, part: StoredPart, values: Float32Array): Float32Array {
  if (isWhole(stored)) return values;
  const cut = new Float32Array(part.parameter.shape.reduce((a, b) => a * b, 1));
  forEachRun(stored, part, (from, to, count) => copy(values, from, cut, to, count));
  return cut;
}

/** Whatever has a shape and numbers, such as a tensor on the device. */
export interface Readable {
  readonly shape: readonly number[];
  /** Its numbers, row-major. */
  read(): Promise<Float32Array>;
}

/**
 * Tensors of parameters (values, gradients, an optimiser's moments) as a checkpoint has them: under the names and in the
 * shapes of Hugging Face transformers, parts put together, in a checkpoint's order. Parts whose others are not given keep
 * their own names (`c_attn.weight[q]`).
 * @param tensors by parameter.
 * @returns by stored name; read one at a time, they never lie in memory together.
 * @throws UserError for a name that is no parameter's; ShapeError for another shape than the parameter's.
 * @example
 * ```ts
 * import { loadModel } from 'neurgrad';
 * import { joinStored } from 'neurgrad/models';
 *
 * const { model } = await loadModel('examples/models/stories260k');
 * const stored = joinStored(model.description, model.parameters);
 * console.log(stored.get('model.norm.weight')!.shape); // → [ 64 ]
 * model.device.destroy();
 * ```
 */
export function joinStored(
  description: Description,
  tensors: ReadonlyMap<string, Readable>,
): Map<string, Readable> {
  const result = new Map<string, Readable>();
  for (const stored of storedOf(description, [...tensors.keys()])) {
    const given = stored.parts.map(({ parameter: { name, shape } }) => {
      const t = tensors.get(name)!;
      if (t.shape.join() !== shape.join())
        throw new ShapeError(
          'joinStored',
          `${name} is [${t.shape.join(', ')}], should be [${shape.join(', ')}]`,
        );
      return t;
    });
    const own = isWhole(stored) ? given[0]! : { shape: stored.shape, read: () => join(stored, given) };
    result.set(stored.name, own);
  }
  return result;
}

/**
 * The tensors that {@link joinStored} makes of those with these names, in a checkpoint's order.
 * @throws UserError for a name that is no parameter's
 */
export function storedOf(description: Description, names: readonly string[]): StoredTensor[] {
  const parameters = parametersOf(description);
  const given = new Set(names);
  const known = new Set(parameters.map(({ name }) => name));
  const other = names.find((name) => !known.has(name));
  if (other !== undefined)
    throw new UserError('tensor-extra', `joinStored: ${other} is no parameter of this model`);
  return [...storedTensors(parameters).values()].flatMap((stored) => {
    const parts = stored.parts.filter(({ parameter }) => given.has(parameter.name));
    return parts.length === stored.parts.length ? [stored] : parts.map(({ parameter }) => alone(parameter));
  });
}

/** A tensor that a parameter is by itself. */
export const alone = (parameter: Parameter): StoredTensor => ({
  name: parameter.name,
  shape: parameter.shape,
  transposed: false,
  parts: [{ parameter, runs: [[0, parameter.shape[0] ?? 1]] }],
});

async function join(stored: StoredTensor, given: readonly Readable[]): Promise<Float32Array> {
  const values = new Float32Array(stored.shape.reduce((a, b) => a * b, 1));
  for (const [i, part] of stored.parts.entries()) {
    const own = await given[i]!.read();
    forEachRun(stored, part, (to, from, count) => copy(own, from, values, to, count));
  }
  return values;
}
