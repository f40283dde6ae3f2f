/**
 * A prompt's plain run, recorded once: what gradients, sweeps, steering and atlases of it start from.
 *
 * One forward whose values are kept, as differences need them, and one backward to the neurons. Each of these functions makes a record of
 * its own where it is given none; given one, it runs the prompt no more.
 */

import { UserError } from '../engine/errors.ts';
import type { Tensor } from '../engine/index.ts';
import { checkOptions, checkValue, instance, list, one, optionsSchema, whole } from '../engine/options.ts';
import type { LanguageModel, Quantity, Site } from '../models/model.ts';
import { conventionFields } from './conventions.ts';
import { type Bundle, carriesDifferences, keepRun, openBundle } from './difference/bundle.ts';
import { resolveSite, SITES, siteHook } from './neuron.ts';
import { plainPrefix, readHooks, runHooks } from './plainRun.ts';
import {
  checkProbe,
  checkTarget,
  differentiated,
  neuronPosition,
  type Probe,
  targetOrArgmax,
  tokenField,
} from './predict.ts';
import { hooksOf, type ProbedHooks, probedHooks } from './probed.ts';

/** What a record is of. */
export interface RecordOptions {
  /** Token id; default the model's argmax. */
  readonly target?: number | undefined;
  /** Token whose neurons are read and shifted; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Sites whose gradients are wanted; default those that the model has. */
  readonly sites?: readonly (Site | 'paper')[];
  /** Default `prob`, which serves `logprob` too; `logit` has a backward of its own. */
  readonly of?: Quantity;
}

/** {@link RecordOptions} */
export const recordOptions = optionsSchema<RecordOptions>({
  target: tokenField,
  neuronPosition: whole(),
  sites: list(one(SITES), 'a list of sites'),
  of: conventionFields.of,
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
  /** The target's probability. */
  readonly p: number;
  readonly #of: Quantity;
  readonly #names: ReadonlySet<string>;
  readonly #hooks: (of: Quantity) => ProbedHooks;
  readonly #known = new Map<Quantity, ProbedHooks>();
  readonly #bundle: Bundle | null;
  #open = true;

  /** @internal */
  constructor(
    about: Pick<PromptRecord, 'model' | 'probe' | 'neuronPosition' | 'target'> & {
      readonly of: Quantity;
      readonly names: readonly string[];
      readonly hooks: (of: Quantity) => ProbedHooks;
      readonly bundle: Bundle | null;
    },
  ) {
    this.model = about.model;
    this.probe = about.probe;
    this.neuronPosition = about.neuronPosition;
    this.target = about.target;
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
  hooks(names: readonly string[], of: Quantity): ProbedHooks {
    checkValue('hooks', 'of', conventionFields.of, of);
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
  const { of = 'prob', sites = model.sites } = options;
  const at = neuronPosition(probe, options.neuronPosition);
  const { layers } = model.sizes;
  const names = [...new Set(sites.map((site) => resolveSite(site, model)))].flatMap((site) =>
    Array.from({ length: layers }, (_, layer) => siteHook(layer, site)),
  );
  return openRecord(model, probe, { at, names, of, target: options.target, differences: true });
}

/** What a record is asked for, by functions that take one. */
export interface AskedOfRecord {
  readonly record?: PromptRecord | undefined;
  readonly target?: number | undefined;
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
  { record, target, neuronPosition: at }: AskedOfRecord,
): void {
  if (!record) return;
  record.checkOpen();
  const text = ({ ids, position, tokenTypeIds }: Probe): string =>
    JSON.stringify([ids, position, tokenTypeIds ?? null]);
  const other =
    record.model !== model
      ? 'another model'
      : text(record.probe) !== text(probe)
        ? 'another prompt'
        : target !== undefined && target !== record.target
          ? `target ${record.target}, not ${target}`
          : at !== undefined && at !== record.neuronPosition
            ? `neurons at position ${record.neuronPosition}, not ${at}`
            : null;
  if (other !== null) throw new UserError('record', `${door}: the record is of ${other}`);
}

/** The same for gradients at some hooks. `differences`: whether the values that they start from are kept, where the model carries them. */
export async function openRecord(
  model: LanguageModel,
  probe: Probe,
  about: {
    readonly at: number;
    readonly names: readonly string[];
    readonly of: Quantity;
    readonly target: number | undefined;
    readonly differences: boolean;
  },
): Promise<PromptRecord> {
  const { at, names, of } = about;
  if (about.target !== undefined) checkTarget(about.target, model.sizes.vocabulary);
  const asked = hooksOf(model, names);
  // A bundle keeps no token of a causal model after the one that is read: nothing there is heard.
  const kept = about.differences && carriesDifferences(model) && (!model.causal || at <= probe.position);
  const record = (
    target: number,
    hooks: (of: Quantity) => ProbedHooks,
    bundle: Bundle | null,
  ): PromptRecord => new PromptRecord({ model, probe, neuronPosition: at, target, of, names, hooks, bundle });
  if (!kept) {
    using prefix = plainPrefix(model, probe, at);
    const target = await targetOrArgmax(model, probe, about.target, prefix);
    const readings = await runHooks(model, probe, at, asked, of, target, prefix);
    return record(target, (quantity) => probedHooks(model, asked, quantity, target, readings), null);
  }
  const prefix = plainPrefix(model, probe, at);
  const held: Tensor[] = [];
  let run: ReturnType<typeof keepRun>;
  let target: number;
  try {
    target = await targetOrArgmax(model, probe, about.target, prefix);
    run = keepRun(
      model,
      { probe, at, prefix },
      (t) => {
        held.push(t);
        return t;
      },
      {
        capture: asked.captured,
        grad: { at: names, of: { of: differentiated(of), target: [target], position: [probe.position] } },
      },
    );
  } catch (error) {
    for (const t of held) t.dispose();
    prefix?.dispose();
    throw error;
  }
  using plain = run.run;
  const bundle = await openBundle(model, [{ probe, at, target, prefix }], [run]);
  try {
    const readings = await readHooks(model, plain, asked, at);
    return record(target, (quantity) => probedHooks(model, asked, quantity, target, readings), bundle);
  } catch (error) {
    bundle.dispose();
    throw error;
  }
}
