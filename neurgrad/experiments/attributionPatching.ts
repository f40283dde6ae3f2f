/**
 * Attribution patching (Nanda 2023; Syed et al. 2023; Kramár et al. 2024, "AtP"): what activation patching would give, to first
 * order, for all places at once by one backward: the change is the sum of (source - base) dM/dx at the base run over a place's numbers.
 */

import { checkOptions, optionsSchema } from '../../engine/options.ts';
import { hooksOf } from '../../models/description.ts';
import { checkFinite } from '../../models/finite.ts';
import { pointOf } from '../../models/hooks.ts';
import { type LanguageModel, type RunOptions, runModel } from '../../models/model.ts';
import { type Probe, probeRows } from '../predict.ts';
import { type ContrastOptions, contrastFields } from './activationPatching.ts';
import {
  type Answers,
  differentiatedMetric,
  type Metric,
  type MetricValues,
  metricsOf,
  metricValues,
} from './metric.ts';
import { type PromptPair, pairList, placesOfAll } from './pairs.ts';
import { hookNames, indicesOf, type PlaceOptions, placeFields } from './places.ts';
import { type ExperimentTable, ends, type PairResult, tableOf, type Values } from './table.ts';

/** What would be patched, and what is measured. */
export interface AttributionPatchingOptions extends PlaceOptions, ContrastOptions {}

/** {@link AttributionPatchingOptions} */
export const attributionPatchingOptions = optionsSchema<AttributionPatchingOptions>(
  { ...placeFields, ...contrastFields },
  { hook: 'component', metrics: 'metric' },
);

/** Values of a run of a prompt, gradients of a metric there, and its metrics. */
interface Differentiated {
  readonly values: ReadonlyMap<string, Float32Array>;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly gradients: ReadonlyMap<Metric, ReadonlyMap<string, Float32Array>>;
  readonly metrics: MetricValues;
}

/** A run of a prompt and a backward for each metric, at hook points. */
export async function differentiate(
  model: LanguageModel,
  probe: Probe,
  answers: Answers,
  hooks: readonly string[],
  metrics: readonly Metric[],
): Promise<Differentiated> {
  const gradients = new Map<Metric, Map<string, Float32Array>>();
  const values = new Map<string, Float32Array>();
  const shapes = new Map<string, readonly number[]>();
  let found: MetricValues | null = null;
  const { position } = probe;
  for (const metric of metrics) {
    const { of, factor } = differentiatedMetric(metric, answers);
    const objective: NonNullable<RunOptions['grad']>['of'] =
      metric === 'logit_diff'
        ? of
        : { of: metric === 'logit' ? 'logit' : 'logodds', target: [answers.answer], position: [position] };
    using run = await runModel(model, probeRows(probe), {
      capture: found ? [] : hooks,
      grad: { at: hooks, of: objective },
      logits: [position],
    });
    found ??= metricValues(await run.logits.read(), answers);
    const times = factor(found);
    const own = new Map<string, Float32Array>();
    for (const hook of hooks) {
      const value = run.captures.get(hook);
      if (value) {
        values.set(hook, await value.read());
        shapes.set(hook, value.shape);
      }
      const gradient = await run.gradients.get(hook)!.read();
      checkFinite(gradient, `the gradients at ${hook}`, 'number');
      own.set(
        hook,
        gradient.map((g) => g * times),
      );
    }
    gradients.set(metric, own);
  }
  return { values, shapes, gradients, metrics: found! };
}

/**
 * The estimate of {@link activationPatching} with the same options: rows have the same keys, `change` is the estimated change and `value`
 * the base run's metric with it.
 * @throws UserError for an option or value that there is not, and prompts that are not of equal length.
 * @example
 * ```ts
 * import { attributionPatching, encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const [clean, corrupt] = ['Japan', 'Egypt'].map((country) =>
 *   encodePrompt(model, tokenizer, `The capital of ${country} is [MASK].`),
 * );
 * const [answer, other] = [tokenizer.idOf('tokyo')!, tokenizer.idOf('cairo')!];
 * const pair = { clean: clean!, corrupt: corrupt!, answer, other };
 * const { rows } = await attributionPatching(model, pair, { component: 'z' });
 * console.log(rows.length, rows.every(({ change }) => Number.isFinite(change))); // → 16 true
 * model.device.destroy();
 * ```
 */
export async function attributionPatching(
  model: LanguageModel,
  pairs: PromptPair | readonly PromptPair[],
  options: AttributionPatchingOptions = {},
): Promise<ExperimentTable> {
  checkOptions('attributionPatching', attributionPatchingOptions, options);
  const list = pairList('attributionPatching', model, pairs);
  const { direction = 'denoise' } = options;
  const metrics = metricsOf(options.metric, list);
  const placesOfPair = placesOfAll(model, list, options);
  const table = hooksOf(model.description);
  const results: PairResult[] = [];
  for (const [n, pair] of list.entries()) {
    const places = placesOfPair[n]!;
    const hooks = hookNames(places);
    const [base, source] = direction === 'denoise' ? [pair.corrupt, pair.clean] : [pair.clean, pair.corrupt];
    const own = await differentiate(model, base, pair, hooks, metrics);
    using others = await runModel(model, probeRows(source), { capture: hooks, logits: [source.position] });
    const given = metricValues(await others.logits.read(), pair);
    const values: Values[] = [];
    for (const hook of hooks) {
      const other = await others.captures.get(hook)!.read();
      const here = own.values.get(hook)!;
      for (const place of places.filter((each) => each.hook === hook)) {
        const which = [...indicesOf(place, pointOf(table, hook), own.shapes.get(hook)!)];
        const estimate = (metric: Metric): number => {
          const gradient = own.gradients.get(metric)!.get(hook)!;
          return which.reduce((sum, i) => sum + (other[i]! - here[i]!) * gradient[i]!, 0);
        };
        values.push(Object.fromEntries(metrics.map((m) => [m, own.metrics[m] + estimate(m)])));
      }
    }
    results.push({ ...ends(direction, own.metrics, given), base: own.metrics, values });
  }
  return tableOf('attribution_patching', direction, metrics, placesOfPair[0]!, results);
}
