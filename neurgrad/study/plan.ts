/**
 * The plan of a linearity study: everything that its numbers depend on, as JSON (DESIGN 4). Its hash names the study:
 * parts of another plan are never mixed in.
 */

import * as v from 'valibot';
import { UserError } from '../../engine/errors.ts';
import { explain, finite, flag, list, one, positive, show, text, whole } from '../../engine/options.ts';
import { digestOf } from '../../models/seal.ts';
import { WEIGHT_DTYPES } from '../../models/storage.ts';
import { conventionFields } from '../conventions.ts';
import { shiftGrid } from '../grid.ts';
import { endpointsField } from '../integrated.ts';
import { maxVarianceField } from '../linearity.ts';
import { SITES } from '../neuron.ts';
import { seedField } from '../random.ts';
import { RANGE_SLACK } from '../statistics.ts';
import { SWEEP_ENGINES } from '../sweep.ts';

const MODELS = "a list of models' folders or Hugging Face ids";
/** An object of the plan, which says what belongs into it where it is something else. */
const part = <const Entries extends v.ObjectEntries>(entries: Entries) =>
  v.strictObject(entries, `an object: { ${Object.keys(entries).join(', ')} }`);
// The fields of the library's own options: a plan and a program are told the same.
const count = whole();
const seed = v.optional(seedField, 0);
const { of, direction, sign } = conventionFields;
const grid = part({ from: finite, to: finite, step: positive });

const schema = part({
  name: v.optional(text, 'study'),
  // Folders or Hugging Face ids.
  models: v.pipe(list(text, MODELS), v.nonEmpty(MODELS)),
  // How their weight matrices are kept.
  dtype: v.optional(one(WEIGHT_DTYPES), 'f32'),
  prompts: part({
    // A file or folder of any form in docs/prompts.md.
    path: text,
    // What it is its fields say; kept for the plans that name it.
    format: v.optional(one(['jsonl', 'myriadlama', 'pararel']), 'jsonl'),
    count,
    seed,
    // Keep prompts whose answer is the model's argmax.
    answeredRight: v.optional(flag, true),
    // At most one prompt of a fact (subject and object).
    onePerFact: v.optional(flag, false),
    // Leave prompts out that contain their answer.
    hideAnswer: v.optional(flag, false),
  }),
  neurons: part({
    perPrompt: count,
    // `shared`: the same for all prompts (the release); `perPrompt`: drawn anew.
    sampling: v.optional(one(['shared', 'perPrompt']), 'perPrompt'),
    seed,
    site: v.optional(one(SITES), 'paper'),
  }),
  // Shifts of Tables 1 and 2.
  grid: v.optional(grid, { from: -2, to: 2, step: 0.2 }),
  fit: v.optional(
    part({
      range: v.optional(positive, 2),
      includeZero: v.optional(flag, false),
      withIntercept: v.optional(flag, false),
    }),
    {},
  ),
  direction: v.optional(direction, 'outward'),
  sign: v.optional(sign, '+'),
  of: v.optional(of, 'prob'),
  maxVariance: v.optional(maxVarianceField, 'all'),
  // Figure 2: fewer prompts, more neurons, a wider grid; count 0 leaves it out.
  figure: v.optional(
    part({
      prompts: count,
      neurons: count,
      grid: v.optional(grid, { from: -10, to: 10, step: 0.2 }),
    }),
    {
      prompts: 0,
      neurons: 0,
    },
  ),
  // Integrated gradients of the sampled neurons in this many prompts; layer-joint.
  integrated: v.optional(
    part({
      prompts: count,
      steps: v.optional(whole(1), 20),
      endpoints: v.optional(endpointsField, 'right'),
    }),
    { prompts: 0 },
  ),
  engine: v.optional(one(['auto', ...SWEEP_ENGINES]), 'auto'),
});

/** A plan with its defaults filled in; what each field means stands beside it in neurgrad/study/plan.ts. */
export type Plan = v.InferOutput<typeof schema>;
/** A plan as it is written, defaults left out. */
export type PlanInput = v.InferInput<typeof schema>;

