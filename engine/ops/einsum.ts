/**
 * Einstein sums: axes by letters, products summed over the letters that the result lacks. Operands are taken in turn, the first two by one batched matrix
 * product, its result and the third, and so on; so the order in which they are written is the order of work.
 */

import { ShapeError, UserError } from '../errors.ts';
import { checkValue, text } from '../options.ts';
import { composed } from '../scope.ts';
import { checkTensor, checkTensorList, oneDevice, showShape, sizeOf, type Tensor } from '../tensor.ts';
import { mul } from './elementwise.ts';
import { matmul } from './matmul.ts';
import { sum } from './reduce.ts';
import { broadcastTo, permute, reshape, slice } from './shape.ts';

/** A tensor whose axes have names, one character each. */
interface Named {
  readonly t: Tensor;
  readonly axes: string;
}

/** Stands for the axes of an ellipsis, from the last: not letters. */
const ELLIPSIS = '0123456789';

/**
 * The sum that an equation like 'bij,bjk->bik' says: a letter for each axis of each operand and of the result; '...' for axes that stand before others, alike in
 * all (or of size 1). Without '->' the result has the letters that come once, in alphabetical order. A letter that one operand has twice is its diagonal.
 * @throws UserError for what is no such equation, ShapeError for shapes that it does not fit
 * @example
 * ```ts
 * import { einsum, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [a, b] = [tensor(device, [[1, 2], [3, 4]]), tensor(device, [10, 1])];
 * console.log([...(await einsum('ij,j->i', a, b).read())]); // → [ 12, 34 ]
 * device.destroy();
 * ```
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  checkValue('einsum', 'equation', text, equation);
  checkTensorList('einsum', 'operands', operands);
  for (const t of operands) checkTensor('einsum', 'an operand', t, ['f32']);
  oneDevice('einsum', ...operands);
  const { inputs, output } = parse(equation, operands);
  const sizes = sizesOf(equation, inputs, operands);
  const missing = [...output].find((letter) => !sizes.has(letter));
  if (missing !== undefined) throw wrong(equation, `no operand has the result's '${missing}'`);
  return composed(() => {
    const named = operands.map((t, i) => diagonal({ t, axes: inputs[i]! }));
    // What no other operand has, and the result lacks, is summed at once.
    let left = named[0]!;
    named.slice(1).forEach((right, i) => {
      const later =
        named
          .slice(i + 2)
          .map(({ axes }) => axes)
          .join('') + output;
      left = contract(left, right, later, sizes);
    });
    return arranged(without(left, output), output, sizes);
  });
}

const wrong = (equation: string, what: string): UserError =>
  new UserError('option', `einsum: '${equation}': ${what}`);

/** Letters of each operand and of the result; an ellipsis becomes digits, the last axis 0. */
function parse(equation: string, operands: readonly Tensor[]): { inputs: string[]; output: string } {
  const plain = equation.replaceAll(/\s/g, '');
  const form = /^((?:[a-zA-Z]|\.{3}|,)*)(?:->((?:[a-zA-Z]|\.{3})*))?$/.exec(plain);
  if (!form)
    throw wrong(
      equation,
      "expected letters, ',' and '...', and '->' before those of the result, such as 'ij,jk->ik'",
    );
  const terms = form[1]!.split(',');
  if (terms.length !== operands.length)
    throw wrong(
      equation,
      `${terms.length} operands, but ${operands.length} tensor${operands.length === 1 ? '' : 's'} given`,
    );
  let widest = 0;
  const inputs = terms.map((term, i) => {
    const letters = term.replace('...', '');
    const { rank } = operands[i]!;
    const more = rank - letters.length;
    if (letters.includes('.') || more < 0 || (more > 0 && letters === term))
      throw new ShapeError('einsum', `'${term}' of '${equation}' for ${showShape(operands[i]!)}`);
    if (letters === term) return term;
    widest = Math.max(widest, more);
    return term.replace('...', ellipsis(more));
  });
  const all = inputs.join('');
  const once = [...new Set(all)]
    .filter((c) => /[a-zA-Z]/.test(c) && all.indexOf(c) === all.lastIndexOf(c))
    .sort();
  const output =
    form[2] === undefined ? `${ellipsis(widest)}${once.join('')}` : form[2].replace('...', ellipsis(widest));
  if (output.includes('.') || new Set(output).size !== output.length)
    throw wrong(equation, 'the result has a letter twice');
  return { inputs, output };
}
const ellipsis = (count: number): string => [...ELLIPSIS.slice(0, count)].reverse().join('');

