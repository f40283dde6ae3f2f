/**
 * The fastest kernel for each class of matrix products on this adapter and driver, measured once and kept (tuningStore.ts).
 *
 * Only kernels with the same bits compete, which is checked before they are timed: tuning changes no result. A contestant
 * is timed as it runs in a model: 5 ms of it or more, by the GPU's own timestamps where there are some, with weights that come from
 * memory and not from the last run's cache. Off by default; `openDevice({ autotune: true })` or `NEURGRAD_AUTOTUNE=1` switch it on,
 * and long runs of the command line do on GPUs.
 */

import { type Device, type DeviceOptions, deviceOptions, openDevice as openUntuned } from './device.ts';
import { OutOfMemoryError } from './errors.ts';
import {
  type Choice,
  candidates,
  evenLayout,
  multiplyBy,
  type OperandLayout,
  productClass,
  ROW_CLASSES,
} from './matmulChoice.ts';
import type { BufferWindow } from './memory.ts';
import { convert } from './ops/quantise.ts';
import { checkOptions, either, flag, one, optionsSchema } from './options.ts';
import { environmentVariable } from './runtime.ts';
import { checkDevice } from './storage.ts';
import { empty, type Tensor, tensor } from './tensor.ts';
import { type TuningStore, tuningStore } from './tuningStore.ts';

export interface OpenOptions extends DeviceOptions {
  /**
   * Measure which kernels suit this adapter, or take what was measured before; `hardware`: on GPUs, not on a CPU's driver.
   * Default: false. `NEURGRAD_AUTOTUNE` set to 1 or 0 decides over the default and `hardware`.
   */
  readonly autotune?: boolean | 'hardware';
}

const openOptions = optionsSchema<OpenOptions>(
  { ...deviceOptions.entries, autotune: either(flag, one(['hardware']), "true, false or 'hardware'") },
  deviceOptions.foreign,
);

/**
 * Opens the machine's best adapter. @throws DeviceError where there is none, UserError for an option that there is not.
 * @example
 * ```ts
 * import { openDevice } from 'neurgrad/engine';
 *
 * const device = await openDevice({ mask: { f16: false }, memoryBudget: 2 ** 30 });
 * console.log(device.capabilities.f16, device.memory.total); // → false 0
 * device.destroy();
 * ```
 */
export async function openDevice(options: OpenOptions = {}): Promise<Device> {
  checkOptions('openDevice', openOptions, options);
  const device = await openUntuned(options);
  const variable = environmentVariable('NEURGRAD_AUTOTUNE');
  const { autotune = false } = options;
  const asked = options.autotune === true || options.autotune === false ? undefined : variable;
  const on = asked === '1' || (asked !== '0' && (autotune === 'hardware' ? !device.info.software : autotune));
  try {
    if (on) await tuneProducts(device);
    return device;
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/** Rows whose right-hand side is as checkpoints store it, in f32: what most products of a model are. */
export const TUNED_LAYOUT: OperandLayout = evenLayout(4, false, true, 'f32');
/** All transpositions, and both directions through quantised weights. */
const TUNED: readonly (readonly [transA: boolean, transB: boolean, weight: OperandLayout['weight']])[] = [
  [false, true, 'f32'],
  [false, false, 'f32'],
  [true, false, 'f32'],
  [true, true, 'f32'],
  [false, true, 'int4'],
  [false, false, 'int4'],
];

/** A class and who competes in it. */
interface Contest {
  readonly name: string;
  readonly layout: OperandLayout;
  readonly shape: { readonly m: number; readonly n: number; readonly k: number };
  readonly choices: readonly Choice[];
}

/** Rows and columns of the weights that are multiplied with. */
const sideOf = ({ info }: Device): number => (info.software ? 256 : 2048);

function contests(device: Device): Contest[] {
  const size = sideOf(device);
  // A CPU's driver takes seconds for what a GPU does in a millisecond.
  const rows = ROW_CLASSES.filter((m) => !device.info.software || m <= 512);
  return TUNED.flatMap((tuned) =>
    rows.map((m) => {
      const shape = { m, n: size, k: size };
      const layout = evenLayout(m, ...tuned);
      const choices = candidates(shape, layout, device.capabilities);
      return { name: productClass(m, layout), layout, shape, choices };
    }),
  ).filter(({ choices }) => choices.length > 1);
}

/** What a contest found. */
export interface TunedClass {
  /** The class of products, e.g. `f32 B^T 16 rows`. */
  readonly name: string;
  /** The kernel for it. */
  readonly fastest: string;
  /** Microseconds of one product, by kernel. */
  readonly microseconds: Readonly<Record<string, number>>;
}

/** What was kept of these contests; null where it is of others, or damaged. */
function keptFrom(text: string | null, entrants: string, competing: readonly Contest[]): TunedClass[] | null {
  let found: unknown;
  try {
    found = JSON.parse(text ?? 'null');
  } catch {
    return null;
  }
  const { entrants: theirs, classes } = (found ?? {}) as { entrants?: unknown; classes?: TunedClass[] };
  if (theirs !== entrants || !Array.isArray(classes) || classes.length !== competing.length) return null;
  const whole = competing.every(({ name, choices }, i) => {
    const { name: of, fastest, microseconds } = classes[i] ?? ({} as Partial<TunedClass>);
    const times = choices.map((choice) => microseconds?.[choice.name]);
    return of === name && choices.some((c) => c.name === fastest) && times.every(Number.isFinite);
  });
  return whole ? classes : null;
}

/**
 * Names what is measured, as a file's name: the adapter and its driver as it describes them, the implementation, and a hash (FNV-1a) of
 * what it can do, which tells adapters apart whose browser hides what they are.
 */
export function adapterName({ info, capabilities }: Pick<Device, 'info' | 'capabilities'>): string {
  const able = JSON.stringify(Object.entries(capabilities).sort());
  let hash = 0x811c9dc5;
  for (const letter of able) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193);
  const { vendor, architecture, description, device, implementation } = info;
  const told = [vendor, architecture, description, device === description ? '' : device, implementation];
  const words =
    told
      .join(' ')
      .toLowerCase()
      .match(/[a-z0-9]+/g) ?? [];
  return [...words, (hash >>> 0).toString(16).padStart(8, '0')].join('-');
}

/** A cache that cannot be used costs the time to measure, and nothing else; it is said, since it costs that every time. */
const lament = (what: string, cause: unknown): void =>
  console.warn(`neurgrad: times of kernels could not be ${what}: ${(cause as Error).message}`);

/**
 * Fills `device.tuning` from the store, or by measuring, which takes seconds, and says what was found. A store that is damaged or
 * cannot be read is measured anew; what cannot be read or written is said on stderr.
 */
export async function tuneProducts(
  device: Device,
  store: TuningStore = tuningStore(),
): Promise<readonly TunedClass[]> {
  checkDevice('tuneProducts', device);
  const competing = contests(device);
  const name = `matmul-${adapterName(device)}`;
  // Another set of kernels is another contest.
  const entrants = competing.map((c) => `${c.name}: ${c.choices.map((x) => x.name).join(', ')}`).join('; ');
  const kept = await store.read(name).catch((cause) => {
    lament('read', cause);
    return null;
  });
  let classes = keptFrom(kept, entrants, competing);
  if (!classes) {
    classes = [];
    for (const contest of competing) classes.push(await hold(device, contest));
    await store
      .write(name, `${JSON.stringify({ entrants, classes }, null, 1)}\n`)
      .catch((cause) => lament('kept', cause));
  }
  for (const { name: of, fastest } of classes) device.tuning.set(of, fastest);
  return classes;
}

/** Numbers without zeros or a pattern that a kernel could profit from. */
const numbers = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(seed + 1.7 * i) + 0.01);

