/**
 * What a patch changes and to what, worked out from its words: which rows, tokens and numbers, and the values that come there.
 *
 * A few numbers are a list of elements, many of which ride one dispatch; whole tokens, heads and values of other runs are
 * blocks. All that can be wrong is looked at here, before any GPU work.
 */

import { UserError } from '../engine/errors.ts';
import {
  concat,
  type Device,
  type ElementPatch,
  full,
  gatherRows,
  mean,
  type Numbers,
  patchElements,
  patchValues,
  reshape,
  Tensor,
  tensor,
} from '../engine/index.ts';
import type { HookPoint } from './description.ts';
import type { Captured, Patch } from './model.ts';

/** Where in its text the first token of a value stands, and how the text goes on. */
export interface Place {
  /** Position of the first token of each row. */
  readonly first: readonly number[];
  /** Tokens that negative positions count back from; default those that there are. */
  readonly end?: number;
  /** What edits are told instead of `first`, where a row's only token counts as position 0. */
  readonly told?: readonly number[];
  /** Keys of a pattern, where not all tokens up to the last of these. */
  readonly keys?: number;
  /** Of a text that grows: its first new token. Positions outside the tokens at hand are passed over then. */
  readonly newFrom?: number | undefined;
}

/** One change of a value. */
export type Change = (x: Tensor, original: Tensor) => Tensor;

/** Elements up to which a change by a number is a list of them. */
const FEW = 4096;

/** Canonical name of a hook name or alias. */
type Resolve = (name: string) => string;

/**
 * The changes of patches of one name, in their order.
 * @throws UserError for what lies outside the input or does not go together.
 */
export function changesOf(
  patches: readonly Patch[],
  point: HookPoint,
  rows: number,
  length: number,
  place: Place,
  resolve: Resolve,
): Change[] {
  const changes: Change[] = [];
  const first = place.first[0] ?? 0;
  const keys = place.keys ?? first + length;
  const at = flat(point, { length, keys }, keys);
  let few: ElementPatch[] = [];
  let blocks: Block[] = [];
  const flush = (): void => {
    const elements = few;
    few = [];
    if (elements.length > 0) changes.push((x, original) => patchElements(x, elements, original));
    const together = blocks;
    blocks = [];
    if (together.length > 0) changes.push((x, original) => patchBlocks(x, original, together));
  };
  for (const patch of patches) {
    const selection = select(patch, point, rows, length, place, keys);
    const values = valuesOf(patch, point, selection, rows, { first, keys }, resolve);
    if (selection.count === 0) continue;
    const { op, along } = patch;
    const mode = op === 'add' ? (along === 'outward' ? 'addOutward' : op) : op === 'scale' ? op : 'set';
    const { rows: ofRows, columns, numbers } = selection;
    const where = indices(selection, (r, t, n) => at(ofRows[r]!, columns[t]!, numbers[n]!));
    if (typeof values === 'number' && selection.count <= FEW) {
      if (blocks.length > 0) flush();
      for (const each of where) few.push({ at: each, mode, value: values });
      continue;
    }
    const apart = blocks.every((block) => block.mode === mode && !block.rows.some((r) => ofRows.includes(r)));
    if (few.length > 0 || !apart) flush();
    blocks.push({ mode, rows: ofRows, where, values });
  }
  flush();
  return changes;
}

/** A patch whose values come as a tensor. */
interface Block {
  readonly mode: ElementPatch['mode'];
  readonly rows: readonly number[];
  readonly where: Uint32Array;
  readonly values: Values;
}

/** Blocks of different rows in one operation. */
function patchBlocks(x: Tensor, original: Tensor, blocks: readonly Block[]): Tensor {
  const { device } = x;
  const values = blocks.map(({ values, where }) =>
    typeof values === 'number' ? full(device, [where.length], values) : values(device),
  );
  const where = new Uint32Array(blocks.reduce((sum, block) => sum + block.where.length, 0));
  let begin = 0;
  for (const block of blocks) {
    where.set(block.where, begin);
    begin += block.where.length;
  }
  const given = values.length === 1 ? values[0]! : concat(values, 0);
  return patchValues(x, where, blocks[0]!.mode, given, original);
}

interface Selection {
  readonly rows: readonly number[];
  /** Tokens at hand: their columns, and the place of each in the list of positions that the patch names. */
  readonly columns: readonly number[];
  readonly ordinals: readonly number[];
  /** Tokens that the patch names, were they all at hand. */
  readonly named: number;
  readonly numbers: readonly number[];
  readonly count: number;
}

const listOf = (one: number | readonly number[]): readonly number[] =>
  typeof one === 'number' ? [one] : one;
const all = (size: number): number[] => Array.from({ length: size }, (_, i) => i);

function failure(point: HookPoint, what: string): never {
  throw new UserError('patch', `patch of ${point.name}: ${what}`);
}

function within(point: HookPoint, what: string, n: number, size: number): number {
  return Number.isInteger(n) && n >= 0 && n < size
    ? n
    : failure(point, `${what} ${n} is outside 0..${size - 1}`);
}

