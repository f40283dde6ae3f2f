/**
 * What every language model here is to its users: a `run` that takes token ids, patches and names, and gives tensors.
 *
 * Names are TransformerLens hook names (docs/conventions.md#sites); patches are plain data, one batch row can hold many and many rows ride
 * one pass; gradients at any named value come from one backward.
 */

import type { Device, Numbers, Tensor } from '../engine/index.ts';
import type { Description, ModelSizes, Site } from './description.ts';
import type { WeightDtype } from './storage.ts';

export type { ModelSizes, Site };

/** What a probability curve or gradient is taken of: p, log p or the logit of the target token. The default comes first. */
export const QUANTITIES = ['prob', 'logprob', 'logit'] as const;
/** One of {@link QUANTITIES}. */
export type Quantity = (typeof QUANTITIES)[number];

/**
 * Token rows of one length S. `attentionMask` 1 = real token (default all 1). `positionIds` count by default from a row's first
 * real token, at padding behind the text, too: a prompt has the same ones wherever it is padded. Given, they are rows of the
 * table of positions, as transformers takes them (RoBERTa's begin at its padding's id + 1).
 */
export interface ModelInput {
  readonly ids: readonly (readonly number[])[];
  readonly attentionMask?: readonly (readonly number[])[];
  readonly positionIds?: readonly (readonly number[])[];
  /** Of models that have a table of them (BERT's relatives); default all 0. */
  readonly tokenTypeIds?: readonly (readonly number[])[];
}

/** What captured values are taken from: a run that has not been disposed of. */
export type Captured = Pick<RunResult, 'captures'>;

/** Where a text is patched, see {@link Patch.position}. */
export type PatchPosition = number | readonly number[] | 'all' | 'every new token';

/** What a patch does: by a `value` or another run, or by what it says itself. */
export const PATCH_OPS = ['add', 'set', 'scale', 'zero', 'mean', 'resample'] as const;
/** One of {@link PATCH_OPS}. */
export type PatchOp = (typeof PATCH_OPS)[number];

/** One change to one value: plain data. Patches at the same place apply in the order given. */
export interface Patch {
  /** Hook name such as `blocks.3.mlp.hook_post`, or a Hugging Face module path. */
  readonly name: string;
  /** Batch row, rows, or all; default 0 where a single number comes in (`value`), else all. */
  readonly row?: number | readonly number[] | 'all';
  /**
   * Token or tokens of the row; negative ones count back from its end (of a batch that is padded: the padding's; of `generate`: the
   * prompt's). Of `generate` also the tokens added: by their number, with `all`, or alone.
   */
  readonly position: PatchPosition;
  /** Of q, k, v, z: head or heads (k, v: key/value heads); of a pattern all that its queries at the positions give to any key. */
  readonly head?: number | readonly number[];
  /**
   * Index or indices along the last axis (heads x head size flattened for q, k, v, z; heads x keys for a pattern), with `head` those
   * within each head. May be left out where there is a head, or values of their own: all, then.
   */
  readonly neuron?: number | readonly number[] | 'all';
  /**
   * `zero` sets to 0. `mean` sets to the mean of `reference` (over its rows at the same position, or, `over: 'all'`, over rows and
   * positions), `resample` to the same numbers of a row of it that `random` draws for each row patched.
   */
  readonly op: PatchOp;
  /**
   * For `add`, `set`, `scale`: a number; numbers or a tensor for all that is selected, [rows, positions, numbers], for one row of it,
   * which all rows get, or for one token.
   */
  readonly value?: Numbers | Tensor;
  /** Instead of a value: the same numbers of another run that captured this name, of one row, or of as many as this run has. */
  readonly from?: Captured;
  /** For `mean` and `resample`: a run that captured this name, or a tensor of that shape. */
  readonly reference?: Captured | Tensor;
  /** For `mean`; default `rows`. */
  readonly over?: 'rows' | 'all';
  /** For `resample`: numbers in [0, 1). */
  readonly random?: () => number;
  /** For `add`: `outward` adds value * sign(a0), a0 the value before any patch, sign(0) = +1. Default `plain`. */
  readonly along?: 'plain' | 'outward';
}

/** Where a value that is edited stands. */
export interface EditPlace {
  /** Position in its text of the first token of each row: 0 but where earlier tokens are in a cache. */
  readonly first: readonly number[];
}

/** The scalar whose gradient is taken, summed over rows: of `target[b]` at `position[b]` of row b. */
export interface Objective {
  /**
   * `logodds`: log p / (1 - p), from which the gradients of p and log p follow where a float32 could not hold them. `logit_diff`: the
   * target's logit less that of `other[b]`.
   */
  readonly of: Quantity | 'logodds' | 'logit_diff';
  /** Token ids, or `argmax`: each row's own most probable token, of equal ones the lowest id. */
  readonly target: readonly number[] | 'argmax';
  /** Token ids that `logit_diff` subtracts. */
  readonly other?: readonly number[] | undefined;
  readonly position: readonly number[];
}

/**
 * A scalar function of logits and of captured values, by the names asked for in `capture`: what lies between two hook points has a gradient,
 * too. Where a run computes no logits (`logits: 'none'`), these are [0]. Of weights that are streamed, values of the head alone.
 */
export type ScalarOf = (logits: Tensor, captures: ReadonlyMap<string, Tensor>) => Tensor;

