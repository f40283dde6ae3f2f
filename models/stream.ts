/**
 * A causal model larger than the device: layers are read from disk when their turn comes, for the forward, and again in reverse for the
 * gradients of activations; the next layer is read while the present one computes.
 *
 * The backward keeps no tape of the forward. Each layer's input is kept, its forward done again with its weights there, and
 * differentiated (gradient checkpointing, Chen et al. 2016), with the same operations in the same order as resident: results
 * are the same bit for bit. Prompts given together ride one wave: weights are read once for all of them.
 */

import { UserError } from '../engine/errors.ts';
import { type Device, grad, scope, type Tensor } from '../engine/index.ts';
import { disown } from '../engine/scope.ts';
import { disposeTokens, type LayeredModel, type Tokens } from './causal.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { ModelConfig } from './config.ts';
import { DescribedModel } from './describedModel.ts';
import { parametersOfStage } from './description.ts';
import { fusesAttention, pointOf, Taps } from './hooks.ts';
import {
  checkPrefill,
  checkRows,
  type Kept,
  type PrefillOptions,
  Prefix,
  prefillPass,
  prepareRows,
  type RowGroup,
  type RowOptions,
} from './kvCache.ts';
import type { LanguageModel, ModelInput, RunOptions, RunResult } from './model.ts';
import { loose, type Need, type Pass, type Stage } from './pass.ts';
import type { Place } from './patches.ts';
import { type CheckedInput, checkInput, checkOptions, resultOf, runChecked } from './run.ts';
import { checkRun } from './runOptions.ts';
import type { WeightDtype } from './storage.ts';
import { Transformer } from './transformer.ts';
import { WeightLoader, type WeightOptions } from './weights.ts';

/** Mapped memory of the host, so that reading runs ahead of the device by as much. */
const STAGING_BUFFERS = 12;

/** Where a pass starts. */
interface Entry {
  readonly from: number;
  readonly embeds: boolean;
  readonly start: (taps: Taps) => Tensor;
  readonly tokens: () => Tokens;
  readonly place?: Place;
}

/** What names and layers are looked up in. */
type Named = Pick<LayeredModel, 'hooks' | 'sizes'>;

/** Whether a name lies behind the last layer. */
export const isFinal = (model: Named, name: string): boolean => layerOf(model, name) === model.sizes.layers;

/** The part of the options, without gradients, that concerns the head, or the layers. */
export function partOf(model: Named, options: RunOptions, head: boolean): RunOptions {
  const here = (name: string) => isFinal(model, name) === head;
  // Of the whole run: a part, or a layer's forward in the backward, must not take another path.
  return {
    fusedAttention: fusesAttention(model.hooks, options),
    fusedNorm: options.fusedNorm,
    patch: (options.patch ?? []).filter((p) => here(p.name)),
    edit: Object.fromEntries(Object.entries(options.edit ?? {}).filter(([name]) => here(name))),
    capture: (options.capture ?? []).filter(here),
  };
}

/** What the head differentiates by: the last layer's output. */
export const residualName = ({ sizes }: Pick<LayeredModel, 'sizes'>): string =>
  `blocks.${sizes.layers - 1}.hook_resid_post`;

/** Values that a function of the captures may take where the layers' tape is gone. */
class HeadCaptures extends Map<string, Tensor> {
  override get(name: string): Tensor {
    const found = super.get(name);
    if (found) return found;
    throw new UserError(
      'grad',
      `grad of a function of ${name}: where weights are not all on one device, such a function takes values of the head alone`,
    );
  }
}

/** Final norm, logits and objective of a residual after the last layer; its gradient is under {@link residualName}. */
export function runHead(
  model: LayeredModel,
  input: CheckedInput,
  residual: Tensor,
  options: RunOptions,
  place?: Place,
): RunResult {
  const { device, sizes, description, hooks } = model;
  const end = residualName(model);
  const parts = { head: model.head.bind(model), decode: model.decode.bind(model) };
  const forward = (_: CheckedInput, t: Taps): Tensor => t.at(end, residual.detach());
  const at = (options.grad?.at ?? []).filter((name) => isFinal(model, name));
  const { of } = options.grad ?? {};
  const here = partOf(model, options, true);
  const objective =
    typeof of === 'function'
      ? (logits: Tensor, captures: ReadonlyMap<string, Tensor>) => of(logits, new HeadCaptures(captures))
      : of;
  const asked = {
    ...here,
    logits: options.logits,
    grad: objective && { at: [end, ...at], of: objective },
  };
  const whole = { device, sizes, description, hooks, forward, ...parts };
  return runChecked(whole, input, asked, undefined, place);
}

/**
 * One layer's forward again, and its backward: gradients at the names `at` of that layer, after that of its input where
 * `goesOn`. They belong to no scope.
 */
