/**
 * The plan of a linearity study: everything that its numbers depend on, as JSON (docs/architecture.md#studies). Its hash names the study:
 * parts of another plan are never mixed in.
 */

import * as v from 'valibot';
import { UserError } from '../../engine/errors.ts';
import {
  explain,
  type Field,
  finite,
  flag,
  isPlain,
  list,
  one,
  positive,
  show,
  text,
  whole,
} from '../../engine/options.ts';
import { digestOf } from '../../models/seal.ts';
import { WEIGHT_DTYPES } from '../../models/storage.ts';
import { conventionFields } from '../conventions.ts';
import { estimatorNames } from '../estimators/estimator.ts';
import { shiftGrid } from '../grid.ts';
import { endpointsField } from '../integrated.ts';
import { maxVarianceField } from '../linearity.ts';
import { SITES } from '../neuron.ts';
import { seedField } from '../random.ts';
import { RANGE_SLACK } from '../statistics.ts';
import { SWEEP_ENGINES } from '../sweep.ts';
import { withFiles } from './textFile.ts';

const MODELS = "a list of models' folders or Hugging Face ids";
const MODEL = "a model's folder or Hugging Face id, or an object: { path, prompts, neurons }";
/** An object of the plan, which says what belongs into it where it is something else. */
const part = <const Entries extends v.ObjectEntries>(entries: Entries) =>
  v.strictObject(entries, `an object: { ${Object.keys(entries).join(', ')} }`);
// The fields of the library's own options: a plan and a program are told the same.
const count = whole();
const seed = v.optional(seedField, 0);
const { of, direction, sign } = conventionFields;
const grid = part({ from: finite, to: finite, step: positive });

// What a model may have of its own; what it leaves out is the plan's.
const promptFields = {
  // A file or folder of any form in docs/prompts.md.
  path: v.optional(text),
  // What it is its fields say; kept for the plans that name it.
  format: v.optional(one(['jsonl', 'myriadlama', 'pararel'])),
  count: v.optional(count),
  seed: v.optional(seedField),
  // Keep prompts whose answer is the model's argmax.
  answeredRight: v.optional(flag),
  // At most one prompt of a fact (subject and object).
  onePerFact: v.optional(flag),
  // Leave prompts out that contain their answer.
  hideAnswer: v.optional(flag),
};
const neuronFields = {
  // So many, drawn; or
  perPrompt: v.optional(count),
  // those that are named, as `--neurons` names them: `L3.N327,L0.*,top:20,random:100`.
  list: v.optional(text),
  // `shared`: the same draw for all prompts (the release); `perPrompt`: drawn anew.
  sampling: v.optional(one(['shared', 'perPrompt'])),
  seed: v.optional(seedField),
  site: v.optional(one(SITES)),
};
const ownModel = part({
  path: text,
  prompts: v.optional(part(promptFields)),
  neurons: v.optional(part(neuronFields)),
});
type OwnModel = v.InferOutput<typeof ownModel>;
/** An object is told by its own fields; a union would only say that it is neither. */
const modelField = {
  ...v.lazy(
    (value): v.GenericSchema<string | OwnModel> =>
      isPlain(value) ? ownModel : typeof value === 'string' ? text : v.string(MODEL),
  ),
  entries: ownModel.entries,
} as unknown as Field<string | OwnModel>;

const schema = part({
  name: v.optional(text, 'study'),
  // Folders or Hugging Face ids, with prompts and neurons of their own where they have any.
  models: v.pipe(list(modelField, MODELS), v.nonEmpty(MODELS)),
  // How their weight matrices are kept.
  dtype: v.optional(one(WEIGHT_DTYPES), 'f32'),
  // Of all models that have none of their own.
  prompts: part({
    ...promptFields,
    format: v.optional(promptFields.format.wrapped, 'jsonl'),
    count,
    seed,
    answeredRight: v.optional(flag, true),
    onePerFact: v.optional(flag, false),
    hideAnswer: v.optional(flag, false),
  }),
  neurons: v.optional(
    part({
      ...neuronFields,
      sampling: v.optional(neuronFields.sampling.wrapped, 'perPrompt'),
      seed,
      site: v.optional(one(SITES), 'paper'),
    }),
    {},
  ),
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
  // Rows of Table 1, by name; default G_C, NeurGrad and, where `integrated` has prompts, IG. Without a default here, for plans of before.
  estimators: v.optional(estimatorNames),
  engine: v.optional(one(['auto', ...SWEEP_ENGINES]), 'auto'),
});

