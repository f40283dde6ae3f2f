/**
 * Text from a causal model, token by token: greedy, or drawn after temperature, top-k and top-p (Holtzman et al. 2020) in
 * the order of Hugging Face `generate`.
 *
 * The prompt is one prefill, each further token one more on top of its cache: a recorded step (recordedText.ts) where the
 * model is whole on one device. Probabilities are computed on the host in
 * float64, so that a seed gives the same text wherever the logits are the same.
 */

import { UserError } from '../engine/errors.ts';
import {
  between,
  callback,
  checkOptions,
  checkValue,
  flag,
  like,
  list,
  optionsSchema,
  whole,
} from '../engine/options.ts';
import { checkLogits } from './finite.ts';
import type { PrefillOptions, Prefix } from './kvCache.ts';
import type { LanguageModel, Patch, RunOptions } from './model.ts';
import { recordedText } from './recordedText.ts';
import { checkPatches, edits, patchList } from './runOptions.ts';
import { SplitModel } from './split.ts';
import { keepsKeys, prefillAll, type StreamedModel } from './stream.ts';
import { Transformer } from './transformer.ts';

/** How the next token is chosen. */
export interface SamplingOptions {
  /** 0 (default) takes the most probable token; above 0 logits are divided by it and a token is drawn. */
  readonly temperature?: number;
  /** Draw among this many most probable tokens; default all. */
  readonly topK?: number;
  /** Draw among the fewest tokens that hold this share of probability; default 1. */
  readonly topP?: number;
  /** Numbers in [0, 1); needed where the temperature is above 0. */
  readonly random?: () => number;
}

/** How a text goes on, and where it ends. */
export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to add; default as many as the model has positions for. */
  readonly maxTokens?: number;
  /** Tokens that end the text; default the model's own (`eos_token_id`). They are not part of the result. */
  readonly stopIds?: readonly number[];
  /** Default true: the step of a model whole on one device is recorded and replayed. False: every step anew, to the same bits. */
  readonly replay?: boolean;
  /**
   * As in `run`, at any token of the text: its positions are the prompt's and those added (`'every new token'`). The text is what full
   * runs with the same patches and edits would choose token by token. Steps are not recorded then.
   */
  readonly patch?: readonly Patch[] | undefined;
  /**
   * As in `run`: values of the prompt's tokens [1, tokens, …] first, then of one token at a time, [1, 1, …], whose position the second
   * argument tells. Not for a model split over processes.
   */
  readonly edit?: RunOptions['edit'];
  /** Called with each token as it is known; stops where it returns false. */
  readonly onToken?: (id: number) => boolean | undefined;
}

/** The tokens added, and why there are no more. */
export interface Generated {
  readonly ids: readonly number[];
  /** A stop token, `maxTokens`, the model's last position, or the callback. */
  readonly end: 'stop' | 'length' | 'positions' | 'callback';
}

/** {@link SamplingOptions} */
export const samplingOptions = optionsSchema<SamplingOptions>({
  temperature: between(0, Number.MAX_VALUE, '0 or a finite number above it'),
  topK: whole(1),
  topP: between(0, 1, 'a number above 0 and at most 1', false),
  random: callback(),
});

/** {@link GenerateOptions} */
export const generateOptions = optionsSchema<GenerateOptions>(
  {
    ...samplingOptions.entries,
    maxTokens: like<number>(
      (n) => n === Infinity || (Number.isSafeInteger(n) && (n as number) >= 0),
      'a whole number, 0 or more',
    ),
    stopIds: list(whole(), 'a list of token ids'),
    replay: flag,
    patch: patchList,
    edit: edits,
    onToken: callback(),
  },
  { maxNewTokens: 'maxTokens', maxLength: 'maxTokens', eosTokenId: 'stopIds', seed: 'random', hooks: 'edit' },
);

/** @throws UserError naming the option that is wrong. */
export function checkSampling(options: SamplingOptions): void {
  checkOptions('generate', samplingOptions, options);
  needsRandom(options);
}

function needsRandom({ temperature = 0, random }: SamplingOptions): void {
  if (temperature > 0 && !random)
    throw new UserError(
      'option',
      'generate: a temperature above 0 needs random, a source of numbers in [0, 1)',
    );
}

/** The next token's id; equal logits by lower id. @throws UserError `not-finite` where a logit is NaN or infinite. */
export function chooseToken(logits: ArrayLike<number>, options: SamplingOptions = {}): number {
  checkSampling(options);
  checkLogits(logits);
  const { temperature = 0, topK = logits.length, topP = 1, random } = options;
  if (temperature === 0 || !random) {
    let best = 0;
    for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
    return best;
  }
  const order = Array.from({ length: logits.length }, (_, id) => id)
    .sort((a, b) => logits[b]! - logits[a]! || a - b)
    .slice(0, topK);
  const top = logits[order[0]!]!;
  const weights = order.map((id) => Math.exp((logits[id]! - top) / temperature));
  const all = weights.reduce((a, b) => a + b, 0);
  let kept = 0;
  let mass = 0;
  while (kept < order.length && mass < topP * all) mass += weights[kept++]!;
  let left = random() * mass;
  for (let i = 0; i < kept; i++) if ((left -= weights[i]!) < 0) return order[i]!;
  return order[kept - 1]!;
}