export function backThrough(
  model: LayeredModel,
  { rows, length }: CheckedInput,
  layer: number,
  input: Tensor,
  tokens: Tokens,
  options: RunOptions,
  at: readonly string[],
  cotangent: Tensor,
  goesOn: boolean,
  place?: Place,
): Tensor[] {
  const { capture: _, ...changes } = partOf(model, options, false);
  const asked = { ...changes, grad: options.grad && { at, of: options.grad.of } };
  const marks = new Taps(model.hooks, rows, length, asked, undefined, place);
  try {
    const found = scope(() => {
      const leaf = input.detach();
      if (goesOn) leaf.requireGrad();
      // What the tape does not need goes before the way back.
      const y = scope(() => model.layer(layer, leaf, tokens, marks));
      const values = [...(goesOn ? [leaf] : []), ...at.map((name) => marks.marked.get(name)!)];
      return grad(y, values, { cotangent, unconnected: 'zero' });
    });
    for (const t of found) disown(t);
    return found;
  } finally {
    marks.dispose();
  }
}

/** The layer that a name lies in; -1 for the embedding, the number of layers for the head. */
export const layerOf = (model: Pick<Named, 'hooks'>, name: string): number =>
  pointOf(model.hooks, name).layer;

/** A run in stages; edits of {@link RunOptions} are applied again in the backward. @throws UserError before any stage. */
export function* runPass(
  model: LayeredModel,
  input: CheckedInput,
  entry: Entry,
  options: RunOptions,
): Pass<RunResult> {
  const { sizes, hooks } = model;
  const { rows, length } = input;
  checkOptions(input, sizes, options);
  const inHead = (name: string) => isFinal(model, name);
  const asked = options.grad?.at ?? [];
  const taps = new Taps(hooks, rows, length, partOf(model, options, false), undefined, entry.place);
  /** Names whose gradient is wanted in a layer; -1 is the embedding. */
  const wanted = new Map<number, string[]>();
  for (const name of asked.filter((each) => !inHead(each))) {
    const layer = layerOf(model, name);
    wanted.set(layer, [...(wanted.get(layer) ?? []), name]);
  }
  const last = sizes.layers - 1;
  const lowest = Math.max(entry.from, Math.min(Number.POSITIVE_INFINITY, ...wanted.keys()));
  const goesBack = lowest <= last;

  const tokens = entry.tokens();
  const inputs: Tensor[] = [];
  const gradients = new Map<string, Tensor>();
  let x: Tensor | null = null;
  let cotangent: Tensor | null = null;
  let head: RunResult | null = null;
  let finished = false;
  try {
    if (entry.embeds) yield { stage: 'embed', next: 0, ids: input.ids };
    x = loose(() => entry.start(taps));
    for (let layer = entry.from; layer <= last; layer++) {
      yield { stage: layer, next: layer < last ? layer + 1 : 'head' };
      const before: Tensor = x;
      if (layer >= lowest) inputs[layer] = before;
      x = loose(() => model.layer(layer, before, tokens, taps));
      if (layer < lowest) before.dispose();
    }

    yield { stage: 'head', next: goesBack ? last : null };
    const end = residualName(model);
    head = runHead(model, input, x, options, entry.place);
    for (const name of asked.filter(inHead))
      gradients.set(
        name,
        loose(() => head!.gradients.get(name)!.detach()),
      );
    if (goesBack) cotangent = loose(() => head!.gradients.get(end)!.detach());

    for (let layer = last; layer >= lowest; layer--) {
      yield { stage: layer, next: layer > lowest ? layer - 1 : null };
      const at = wanted.get(layer) ?? [];
      const goesOn = layer > lowest || wanted.has(-1);
      const found = backThrough(
        model,
        input,
        layer,
        inputs[layer]!,
        tokens,
        options,
        at,
        cotangent!,
        goesOn,
        entry.place,
      );
      cotangent?.dispose();
      cotangent = goesOn ? found.shift()! : null;
      for (const [i, name] of at.entries()) gradients.set(name, found[i]!);
      inputs[layer]!.dispose();
      delete inputs[layer];
    }
    for (const name of wanted.get(-1) ?? [])
      gradients.set(
        name,
        loose(() => cotangent!.detach()),
      );
    finished = true;
  } finally {
    for (const t of [...inputs, x, cotangent]) t?.dispose();
    disposeTokens(tokens);
    if (!finished) {
      taps.dispose();
      head?.dispose();
      for (const t of gradients.values()) t.dispose();
    }
  }
  const whole = head;
  const captures = new Map([...taps.captures, ...whole.captures]);
  return resultOf(
    () => whole.logits,
    captures,
    gradients,
    () => {
      whole.dispose();
      taps.dispose();
      for (const t of gradients.values()) t.dispose();
    },
  );
}

