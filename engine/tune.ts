/**
 * The fastest kernel for each class of matrix products on this adapter, measured once and kept (tuningStore.ts).
 *
 * Only kernels with the same bits compete, which is checked before they are timed: tuning changes no result. Off by
 * default; `openDevice({ autotune: true })` or `NEURGRAD_AUTOTUNE=1` switch it on.
 */

import { type Device, type DeviceOptions, deviceOptions, openDevice as openUntuned } from './device.ts';
import { type Choice, candidates, type OperandLayout, productClass, ROW_CLASSES } from './matmulChoice.ts';
import { checkOptions, flag, optionsSchema } from './options.ts';
import { checkDevice } from './storage.ts';
import { empty, type Tensor, tensor } from './tensor.ts';
import { type TuningStore, tuningStore } from './tuningStore.ts';

export interface OpenOptions extends DeviceOptions {
  /** Measure which kernels suit this adapter, or take what was measured before. Default: as `NEURGRAD_AUTOTUNE` says. */
  readonly autotune?: boolean;
}

const openOptions = optionsSchema<OpenOptions>(
  { ...deviceOptions.entries, autotune: flag },
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
  const fromEnvironment = typeof process !== 'undefined' && process.env?.NEURGRAD_AUTOTUNE === '1';
  try {
    if (options.autotune ?? fromEnvironment) await tuneProducts(device);
    return device;
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/** Rows whose right-hand side is as checkpoints store it, in f32: what most products of a model are. */
export const TUNED_LAYOUT: OperandLayout = {
  transA: false,
  transB: true,
  vectorA: true,
  vectorB: true,
  vectorC: true,
  tail: false,
  weight: 'f32',
};

/** A class and who competes in it. */
interface Contest {
  readonly name: string;
  readonly shape: { readonly m: number; readonly n: number; readonly k: number };
  readonly choices: readonly Choice[];
}

function contests(device: Device): Contest[] {
  const size = device.info.software ? 256 : 2048;
  return ROW_CLASSES.map((m) => {
    const shape = { m, n: size, k: size };
    return {
      name: productClass(m, TUNED_LAYOUT),
      shape,
      choices: candidates(shape, TUNED_LAYOUT, device.capabilities),
    };
  }).filter(({ choices }) => choices.length > 1);
}

type Fastest = Readonly<Record<string, string>>;

/** What was kept of these contests; null where it is of others, or damaged. */
function winnersIn(kept: string | null, entrants: string, competing: readonly Contest[]): Fastest | null {
  let found: unknown;
  try {
    found = JSON.parse(kept ?? 'null');
  } catch {
    return null;
  }
  const { entrants: theirs, fastest } = (found ?? {}) as { entrants?: unknown; fastest?: Fastest };
  const known = ({ name, choices }: Contest): boolean =>
    choices.some((choice) => choice.name === fastest?.[name]);
  return theirs === entrants && fastest && competing.every(known) ? fastest : null;
}

/** A cache that cannot be used costs the time to measure, and nothing else; it is said, since it costs that every time. */
const lament = (what: string, cause: unknown): void =>
  console.warn(`neurgrad: times of kernels could not be ${what}: ${(cause as Error).message}`);

/**
 * Fills `device.tuning` from the store, or by measuring, which takes seconds. A store that is damaged or cannot be read is
 * measured anew; what cannot be read or written is said on stderr.
 */
export async function tuneProducts(device: Device, store: TuningStore = tuningStore()): Promise<void> {
  checkDevice('tuneProducts', device);
  const competing = contests(device);
  const { vendor, architecture, description } = device.info;
  const name = `matmul-${`${vendor}-${architecture}-${description}`.toLowerCase().replace(/[^a-z0-9]+/g, '-')}`;
  // Another set of kernels is another contest.
  const entrants = competing.map((c) => `${c.name}: ${c.choices.map((x) => x.name).join(', ')}`).join('; ');
  const kept = await store.read(name).catch((cause) => {
    lament('read', cause);
    return null;
  });
  let fastest = winnersIn(kept, entrants, competing);
  if (!fastest) {
    const measured: Record<string, string> = {};
    for (const contest of competing) measured[contest.name] = await winner(device, contest);
    fastest = measured;
    await store
      .write(name, `${JSON.stringify({ entrants, fastest }, null, 1)}\n`)
      .catch((cause) => lament('kept', cause));
  }
  for (const [of, choice] of Object.entries(fastest)) device.tuning.set(of, choice);
}

/** Numbers without zeros or a pattern that a kernel could profit from. */
const numbers = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(seed + 1.7 * i) + 0.01);

async function winner(device: Device, { name, shape, choices }: Contest): Promise<string> {
  const { m, n, k } = shape;
  const made: Tensor[] = [
    tensor(device, numbers(m * k, 1), [m, k]),
    tensor(device, numbers(n * k, 2), [n, k]),
    empty(device, [m, n]),
  ];
  const windows = made.map((t) => t.storage.window());
  const multiply = (choice: Choice): void => {
    const [down, across] = [Math.ceil(m / choice.rows), Math.ceil(n / choice.columns)];
    const kernel = choice.kernel({ bias: false, accumulate: false });
    const grid = choice.rowsFirst ? ([down, across, 1] as const) : ([across, down, 1] as const);
    device.dispatch(kernel, windows, [m, n, k, 0, 0, 0, k, k, n, 0, 0, 0, 0], grid);
  };
  try {
    let expected: Uint8Array | null = null;
    for (const choice of choices) {
      multiply(choice);
      const got = new Uint8Array((await made[2]!.read()).buffer);
      expected ??= got;
      if (got.some((byte, i) => byte !== expected![i]))
        throw new Error(`${choice.name} differs from ${choices[0]!.name} for ${name}`);
    }
    const times = new Map(choices.map((choice) => [choice.name, Number.POSITIVE_INFINITY]));
    for (let round = 0; round < 3; round++)
      for (const choice of choices) {
        const begin = performance.now();
        for (let i = 0; i < 8; i++) multiply(choice);
        await device.finish();
        times.set(choice.name, Math.min(times.get(choice.name)!, performance.now() - begin));
      }
    return [...times].sort(([, p], [, q]) => p - q)[0]![0];
  } finally {
    for (const t of made) t.dispose();
  }
}