function distinct(point: HookPoint, what: string, list: readonly number[]): readonly number[] {
  return new Set(list).size === list.length
    ? list
    : failure(point, `${what} [${list.join(', ')}] names one twice`);
}

/** Whether a patch changes numbers by one number of its own. */
const byNumber = ({ op, value }: Patch): boolean =>
  typeof value === 'number' && (op === 'add' || op === 'set' || op === 'scale');

function select(
  patch: Patch,
  point: HookPoint,
  rows: number,
  length: number,
  place: Place,
  keys: number,
): Selection {
  const which = patch.row ?? (byNumber(patch) ? 0 : 'all');
  const ofRows =
    which === 'all'
      ? all(rows)
      : distinct(
          point,
          'row',
          listOf(which).map((row) => within(point, 'row', row, rows)),
        );
  const first = place.first[0] ?? 0;
  const behind = first + length;
  const named = positionsOf(patch, point, first, behind, place);
  const here = named.flatMap((p, ordinal) => (p >= first && p < behind ? [ordinal] : []));
  const numbers = numbersOf(patch, point, keys);
  return {
    rows: ofRows,
    columns: here.map((ordinal) => named[ordinal]! - first),
    ordinals: here,
    named: named.length,
    numbers,
    count: ofRows.length * here.length * numbers.length,
  };
}

function positionsOf(
  { position }: Patch,
  point: HookPoint,
  first: number,
  behind: number,
  { end = behind, newFrom }: Place,
): readonly number[] {
  if (position === 'all') return all(behind);
  if (position === 'every new token') {
    if (newFrom === undefined)
      failure(point, "'every new token' is for generate: no token of this run is new");
    return all(behind).slice(newFrom);
  }
  const positions = listOf(position).map((p) => {
    const at = p < 0 ? p + end : p;
    if (newFrom !== undefined && Number.isInteger(at) && at >= 0) return at;
    if (at >= 0 && at < first) failure(point, `position ${p} is in the prefix, which has been computed`);
    return Number.isInteger(at) && at >= 0 && at < behind
      ? at
      : failure(point, `position ${p} is outside 0..${behind - 1}`);
  });
  return distinct(point, 'position', positions);
}

/** Numbers of one token, or of one query. */
function numbersOf(patch: Patch, point: HookPoint, keys: number): readonly number[] {
  const { width, heads, parts = heads } = point;
  const size = heads === undefined ? width : heads * keys;
  const inside = (what: string, size: number): readonly number[] =>
    patch.neuron === undefined || patch.neuron === 'all'
      ? all(size)
      : distinct(
          point,
          'neuron',
          listOf(patch.neuron).map((n) => within(point, what, n, size)),
        );
  if (patch.head === undefined) return inside('neuron', size);
  if (parts === undefined) return failure(point, 'it has no heads');
  const each = size / parts;
  const numbers = inside('neuron of a head', each);
  return distinct(
    point,
    'head',
    listOf(patch.head).map((head) => within(point, 'head', head, parts)),
  ).flatMap((head) => numbers.map((n) => head * each + n));
}

/** A value's shape, as far as a number is found by it. */
interface Layout {
  readonly length: number;
  /** Of a pattern. */
  readonly keys: number;
}

/** The flat index of a number of a token in a value. @param counted keys by which numbers of a pattern are counted. */
function flat(
  { width, heads }: HookPoint,
  { length, keys }: Layout,
  counted: number,
): (row: number, position: number, number: number) => number {
  if (heads === undefined) return (row, position, n) => (row * length + position) * width + n;
  // [B, heads, Q, K]: a number is a head and a key, a position the query.
  return (row, position, n) =>
    ((row * heads + Math.floor(n / counted)) * length + position) * keys + (n % counted);
}

/** Indices by rows, tokens and numbers of a selection. */
function indices(
  { rows, columns, numbers, count }: Selection,
  of: (row: number, column: number, number: number) => number,
): Uint32Array {
  const found = new Uint32Array(count);
  let i = 0;
  for (let r = 0; r < rows.length; r++)
    for (let t = 0; t < columns.length; t++)
      for (let n = 0; n < numbers.length; n++) found[i++] = of(r, t, n);
  return found;
}

type Values = number | ((device: Device) => Tensor);