function sizesOf(
  equation: string,
  inputs: readonly string[],
  operands: readonly Tensor[],
): Map<string, number> {
  const sizes = new Map<string, number>();
  inputs.forEach((axes, i) => {
    [...axes].forEach((letter, at) => {
      const size = operands[i]!.shape[at]!;
      const known = sizes.get(letter);
      const repeats = ELLIPSIS.includes(letter);
      if (known !== undefined && known !== size && !(repeats && (known === 1 || size === 1)))
        throw new ShapeError(
          'einsum',
          `'${equation}': ${repeats ? "an axis of '...'" : letter} is ${known} and ${size}`,
        );
      sizes.set(letter, known === undefined || known === 1 ? size : known);
    });
  });
  return sizes;
}

/** Letters that come twice are once there, by a step over the diagonal. */
function diagonal({ t, axes }: Named): Named {
  const twice = [...axes].findIndex((letter, i) => axes.indexOf(letter, i + 1) > 0);
  if (twice < 0) return { t, axes };
  const again = axes.indexOf(axes[twice]!, twice + 1);
  const rest = [...axes].map((_, i) => i).filter((i) => i !== twice && i !== again);
  const n = t.shape[twice]!;
  const moved = permute(t, [...rest, twice, again]);
  const flat = reshape(moved, [...rest.map((i) => t.shape[i]!), n * n]);
  const picked = slice(flat, [], [], [...rest.map(() => 1), n + 1]);
  return diagonal({ t: picked, axes: [...rest.map((i) => axes[i]!), axes[twice]!].join('') });
}

/** Summed over the axes that are not among those wanted. */
function without({ t, axes }: Named, wanted: string): Named {
  const gone = [...axes].flatMap((letter, i) => (wanted.includes(letter) ? [] : [i]));
  if (gone.length === 0) return { t, axes };
  return { t: sum(t, gone), axes: [...axes].filter((letter) => wanted.includes(letter)).join('') };
}

/** The product of two, summed over what is not needed later. */
function contract(a: Named, b: Named, later: string, sizes: ReadonlyMap<string, number>): Named {
  const left = without(a, b.axes + later);
  const right = without(b, a.axes + later);
  const both = [...left.axes].filter((letter) => right.axes.includes(letter));
  const summed = both.filter((letter) => !later.includes(letter));
  const batch = both.filter((letter) => later.includes(letter));
  const ofLeft = [...left.axes].filter((letter) => !both.includes(letter));
  const ofRight = [...right.axes].filter((letter) => !both.includes(letter));
  const axes = [...batch, ...ofLeft, ...ofRight].join('');
  if (summed.length === 0) {
    const alike = arranged(left, axes, sizes, true);
    return { t: mul(alike, arranged(right, axes, sizes, true)), axes };
  }
  const shape = (letters: readonly string[]): number[] => letters.map((letter) => sizes.get(letter)!);
  const matrix = (from: Named, rows: readonly string[], columns: readonly string[]): Tensor =>
    reshape(arranged(from, [...batch, ...rows, ...columns].join(''), sizes), [
      sizeOf(shape(batch)),
      sizeOf(shape(rows)),
      sizeOf(shape(columns)),
    ]);
  const product = matmul(matrix(left, ofLeft, summed), matrix(right, summed, ofRight));
  return { t: reshape(product, shape([...axes])), axes };
}

/** With its axes in an order; those that it lacks, or that repeat, of size 1 (`thin`) or repeated. */
function arranged(
  { t, axes }: Named,
  order: string,
  sizes: ReadonlyMap<string, number>,
  thin = false,
): Tensor {
  const there = [...order].filter((letter) => axes.includes(letter));
  const moved = permute(
    t,
    there.map((letter) => axes.indexOf(letter)),
  );
  const shape = [...order].map((letter) => (axes.includes(letter) ? t.shape[axes.indexOf(letter)]! : 1));
  const full = [...order].map((letter) => sizes.get(letter)!);
  const shaped = reshape(moved, shape);
  return thin || full.join() === shape.join() ? shaped : broadcastTo(shaped, full);
}
