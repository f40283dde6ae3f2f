/**
 * The logit lens (nostalgebraist 2020): what the model's own head makes of the residual stream before each layer, and after the last,
 * which is its answer. The final norm takes the statistics of the vector that it is given; an encoder's transform comes before its decoder.
 */

import { concat, gatherRows, noGrad, reshape, scope } from '../../engine/index.ts';
import { checkOptions, optionsSchema, whole } from '../../engine/options.ts';
import { disown } from '../../engine/scope.ts';
import { jointsOf } from '../../models/description.ts';
import { Taps } from '../../models/hooks.ts';
import { type LanguageModel, runModel } from '../../models/model.ts';
import { probeRows } from '../predict.ts';
import { type Metric, metricField, metricRows, metricsOf } from './metric.ts';
import { type PromptAnswers, pairList, wholeModel } from './pairs.ts';
import { placeFields, positionsOf } from './places.ts';
import { type ExperimentTable, type PlaceKeys, tableOf } from './table.ts';

/** Where the lens is held. */
export interface LogitLensOptions {
  /** One or several; default `logprob`. */
  readonly metric?: Metric | readonly Metric[];
  /** Negative ones count from the end; default the probe position. */
  readonly positions?: readonly number[];
  /** Largest logits that are told; default 5. */
  readonly top?: number;
}

/** {@link LogitLensOptions} */
export const logitLensOptions = optionsSchema<LogitLensOptions>(
  { metric: metricField, positions: placeFields.positions, top: whole(1) },
  { topK: 'top', k: 'top' },
);

/** What the head says of one vector. */
export interface LensReading {
  readonly prompt: number;
  /** The number of layers stands for what the last layer gives. */
  readonly layer: number;
  readonly position: number;
  /** Tokens with a larger logit than the answer's. */
  readonly rank: number;
  /** The largest logits, the largest first. */
  readonly top: readonly { readonly id: number; readonly logit: number }[];
}

/** {@link ExperimentTable}, with what the head answers. */
export interface LensTable extends ExperimentTable {
  readonly readings: readonly LensReading[];
}

/**
 * Metrics of the answer by the head on each layer's input; rows have the layer and the position.
 * @throws UserError for a model that is not whole on one device.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, logitLens } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const clean = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const { readings } = await logitLens(model, { clean, answer: tokenizer.idOf('paris')! });
 * console.log(readings.length, readings.at(-1)!.rank, tokenizer.tokenOf(readings.at(-1)!.top[0]!.id)); // → 5 0 paris
 * model.device.destroy();
 * ```
 */
export async function logitLens(
  model: LanguageModel,
  prompts: PromptAnswers | readonly PromptAnswers[],
  options: LogitLensOptions = {},
): Promise<LensTable> {
  checkOptions('logitLens', logitLensOptions, options);
  const list = pairList('logitLens', model, prompts, false);
  const resident = wholeModel('logitLens', model);
  const metrics = metricsOf(options.metric ?? 'logprob', list);
  const { layers, hidden, vocabulary } = model.sizes;
  const { top = 5 } = options;
  const names = Array.from({ length: layers }, (_, layer) => `blocks.${layer}.hook_resid_pre`);
  names.push(jointsOf(model.description, layers - 1).next);
  const readings: LensReading[] = [];
  const places: PlaceKeys[] = [];
  const results = [];
  for (const [prompt, one] of list.entries()) {
    const positions = positionsOf(one.clean.ids.length, options.positions ?? [one.clean.position]);
    using run = await runModel(model, probeRows(one.clean), { capture: names, logits: [one.clean.position] });
    const logits = noGrad(() =>
      scope(() => {
        const rows = names.map((name) => {
          const value = run.captures.get(name)!;
          return gatherRows(reshape(value, [value.size / hidden, hidden]), positions);
        });
        const vectors = concat(rows, 0);
        const taps = new Taps(resident.hooks, 1, 1, {});
        return resident.decode(resident.head(vectors, taps, vectors.shape), taps);
      }),
    );
    disown(logits);
    try {
      const read = await logits.read();
      const values = metricRows(read, vocabulary, one);
      const answer = metricRows(await run.logits.read(), vocabulary, one)[0]!;
      results.push({ clean: answer, corrupt: null, base: null, values });
      for (let i = 0; i < names.length * positions.length; i++) {
        const row = read.subarray(i * vocabulary, (i + 1) * vocabulary);
        const layer = Math.floor(i / positions.length);
        const position = positions[i % positions.length]!;
        const own = row[one.answer]!;
        readings.push({
          prompt,
          layer,
          position,
          rank: row.reduce((count, logit) => (logit > own ? count + 1 : count), 0),
          top: Array.from(row.keys())
            .sort((a, b) => row[b]! - row[a]! || a - b)
            .slice(0, top)
            .map((id) => ({ id, logit: row[id]! })),
        });
        if (prompt === 0) places.push({ component: 'resid_pre', layer, position, head: null, neuron: null });
      }
    } finally {
      logits.dispose();
    }
  }
  return { ...tableOf('logit_lens', null, metrics, places, results), readings };
}
