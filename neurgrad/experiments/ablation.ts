/**
 * Ablation: the prompt's run with one place after the other set to zero, to its mean over reference prompts, or to its value in one
 * of them (Wang et al. 2022; Chan et al. 2022, "resampling"), and what becomes of the answer.
 */

import { UserError } from '../../engine/errors.ts';
import { noGrad, scope, slice, type Tensor, tensor } from '../../engine/index.ts';
import { checkOptions, like, list, one, optionsSchema } from '../../engine/options.ts';
import { disown } from '../../engine/scope.ts';
import { type LanguageModel, runModel } from '../../models/model.ts';
import { checkProbe, type Probe, probeRows } from '../predict.ts';
import { seededRandom, seedField } from '../random.ts';
import { Downstream } from './downstream.ts';
import { type Metric, metricField, metricsOf } from './metric.ts';
import { type PromptAnswers, pairList, placesOfAll } from './pairs.ts';
import {
  computesDownstream,
  naivePatchedRuns,
  optionsOfPair,
  patchedRuns,
  type RunsOptions,
  runsFields,
  wantedOfPlain,
} from './patchedRuns.ts';
import { hookNames, type PlaceOptions, placeFields } from './places.ts';
import { type ExperimentTable, type PairResult, tableOf } from './table.ts';

/** What is ablated, and by what. */
export interface AblationOptions extends PlaceOptions, RunsOptions {
  /** One or several; default `logit_diff`. */
  readonly metric?: Metric | readonly Metric[];
  /** Default `zero`. */
  readonly op?: 'zero' | 'mean' | 'resample';
  /** Prompts that `mean` and `resample` take values of. */
  readonly reference?: readonly Probe[];
  /** Of `mean`: over the reference prompts at the same position (`rows`, default; prompts of the same length), or over positions, too (`all`). */
  readonly over?: 'rows' | 'all';
  /** Of `resample`, which draws a reference for each prompt; default 0. */
  readonly seed?: number;
}

const probeField = like<Probe>(
  (value) => typeof value === 'object' && value !== null && 'ids' in value,
  'a prompt',
);
/** {@link AblationOptions} */
export const ablationOptions = optionsSchema<AblationOptions>(
  {
    ...placeFields,
    ...runsFields,
    metric: metricField,
    op: one(['zero', 'mean', 'resample']),
    reference: list(probeField, 'a list of prompts'),
    over: one(['rows', 'all']),
    seed: seedField,
  },
  { mode: 'op', metrics: 'metric', references: 'reference' },
);

/**
 * One run for each place and prompt: `value` is the metric without what the place has, `change` what that does to it.
 * @throws UserError for an option or value that there is not, and `mean` or `resample` without a reference.
 * @example
 * ```ts
 * import { ablation, encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const clean = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const prompt = { clean, answer: tokenizer.idOf('paris')! };
 * const { rows } = await ablation(model, prompt, { component: 'mlp_out', by: 'layer', metric: 'logprob' });
 * console.log(rows.length, rows.every(({ change }) => Number.isFinite(change))); // → 4 true
 * model.device.destroy();
 * ```
 */
