/**
 * Text to token ids and back, as the model's own `tokenizer.json` says, through `@huggingface/tokenizers`.
 *
 * Added here: errors in one line, and the question this project asks of a tokenizer: which single token is a word, where
 * the model would predict it? That library ignores the file's padding and truncation entries, so a text is encoded
 * whole and on its own; the model checks its length.
 */

import { Tokenizer as HubTokenizer } from '@huggingface/tokenizers';
import { UserError } from '../engine/errors.ts';
import type { ByteFolder } from './byteSource.ts';
import { checkTokenizerFile } from './tokenizerFile.ts';

/** Text to token ids and back. */
export interface Tokenizer {
  /** Largest id + 1. */
  readonly vocabularySize: number;
  /** Ids of the special tokens that the model has; undefined where it has none. */
  readonly maskId: number | undefined;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  readonly unknownId: number | undefined;
  /** With the special tokens (BERT's [CLS] and [SEP], Llama's <s>) unless `addSpecialTokens` is false. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** Special tokens are kept unless `skipSpecialTokens`. @throws UserError for an id that is not in the vocabulary. */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** The token as the vocabulary writes it (`##ing`, `▁the`). @throws UserError for an unknown id. */
  tokenOf(id: number): string;
  /** Id of a token written as in the vocabulary. */
  idOf(token: string): number | undefined;
  /** Tokens of a text, without special ones added. */
  pieces(text: string): string[];
  /**
   * Ids that `text` adds when it follows `prompt` directly: what a causal model would have to predict.
   * @throws UserError where `text` changes how the prompt's own end is split.
   */
  continuation(prompt: string, text: string): number[];
  /**
   * Id of a word that must be one token: for `bert` as it stands at a [MASK], for `llama` as it follows a word and a
   * space, or `after` directly. @throws UserError naming its pieces where it is not one token.
   */
  singleToken(word: string, options: { kind: 'bert' | 'llama'; after?: string }): number;
}

/**
 * Loads `tokenizer.json` and, where there is one, `tokenizer_config.json`. @throws UserError `tokenizer`.
 * @example
 * ```ts
 * import { loadTokenizer, localFolder } from 'neurgrad/models';
 *
 * const tokenizer = await loadTokenizer(await localFolder('examples/models/facts-bert'));
 * const ids = tokenizer.encode('Rome is located in [MASK].');
 * console.log(ids.map((id) => tokenizer.tokenOf(id)).join(' ')); // → [CLS] rome is located in [MASK] . [SEP]
 * ```
 */
export async function loadTokenizer(folder: ByteFolder): Promise<Tokenizer> {
  const fail = (what: string, cause?: unknown) =>
    new UserError('tokenizer', `${folder.name}: ${what}`, { cause });
  if (!(await folder.has('tokenizer.json'))) {
    throw fail(
      'has no tokenizer.json; save one with AutoTokenizer.from_pretrained(...).save_pretrained(...)',
    );
  }
  const json = await readObject(folder, 'tokenizer.json', fail);
  const hasConfig = await folder.has('tokenizer_config.json');
  const config = hasConfig ? await readObject(folder, 'tokenizer_config.json', fail) : {};
  const special = (await folder.has('special_tokens_map.json'))
    ? await readObject(folder, 'special_tokens_map.json', fail)
    : {};
  // Written by some exporters as absent; the library wants all of them there.
  const complete = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...json };
  if (!('model' in json)) throw fail('tokenizer.json has no model');
  const size = checkTokenizerFile(json, (what) => fail(`tokenizer.json: ${what}`));
  let hub: HubTokenizer;
  try {
    hub = new HubTokenizer({ ...complete, added_tokens: json.added_tokens ?? [] }, config);
    hub.encode('a');
  } catch (cause) {
    throw fail(`tokenizer.json cannot be used (${String((cause as Error).message).split('\n')[0]})`, cause);
  }
  return wrap(hub, size, { ...special, ...config }, folder.name);
}

async function readObject(
  folder: ByteFolder,
  file: string,
  fail: (what: string, cause?: unknown) => UserError,
): Promise<Record<string, unknown>> {
  let json: unknown;
  try {
    json = JSON.parse(await folder.readText(file));
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw fail(`${file} is not JSON`, cause);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw fail(`${file} is not an object`);
  return json as Record<string, unknown>;
}

function wrap(hub: HubTokenizer, size: number, config: Record<string, unknown>, name: string): Tokenizer {
  const idOf = (token: string) => hub.token_to_id(token);
  /** `mask_token` is a string, or an object with its `content`; `usual` where the files do not say. */
  const special = (key: string, usual: string) => {
    const entry = config[key] as string | { content?: string } | null | undefined;
    return idOf((typeof entry === 'string' ? entry : entry?.content) ?? usual);
  };
  const unknownId = special('unk_token', '<unk>') ?? idOf('[UNK]');
  const encode = (text: string, addSpecialTokens = true) => {
    const ids: (number | undefined)[] = hub.encode(text, { add_special_tokens: addSpecialTokens }).ids;
    if (ids.includes(undefined)) {
      throw new UserError(
        'tokenizer',
        `${name}: ${JSON.stringify(text)} has characters that this tokenizer cannot encode`,
      );
    }
    return ids as number[];
  };
  const tokenOf = (id: number) => {
    const token: string | undefined = Number.isSafeInteger(id) && id >= 0 ? hub.id_to_token(id) : undefined;
    if (token === undefined) {
      throw new UserError('tokenizer', `${name}: there is no token ${id}; ids go from 0 to ${size - 1}`);
    }
    return token;
  };
  const continuation = (prompt: string, text: string) => {
    // Without special tokens: some models end a text with one.
    const before = encode(prompt, false);
    const whole = encode(prompt + text, false);
    if (before.some((id, at) => id !== whole[at])) {
      throw new UserError(
        'tokenizer',
        `${name}: ${JSON.stringify(text)} joins with the end of the prompt ${JSON.stringify(prompt.slice(-20))} into other tokens`,
      );
    }
    return whole.slice(before.length);
  };

  return {
    vocabularySize: size,
    maskId: special('mask_token', '[MASK]'),
    bosId: special('bos_token', '<s>'),
    eosId: special('eos_token', '</s>'),
    padId: special('pad_token', '[PAD]'),
    unknownId,
    encode: (text, options) => encode(text, options?.addSpecialTokens),
    decode(ids, options) {
      if (ids.length === 0) return '';
      for (const id of ids) tokenOf(id);
      return hub.decode([...ids], {
        skip_special_tokens: options?.skipSpecialTokens ?? false,
        // The library's own default is to tidy English spacing, which would change a Llama text.
        clean_up_tokenization_spaces: config.clean_up_tokenization_spaces === true,
      });
    },
    tokenOf,
    idOf,
    pieces: (text) => hub.tokenize(text),
    continuation,
    singleToken(word, { kind, after }) {
      const text = word.trim();
      if (text === '') throw new UserError('tokenizer', `${name}: the target word is empty`);
      // Any word will do as the one before: no letter joins with a space.
      const following = () =>
        after === undefined ? continuation('a', ` ${text}`) : continuation(after, word);
      const ids = kind === 'bert' ? encode(text, false) : following();
      if (ids.length === 1 && ids[0] !== unknownId) return ids[0]!;
      const pieces = ids.map((id) => (id === unknownId ? `${tokenOf(id)} (unknown)` : tokenOf(id)));
      throw new UserError(
        'target',
        `${JSON.stringify(word)} is not one known token of ${name}; its pieces: ${pieces.join(' ') || 'none'}`,
      );
    },
  };
}
