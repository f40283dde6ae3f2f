/**
 * Table 3's last row, and what many tasks at once do to what one task's test says: means over the tasks with their interval and
 * their null, and Holm's p values, since among 22 tasks one falls below 0.05 by chance alone.
 */

import { checkValue, like, list } from '../engine/options.ts';
import { holm, mean } from '../neurgrad/index.ts';
import { checkNumber, NATURAL } from '../neurgrad/lists.ts';
import { pairedGains } from './comparison.ts';
import { type MethodResult, type NullResult, nullOf } from './evaluation.ts';
import { bootstrapInterval, type Interval } from './resampling.ts';
import type { TaskReport } from './run.ts';

/** Mean accuracy over tasks, with the 95% interval of a bootstrap over the test prompts of each. */
export interface Macro {
  readonly accuracy: number;
  /** Null where a task has fewer than ten test prompts, or where all answers are right, or all wrong. */
  readonly interval: Interval | null;
}

/** The same of a prober, with what it is held against. */
export interface ProberMacro extends Macro {
  /** Mean accuracies of the tasks' permutations, the first of each together and so on. */
  readonly null: NullResult | null;
  /** Mean difference from LM-Prob, prompts drawn with both answers. */
  readonly overLmProb: { readonly difference: number; readonly interval: Interval | null };
}

/** P values of the tasks, in order, as Holm (1979) corrects them for their number. */
export interface Corrected {
  /** Of the permutation tests; null without permutations. */
  readonly permutation: readonly number[] | null;
  /** Of McNemar's tests against LM-Prob. */
  readonly overLmProb: readonly number[];
}

/** What all tasks say together. */
export interface TaskMeans {
  readonly rand: number;
  readonly majority: number;
  readonly lmProb: Macro;
  readonly polar: ProberMacro;
  readonly magn: ProberMacro;
  readonly act: Macro;
  readonly holm: Readonly<Record<'polar' | 'magn', Corrected>>;
}

const reports = list<TaskReport>(
  like((value) => typeof (value as Partial<TaskReport> | null)?.polar === 'object', "a task's report"),
  "a list of tasks' reports, which evaluateParts gives",
);

/** Means over tasks; NaN where there are none. */
export function taskMeans(tasks: readonly TaskReport[], seed: number): TaskMeans {
  checkValue('taskMeans', 'tasks', reports, tasks);
  checkNumber('taskMeans', 'seed', seed, NATURAL);
  const macro = (method: 'lmProb' | 'polar' | 'magn' | 'act'): Macro => ({
    accuracy: mean(tasks.map((task) => task[method].accuracy)),
    interval: bootstrapInterval(
      tasks.map((task) => {
        const { predictions }: MethodResult = task[method];
        return predictions.map((prediction, i) => Number(prediction === task.gold[i]));
      }),
      seed,
    ),
  });
  const prober = (method: 'polar' | 'magn'): ProberMacro => {
    const { accuracy, interval } = macro(method);
    const nulls = tasks.map((task) => task[method].null);
    const [first] = nulls;
    return {
      accuracy,
      interval,
      null:
        first && nulls.every((one) => one !== null)
          ? nullOf(
              first.accuracies.map((_, k) => mean(nulls.map((one) => one.accuracies[k]!))),
              accuracy,
            )
          : null,
      overLmProb: {
        difference: mean(tasks.map((task) => task[method].overLmProb.difference)),
        interval: bootstrapInterval(
          tasks.map((task) => pairedGains(task[method].predictions, task.lmProb.predictions, task.gold)),
          seed,
        ),
      },
    };
  };
  const corrected = (method: 'polar' | 'magn'): Corrected => {
    const nulls = tasks.map((task) => task[method].null);
    return {
      permutation: nulls.every((one) => one !== null) ? holm(nulls.map(({ p }) => p)) : null,
      overLmProb: holm(tasks.map((task) => task[method].overLmProb.p)),
    };
  };
  return {
    rand: mean(tasks.map(({ rand }) => rand)),
    majority: mean(tasks.map(({ majority }) => majority.accuracy)),
    lmProb: macro('lmProb'),
    polar: prober('polar'),
    magn: prober('magn'),
    act: macro('act'),
    holm: { polar: corrected('polar'), magn: corrected('magn') },
  };
}

/** Permutations from which on Holm's correction can find a task's test below 0.05: the smallest p that n give is 1 / (n + 1). */
export function permutationsFor(tasks: number): number {
  checkNumber('permutationsFor', 'tasks', tasks, NATURAL);
  return 20 * tasks - 1;
}
