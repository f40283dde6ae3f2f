/**
 * Random numbers made on the device (kernels/random.ts), by a seed that is always named: the same seed gives the same numbers, and
 * those of `rand`, `randint`, `bernoulli` and `dropout` the same bits on every adapter; of `randn`, within 4 float32 steps.
 *
 * A seed that is a number begins anew at each call. A `Generator` goes on from call to call, and its `seed` and `calls` are what a checkpoint needs.
 */

import { type Distribution, linearGrid, random } from '../kernels/index.ts';
import type { Device } from './device.ts';
import { ShapeError } from './errors.ts';
import type { Purpose } from './memory.ts';
import { mul } from './ops/elementwise.ts';
import { less } from './ops/logic.ts';
import { between, checkOptions, checkValue, finite, like, optionsSchema, whole } from './options.ts';
import { composed } from './scope.ts';
import { checkDevice } from './storage.ts';
import { checkTensor, empty, noGrad, type Tensor } from './tensor.ts';

const MOST_CALLS = 2 ** 32;

/**
 * A stream of random numbers: each call that takes it gets numbers of its own.
 * @example
 * ```ts
 * import { Generator, openDevice, rand } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const generator = new Generator(1);
 * const [a, b] = [rand(device, [2], generator), rand(device, [2], generator)];
 * const again = rand(device, [2], new Generator(1, 1)); // the second call of seed 1
 * console.log(String(await b.read()) === String(await again.read())); // → true
 * console.log(String(await a.read()) === String(await b.read())); // → false
 * device.destroy();
 * ```
 */
export class Generator {
  /** A whole number from 0 to 2^53 - 1. */
  readonly seed: number;
  /** Calls that have taken numbers, 2^32 at most. */
  calls: number;

  /** @param calls where to go on. @throws UserError for what is no whole number */
  constructor(seed: number, calls = 0) {
    checkValue('Generator', 'seed', wholeSeed, seed);
    checkValue('Generator', 'calls', whole(0, MOST_CALLS - 1), calls);
    this.seed = seed;
    this.calls = calls;
  }
}

/** Where random numbers come from: a whole number, which begins anew, or a {@link Generator}, which goes on. */
export type Seed = number | Generator;

const wholeSeed = whole();
const seedField = like<Seed>(
  (value) => value instanceof Generator || (Number.isSafeInteger(value) && (value as number) >= 0),
  'a whole number, 0 or more, or a Generator',
);

/** Generators that a function has drawn from, and where each was before. */
type Drawn = ReadonlyMap<Generator, number>;
let watched: Map<Generator, number> | null = null;

/** The result of `fn`, and what it drew from. */
export function drawing<T>(fn: () => T): [T, Drawn] {
  const outer = watched;
  const own = new Map<Generator, number>();
  watched = own;
  try {
    return [fn(), own];
  } finally {
    watched = outer;
    for (const [generator, calls] of own) if (outer && !outer.has(generator)) outer.set(generator, calls);
  }
}

/** Runs `fn` with generators put back to where they were then; afterwards they go on from where they are now. */
export function drawingAgain<T>(drawn: Drawn, fn: () => T): T {
  const now = [...drawn.keys()].map((generator) => [generator, generator.calls] as const);
  for (const [generator, calls] of drawn) generator.calls = calls;
  try {
    return fn();
  } finally {
    for (const [generator, calls] of now) generator.calls = calls;
  }
}