/** A causal model whose weights stay on the disk: `runAsync` and its like instead of `run`. */
export class StreamedModel extends DescribedModel implements LanguageModel {
  readonly running = 'streamed';
  readonly weightDtype: WeightDtype;
  /** None: they come and go. */
  readonly parameters: ReadonlyMap<string, Tensor> = new Map();
  readonly #weights = new Map<string, Tensor>();
  readonly #model: Transformer;
  readonly #checkpoint: Checkpoint;
  readonly #loader: WeightLoader;
  /** Names of the parameters of each stage. */
  readonly #stages = new Map<Stage, ReadonlySet<string>>();
  /** The stage being read ahead. */
  #ahead: { stage: Stage; weights: Promise<Map<string, Tensor>> } | null = null;
  #present: Stage | null = null;
  /** The end of the wave before. */
  #turn: Promise<unknown> = Promise.resolve();
  #disposed = false;

  /** Takes over the checkpoint. @throws UserError where it does not hold this model, or the model is not causal. */
  constructor(device: Device, config: ModelConfig, checkpoint: Checkpoint, options: WeightOptions = {}) {
    if (!config.description.causal)
      throw new UserError(
        'stream',
        `${checkpoint.name}: only causal models can be streamed; load this ${config.family.type} as a whole`,
      );
    super(device, config);
    this.#checkpoint = checkpoint;
    this.#loader = new WeightLoader(device, checkpoint, config, options, STAGING_BUFFERS);
    this.weightDtype = this.#loader.weightDtype;
    this.#model = new Transformer(device, config, this.#weights);
  }

  /** Bytes read from the checkpoint so far. */
  get bytesRead(): number {
    return this.#loader.bytes;
  }

  /** @throws UserError always: reading weights takes time. */
  run(): RunResult {
    throw new UserError(
      'stream',
      'weights are streamed from disk: this needs runAsync, or a model that fits',
    );
  }

