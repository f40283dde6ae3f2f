/**
 * Scopes free what was made inside them, except what they return or `keep`.
 *
 * JavaScript has no destructors and GPU memory is not its garbage collector's business; a scope is the one idiom users
 * need. Scopes nest; what leaves an inner scope belongs to the outer one. They are synchronous, as all operations are.
 */

import { callback, checkValue } from './options.ts';

/** Something with device memory that belongs to the scope it was made in. */
export interface Owned {
  /** The scope that will free it, or null where the user will. */
  owner: Scope | null;
  /** `by` the scope where that has ended. */
  dispose(by?: 'scope'): void;
}

/** A tape's node: it outlives the scope it was made in, since tensors that leave may still need it. */
interface Surviving extends Owned {
  readonly survives: true;
  /** In no scope any more: it goes as soon as nothing refers to its output. */
  settle(): void;
}

class Scope {
  readonly owned = new Set<Owned>();
  readonly outer: Scope | null;
  constructor(outer: Scope | null) {
    this.outer = outer;
  }
}

export type { Scope };

let current: Scope | null = null;

/** The innermost open scope. */
export const innermost = (): Scope | null => current;

/** Registers a new object with the innermost open scope. */
export function own(object: Owned): void {
  object.owner = current;
  current?.owned.add(object);
}

/** Takes an object out of its scope, into `target` (null: nobody's but the user's). */
function move(object: Owned, target: Scope | null): void {
  object.owner?.owned.delete(object);
  object.owner = target;
  target?.owned.add(object);
}

/** Forgets an object that has been disposed of. */
export function disown(object: Owned): void {
  object.owner?.owned.delete(object);
  object.owner = null;
}

const survives = (object: Owned): object is Surviving => 'survives' in object;
const isOwned = (value: object): value is Owned => 'owner' in value && 'dispose' in value;

/** Calls `act` with each owned object in a value: alone, in arrays, maps or plain objects. */
export function visit(value: unknown, act: (object: Owned) => void): void {
  if (value === null || typeof value !== 'object') return;
  if (isOwned(value)) act(value);
  else if (Array.isArray(value)) for (const v of value) visit(v, act);
  else if (value instanceof Map) for (const v of value.values()) visit(v, act);
  else if (Object.getPrototypeOf(value) === Object.prototype)
    for (const v of Object.values(value)) visit(v, act);
}

/** Lets tensors (alone, in arrays, maps or plain objects) outlive the innermost scope. */
export function keep<T>(value: T): T {
  const scope = current;
  if (scope) visit(value, (object) => object.owner === scope && move(object, scope.outer));
  return value;
}

/**
 * Runs `fn` and frees every tensor made inside that it neither returns (alone, in arrays, maps or plain objects) nor keeps.
 * The tape recorded inside lasts as long as the outermost scope; with `keepTape`, beyond it, until no handle on what it leads to
 * is left.
 * @throws TypeError if `fn` returns a promise: read results back outside.
 * @example
 * ```ts
 * import { affine, mul, openDevice, scope, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const x = tensor(device, [1, 2]);
 * const y = scope(() => mul(affine(x, 2, 1), x)); // what affine made is freed
 * console.log([...(await y.read())]); // → [ 3, 10 ]
 * device.destroy();
 * ```
 */
export function scope<T>(fn: () => T, keepTape = false): T {
  if (typeof fn !== 'function') checkValue('scope', 'fn', callback(), fn);
  const mine = new Scope(current);
  current = mine;
  try {
    const result = fn();
    if (result instanceof Promise) {
      result.catch(() => undefined);
      throw new TypeError('scope: the function must be synchronous');
    }
    return keep(result);
  } finally {
    current = mine.outer;
    const loose: Surviving[] = [];
    for (const object of [...mine.owned].reverse()) {
      if (!survives(object) || !(mine.outer || keepTape)) object.dispose('scope');
      else {
        move(object, mine.outer);
        if (!mine.outer) loose.push(object);
      }
    }
    for (const node of loose) node.settle();
  }
}

/** An operation made of operations: what it makes on the way is freed, what it records stays as if each had been called. */
export const composed = <T>(fn: () => T): T => scope(fn, true);