/** What comes into a selection: a number, or as many as it has. */
function valuesOf(
  patch: Patch,
  point: HookPoint,
  selection: Selection,
  rows: number,
  { first, keys }: { readonly first: number; readonly keys: number },
  resolve: Resolve,
): Values {
  const { op, value, from, reference, along } = patch;
  const fail = (what: string): never => failure(point, what);
  if (along !== undefined && along !== 'plain' && op !== 'add') fail(`"${along}" goes with add only`);
  const refers = op === 'mean' || op === 'resample';
  if (refers && reference === undefined) fail(`${op} needs a reference: a run that captured it, or a tensor`);
  if (!refers && reference !== undefined) fail(`a reference goes with mean and resample, not with ${op}`);
  if (op !== 'mean' && patch.over !== undefined) fail('over goes with mean only');
  if ((refers || op === 'zero') && (value !== undefined || from !== undefined)) fail(`${op} takes no value`);
  if (op === 'zero') return 0;

  /** The same numbers of another value of this hook point, of one row for each that is patched. */
  const taken = (source: Tensor, picked: readonly number[]): ((device: Device) => Tensor) => {
    const layout =
      point.heads === undefined
        ? { length: source.dim(1), keys: 0 }
        : { length: source.dim(2), keys: source.dim(3) };
    const last = Math.max(-1, ...selection.columns) + first;
    if (last >= layout.length || (point.heads !== undefined && layout.keys !== keys))
      fail(`the other value has ${layout.length} tokens; the same are needed`);
    const at = flat(point, layout, keys);
    const { columns, numbers } = selection;
    const which = indices(selection, (r, t, n) => at(picked[r]!, columns[t]! + first, numbers[n]!));
    return () => gathered(source, which);
  };
  const checked = (source: Tensor): Tensor => {
    const width = point.heads ?? point.width;
    const own = point.heads === undefined ? source.size / (source.dim(0) * source.dim(1)) : source.dim(1);
    if (source.rank < 3 || own !== width)
      fail(`a value of shape [${source.shape.join(', ')}] is none of ${point.name}`);
    return source;
  };

  if (refers) {
    const source = checked(
      reference instanceof Tensor ? reference : captured(reference as Captured, point, resolve),
    );
    if (op === 'resample') {
      const { random } = patch;
      if (!random) return fail('resample needs random, a source of numbers in [0, 1)');
      return taken(
        source,
        selection.rows.map(() => Math.min(source.dim(0) - 1, Math.floor(random() * source.dim(0)))),
      );
    }
    if (patch.over === 'all') {
      if (point.heads !== undefined) return fail("a pattern has no mean over 'all' positions");
      const which = indices(selection, (_, __, n) => selection.numbers[n]!);
      return () => gathered(mean(source.detach(), [0, 1]), which);
    }
    const one = selection.rows.map(() => 0);
    const pick = taken(source, one);
    return (device) =>
      source.dim(0) === 1 ? pick(device) : taken(mean(source.detach(), 0, true), one)(device);
  }
  if ((value === undefined) === (from === undefined)) fail('give either value or from, another run');
  if (from !== undefined) {
    const source = checked(captured(from, point, resolve));
    const given = source.dim(0);
    if (given !== 1 && given !== rows) fail(`from has ${given} rows, needs 1 or ${rows}`);
    return taken(
      source,
      selection.rows.map((row) => (given === 1 ? 0 : row)),
    );
  }
  if (typeof value === 'number')
    return Number.isFinite(value) ? value : fail(`value ${value} is not a finite number`);
  return spread(value as Numbers | Tensor, point, selection);
}

/** Numbers or a tensor as they lie, of all that is selected, of one row of it, or of one token. */
function spread(value: Numbers | Tensor, point: HookPoint, selection: Selection): Values {
  const given = value instanceof Tensor ? value : flattened(value, point);
  const size = given instanceof Tensor ? given.size : given.length;
  const { rows, named, numbers, ordinals } = selection;
  const n = numbers.length;
  const one = size === 1;
  const perRow = size === rows.length * named * n && rows.length > 1;
  const perToken = perRow || size === named * n;
  if (!one && !perToken && size !== n)
    failure(
      point,
      `${size} numbers for ${rows.length} rows x ${named} positions x ${n} numbers; give ${n} of a token, ${named * n} of a row or ${rows.length * named * n}`,
    );
  const which = indices(selection, (r, t, i) =>
    one ? 0 : ((perRow ? r * named : 0) + (perToken ? ordinals[t]! : 0)) * n + i,
  );
  return (device) => gathered(given instanceof Tensor ? given : tensor(device, given), which);
}

function flattened(value: Numbers, point: HookPoint): Float32Array {
  const numbers: number[] = [];
  const walk = (level: unknown): void => {
    if (typeof level === 'number') {
      if (!Number.isFinite(level)) failure(point, `value ${level} is not a finite number`);
      numbers.push(level);
    } else if (level !== null && typeof level === 'object' && 'length' in level)
      for (const each of Array.from(level as ArrayLike<unknown>)) walk(each);
    else failure(point, 'a value is a number, lists of numbers or a tensor');
  };
  walk(value);
  return Float32Array.from(numbers);
}

/** Numbers of a tensor by their flat indices. */
const gathered = (source: Tensor, which: Uint32Array): Tensor =>
  reshape(gatherRows(reshape(source, [source.size, 1]), which), [which.length]);

/** The value that a run captured under a name or an alias of it. */
function captured(from: Captured, point: HookPoint, resolve: Resolve): Tensor {
  for (const [asked, value] of from.captures) if (resolve(asked) === point.name) return value;
  return failure(point, 'the other run did not capture it');
}