/**
 * What a run does at named values, and which logits it computes.
 * @example
 * ```ts
 * import { encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const { ids, position } = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const name = 'blocks.3.mlp.hook_post';
 * const run = model.run(
 *   { ids: [ids] },
 *   {
 *     patch: [{ name, position, neuron: 327, op: 'set', value: 0 }],
 *     capture: [name],
 *     grad: { at: [name], of: { of: 'prob', target: [tokenizer.idOf('paris')!], position: [position] } },
 *     logits: [position],
 *   },
 * );
 * console.log(run.logits.shape, run.captures.get(name)!.shape); // → [ 1, 12304 ] [ 1, 9, 512 ]
 * const activation = await run.captures.get(name)!.read();
 * console.log(activation[position * model.sizes.width + 327]); // → 0
 * run.dispose();
 * model.device.destroy();
 * ```
 */
export interface RunOptions {
  readonly patch?: readonly Patch[] | undefined;
  /**
   * Any function of the tensor at a name; applied after the patches there. Differentiable: where it brings in tensors marked with
   * `requireGrad()` (a steering vector, LoRA), the run leaves a tape to them, as one of marked parameters does. Take the
   * gradient in the `scope` that the run is in. A streamed model leaves no tape.
   */
  readonly edit?: Readonly<Record<string, (value: Tensor, place: EditPlace) => Tensor>> | undefined;
  /** Names whose values are kept in `captures`, after patching. */
  readonly capture?: readonly string[] | undefined;
  /**
   * Attention in kernels that keep no probabilities (true) or in products (false); by default by the number of keys. A run
   * that names a `hook_pattern` takes products in all layers, whatever is said here.
   */
  readonly fusedAttention?: boolean | undefined;
  /**
   * Products normalise rows as they load them (true), where nobody asks for the normalised rows: the same bits. Default
   * false: on narrow subgroups the forward of 12 layers x 768 takes 0.99 times as long with 1 row and 1.03 times with 128,
   * medians of 15 rounds that spread by 9 to 15% (`npm run bench -- --suite prologue --rounds 15`); wide subgroups are not
   * measured. RMS norms of whole rows alone.
   */
  readonly fusedNorm?: boolean | undefined;
  /** Gradients of the objective at these names, with respect to the value after patching. */
  readonly grad?:
    | {
        readonly at: readonly string[];
        /** An objective, or a {@link ScalarOf} the logits that this run computes and the values that it captures. */
        readonly of: Objective | ScalarOf;
      }
    | undefined;
  /** `all` (default): logits [B, S, V]. Positions, one a row: logits [B, V] there only. `none`: no decoder. */
  readonly logits?: 'all' | 'none' | readonly number[] | undefined;
  /**
   * Activation checkpointing, for training: the tape keeps each layer's input alone, and the backward runs the layer again.
   * The same gradients bit for bit, for one more forward; without effect on a run that leaves no tape. Goes with `patch`, not
   * with the other options at names.
   */
  readonly recompute?: boolean;
  /** `read`: a masked model's last layer is worked out at the logits' positions only (after its keys and values, which need
   * all), and its values are [B, 1, ...]. Default `all`. */
  readonly lastLayer?: 'all' | 'read';
}

/** Tensors of one run; they live until `dispose()` (or `using`). */
export interface RunResult extends Disposable {
  /** [B, S, V], or [B, V] where positions were given. Throws where `logits: 'none'`. */
  readonly logits: Tensor;
  /** Keyed by the name as asked for. Feed-forward sites [B, S, I]; residual [B, S, H]; q, k, v, z [B, S, heads, head size]; pattern [B, heads, S, S]. */
  readonly captures: ReadonlyMap<string, Tensor>;
  readonly gradients: ReadonlyMap<string, Tensor>;
  /** Frees the logits, captures and gradients. */
  dispose(): void;
}

/** A loaded model. `run` only encodes GPU work; reading a tensor back is what waits. */
export interface LanguageModel {
  /** `model_type` in config.json. */
  readonly family: string;
  /** Whether it goes on with a text; else it fills in masks. */
  readonly causal: boolean;
  /** Where its weights are: on `device`, on disk, or on the devices of other processes. */
  readonly running: 'resident' | 'streamed' | 'split';
  /** All that its family says of it. */
  readonly description: Description;
  readonly sizes: ModelSizes;
  readonly device: Device;
  /** Feed-forward sites this family has, and the one the paper uses. */
  readonly sites: readonly Site[];
  readonly paperSite: Site;
  /** All canonical hook names, in forward order. */
  readonly hookNames: readonly string[];
  /** Canonical name for a hook name or Hugging Face path. @throws UserError naming the nearest match. */
  resolveHook(name: string): string;
  /** @throws UserError for a bad patch, name, token id or a row longer than `sizes.positions`, before any GPU work. */
  run(input: ModelInput, options?: RunOptions): RunResult;
  /** Where weights are streamed, instead of `run`. See {@link runModel}. */
  runAsync?(input: ModelInput, options?: RunOptions): Promise<RunResult>;
  /** How matrices of the layers are kept; default f32. */
  readonly weightDtype?: WeightDtype;
  /**
   * Parameters under Hugging Face's names, matrices [out, in]; one that a checkpoint has as a part of a tensor is `tensor[part]`, see
   * joinStored. Call `requireGrad()` on those to be trained.
   */
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** Frees the weights. */
  dispose(): void;
}

/** How the matrices of a model's layers are kept. */
export const weightDtypeOf = (model: LanguageModel): WeightDtype => model.weightDtype ?? 'f32';

/** A run of any model, its weights on the device or streamed from disk. */
export async function runModel(
  model: LanguageModel,
  input: ModelInput,
  options?: RunOptions,
): Promise<RunResult> {
  return model.runAsync ? model.runAsync(input, options) : model.run(input, options);
}
