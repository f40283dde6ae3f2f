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
import type { TaskMethods } from './probeTable.ts';

const FORMAT: TaskMethods['format'] = 'neurgrad probe methods 1';
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
        permuted: _,
        ...result
      } = evaluateMethod(prober, splits, {
        ...{ variant, seed, permutations },
      });
      const chosen = ranking.slice(0, result.size).map((place) => neurons[place]!);
      return {
        prober: method,
        ...result,
        neurons: chosen.map((flat) => formatNeuron(neuronAt(flat, width, conventions.site))),
      };
    }),
  };
  makeFolder(join(folder, FOLDER));
  writeWhole(pathOf(folder, task), sealJson(`${toJson({ ...SEALED, ...found }, 1)}\n`));
  return found;
}

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
