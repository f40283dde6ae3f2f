/**
 * Activation patching (Vig et al. 2020; Meng et al. 2022, "causal tracing"; Heimersheim & Nanda 2024): the corrupt prompt runs with one
 * value after the other taken from the clean one (`denoise`), or the clean prompt with values of the corrupt one (`noise`), and what
 * becomes of the answer is measured.
 */

import { checkOptions, one, optionsSchema } from '../../engine/options.ts';
import { type LanguageModel, runModel } from '../../models/model.ts';
import { probeRows } from '../predict.ts';
import { Downstream } from './downstream.ts';
import { type Metric, metricField, metricsOf, metricValues } from './metric.ts';
import { firstDifference, type PromptPair, pairList, placesOfAll } from './pairs.ts';
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
import {
  DIRECTIONS_OF_PATCHING,
  type ExperimentTable,
  ends,
  type PairResult,
  type PatchDirection,
  tableOf,
} from './table.ts';

/** What is measured, and which prompt runs. */
export interface ContrastOptions {
  /** One or several; default `logit_diff`. */
  readonly metric?: Metric | readonly Metric[];
  /** Default `denoise`. */
  readonly direction?: PatchDirection;
}
/** Fields of {@link ContrastOptions}. */
export const contrastFields = { metric: metricField, direction: one(DIRECTIONS_OF_PATCHING) };

/** What is patched, measured and how. */
export interface ActivationPatchingOptions extends PlaceOptions, ContrastOptions, RunsOptions {}

/** {@link ActivationPatchingOptions} */
export const activationPatchingOptions = optionsSchema<ActivationPatchingOptions>(
  { ...placeFields, ...contrastFields, ...runsFields },
  { hook: 'component', metrics: 'metric', batchSize: 'rowsPerPass' },
);

/**
 * One run for each place of a component and each pair: `value` is the metric with that place patched, `recovered` 0 where that changes
 * nothing against the corrupt prompt and 1 where it gives what the clean one does.
 * @throws UserError for an option or value that there is not, and prompts that are not of equal length.
 * @example
 * ```ts
 * import { activationPatching, encodePrompt, loadModel, tableGrid } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const [clean, corrupt] = ['Japan', 'Egypt'].map((country) =>
 *   encodePrompt(model, tokenizer, `The capital of ${country} is [MASK].`),
 * );
 * const [answer, other] = [tokenizer.idOf('tokyo')!, tokenizer.idOf('cairo')!];
 * const table = await activationPatching(model, { clean: clean!, corrupt: corrupt!, answer, other });
 * // Layers x positions; before layer 0 the country's own token alone makes the difference.
 * console.log(tableGrid(table, 'logit_diff', 'recovered')[0]!.map((share) => Math.round(share)));
 * model.device.destroy();
 * ```
 */
export async function activationPatching(
  model: LanguageModel,
  pairs: PromptPair | readonly PromptPair[],
  options: ActivationPatchingOptions = {},
): Promise<ExperimentTable> {
  checkOptions('activationPatching', activationPatchingOptions, options);
  const list = pairList('activationPatching', model, pairs);
  const { direction = 'denoise', engine } = options;
  const metrics = metricsOf(options.metric, list);
  const placesOfPair = placesOfAll(model, list, options);
  const results: PairResult[] = [];
  for (const [n, pair] of list.entries()) {
    const places = placesOfPair[n]!;
    const [base, source] = direction === 'denoise' ? [pair.corrupt, pair.clean] : [pair.clean, pair.corrupt];
    const hooks = hookNames(places);
    const told = optionsOfPair(options, n, list.length);
    if (computesDownstream(model, engine)) {
      const earliest = Math.min(...places.map(({ position }) => position ?? 0));
      const first = Math.max(firstDifference(pair), earliest);
      using own = Downstream.open(model, base, first, wantedOfPlain(places));
      using others = Downstream.open(model, source, first, hooks);
      const found = await patchedRuns(own, pair, places, async (names) => others.values(names), told);
      const given = metricValues(await others.logits.read(), pair);
      results.push({ ...found, ...ends(direction, found.base, given) });
    } else {
      using others = await runModel(model, probeRows(source), { capture: hooks, logits: [source.position] });
      const found = await naivePatchedRuns(model, base, pair, places, others, told);
      const given = metricValues(await others.logits.read(), pair);
      results.push({ ...found, ...ends(direction, found.base, given) });
    }
  }
  return tableOf('activation_patching', direction, metrics, placesOfPair[0]!, results);
}