  /** As {@link LanguageModel.run}, layer by layer. @throws UserError before anything is read. */
  async runAsync(input: ModelInput, options: RunOptions = {}): Promise<RunResult> {
    checkRun(input, options);
    const checked = checkInput(input, this.description);
    const entry = {
      from: 0,
      embeds: true,
      start: (taps: Taps) =>
        this.#model.embed({ ...checked, positions: this.#model.positions(checked) }, taps),
      tokens: () => this.#model.tokens(checked),
    };
    return (await this.#wave([runPass(this.#model, checked, entry, options)]))[0]!;
  }

  /** Keys and values of many prompts in one wave. @throws UserError */
  prefillAsync(
    prompts: readonly { readonly ids: readonly number[]; readonly options?: PrefillOptions }[],
  ): Promise<Prefix[]> {
    for (const { options } of prompts) checkPrefill(options ?? {});
    return this.#wave(prompts.map(({ ids, options }) => prefillPass(this.#model, ids, options)));
  }

  /** Rows of many prompts in one wave, see {@link Transformer.runRows}. @throws UserError */
  async runRowsAsync(groups: RowGroup | readonly RowGroup[], options: RowOptions = {}): Promise<RunResult> {
    const list = 'prefix' in groups ? [groups] : groups;
    checkRows(list, options);
    const rows = prepareRows(this.#model, list, options);
    return (await this.#wave([runPass(this.#model, rows.input, rows, rows.options)]))[0]!;
  }

  /**
   * A prompt's last token alone, behind the cache of the others, which rides the same wave: the weights are read once for
   * both, and the bits are those of {@link Transformer.prefill} and {@link Transformer.runRows}. @throws UserError
   */
  async runLastAsync(ids: readonly number[], options: RowOptions): Promise<RunResult> {
    checkRows([], options);
    const kept: Kept = { keys: new Map(), values: new Map() };
    const before = ids.slice(0, -1);
    // Its keys and values are there when the row comes to their layer.
    const filling = new Prefix(before, [kept], null);
    const rows = prepareRows(this.#model, [{ prefix: filling, ids: ids.slice(-1) }], options);
    const [prefix, run] = await this.#wave<Prefix | RunResult>([
      prefillPass(this.#model, before, { into: kept }),
      runPass(this.#model, rows.input, rows, rows.options),
    ]);
    prefix!.dispose();
    return run as RunResult;
  }

  /** Runs passes in step, after the wave before. */
  #wave<Result>(passes: readonly Pass<Result>[]): Promise<Result[]> {
    const wave = this.#turn.then(() => this.#ride(passes));
    this.#turn = wave.catch(() => {});
    return wave;
  }

  async #ride<Result>(passes: readonly Pass<Result>[]): Promise<Result[]> {
    const results: Result[] = [];
    const needs: (Need | null)[] = [];
    const advance = (i: number): void => {
      const step = passes[i]!.next();
      needs[i] = step.done ? null : step.value;
      if (step.done) results[i] = step.value;
    };
    try {
      // Prompts are checked here, before anything is read.
      for (const i of passes.keys()) advance(i);
      for (;;) {
        const need = needs.find((each) => each !== null);
        if (!need) return results;
        const here = needs.filter((each) => each?.stage === need.stage) as Need[];
        const next = here.find((each) => each.next !== null)?.next ?? null;
        await this.#provide({ stage: need.stage, next, ids: here.flatMap(({ ids }) => ids ?? []) });
        for (const i of passes.keys()) if (needs[i]?.stage === need.stage) advance(i);
      }
    } catch (error) {
      for (const pass of passes) pass.return(undefined as never);
      for (const result of results) (result as Disposable | undefined)?.[Symbol.dispose]();
      throw error;
    } finally {
      this.#free();
    }
  }

  /**
   * Brings a stage's weights to the device in place of the stage before, and begins to read the next.
   * @throws UserError where the model is disposed of before they are there
   */
  async #provide({ stage, next, ids }: Need): Promise<void> {
    this.#use();
    if (this.#present !== stage) {
      this.#free();
      if (this.#ahead && this.#ahead.stage !== stage) await this.#drop();
      const loading = this.#ahead?.weights ?? (stage === 'embed' ? this.#loadRows(ids!) : this.#load(stage));
      this.#ahead = null;
      for (const [name, t] of await loading) this.#weights.set(name, t);
      this.#use();
      this.#present = stage;
    }
    if (next === null || this.#ahead?.stage === next) return;
    await this.#drop();
    const weights = this.#load(next);
    weights.catch(() => {}); // Thrown where it is awaited.
    this.#ahead = { stage: next, weights };
  }

  #use(): void {
    if (this.#disposed) throw new UserError('disposed', 'this model has been disposed of');
  }

  /** Of the word embedding, the rows of these tokens; all else that the embedding reads. */
  async #loadRows(ids: readonly number[]): Promise<Map<string, Tensor>> {
    const { word } = this.config.description.embedding;
    const rows = [...new Set(ids)].sort((a, b) => a - b);
    const table = await this.#loader.loadRows(word, rows);
    try {
      const others = this.#loader.names.filter((name) => name !== word && this.#belongs(name, 'embed'));
      const weights = await this.#loader.loadAll(others);
      this.#model.embeddingRows = new Map(rows.map((id, row) => [id, row]));
      return weights.set(word, table);
    } catch (error) {
      table.dispose();
      throw error;
    }
  }

  async #load(stage: Stage): Promise<Map<string, Tensor>> {
    return this.#loader.loadAll(this.#loader.names.filter((name) => this.#belongs(name, stage)));
  }

  #belongs(name: string, stage: Stage): boolean {
    const known = this.#stages.get(stage);
    const names = known ?? new Set(parametersOfStage(this.config.description, stage));
    if (!known) this.#stages.set(stage, names);
    return names.has(name);
  }

  /** Weights of the present stage go; work that uses them has been recorded. */
  #free(): void {
    for (const t of this.#weights.values()) t.dispose();
    this.#weights.clear();
    this.#model.embeddingRows = null;
    this.#present = null;
  }

  async #drop(): Promise<void> {
    const ahead = this.#ahead;
    this.#ahead = null;
    const weights = await ahead?.weights.catch(() => null);
    for (const t of weights?.values() ?? []) t.dispose();
  }

  /**
   * Frees the device's memory at once, files when what is being read has arrived. A run that is under way rejects with a
   * UserError.
   */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#free();
    this.#model.dispose();
    // Whatever becomes of what is being read, the files are given back.
    void this.#turn
      .then(() => this.#drop())
      .finally(() => this.#loader.dispose())
      .finally(() => this.#checkpoint.close())
      .catch(() => {});
  }
}

/** Whether a model keeps keys and values of a prompt's tokens on its own device. */
export const keepsKeys = (model: LanguageModel): model is Transformer | StreamedModel =>
  (model instanceof Transformer && model.causal) || model instanceof StreamedModel;

/** Whether a prompt's last token can be run alone behind the cache of the others, its weights elsewhere. */
export const runsLastAsync = (
  model: LanguageModel,
): model is LanguageModel & Pick<StreamedModel, 'runLastAsync'> => 'runLastAsync' in model;

/** {@link Transformer.prefill} of many prompts: in one wave where weights are on disk. @throws UserError */
export async function prefillAll(
  model: Transformer | StreamedModel,
  prompts: Parameters<StreamedModel['prefillAsync']>[0],
): Promise<Prefix[]> {
  if (model instanceof StreamedModel) return model.prefillAsync(prompts);
  return prompts.map(({ ids, options }) => model.prefill(ids, options));
}
