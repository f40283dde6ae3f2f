/**
 * What a run will cost: arithmetic, memory on the device and on the host, disk. Seconds follow from a rate measured on the
 * spot. A multiplication and an addition count as two operations; attention over tens to hundreds of tokens is left out,
 * a few percent.
 */

import { checkValue, like, list } from '../engine/options.ts';
import { passBytes } from '../models/cost.ts';
import { type Description, parametersOf, parseConfig, presetConfig } from '../models/index.ts';
import { checkGiven, checkNumber, NATURAL } from '../neurgrad/lists.ts';
import { SPLITS } from './data.ts';
import type { TaskPlan } from './prompts.ts';
import { prefixesOf } from './run.ts';

/** What a run will take. */
export interface Estimate {
  readonly prompts: number;
  /** Floating-point operations. */
  readonly operations: number;
  /** Of weights in float32, a prefix's keys and values, and the widest pass. */
  readonly deviceBytes: number;
  /** Counters of one task, permutations included. */
  readonly hostBytes: number;
  /** Marks and activations of valid and test prompts, and counters, as many as are kept at once. */
  readonly diskBytes: number;
}

/** What a run has to read and evaluate. */
export interface Workload {
  readonly prompts: number;
  /** Valid and test prompts whose parts are kept at once, and of how many tasks: of the largest one, or of all shards'. */
  readonly kept: number;
  readonly keptTasks: number;
  /** Mean tokens of a prompt after what its task's prompts share. */
  readonly tokens: number;
  /** Tokens that are shared, all tasks together. */
  readonly shared: number;
  /** Longest prompt. */
  readonly longest: number;
  /** Mean candidates of a prompt. */
  readonly candidates: number;
  readonly permutations: number;
}

/** Weights of the layers that every token goes through. */
const layerWeights = (description: Description): number =>
  parametersOf(description).reduce(
    (sum, { kind, stage, shape }) =>
      kind === 'matrix' && typeof stage === 'number' ? sum + shape[0]! * shape[1]! : sum,
    0,
  );

/** Operations and bytes of a workload, by counting; no device is asked. */
export function estimate(description: Description, work: Workload): Estimate {
  checkGiven('estimate', 'description', description, 'sizes', "a model's description, such as LLAMA2_7B");
  checkGiven('estimate', 'work', work, 'prompts', 'a workload, which workloadOf gives');
  const { sizes, causal } = description;
  const layers = layerWeights(description);
  const decoder = sizes.hidden * sizes.vocabulary;
  const { prompts, tokens, candidates } = work;
  // Forward and backward to activations are two products a weight; only the candidates' rows are differentiated.
  const perPrompt = causal
    ? 2 * layers * tokens + candidates * 4 * (layers + decoder)
    : candidates * 4 * (layers * tokens + decoder);
  const neurons = sizes.layers * sizes.width;
  const cache = 2 * 4 * sizes.layers * sizes.keyValueHeads * sizes.headSize * work.longest;
  const { longest } = work;
  const rows = causal ? { rows: 8 * candidates, tokens: 1 } : { rows: candidates, tokens: longest };
  const counters = (1 + work.permutations) * 4 * 4 * neurons + 8 * (candidates + 1) * neurons;
  return {
    prompts,
    operations: prompts * perPrompt + (causal ? 2 * layers * work.shared : 0),
    deviceBytes:
      4 * (layers + (causal ? 2 : 1) * decoder) +
      (causal ? 3 * cache : 0) +
      passBytes(description, { ...rows, keys: longest, tape: true }),
    hostBytes: counters,
    diskBytes: work.kept * neurons * (candidates / 2 + 2) + work.keptTasks * counters,
  };
}

const planList = list<TaskPlan>(
  like(
    (value) => typeof (value as Partial<TaskPlan> | null)?.prompts === 'object',
    'a plan, which planTask gives',
  ),
  'a list of plans, which planTask gives',
);

/** The work of planned tasks; NaN for what there is of no prompt. */
export function workloadOf(
  plans: readonly TaskPlan[],
  description: Pick<Description, 'causal'>,
  permutations: number,
  sharded = false,
): Workload {
  checkValue('workloadOf', 'plans', planList, plans);
  checkNumber('workloadOf', 'permutations', permutations, NATURAL);
  checkGiven('workloadOf', 'description', description, 'causal', "a model's description, such as LLAMA2_7B");
  const { causal } = description;
  let [prompts, tokens, shared, longest, candidates] = [0, 0, 0, 0, 0];
  for (const plan of plans) {
    const prefixes = prefixesOf(plan);
    for (const prefix of prefixes.values()) shared += prefix.length;
    for (const split of SPLITS) {
      for (const { ids, language } of plan.prompts[split]) {
        prompts++;
        tokens += ids.length - (causal ? prefixes.get(language)!.length : 0);
        longest = Math.max(longest, ids.length);
        candidates += plan.candidates.length;
      }
    }
  }
  const evaluated = plans.map(({ prompts: found }) => found.valid.length + found.test.length);
  return {
    prompts,
    kept: sharded ? evaluated.reduce((sum, count) => sum + count, 0) : Math.max(...evaluated),
    keptTasks: sharded ? plans.length : 1,
    tokens: tokens / prompts,
    shared,
    longest,
    candidates: candidates / prompts,
    permutations,
  };
}

/** Llama2-7B, for whom the paper's Table 3 is. */
export const LLAMA2_7B: Description = parseConfig(presetConfig('llama2-7b')).description;

/**
 * The whole release with Llama2-7B: its questions, and token counts from their characters (243 a question and 1045 a
 * context on average, 38 contexts) at 3 characters a token, as a mean over its languages.
 */
export const WHOLE_RELEASE: Omit<Workload, 'permutations'> = {
  prompts: 160_202,
  kept: 2000,
  keptTasks: 1,
  tokens: 81,
  shared: 38 * 348,
  longest: 4096,
  candidates: 3.55,
};
