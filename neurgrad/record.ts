/**
 * A prompt's plain run, recorded once: what gradients, sweeps, steering and atlases of it start from.
 *
 * One forward whose values are kept, as differences need them, and one backward to the neurons. Each of these functions makes a record of
 * its own where it is given none; given one, it runs the prompt no more.
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions, checkValue, instance, list, one, optionsSchema, whole } from '../engine/options.ts';
import type { LanguageModel, Site } from '../models/model.ts';
import { checkOther, type Target } from './answers.ts';
import { type Measure, measureFields } from './conventions.ts';
import { type Bundle, carriesDifferences } from './difference/bundle.ts';
import { keepPrompts } from './keptPrompts.ts';
import { resolveSite, SITES, siteHook } from './neuron.ts';
import { runHooks } from './plainRun.ts';
import {
  checkProbe,
  checkTarget,
  differentiated,
  neuronPosition,
  type Probe,
  type Tokens,
  targetOf,
  tokenField,
} from './predict.ts';
import { hooksOf, type ProbedHooks, probedHooks, type ReadHooks } from './probed.ts';

/** What a record is of. */
export interface RecordOptions {
  /** Token id; default the model's argmax. */
  readonly target?: number | undefined;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
  /** Token whose neurons are read and shifted; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Sites whose gradients are wanted; default those that the model has. */
  readonly sites?: readonly (Site | 'paper')[];
  /** Default `prob`, which serves `logprob` too; `logit` and `logit_diff` have a backward of their own. */
  readonly of?: Measure;
}

/** {@link RecordOptions} */
export const recordOptions = optionsSchema<RecordOptions>({
  target: tokenField,
  other: tokenField,
  neuronPosition: whole(),
  sites: list(one(SITES), 'a list of sites'),
  of: measureFields.of,
});

/** A prompt that was run. It holds memory of the device until it is disposed of. */
export class PromptRecord implements Disposable {
  /** What ran it. */
  readonly model: LanguageModel;
  /** The prompt. */
  readonly probe: Probe;
  /** Where the neurons are. */
  readonly neuronPosition: number;
  /** Token id. */
  readonly target: number;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
  /** The target's probability. */
  readonly p: number;
  readonly #of: Measure;
  readonly #names: ReadonlySet<string>;
  readonly #hooks: (of: Measure) => ProbedHooks;
  readonly #known = new Map<Measure, ProbedHooks>();
  readonly #bundle: Bundle | null;
  #open = true;

  /** @internal */
  constructor(
    about: Pick<PromptRecord, 'model' | 'probe' | 'neuronPosition' | 'target' | 'other'> & {
      readonly of: Measure;
      readonly names: readonly string[];
      readonly hooks: (of: Measure) => ProbedHooks;
      readonly bundle: Bundle | null;
    },
  ) {
    this.model = about.model;
    this.probe = about.probe;
    this.neuronPosition = about.neuronPosition;
    this.target = about.target;
    this.other = about.other;
    this.#of = about.of;
    this.#names = new Set(about.names);
    this.#hooks = about.hooks;
    this.#bundle = about.bundle;
    this.p = this.hooks([], about.of).target.prob;
  }

  /** What differences start from; null where the model carries none. @internal */
  get bundle(): Bundle | null {
    this.checkOpen();
    return this.#bundle;
  }

