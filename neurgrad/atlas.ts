/**
 * An atlas: the measured response of every neuron of a model for one prompt, where studies draw a sample.
 *
 * By curves (curve/): a few forwards a neuron, from which follow its slope G_E, r and the range within which it is linear. It is made
 * layer by layer, so that what is done can be kept.
 */

import { callback, checkOptions, list, one, optionsSchema, whole } from '../engine/options.ts';
import type { LanguageModel, Quantity, Site } from '../models/model.ts';
import { conventionFields, type Direction, type Sign } from './conventions.ts';
import type { Response } from './curve/response.ts';
import { linearRange } from './curve/shape.ts';
import { shiftField, shiftGrid } from './grid.ts';
import { checkNeuron, type Neuron, resolveSite, SITES, siteHook } from './neuron.ts';
import { checkProbe, checkTarget, neuronPosition, type Probe, tokenField } from './predict.ts';
import { checkRecord, openRecord, type PromptRecord, recordField } from './record.ts';
import { sweep } from './sweep.ts';

/** Which neurons an atlas is of, and how far they are shifted. */
export interface AtlasOptions {
  /** Default all. */
  readonly layers?: readonly number[];
  /** Default -4, -3.8 … 4: the largest linear range that can be seen. Slope and r are of |s| <= 2. */
  readonly shifts?: readonly number[];
  /** Token id; default the model's argmax. */
  readonly target?: number | undefined;
  /** Default `paper`. */
  readonly site?: Site | 'paper';
  readonly of?: Quantity;
  readonly direction?: Direction;
  readonly sign?: Sign;
  /** The prompt's run, where it is there already; its target is the default then. */
  readonly record?: PromptRecord | undefined;
  /** Told how many points of all neurons are known. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** {@link AtlasOptions} */
export const atlasOptions = optionsSchema<AtlasOptions>({
  layers: list(whole(), 'a list of layers'),
  shifts: list(shiftField, 'a list of shifts'),
  target: tokenField,
  site: one(SITES),
  ...conventionFields,
  record: recordField,
  onProgress: callback(),
});

/** Shifts of an atlas where none are asked for. */
export const atlasGrid = (): number[] => shiftGrid(-4, 4, 0.2);

/** One neuron of an atlas. */
export interface AtlasNeuron extends Neuron {
  readonly activation: number;
  readonly gradient: number;
  readonly gradientNoise: number;
  readonly neurgrad: number;
  /** G_E, r and whether it is linear, of |s| <= 2. */
  readonly slope: number;
  readonly r: number;
  readonly linear: boolean;
  readonly flat: boolean;
  readonly noise: number;
  /** Range ±R within which it is linear, no larger than the shifts; 0 where it is flat or nowhere linear. */
  readonly range: number;
  /** Points run, and the largest error of those that were not. */
  readonly ran: number;
  readonly bound: number;
  /** The whole curve as coefficients; null where all its shifts were run. */
  readonly response: Response | null;
}

/**
 * The neurons of a model, or of some of its layers, for one prompt.
 * @throws UserError as {@link sweep}.
 * @example
 * ```ts
 * import { atlas, encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/stories260k');
 * const prompt = encodePrompt(model, tokenizer, 'Once upon a time');
 * const neurons = await atlas(model, prompt, { layers: [4], shifts: [-2, -1, 1, 2] });
 * console.log(neurons.length === model.sizes.width); // → true
 * model.device.destroy();
 * ```
 */
export async function atlas(
  model: LanguageModel,
  probe: Probe,
  options: AtlasOptions = {},
): Promise<AtlasNeuron[]> {
  checkOptions('atlas', atlasOptions, options);
  checkProbe('atlas', model, probe);
  const { layers: all, width } = model.sizes;
  const { layers = Array.from({ length: all }, (_, layer) => layer), of, direction, sign } = options;
  const site = resolveSite(options.site ?? 'paper', model);
  for (const layer of layers) checkNeuron({ layer, index: 0, site }, model);
  if (options.target !== undefined) checkTarget(options.target, model.sizes.vocabulary);
  checkRecord('atlas', model, probe, options);
  const at = neuronPosition(probe, options.record?.neuronPosition);
  const names = layers.map((layer) => siteHook(layer, site));
  // One backward for all layers.
  using own = options.record
    ? null
    : await openRecord(model, probe, {
        at,
        names,
        of: of ?? 'prob',
        target: options.target,
        differences: true,
      });
  const record = options.record ?? own!;
  const found: AtlasNeuron[] = [];
  for (const [number, layer] of layers.entries()) {
    const { neurons } = await sweep(model, probe, {
      neurons: Array.from({ length: width }, (_, index) => ({ layer, index, site })),
      shifts: options.shifts ?? atlasGrid(),
      record,
      ...(of ? { of } : {}),
      ...(direction ? { direction } : {}),
      ...(sign ? { sign } : {}),
      engine: 'curve',
      onProgress: (done, points) => options.onProgress?.(number * points + done, layers.length * points),
    });
    for (const { shifts, changes, p: _, values: __, valueNoise: ___, ...curve } of neurons)
      found.push({ ...curve, range: curve.flat ? 0 : linearRange(shifts, changes) });
  }
  return found;
}