/** A tensor of random numbers. */
export function draw(
  op: string,
  distribution: Distribution,
  device: Device,
  shape: readonly number[],
  seed: Seed,
  parameters: { readonly s?: number; readonly t?: number; readonly below?: number },
  purpose: Purpose = 'activations',
): Tensor {
  checkDevice(op, device);
  checkValue(op, 'seed', seedField, seed);
  const generator = typeof seed === 'number' ? new Generator(seed) : seed;
  const y = empty(device, shape, distribution === 'integer' ? 'u32' : 'f32', purpose);
  const values = { s: 0, t: 0, below: 0, ...parameters };
  if (generator.calls >= MOST_CALLS)
    throw new ShapeError(op, `seed ${generator.seed} has given ${MOST_CALLS} times; take another seed`);
  watched?.set(generator, watched.get(generator) ?? generator.calls);
  const call = generator.calls++;
  const key = { seed_low: generator.seed % 2 ** 32, seed_high: Math.floor(generator.seed / 2 ** 32) };
  for (const { begin, end } of y.storage.segments)
    device.dispatch(
      random(distribution),
      [y.storage.window(begin, end)],
      { n: end - begin, ...key, call, first: begin / 4, ...values, zero: 0 },
      linearGrid(Math.ceil((end - begin) / 4)),
    );
  return y;
}

/** Where uniform numbers lie. */
export interface RandOptions {
  /** Default 0. */
  readonly low?: number;
  /** Default 1. By rounding, numbers may reach it where `low` is not 0. */
  readonly high?: number;
}
const randOptions = optionsSchema<RandOptions>(
  { low: finite, high: finite },
  { minval: 'low', maxval: 'high', min: 'low', max: 'high', from: 'low', to: 'high' },
);

/**
 * Uniform numbers in [low, high): multiples of 2^-24 from 0 to below 1, stretched. f32 of `shape`.
 * @throws UserError, ShapeError
 * @example
 * ```ts
 * import { openDevice, rand } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * console.log([...(await rand(device, [2], 7).read())]); // the same on every adapter
 * device.destroy();
 * ```
 */
export function rand(
  device: Device,
  shape: readonly number[],
  seed: Seed,
  options: RandOptions = {},
): Tensor {
  checkOptions('rand', randOptions, options);
  const { low = 0, high = 1 } = options;
  return draw('rand', 'uniform', device, shape, seed, { s: low, t: high - low });
}

/** How normal numbers lie. */
export interface RandnOptions {
  /** Default 0. */
  readonly mean?: number;
  /** Standard deviation; default 1. */
  readonly std?: number;
}
const randnOptions = optionsSchema<RandnOptions>({ mean: finite, std: finite }, { stddev: 'std' });

/** Normal numbers (Box & Muller 1958), none beyond 6.66 standard deviations. f32 of `shape`. @throws UserError, ShapeError */
export function randn(
  device: Device,
  shape: readonly number[],
  seed: Seed,
  options: RandnOptions = {},
): Tensor {
  checkOptions('randn', randnOptions, options);
  const { mean = 0, std = 1 } = options;
  return draw('randn', 'normal', device, shape, seed, { s: mean, t: std });
}

/**
 * Whole numbers from 0 to below `high`, u32 of `shape`; no two are likelier by more than `high` / 2^32. @throws UserError, ShapeError
 */
export function randint(device: Device, shape: readonly number[], high: number, seed: Seed): Tensor {
  checkValue('randint', 'high', whole(1, 2 ** 32 - 1), high);
  return draw('randint', 'integer', device, shape, seed, { below: high });
}

/** 1 with the probability that each element has, else 0: a mask in the shape of `probability`. It has no gradient but 0. @throws ShapeError */
export function bernoulli(probability: Tensor, seed: Seed): Tensor {
  checkTensor('bernoulli', 'probability', probability, ['f32']);
  return composed(() =>
    less(draw('bernoulli', 'uniform', probability.device, probability.shape, seed, { t: 1 }), probability),
  );
}

const share = between(0, 1);

/**
 * x with each element set to 0 with probability `p`, the others divided by 1 - p (Srivastava et al. 2014). For evaluation leave it out: there is no
 * mode. @throws UserError for a p outside 0 to 1
 */
export function dropout(x: Tensor, p: number, seed: Seed): Tensor {
  checkTensor('dropout', 'x', x, ['f32']);
  checkValue('dropout', 'p', share, p);
  return composed(() =>
    mul(
      x,
      noGrad(() =>
        draw('dropout', 'bernoulli', x.device, x.shape, seed, { s: 1 - p, t: p < 1 ? 1 / (1 - p) : 0 }),
      ),
    ),
  );
}