/**
 * A plan with its defaults filled in; what each field means stands beside it in neurgrad/study/plan.ts. What a model of it has of its own
 * stays beside the model: {@link modelPlans} puts them together.
 */
export type Plan = v.InferOutput<typeof schema>;
/** Neurons as a plan may be given them: their list alone, as a text, or with how they are drawn. */
type NeuronsInput<Whole> = string | (Omit<Whole, 'list'> & { readonly list?: string | readonly string[] });
type Written = v.InferInput<typeof schema>;
/** A plan as it is written, defaults left out. */
export type PlanInput = Omit<Written, 'models' | 'neurons'> & {
  readonly models: readonly (
    | string
    | (Omit<OwnModel, 'prompts' | 'neurons'> & {
        /** A file or folder, or what of the plan's is other for this model. */
        readonly prompts?: string | OwnModel['prompts'];
        readonly neurons?: NeuronsInput<NonNullable<OwnModel['neurons']>>;
      })
  )[];
  readonly neurons?: NeuronsInput<NonNullable<Written['neurons']>>;
};

/** Which prompts a model is asked: {@link Plan}'s, with a path. */
export type PromptsPlan = Plan['prompts'] & { readonly path: string };
/** Which neurons of a model are swept: `list`, or `perPrompt` of them, drawn. */
export type NeuronsPlan = Plan['neurons'];
/** One model of a plan, with the prompts and the neurons that are its own or the plan's. */
export interface ModelPlan {
  readonly path: string;
  readonly prompts: PromptsPlan;
  readonly neurons: NeuronsPlan;
}

/** The models of a plan, in its order. */
export function modelPlans(plan: Plan): ModelPlan[] {
  checkPlan('modelPlans', plan);
  return plan.models.map((model): ModelPlan => {
    const own: OwnModel = typeof model === 'string' ? { path: model } : model;
    return {
      path: own.path,
      prompts: { ...plan.prompts, ...own.prompts } as PromptsPlan,
      neurons: neuronsOver(plan.neurons, own.neurons),
    };
  });
}

/** A list takes the place of a number of neurons, and the other way round. */
function neuronsOver(plan: NeuronsPlan, own: OwnModel['neurons']): NeuronsPlan {
  const { perPrompt, list: named, ...rest } = plan;
  const count = own?.list === undefined && perPrompt !== undefined ? { perPrompt } : {};
  const names = own?.perPrompt === undefined && named !== undefined ? { list: named } : {};
  return { ...rest, ...count, ...names, ...own } as NeuronsPlan;
}

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
  const result = v.safeParse(schema, spelledOut(json));
  if (!result.success) {
    const [issue] = result.issues;
    throw new UserError('plan', `${name}: ${explain(issue, schema)}`);
  }
  const plan = result.output;
  checkModels(name, plan);
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
  const fewest = Math.min(...modelPlans(plan).map(({ prompts }) => prompts.count));
  if (plan.figure.prompts > fewest)
    throw new UserError('plan', `${name}: figure.prompts: there are only ${fewest} prompts`);
  const { estimators: names } = plan;
  if (names === undefined) return plan;
  if (names.length === 0 || new Set(names).size < names.length)
    throw new UserError('plan', `${name}: estimators: must be one or more, each once`);
  // Who names them wants them: of all prompts, where no number is given.
  const most = Math.max(...modelPlans(plan).map(({ prompts }) => prompts.count));
  const asked = names.includes('integrated') ? plan.integrated.prompts || most : 0;
  return { ...plan, integrated: { ...plan.integrated, prompts: asked } };
}

