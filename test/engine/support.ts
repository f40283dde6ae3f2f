/** What the engine's tests share: fixed random numbers, comparison that fails on NaN, scoped runs. */

import {
  type Device,
  type DeviceOptions,
  openDevice,
  scope,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { count, type Ref, ref } from './reference.ts';

/** Masks of a device whose wide subgroups stand for a GPU, and of one with a CPU's narrow ones. */
export const WIDE = { subgroups: false, subgroupSize: 32 } as const;
export const NARROW = { subgroups: false, subgroupSize: 8 } as const;

/** float32's spacing at 1. */
export const EPS = 2 ** -23;

/** Numbers of a fixed sequence (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers as float32 holds them. */
export function normal(shape: readonly number[], seed: number, scale = 1): Ref {
  const next = random(seed);
  return ref(
    shape,
    Float64Array.from({ length: count(shape) }, () =>
      Math.fround(scale * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())),
    ),
  );
}

/** Uniform numbers in [low, high), as float32 holds them. */
export function uniform(shape: readonly number[], seed: number, low: number, high: number): Ref {
  const next = random(seed);
  return ref(
    shape,
    Float64Array.from({ length: count(shape) }, () => Math.fround(low + (high - low) * next())),
  );
}

/** Distinct numbers at least 1 / n apart in mixed order: far from every tie. */
export function distinct(shape: readonly number[], seed: number): Ref {
  const next = random(seed);
  const n = count(shape);
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return ref(
    shape,
    order.map((i) => Math.fround((i + 0.5) / Math.max(1, n / 2) - 1)),
  );
}

export const upload = (device: Device, x: Ref): Tensor => tensor(device, Float32Array.from(x.data), x.shape);

/** Largest deviation allowed: `ulps` float32 steps of the larger of |expected| and `floor`. */
export interface Tolerance {
  readonly ulps: number;
  readonly floor?: number;
}

/** @throws Error that names the first bad element; a NaN is bad unless it was expected. */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { ulps, floor = 0 }: Tolerance,
  what = 'value',
): void {
  if (actual.length !== expected.length)
    throw new Error(`${what}: ${actual.length} elements, ${expected.length} expected`);
  for (let i = 0; i < expected.length; i++) {
    const [got, want] = [actual[i]!, expected[i]!];
    if (got === want || (Number.isNaN(got) && Number.isNaN(want))) continue;
    const allowed = ulps * EPS * Math.max(Math.abs(want), floor);
    if (!(Math.abs(got - want) <= allowed))
      throw new Error(`${what}: element ${i} is ${got}, expected ${want} within ${allowed.toExponential(2)}`);
  }
}

/** @throws Error where any bit differs (so -0 is not 0). */
export function expectSameBits(actual: Float32Array, expected: Float32Array, what = 'value'): void {
  const [a, b] = [actual, expected].map((x) => new Uint32Array(x.buffer, x.byteOffset, x.length));
  if (a!.length !== b!.length) throw new Error(`${what}: ${a!.length} elements, ${b!.length} expected`);
  for (let i = 0; i < a!.length; i++)
    if (a![i] !== b![i])
      throw new Error(
        `${what}: element ${i} is ${actual[i]} (${a![i]!.toString(16)}), expected ${expected[i]}`,
      );
}

/** Runs `fn` in a scope, reads the tensors it returns, frees them. */
export async function compute(
  fn: () => readonly Tensor[],
): Promise<{ shape: readonly number[]; data: Float32Array }[]> {
  const results = scope(fn);
  const out: { shape: readonly number[]; data: Float32Array }[] = [];
  for (const t of results) {
    out.push({
      shape: t.shape,
      data: t.dtype === 'u32' ? Float32Array.from(await t.readIntegers()) : await t.read(),
    });
    t.dispose();
  }
  return out;
}

/** Bytes that tensors hold: all but the free pool. */
export function heldBytes(device: Device): number {
  const { weights, activations, saved, scratch, staging } = device.memory;
  return weights + activations + saved + scratch + staging;
}

export const open = (options: DeviceOptions = {}): Promise<Device> => openDevice(options);