/**
 * Checks a plan and fills in what it leaves out. @throws UserError naming the field.
 * @example
 * ```ts
 * import { parsePlan } from 'neurgrad/study';
 *
 * const plan = parsePlan({
 *   models: ['examples/models/facts-bert'],
 *   prompts: { path: 'prompts.jsonl', count: 10 },
 *   neurons: { perPrompt: 5 },
 * });
 * console.log(plan.grid, plan.direction); // → { from: -2, to: 2, step: 0.2 } outward
 * ```
 */
export function parsePlan(json: unknown, name = 'plan'): Plan {
  // A list has no field that is wrong, and would pass for an object without any.
  for (const [part, value] of partsOf(json))
    if (Array.isArray(value)) throw new UserError('plan', `${name}: ${part}: is a list, expected an object`);
  const result = v.safeParse(schema, json);
  if (!result.success) {
    const [issue] = result.issues;
    throw new UserError('plan', `${name}: ${explain(issue, schema)}`);
  }
  const plan = result.output;
  const shiftsOf = (part: 'grid' | 'figure.grid', { from, to, step }: Plan['grid']): number[] => {
    if (from >= to) throw new UserError('plan', `${name}: ${part}: from ${from} must be below to ${to}`);
    try {
      return shiftGrid(from, to, step);
    } catch (cause) {
      throw new UserError('plan', `${name}: ${part}: ${(cause as Error).message}`, { cause });
    }
  };
  const fitted = shiftsOf('grid', plan.grid).filter(
    (shift) => shift !== 0 && Math.abs(shift) <= plan.fit.range + RANGE_SLACK,
  );
  // Through two points there is always a line.
  if (fitted.length < 3)
    throw new UserError(
      'plan',
      `${name}: grid: ${fitted.length} shifts but 0 lie within fit.range ${plan.fit.range}; a line needs three or more`,
    );
  shiftsOf('figure.grid', plan.figure.grid);
  if (plan.figure.prompts > 0 && !(plan.figure.grid.from < 0 && plan.figure.grid.to > 0))
    throw new UserError('plan', `${name}: figure.grid: must reach to both sides of 0, for ranges ±R`);
  if (plan.prompts.count === 0) throw new UserError('plan', `${name}: prompts.count: must be above 0`);
  if (plan.neurons.perPrompt === 0)
    throw new UserError('plan', `${name}: neurons.perPrompt: must be above 0`);
  if (plan.figure.prompts > plan.prompts.count)
    throw new UserError('plan', `${name}: figure.prompts: there are only ${plan.prompts.count} prompts`);
  return plan;
}

/** The plan and those of its fields that are objects themselves. */
function partsOf(json: unknown): [part: string, value: unknown][] {
  const plan = Object(json) as Record<string, unknown>;
  const names = ['prompts', 'neurons', 'grid', 'fit', 'figure', 'integrated'];
  return [
    ['the plan', json],
    ...names.map((part): [string, unknown] => [part, plan[part]]),
    ['figure.grid', Object(plan.figure).grid],
  ];
}

/** @throws UserError for what {@link parsePlan} has not given. */
export function checkPlan(door: string, plan: unknown): asserts plan is Plan {
  const { models, prompts, neurons } = (plan ?? {}) as Partial<Plan>;
  if (!Array.isArray(models) || !prompts || !neurons)
    throw new UserError('option', `${door}: plan is ${show(plan)}, expected a plan, which parsePlan gives`);
}

/** sha256 of the plan's canonical JSON: keys sorted, defaults filled in. */
export function planHash(plan: Plan): string {
  checkPlan('planHash', plan);
  return digestOf(plan);
}

/**
 * Plans to start from. `paper`: the paper's protocol with the release's sampling (one draw of neurons for all prompts).
 * `clean`: neurons drawn for each prompt, one prompt a fact, no prompt that gives its answer away.
 */
export const PRESETS = {
  paper: {
    prompts: { count: 1000, seed: 20241118, answeredRight: true },
    neurons: { perPrompt: 100, sampling: 'shared', seed: 20241118 },
    figure: { prompts: 10, neurons: 1000 },
    integrated: { prompts: 1000 },
  },
  clean: {
    prompts: { count: 1000, seed: 20241118, answeredRight: true, onePerFact: true, hideAnswer: true },
    neurons: { perPrompt: 100, sampling: 'perPrompt', seed: 20241118 },
    figure: { prompts: 10, neurons: 1000 },
    integrated: { prompts: 1000 },
  },
} as const;
/** One of {@link PRESETS}. */
export type Preset = keyof typeof PRESETS;