/** Names of the estimators that a plan asks for, in the order of its tables. */
export function estimatorsOf(plan: Plan): readonly string[] {
  checkPlan('estimatorsOf', plan);
  const { estimators, integrated } = plan;
  return estimators ?? ['gradient', ...(integrated.prompts > 0 ? ['integrated'] : []), 'neurgrad'];
}

/** What each model must have, its own or the plan's. */
function checkModels(name: string, plan: Plan): void {
  const seen = new Map<string, number>();
  for (const [i, { path, prompts, neurons }] of modelPlans(plan).entries()) {
    const model = plan.models[i]!;
    const own = (part: 'prompts' | 'neurons'): string =>
      typeof model !== 'string' && model[part] ? `models[${i}].${part}` : part;
    const fault = (part: 'prompts' | 'neurons', what: string): UserError =>
      new UserError('plan', `${name}: ${own(part)}${what}`);
    if (prompts.path === undefined)
      throw fault(
        'prompts',
        '.path is missing, expected a file or folder of prompts, here or for each model',
      );
    if (prompts.count === 0) throw fault('prompts', '.count: must be above 0');
    if (neurons.perPrompt === 0) throw fault('neurons', '.perPrompt: must be above 0');
    if ((neurons.perPrompt === undefined) === (neurons.list === undefined))
      throw fault('neurons', ': give perPrompt, a number of them, or list, such as "L3.N327,top:20"');
    // Their rows would be told apart by nothing.
    const before = seen.get(`${path}\n${prompts.path}`);
    if (before !== undefined)
      throw new UserError(
        'plan',
        `${name}: models[${i}]: is models[${before}] again, asked the same prompts`,
      );
    seen.set(`${path}\n${prompts.path}`, i);
  }
}

/** A plan as its schema has it: short forms written out, what lists of neurons name of files read. */
function spelledOut(json: unknown): unknown {
  if (!isPlain(json)) return json;
  const { models, neurons, ...rest } = json as Record<string, unknown>;
  return {
    ...rest,
    ...(models === undefined ? {} : { models: Array.isArray(models) ? models.map(modelSpelledOut) : models }),
    ...(neurons === undefined ? {} : { neurons: neuronsSpelledOut(neurons) }),
  };
}

function modelSpelledOut(model: unknown): unknown {
  if (!isPlain(model)) return model;
  const { prompts, neurons, ...rest } = model as Record<string, unknown>;
  // Without any of its own it is its path, by which it has always been named.
  if (prompts === undefined && neurons === undefined && Object.keys(rest).join() === 'path') return rest.path;
  return {
    ...rest,
    ...(prompts === undefined ? {} : { prompts: typeof prompts === 'string' ? { path: prompts } : prompts }),
    ...(neurons === undefined ? {} : { neurons: neuronsSpelledOut(neurons) }),
  };
}

function neuronsSpelledOut(given: unknown): unknown {
  const neurons = typeof given === 'string' ? { list: given } : given;
  if (!isPlain(neurons)) return neurons;
  const { list: named, ...rest } = neurons as Record<string, unknown>;
  const words =
    Array.isArray(named) && named.every((word) => typeof word === 'string') ? named.join() : named;
  if (typeof words !== 'string') return neurons;
  // A draw alone is what perPrompt asks for.
  const [, drawn] = /^\s*random:(\d{1,15})\s*$/i.exec(words) ?? [];
  if (drawn !== undefined && rest.perPrompt === undefined) return { ...rest, perPrompt: Number(drawn) };
  return { ...rest, list: withFiles(words) };
}

/** The plan and those of its fields that are objects themselves. */
function partsOf(json: unknown): [part: string, value: unknown][] {
  const plan = Object(json) as Record<string, unknown>;
  const names = ['prompts', 'neurons', 'grid', 'fit', 'figure', 'integrated'];
  const models = Array.isArray(plan.models) ? plan.models : [];
  return [
    ['the plan', json],
    ...names.map((part): [string, unknown] => [part, plan[part]]),
    ['figure.grid', Object(plan.figure).grid],
    ...models.flatMap((model, i): [string, unknown][] => [
      [`models[${i}]`, model],
      [`models[${i}].prompts`, Object(model).prompts],
      [`models[${i}].neurons`, Object(model).neurons],
    ]),
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