  /** Activations, gradients of a quantity and their noise at hooks. @throws UserError where the record is not of them. @internal */
  hooks(names: readonly string[], of: Measure): ProbedHooks {
    checkValue('hooks', 'of', measureFields.of, of);
    this.checkOpen();
    if (differentiated(of) !== differentiated(this.#of))
      throw new UserError('record', `the record is of ${this.#of}; record the prompt with of: '${of}'`);
    const missing = names.find((name) => !this.#names.has(name));
    if (missing !== undefined)
      throw new UserError('record', `the record has no gradients at ${missing}; name its site in sites`);
    const known = this.#known.get(of) ?? this.#hooks(of);
    this.#known.set(of, known);
    return known;
  }

  /** @internal */
  checkOpen(): void {
    if (!this.#open) throw new UserError('record', 'this record was disposed of; record the prompt again');
  }

  /** Frees the device's memory. */
  dispose(): void {
    if (this.#open) this.#bundle?.dispose();
    this.#open = false;
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A {@link PromptRecord}, as a field of options. */
export const recordField = instance(PromptRecord, 'a record, which recordPrompt gives');

/**
 * Runs a prompt once, for any number of {@link neuronGradients}, {@link sweep}, {@link steer} and {@link atlas} of it.
 * @throws UserError for an option or value that there is not, a target outside the vocabulary or a position outside the prompt.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, neuronAt, neuronGradients, recordPrompt, strongest, sweep } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const record = await recordPrompt(model, prompt);
 * const { neurgrad, width } = await neuronGradients(model, prompt, { record });
 * const neurons = strongest(neurgrad, 3).positive.map((flat) => neuronAt(flat, width, 'post'));
 * const { neurons: curves } = await sweep(model, prompt, { record, neurons });
 * console.log(curves.every(({ slope }) => slope > 0)); // → true
 * record.dispose();
 * model.device.destroy();
 * ```
 */
export async function recordPrompt(
  model: LanguageModel,
  probe: Probe,
  options: RecordOptions = {},
): Promise<PromptRecord> {
  checkOptions('recordPrompt', recordOptions, options);
  checkProbe('recordPrompt', model, probe);
  const { of = 'prob', sites = model.sites, target, other } = options;
  checkOther('recordPrompt', of, other);
  const at = neuronPosition(probe, options.neuronPosition);
  const { layers } = model.sizes;
  const names = [...new Set(sites.map((site) => resolveSite(site, model)))].flatMap((site) =>
    Array.from({ length: layers }, (_, layer) => siteHook(layer, site)),
  );
  return openRecord(model, probe, { at, names, of, target, other, differences: true });
}

/** What a record is asked for, by functions that take one. */
export interface AskedOfRecord {
  readonly record?: PromptRecord | undefined;
  readonly target?: Target | undefined;
  readonly other?: number | undefined;
  readonly neuronPosition?: number | undefined;
}

/**
 * Checks that a record is of the question asked. @param door the function, for the error.
 * @throws UserError where it is of another model, prompt, target or position.
 */
export function checkRecord(
  door: string,
  model: LanguageModel,
  probe: Probe,
  { record, target, other, neuronPosition: at }: AskedOfRecord,
): void {
  if (!record) return;
  record.checkOpen();
  const text = ({ ids, position, tokenTypeIds }: Probe): string =>
    JSON.stringify([ids, position, tokenTypeIds ?? null]);
  const difference =
    record.model !== model
      ? 'another model'
      : text(record.probe) !== text(probe)
        ? 'another prompt'
        : target !== undefined && `${target}` !== `${record.target}`
          ? `target ${record.target}, not ${target}`
          : other !== undefined && other !== record.other
            ? `the difference from ${record.other ?? 'no other token'}, not ${other}`
            : at !== undefined && at !== record.neuronPosition
              ? `neurons at position ${record.neuronPosition}, not ${at}`
              : null;
  if (difference !== null) throw new UserError('record', `${door}: the record is of ${difference}`);
}

/** What a record's run is asked for. */
export interface RecordedRun extends Tokens {
  /** Position of the neurons. */
  readonly at: number;
  /** Hooks whose gradients are wanted. */
  readonly names: readonly string[];
  readonly of: Measure;
  /** Whether the values that differences start from are kept, where the model carries them. */
  readonly differences: boolean;
}

/** The same for gradients at some hooks. */
export async function openRecord(
  model: LanguageModel,
  probe: Probe,
  about: RecordedRun,
): Promise<PromptRecord> {
  const { at, names, of, other } = about;
  for (const id of [about.target, other]) if (id !== undefined) checkTarget(id, model.sizes.vocabulary);
  const asked = hooksOf(model, names);
  // A bundle keeps no token of a causal model after the one that is read: nothing there is heard.
  const kept = about.differences && carriesDifferences(model) && (!model.causal || at <= probe.position);
  const record = (readings: ReadHooks, bundle: Bundle | null): PromptRecord => {
    const target = targetOf(readings.logits, about.target);
    const hooks = (measure: Measure): ProbedHooks =>
      probedHooks(model, asked, measure, { target, other }, readings);
    return new PromptRecord({ model, probe, neuronPosition: at, target, other, of, names, hooks, bundle });
  };
  if (!kept) return record(await runHooks(model, probe, at, asked, of, about), null);
  const read = (logits: Float32Array): number[] => [
    targetOf(logits, about.target),
    ...(other === undefined ? [] : [other]),
  ];
  const { target } = about;
  const { readings, bundle } = await keepPrompts(model, [{ probe, at, of, target, other, read }], asked);
  try {
    return record(readings[0]!, bundle);
  } catch (error) {
    bundle.dispose();
    throw error;
  }
}
