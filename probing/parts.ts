/**
 * What a run keeps of the prompts it has read (Node), a folder a task:
 *
 *   train-SHARD.safetensors      counters of the training prompts so far, and which units they are
 *   valid-UNIT.safetensors       marks (4 bits a candidate and neuron) and activations (16 bits) of a unit's prompts
 *   test-UNIT.safetensors
 *
 * A file appears only when whole, so that a run that is killed loses the unit in flight and nothing else. It carries the digest
 * of its bytes, and says of which run it is which part: one that is no longer as it was written, or was put there from somewhere
 * else, is never counted, and its prompts are read again.
 */

import * as v from 'valibot';
import { UserError } from '../neurgrad/index.ts';
import type { Counts } from './counts.ts';
import { addTraining, type Evaluated, emptyTraining, KINDS, type Training } from './evaluation.ts';
import { packMarks, unpackMarks } from './marks.ts';
import {
  checkTable,
  metadataOf,
  readTensorFile,
  type Table,
  type TensorFile,
  tableOf,
  writeTensorFile,
} from './tensorFile.ts';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const naturals = v.array(natural);

/** What all parts of a task have in common. */
export interface PartShape {
  readonly candidates: number;
  readonly neurons: number;
  readonly permutations: number;
  /** Digest of what decides their numbers. */
  readonly run: string;
}

/** What ties a file to its run and its place: that of another is whole, too. */
const belonging = (path: string, run: string): Readonly<Record<string, string>> => ({
  run,
  part: path.slice(path.lastIndexOf('/') + 1),
});

/** @throws DamagedFile where the file is not as it was written, or of another run or part. */
async function readPart(path: string, run: string): Promise<TensorFile> {
  const file = await readTensorFile(path);
  const { DamagedFile } = await import('../models/seal.ts');
  for (const [name, value] of Object.entries(belonging(path, run)))
    if (file.metadata[name] !== value) throw new DamagedFile(path, `belongs to another ${name}`);
  return file;
}

/**
 * Makes the folder of a task's parts; damaged ones are moved aside, so that they are read again.
 * @param run as {@link PartShape} has it.
 * @param onDamaged is told of each.
 */
export async function openPartFolder(
  folder: string,
  run: string,
  onDamaged: (what: string) => void = () => {},
): Promise<void> {
  const { makeFolder, putInPlace } = await import('../engine/disk.ts');
  const { DamagedFile } = await import('../models/seal.ts');
  makeFolder(folder);
  for (const name of await partFiles(folder)) {
    const path = `${folder}/${name}`;
    try {
      await readPart(path, run);
    } catch (error) {
      if (!(error instanceof DamagedFile)) throw error;
      putInPlace(path, `${path}.damaged`);
      onDamaged(error.message);
    }
  }
}

async function exists(path: string): Promise<boolean> {
  const { stat } = await import('node:fs/promises');
  return (await stat(path).catch(() => null)) !== null;
}

const PART = /^(train-\d+|(valid|test)-\d{5,})\.safetensors$/;

const trainFile = (folder: string, shard: number): string => `${folder}/train-${shard}.safetensors`;

export async function writeTraining(
  folder: string,
  shard: number,
  training: Training,
  units: readonly number[],
  run: string,
): Promise<void> {
  const tables: Record<string, Table> = {
    'act.prompts': training.activation.prompts,
    'act.sum': training.activation.sum,
    'act.square': training.activation.square,
  };
  for (const { name } of KINDS) {
    tables[`${name}.plus`] = joined(training[name], 'plus');
    tables[`${name}.minus`] = joined(training[name], 'minus');
  }
  const path = trainFile(folder, shard);
  await writeTensorFile(path, tables, {
    format: 'neurgrad probe train 2',
    ...belonging(path, run),
    prompts: String(training.prompts),
    units: JSON.stringify(units),
  });
}

function joined(list: readonly Counts[], side: keyof Counts): Int32Array {
  const neurons = list[0]![side].length;
  const all = new Int32Array(list.length * neurons);
  list.forEach((counts, k) => {
    all.set(counts[side], k * neurons);
  });
  return all;
}

