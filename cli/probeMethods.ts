/** Any prober put to the test in a run (`probe run --probers`): methods/TASK.json in its folder, and their table. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { makeFolder, writeWhole } from '../engine/disk.ts';
import { checkJson } from '../models/json.ts';
import { readSealedJson, SEALED, sealJson } from '../models/seal.ts';
import { formatNeuron, neuronAt, UserError } from '../neurgrad/index.ts';
import { listFolder } from '../neurgrad/study/textFile.ts';
import { evaluateMethod, type Features, type ProbeMethod, type Variant } from '../probing/index.ts';
import { toJson } from './output.ts';
import { between, chance, share, type TextTable } from './probeTable.ts';

const FORMAT = 'neurgrad probe methods 1';
const FOLDER = 'methods';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const interval = v.nullable(v.tuple([v.number(), v.number()]));
const method = v.object({
  prober: v.string(),
  accuracy: v.number(),
  interval,
  size: natural,
  sizes: v.array(natural),
  valid: v.array(v.number()),
  test: v.array(v.number()),
  predictions: v.array(natural),
  // The chosen ones, best first.
  neurons: v.array(v.string()),
  null: v.nullable(v.object({ interval, mean: v.number(), p: v.number(), accuracies: v.array(v.number()) })),
});
const document = v.object({
  format: v.literal(FORMAT),
  run: v.string(),
  task: v.string(),
  /** Words that the neurons were chosen by, and how many they are. */
  chosen: v.string(),
  looked: natural,
  estimator: v.string(),
  permutations: natural,
  methods: v.array(method),
});

/** What probers reach on a task. */
export type TaskMethods = v.InferOutput<typeof document>;

/** What decides their numbers, besides the run. */
export type MethodsAsked = Pick<TaskMethods, 'run' | 'chosen' | 'estimator' | 'permutations'>;

const pathOf = (folder: string, task: string): string => join(folder, FOLDER, `${task}.json`);

/** Whether they were put to the test on a task already. */
export function hasMethods(
  folder: string,
  task: string,
  asked: MethodsAsked,
  probers: readonly string[],
): boolean {
  if (!existsSync(pathOf(folder, task))) return false;
  const found = readMethod(folder, task, asked.run);
  return (
    (['chosen', 'estimator', 'permutations'] as const).every((name) => found[name] === asked[name]) &&
    probers.join() === found.methods.map(({ prober }) => prober).join()
  );
}

/** Puts probers to the test on what was read of a task, and keeps what they reach. */
export function testMethods(
  folder: string,
  features: Features,
  probers: readonly ProbeMethod[],
  asked: MethodsAsked,
  { variant, seed }: { readonly variant: Variant; readonly seed: number },
): TaskMethods {
  const { task, neurons, width, conventions, splits } = features;
  const { permutations } = asked;
  const found: TaskMethods = {
    format: FORMAT,
    ...asked,
    task,
    looked: neurons.length,
    methods: probers.map((prober) => {
      const {
        method,
        ranking,
        null: permuted,
        ...result
      } = evaluateMethod(prober, splits, {
        ...{ variant, seed, permutations },
      });
      const { accuracy, size, sizes, valid, test, predictions } = result;
      const names = ranking
        .slice(0, size)
        .map((place) => formatNeuron(neuronAt(neurons[place]!, width, conventions.site)));
      return {
        ...{ prober: method, accuracy, size, neurons: names },
        interval: pair(result.interval),
        sizes: [...sizes],
        valid: [...valid],
        test: [...test],
        predictions: [...predictions],
        null: permuted && {
          ...{ mean: permuted.mean, p: permuted.p, interval: pair(permuted.interval) },
          accuracies: [...permuted.accuracies],
        },
      };
    }),
  };
  makeFolder(join(folder, FOLDER));
  writeWhole(pathOf(folder, task), sealJson(`${toJson({ ...SEALED, ...found }, 1)}\n`));
  return found;
}

const pair = (ends: readonly [number, number] | null): [number, number] | null => ends && [...ends];

/** @throws UserError for a file that is of another run, DamagedFile for one that was changed. */
function readMethod(folder: string, task: string, run: string): TaskMethods {
  const path = pathOf(folder, task);
  const found = checkJson(document, readSealedJson(path, 'out'), path, 'out');
  if (found.run !== run || found.task !== task)
    throw new UserError('out', `${path}: is not of this run; remove it`);
  return found;
}

/** What was put to the test of a run's tasks. @throws as reading one does. */
export function readMethods(folder: string, run: string): TaskMethods[] {
  const files = existsSync(join(folder, FOLDER)) ? listFolder(join(folder, FOLDER)) : [];
  return files
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => readMethod(folder, name.slice(0, -5), run));
}

/** A row a task and prober. */
export const methodsTable = (tasks: readonly TaskMethods[]): TextTable => ({
  head: ['task', 'prober', 'accuracy', '95%', 'null 95%', 'p', '|N_s|', 'of neurons', 'estimator'],
  rows: tasks.flatMap(({ task, chosen, estimator, methods }) =>
    methods.map(({ prober, accuracy, interval, null: permuted, size }) => [
      ...[task, prober, share(accuracy), between(interval), between(permuted?.interval ?? null)],
      ...[permuted ? chance(permuted.p) : '–', String(size), chosen, estimator],
    ]),
  ),
});

/** What the table says, in one sentence. */
export const METHODS_REMARK =
  'Probers of the registry on some neurons: ranked on train, the first |N_s| fitted again alone, |N_s| chosen on valid, accuracy on test; null: all of that with the labels of every split permuted.';