export async function ablation(
  model: LanguageModel,
  prompts: PromptAnswers | readonly PromptAnswers[],
  options: AblationOptions = {},
): Promise<ExperimentTable> {
  checkOptions('ablation', ablationOptions, options);
  const list = pairList('ablation', model, prompts, false);
  const { op = 'zero', reference = [], over = 'rows', engine } = options;
  if (op !== 'zero' && reference.length === 0)
    throw new UserError(
      'option',
      `ablation: reference is missing, expected prompts that ${op} takes values of`,
    );
  for (const probe of reference) checkProbe('ablation', model, probe);
  const metrics = metricsOf(options.metric, list);
  const placesOfPair = placesOfAll(model, list, options);
  const random = seededRandom(options.seed ?? 0);
  const results: PairResult[] = [];
  for (const [n, prompt] of list.entries()) {
    const places = placesOfPair[n]!;
    const probes =
      op === 'resample'
        ? [reference[Math.floor(random() * reference.length)]!]
        : op === 'mean'
          ? reference
          : [];
    const hooks = hookNames(places);
    const told = optionsOfPair(options, n, list.length);
    const source = await sourceOf(model, prompt.clean, probes, hooks, over);
    try {
      if (computesDownstream(model, engine)) {
        const first = Math.min(...places.map(({ position }) => position ?? 0));
        using own = Downstream.open(model, prompt.clean, first, wantedOfPlain(places));
        const parts = new Map<string, Tensor>();
        try {
          for (const [hook, value] of source) parts.set(hook, atHand(hook, value, own));
          const found = await patchedRuns(own, prompt, places, async () => parts, told);
          results.push({ ...found, clean: found.base, corrupt: null });
        } finally {
          for (const t of parts.values()) t.dispose();
        }
      } else {
        const found = await naivePatchedRuns(model, prompt.clean, prompt, places, { captures: source }, told);
        results.push({ ...found, clean: found.base, corrupt: null });
      }
    } finally {
      for (const t of source.values()) t.dispose();
    }
  }
  return tableOf('ablation', null, metrics, placesOfPair[0]!, results);
}

/** Values [1, tokens, …] that places are set to; zeros where there is no reference. */
async function sourceOf(
  model: LanguageModel,
  probe: Probe,
  probes: readonly Probe[],
  hooks: readonly string[],
  over: 'rows' | 'all',
): Promise<Map<string, Tensor>> {
  const length = probe.ids.length;
  const shapes = new Map<string, readonly number[]>();
  using plain = await runModel(model, probeRows(probe), { capture: hooks, logits: 'none' });
  for (const [hook, value] of plain.captures) shapes.set(hook, value.shape);
  const sums = new Map(
    [...shapes].map(([hook, shape]) => [hook, new Float64Array(shape.reduce((a, b) => a * b, 1))]),
  );
  let count = 0;
  for (const other of probes) {
    if (over === 'rows' && other.ids.length !== length)
      throw new UserError(
        'pair',
        `ablation: a reference has ${other.ids.length} tokens, the prompt ${length}; take over: 'all'`,
      );
    using run = await runModel(model, probeRows(other), { capture: hooks, logits: 'none' });
    for (const hook of hooks) {
      const numbers = await run.captures.get(hook)!.read();
      const sum = sums.get(hook)!;
      if (over === 'rows') numbers.forEach((v, i) => void (sum[i]! += v));
      else {
        const shape = shapes.get(hook)!;
        if (hook.endsWith('hook_pattern'))
          throw new UserError('place', "a pattern has no mean over all positions; take over: 'rows'");
        const width = sum.length / (shape[0]! * shape[1]!);
        numbers.forEach((v, i) => void (sum[i % width]! += v));
      }
    }
    count += over === 'rows' ? 1 : other.ids.length;
  }
  const found = new Map<string, Tensor>();
  for (const [hook, sum] of sums) {
    const shape = shapes.get(hook)!;
    const width = sum.length / (shape[0]! * shape[1]!);
    const spread = over === 'all' && probes.length > 0;
    const values = Float32Array.from(sum, (v, i) =>
      count === 0 ? 0 : (spread ? sum[i % width]! : v) / count,
    );
    const made = tensor(model.device, values, shape);
    disown(made);
    found.set(hook, made);
  }
  return found;
}

/** A value at the tokens that a plain run has at hand. */
function atHand(hook: string, value: Tensor, { first, tokens }: Downstream): Tensor {
  const end = first + tokens;
  const made = noGrad(() =>
    scope(() =>
      hook.endsWith('hook_pattern')
        ? slice(value, [0, 0, first, 0], [1, value.dim(1), end, end])
        : slice(value, [0, first], [1, end]),
    ),
  );
  disown(made);
  return made;
}
