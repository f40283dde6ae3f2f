/**
 * Which share of a study's units this process takes: `i/n` as given, or what a cluster says. Slurm: array tasks, whatever
 * their first number and step. Kubernetes: indexed jobs, whose size must be passed on as JOB_COMPLETIONS.
 */

import { UserError } from '../../engine/errors.ts';
import { checkValue, like } from '../../engine/options.ts';

/** One of several shares of the units, which are dealt out in turn. */
export interface Shard {
  /** 0 to count - 1. */
  readonly index: number;
  readonly count: number;
}

/** The same as a field of options. */
export const shardField = like<Shard>((value) => {
  const { index, count } = (value ?? {}) as Partial<Shard>;
  return Number.isInteger(index) && Number.isInteger(count) && index! >= 0 && index! < count!;
}, 'a share: { index, count } with index from 0 to count - 1');

const textField = like<string>((value) => typeof value === 'string', "a text, such as '1/4'");
const environment = like<object>(
  (value) => typeof value === 'object' && value !== null,
  'an object of variables, such as process.env',
);

/** All units. */
export const WHOLE: Shard = { index: 0, count: 1 };

/** `1/4` to `4/4`. @throws UserError */
export function parseShard(text: string): Shard {
  if (typeof text !== 'string') checkValue('parseShard', 'text', textField, text);
  const match = /^(\d+)\/(\d+)$/.exec(text.trim());
  const [index, count] = [Number(match?.[1]) - 1, Number(match?.[2])];
  if (!match || count < 1 || index < 0 || index >= count)
    throw new UserError('shard', `shard "${text}" is not i/n with i from 1 to n, such as 1/4`);
  return { index, count };
}

/** The shard that the environment names, or the whole. @throws UserError for a job index without its size. */
export function detectShard(env: Readonly<Record<string, string | undefined>>): Shard {
  checkValue('detectShard', 'env', environment, env);
  const number = (name: string): number | undefined => {
    const text = env[name];
    if (text === undefined || text === '') return undefined;
    if (!/^\d+$/.test(text)) throw new UserError('shard', `${name}=${text} is not a whole number`);
    return Number(text);
  };
  const task = number('SLURM_ARRAY_TASK_ID');
  if (task !== undefined) {
    const first = number('SLURM_ARRAY_TASK_MIN') ?? 0;
    const step = number('SLURM_ARRAY_TASK_STEP') || 1;
    const last = number('SLURM_ARRAY_TASK_MAX') ?? task;
    const index = (task - first) / step;
    const count = number('SLURM_ARRAY_TASK_COUNT') ?? Math.floor((last - first) / step) + 1;
    // An array such as 0,3,7 has no step to count by.
    if (!Number.isInteger(index) || index >= count)
      throw new UserError(
        'shard',
        `SLURM_ARRAY_TASK_ID ${task} of ${count} tasks: number them evenly, or pass --shard`,
      );
    return { index, count };
  }
  const index = number('JOB_COMPLETION_INDEX');
  if (index === undefined) return WHOLE;
  const count = number('JOB_COMPLETIONS');
  if (count === undefined)
    throw new UserError(
      'shard',
      'JOB_COMPLETION_INDEX is set but JOB_COMPLETIONS is not: pass the number of completions in it',
    );
  if (index >= count) throw new UserError('shard', `JOB_COMPLETION_INDEX ${index} of ${count} completions`);
  return { index, count };
}