/** Counters of one shard; empty ones where it has none yet. */
export async function readTraining(
  folder: string,
  shard: number,
  shape: PartShape,
): Promise<{ training: Training; units: number[] }> {
  const path = trainFile(folder, shard);
  const { candidates, neurons, permutations, run } = shape;
  if (!(await exists(path))) return { training: emptyTraining(candidates, neurons, permutations), units: [] };
  const file = await readPart(path, run);
  const lists = (1 + permutations) * neurons;
  const counts = (name: string): Counts[] => {
    const plus = tableOf(file, path, `${name}.plus`, Int32Array, lists);
    const minus = tableOf(file, path, `${name}.minus`, Int32Array, lists);
    for (const table of [plus, minus]) checkTable(path, name, table, 0);
    return Array.from({ length: 1 + permutations }, (_, k) => ({
      plus: plus.subarray(k * neurons, (k + 1) * neurons),
      minus: minus.subarray(k * neurons, (k + 1) * neurons),
    }));
  };
  const activation = {
    prompts: tableOf(file, path, 'act.prompts', Int32Array, candidates),
    sum: tableOf(file, path, 'act.sum', Float64Array, candidates * neurons),
    square: tableOf(file, path, 'act.square', Float64Array, neurons),
  };
  checkTable(path, 'act.prompts', activation.prompts, 0);
  checkTable(path, 'act.sum', activation.sum, -Number.MAX_VALUE);
  checkTable(path, 'act.square', activation.square, 0);
  return {
    units: metadataOf(file, path, 'units', naturals),
    training: {
      prompts: metadataOf(file, path, 'prompts', natural),
      polar: counts('polar'),
      magn: counts('magn'),
      activation,
    },
  };
}

/** Counters of all shards together, and the units they hold. */
export async function readAllTraining(
  folder: string,
  shape: PartShape,
): Promise<{ training: Training; units: number[] }> {
  const training = emptyTraining(shape.candidates, shape.neurons, shape.permutations);
  const units: number[] = [];
  for (const name of await partFiles(folder)) {
    const shard = /^train-(\d+)\.safetensors$/.exec(name)?.[1];
    if (shard === undefined) continue;
    const part = await readTraining(folder, Number(shard), shape);
    addTraining(training, part.training);
    units.push(...part.units);
  }
  if (new Set(units).size < units.length) {
    throw new UserError('parts', `${folder}: two train files hold the same prompts; remove one of them`);
  }
  return { training, units };
}

async function partFiles(folder: string): Promise<string[]> {
  const { readdir } = await import('node:fs/promises');
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => PART.test(name)).sort();
}

const unitFile = (folder: string, split: string, unit: number): string =>
  `${folder}/${split}-${String(unit).padStart(5, '0')}.safetensors`;

export function hasUnit(folder: string, split: string, unit: number): Promise<boolean> {
  return exists(unitFile(folder, split, unit));
}

export async function writeUnit(
  folder: string,
  split: string,
  unit: number,
  prompts: readonly Evaluated[],
  run: string,
): Promise<void> {
  const tables: Record<string, Table> = {};
  prompts.forEach(({ marks, activation }, i) => {
    tables[`marks.${i}`] = asIntegers(packMarks(marks));
    tables[`activation.${i}`] = asIntegers(new Uint8Array(topHalves(activation).buffer));
  });
  const path = unitFile(folder, split, unit);
  await writeTensorFile(path, tables, {
    format: 'neurgrad probe unit 2',
    ...belonging(path, run),
    gold: JSON.stringify(prompts.map(({ gold }) => gold)),
    probabilities: JSON.stringify(prompts.map(({ probabilities }) => probabilities)),
  });
}

/** Prompts of some units, one after the other. */
export async function* readUnits(
  folder: string,
  split: string,
  units: readonly number[],
  { candidates, neurons, run }: PartShape,
): AsyncGenerator<Evaluated> {
  for (const unit of units) {
    const path = unitFile(folder, split, unit);
    const file = await readPart(path, run);
    const golds = metadataOf(file, path, 'gold', v.array(v.pipe(natural, v.maxValue(candidates - 1))));
    // Rounding may carry a probability a little beyond 1.
    const probability = v.pipe(v.number(), v.minValue(0), v.maxValue(1 + 1e-6));
    const rows = v.pipe(v.array(v.pipe(v.array(probability), v.length(candidates))), v.length(golds.length));
    const probabilities = metadataOf(file, path, 'probabilities', rows);
    const marked = Math.ceil(Math.ceil((candidates * neurons) / 2) / 4);
    const active = Math.ceil(neurons / 2);
    for (const [i, gold] of golds.entries()) {
      const marks = tableOf(file, path, `marks.${i}`, Int32Array, marked);
      const halves = tableOf(file, path, `activation.${i}`, Int32Array, active);
      yield {
        gold,
        probabilities: probabilities[i]!,
        marks: unpackMarks(new Uint8Array(marks.buffer), candidates * neurons),
        activation: fromTopHalves(new Uint16Array(halves.buffer, 0, neurons)),
      };
    }
  }
}

/** Bytes as whole 32-bit integers, zeros behind. */
function asIntegers(bytes: Uint8Array): Int32Array {
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return new Int32Array(padded.buffer);
}

/** float32 as bfloat16, cut off: enough to compare with a threshold. */
export function topHalves(values: ArrayLike<number>): Uint16Array {
  const bits = new Uint32Array(Float32Array.from(values).buffer);
  return Uint16Array.from(bits, (word) => word >>> 16);
}

export function fromTopHalves(halves: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
}