/** Bytes of weights that are taken in turn on a GPU: more than its last cache holds, so that they come from memory as a model's do. */
const ROTATED = 2 ** 28;
/** Milliseconds that a contestant is timed for at least. */
const LEAST = 5;
const ROUNDS = 3;
/** Most products in one go: a device that only compiles takes no time for any number. */
const MOST = 4096;
/** Another kernel takes the first guess's place where it needs so much less time: below, it is noise. */
const CLEARLY = 0.97;

/** The weights of a contest, once on a CPU, else as often as fill {@link ROTATED} or fit. */
function rotated(
  device: Device,
  [n, k]: readonly [number, number],
  weight: OperandLayout['weight'],
): Tensor[] {
  const host = numbers(n * k, 2);
  const one = (): Tensor => {
    const f32 = tensor(device, host, [n, k]);
    if (weight === 'f32') return f32;
    const packed = convert(f32, weight);
    f32.dispose();
    return packed;
  };
  const copies: Tensor[] = [one()];
  const bytes = copies[0]!.storage.window().size;
  try {
    while (!device.info.software && copies.length * bytes < ROTATED) copies.push(one());
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
  }
  return copies;
}

/** Checks that all have the same bits, then times them in turn. */
async function hold(device: Device, { name, layout, shape, choices }: Contest): Promise<TunedClass> {
  const { m, n, k } = shape;
  const a = tensor(device, numbers(m * k, 1), layout.transA ? [k, m] : [m, k]);
  const c = empty(device, [m, n]);
  const weights = rotated(device, layout.transB ? [n, k] : [k, n], layout.weight);
  const [wa, wc] = [a.storage.window(), c.storage.window()];
  const turns: BufferWindow[] = weights.map((w) => w.storage.window());
  let turn = 0;
  const multiply = (choice: Choice): void =>
    multiplyBy(choice, device, [wa, turns[turn++ % turns.length]!, wc], shape, layout);
  const { timestamps } = device.capabilities;
  /** Milliseconds of `count` products. */
  const time = async (choice: Choice, count: number): Promise<number> => {
    if (timestamps) device.startProfiling();
    const begin = performance.now();
    for (let i = 0; i < count; i++) multiply(choice);
    await device.finish();
    const taken = performance.now() - begin;
    if (!timestamps) return taken;
    const [row] = await device.stopProfiling();
    return row?.nanoseconds ? row.nanoseconds / 1e6 : taken;
  };
  try {
    let expected: Uint8Array | null = null;
    for (const choice of choices) {
      turn = 0;
      multiply(choice);
      const got = new Uint8Array((await c.read()).buffer);
      expected ??= got;
      if (got.some((byte, i) => byte !== expected![i]))
        throw new Error(`${choice.name} differs from ${choices[0]!.name} for ${name}`);
    }
    const best = choices.map((choice) => ({ choice, count: 1, ms: Number.POSITIVE_INFINITY }));
    for (const each of best)
      while (each.count < MOST && (await time(each.choice, each.count)) < LEAST) each.count *= 2;
    for (let round = 0; round < ROUNDS; round++)
      for (const each of best)
        each.ms = Math.min(each.ms, (await time(each.choice, each.count)) / each.count);
    const [guess, ...others] = best;
    const fastest = others.reduce((a, b) => (b.ms < a.ms ? b : a), { ...guess!, ms: guess!.ms * CLEARLY });
    return {
      name,
      fastest: fastest.choice.name,
      microseconds: Object.fromEntries(best.map(({ choice, ms }) => [choice.name, 1000 * ms])),
    };
  } finally {
    for (const t of [a, c, ...weights]) t.dispose();
  }
}
