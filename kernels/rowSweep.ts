/**
 * A row that one workgroup shares, swept several times.
 *
 * Where it fits, each lane keeps its elements in registers, so that memory is read once however many sweeps follow; a longer
 * row is read again in each. Registers are variables with names: an array indexed by a loop would lie in memory again.
 * Rows of whole vectors are read, computed and written four numbers at a time.
 */

import { powerOfTwo, variant, word } from './variant.ts';

/** How a workgroup shares a row. */
export interface RowShare {
  readonly lanes: number;
  /** Numbers in an element; they divide the row. */
  readonly vector: 1 | 4;
  /** Elements that a lane keeps, one of {@link HELD}; 0 where every sweep reads memory. */
  readonly held: number;
}

/** Elements a lane may keep: few counts, so that few kernels are compiled, and none twice what is needed. */
export const HELD: readonly number[] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

export const ROW_SHARE = variant<RowShare>({
  lanes: powerOfTwo,
  vector: word([1, 4]),
  held: word([0, ...HELD]),
});

/** WGSL of an element's index and of the operands there. */
type Values<Name extends string> = Readonly<Record<Name | 'i', string>>;

/** WGSL over the row `row` of `p.length` numbers. */
export interface RowSweep<Name extends string> {
  /** Distinguishes kernels by name. */
  readonly name: string;
  /** Types of an element. */
  readonly type: { readonly f32: 'f32' | 'vec4f'; readonly u32: 'u32' | 'vec4u' };
  /** Declares `count`, the elements of a row, and `base`, those of the rows before it; reads what is held. */
  readonly read: string;
  /**
   * One sweep, in which a lane meets its elements in ascending order. What is held are variables, which a sweep may change
   * for those that follow.
   */
  readonly each: (step: (values: Values<Name>) => string) => string;
  /** Sum and maximum of the numbers in an element. */
  readonly sum: (element: string) => string;
  readonly max: (element: string) => string;
  /** Places in the row of the numbers in element `i`. */
  readonly places: (i: string) => string;
}

/**
 * `operands` give element `i` of each. A kernel with elements held takes rows that fit, and do not fit the next smaller count
 * of {@link HELD}. `end` is WGSL of how many elements are swept; by default the whole row, and always where any are held.
 */
export function sweepRow<Name extends string>(
  { lanes, vector, held }: RowShare,
  operands: Readonly<Record<Name, (i: string) => string>>,
  end?: string,
): RowSweep<Name> {
  const names = Object.keys(operands) as Name[];
  const values = (i: string, of: (name: Name) => string) =>
    Object.fromEntries([['i', i], ...names.map((name) => [name, of(name)])]) as Values<Name>;
  const filled = HELD[HELD.indexOf(held) - 1] ?? 0;
  const guarded = (n: number, i: string, line: string): string =>
    n < filled ? line : `if (${i} < count) { ${line} }`;
  const lines = (line: (n: number, i: string) => string): string =>
    Array.from({ length: held }, (_, n) => line(n, n === 0 ? 'lane' : `(lane + ${n * lanes}u)`)).join('\n  ');
  const four = vector === 4;
  const type = four ? ({ f32: 'vec4f', u32: 'vec4u' } as const) : ({ f32: 'f32', u32: 'u32' } as const);
  const read = lines((n, i) =>
    names
      .map(
        (name) =>
          `var ${name}_${n} = ${type.f32}(); ${guarded(n, i, `${name}_${n} = ${operands[name](i)};`)}`,
      )
      .join(' '),
  );
  return {
    name: `${lanes}x${vector}${held > 0 ? `.held${held}` : ''}`,
    type,
    read: end
      ? `  let count = ${end};\n  let base = row * (p.length / ${vector}u);`
      : `  let count = p.length / ${vector}u;\n  let base = row * count;\n  ${read}`,
    each: (step) =>
      held > 0
        ? lines((n, i) => guarded(n, i, step(values(i, (name) => `${name}_${n}`))))
        : `for (var i = lane; i < count; i += ${lanes}u) { ${step(values('i', (name) => operands[name]('i')))} }`,
    sum: (element) => (four ? `dot(${element}, vec4f(1.0))` : element),
    max: (element) =>
      four ? `max(max(${element}.x, ${element}.y), max(${element}.z, ${element}.w))` : element,
    places: (i) => (four ? `(4u * ${i} + vec4u(0u, 1u, 2u, 3u))` : i),
  };
}