/** Models that write on: classes are looked at in the call, as files import each other. */
const generator = like<Generator>(
  (value) => keepsKeys(value as LanguageModel) || value instanceof SplitModel,
  'a causal model: the `model` of what loadModel gives',
);
type Generator = Transformer | StreamedModel | SplitModel;
const promptField = list(whole(), 'a list of token ids, which tokenizer.encode(text) gives');

/**
 * Continues a prompt of at least one token.
 * @throws UserError for a bad option or a prompt that does not fit, before any GPU work.
 * @example
 * ```ts
 * import { loadModel } from 'neurgrad';
 * import { generate } from 'neurgrad/models';
 *
 * const { model, tokenizer } = await loadModel('examples/models/stories260k');
 * const prompt = tokenizer.encode('Once upon a time');
 * const { ids } = await generate(model, prompt, { maxTokens: 12 });
 * console.log(tokenizer.decode([...prompt, ...ids], { skipSpecialTokens: true }));
 * model.device.destroy();
 * ```
 */
export async function generate(
  given: LanguageModel,
  prompt: readonly number[],
  options: GenerateOptions = {},
): Promise<Generated> {
  checkOptions('generate', generateOptions, options);
  needsRandom(options);
  checkValue('generate', 'prompt', promptField, prompt);
  checkValue('generate', 'model', generator, given);
  const model = given as Generator;
  if (model instanceof Transformer) model.checkAlive();
  const { maxTokens = Number.POSITIVE_INFINITY, stopIds = model.config.endIds, onToken } = options;
  // Of a token that there is not, a text would never end.
  checkValue(
    'generate',
    'stopIds',
    list(whole(0, model.sizes.vocabulary - 1), 'a list of token ids'),
    stopIds,
  );
  const { temperature = 0, topK, topP = 1, random } = options;
  const sampling = { temperature, topP, ...(topK ? { topK } : {}), ...(random ? { random } : {}) };
  if (prompt.length === 0) throw new UserError('generate', 'the prompt has no tokens');
  const { patch, edit } = options;
  checkPatches('generate', patch);
  const changed = (patch?.length ?? 0) > 0 || Object.keys(edit ?? {}).length > 0;
  if (changed && model instanceof SplitModel)
    throw new UserError('split', 'generate: a text of a model split over processes takes no patch or edit');
  const ids: number[] = [];
  const most = Math.min(model.sizes.positions, prompt.length + maxTokens);
  const text: CausalText =
    model instanceof SplitModel
      ? model.openText()
      : model instanceof Transformer && options.replay !== false && !changed
        ? recordedText(model, most)
        : cachedText(model, changed ? { patch, edit, promptLength: prompt.length } : null);
  try {
    for (let next = prompt; ; next = ids.slice(-1)) {
      if (ids.length >= maxTokens) return { ids, end: 'length' };
      // The token after the last position could still be read, but not gone on from.
      if (prompt.length + ids.length > model.sizes.positions) return { ids, end: 'positions' };
      const id = chooseToken(await text.extend(next), sampling);
      if (stopIds.includes(id)) return { ids, end: 'stop' };
      ids.push(id);
      if (onToken?.(id) === false) return { ids, end: 'callback' };
    }
  } finally {
    text.dispose();
  }
}

/** A text whose tokens come one after the other. */
type CausalText = Omit<ReturnType<SplitModel['openText']>, 'number'>;

/** What is changed at the tokens of a text. */
interface TextChanges {
  readonly patch: PrefillOptions['patch'];
  readonly edit: PrefillOptions['edit'];
  readonly promptLength: number;
}

/** Every token a prefill of one, after a cache that is copied into a longer one. @param changes of all of them. */
export function cachedText(
  model: Transformer | StreamedModel,
  changes: TextChanges | null = null,
): CausalText {
  let cache: Prefix | null = null;
  return {
    async extend(ids) {
      const before = cache;
      const options = { ...changes, logits: true, merge: true, prefix: before ?? undefined };
      [cache] = (await prefillAll(model, [{ ids, options }])) as [Prefix];
      before?.dispose();
      return cache.logits.read();
    },
    dispose: () => cache?.dispose(),
  };
}

/**
 * Turns tokens into text as they come. Some characters are several tokens, and some tokenizers drop the space that begins a
 * text: so the whole is decoded each time, and what is new and complete is given out.
 */
export function streamText(
  decode: (ids: readonly number[]) => string,
  prompt: readonly number[],
): (ids: readonly number[]) => string {
  let told = decode(prompt).length;
  return (ids) => {
    const text = decode([...prompt, ...ids]).replace(/\uFFFD+$/u, '');
    const fresh = text.slice(told);
    told = Math.max(told, text.length);
    return fresh;
  };
}
