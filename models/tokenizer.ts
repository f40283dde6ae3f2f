/**
 * Text to token ids and back, as the model's own `tokenizer.json` says (`tokenizer/pipeline.ts`), and what this project
 * asks of a tokenizer beside it: which single token is a word, where the model would predict it, and how is a token shown?
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions, checkValue, flag, like, one, optionsSchema, required } from '../engine/options.ts';
import type { ByteFolder } from './byteSource.ts';
import { parseJson } from './json.ts';
import { buildPipeline, type Pipeline } from './tokenizer/pipeline.ts';
import { checkTokenizerFile } from './tokenizerFile.ts';
import { showToken } from './tokenText.ts';

/** Text to token ids and back. */
export interface Tokenizer {
  /** Largest id + 1. */
  readonly vocabularySize: number;
  /** Ids of the special tokens that the model has; undefined where it has none. */
  readonly maskId: number | undefined;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  /** What stands for text that the vocabulary does not have, whatever `unk_token` calls so: GPT-2's is the end of a text, and never needed. */
  readonly unknownId: number | undefined;
  /** With the special tokens (BERT's [CLS] and [SEP], Llama's <s>) unless `addSpecialTokens` is false. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /**
   * Special tokens are kept unless `skipSpecialTokens`. An id without a token is written as `<565>`: models have more rows
   * than tokens where their makers rounded up. @throws UserError for what is no id.
   */
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /**
   * The token as the vocabulary writes it (`##ing`, `▁the`, `Ġthe`); `<565>` for an id without one.
   * @throws UserError for what is no id.
   */
  tokenOf(id: number): string;
  /**
   * The text that a token stands for (`ing`, ` the`); bytes that are only a part of a character as `<E3 83>`.
   * @throws UserError for what is no id.
   */
  textOf(id: number): string;
  /** The token as people are shown it: `␣Paris`, `##ing`, `\\n` ({@link showToken}). @throws UserError for what is no id. */
  show(id: number): string;
  /** Whether the tokenizer has a token with this id that is special, such as [CLS] or </s>. */
  isSpecial(id: number): boolean;
  /** Id of a token written as in the vocabulary. */
  idOf(token: string): number | undefined;
  /** Tokens of a text, without special ones added. */
  pieces(text: string): string[];
  /** Characters of a text that no token stands for, not even an unknown one: encoding leaves them out. */
  lost(text: string): string;
  /**
   * Ids that `text` adds when it follows `prompt` directly: what a causal model would have to predict.
   * @throws UserError where `text` changes how the prompt's own end is split.
   */
  continuation(prompt: string, text: string): number[];
  /**
   * Id of a word that must be one token: for a `masked` model as it stands in place of a mask, after a space where it is given
   * with one; for a `causal` one as it follows a word and a space, or `after` directly. @throws UserError naming its pieces where it is not one token.
   */
  singleToken(word: string, options: { kind: 'masked' | 'causal'; after?: string }): number;
}

const encodeOptions = optionsSchema<{ addSpecialTokens?: boolean }>({ addSpecialTokens: flag });
const decodeOptions = optionsSchema<{ skipSpecialTokens?: boolean }>({ skipSpecialTokens: flag });
const wordOptions = optionsSchema<{ kind: 'masked' | 'causal'; after?: string }>({
  kind: required(one(['masked', 'causal'])),
  after: like((value) => typeof value === 'string', 'a text'),
});
const textField = like<string>((value) => typeof value === 'string', 'a text');

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
  if (!('model' in json)) throw fail('tokenizer.json has no model');
  const failFile = (what: string, cause?: unknown) => fail(`tokenizer.json: ${what}`, cause);
  let size: number;
  let pipeline: Pipeline;
  try {
    size = checkTokenizerFile(json, failFile);
    pipeline = buildPipeline(json, failFile);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw failFile(`cannot be used (${String((cause as Error).message).split('\n')[0]})`, cause);
  }
  return wrap(pipeline, size, { ...special, ...config }, folder.name);
}

async function readObject(
  folder: ByteFolder,
  file: string,
  fail: (what: string, cause?: unknown) => UserError,
): Promise<Record<string, unknown>> {
  const json = parseJson(await folder.readText(file), `${folder.name}: ${file}`, 'tokenizer');
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw fail(`${file}: is not an object`);
  return json as Record<string, unknown>;
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** UTF-8 as text, with bytes that are only a part of a character as `<E3 83>`. */
function textOfBytes(bytes: readonly number[]): string {
  let text = '';
  let parts: string[] = [];
  const flush = () => {
    if (parts.length > 0) text += `<${parts.join(' ')}>`;
    parts = [];
  };
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at]!;
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    let letter: string | undefined;
    try {
      letter = strict.decode(Uint8Array.from(bytes.slice(at, at + length)));
    } catch {
      parts.push(first.toString(16).toUpperCase().padStart(2, '0'));
    }
    if (letter !== undefined) {
      flush();
      text += letter;
    }
    at += letter === undefined ? 1 : length;
  }
  flush();
  return text;
}

/** English spacing tidied, as `clean_up_tokenization_spaces` asks. */
const tidy = (text: string): string =>
  text
    .replace(/ ([.?!,])/g, '$1')
    .replace(/ ' /g, "'")
    .replace(/ (n't|'m|'s|'ve|'re)/g, '$1');

function wrap(pipeline: Pipeline, size: number, config: Record<string, unknown>, name: string): Tokenizer {
  const idOf = (token: string) => pipeline.ids.get(token);
  /** `mask_token` is a string, or an object with its `content`; `usual` where the files do not say. */
  const special = (key: string, usual: string) => {
    const entry = config[key] as string | { content?: string } | null | undefined;
    return idOf((typeof entry === 'string' ? entry : entry?.content) ?? usual);
  };
  const { unknownId } = pipeline;
  const encode = (text: string, addSpecialTokens = true) => {
    try {
      return pipeline.encode(text, addSpecialTokens).ids;
    } catch (cause) {
      if (!(cause instanceof UserError)) throw cause;
      throw new UserError(cause.code, `${name}: ${cause.message}`, { cause });
    }
  };
  const checkId = (id: number) => {
    if (!Number.isSafeInteger(id) || id < 0)
      throw new UserError('tokenizer', `${name}: there is no token ${id}; ids go from 0 to ${size - 1}`);
  };
  const tokenOf = (id: number) => {
    checkId(id);
    return pipeline.tokens.get(id) ?? `<${id}>`;
  };
  const textOf = (id: number) => {
    checkId(id);
    const text = pipeline.textOf(id);
    return typeof text === 'string' ? text : textOfBytes(text);
  };
  const show = (id: number) => showToken({ token: tokenOf(id), text: textOf(id) });
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
    maskId: special('mask_token', '[MASK]') ?? idOf('<mask>'),
    bosId: special('bos_token', '<s>'),
    eosId: special('eos_token', '</s>'),
    padId: special('pad_token', '[PAD]'),
    unknownId,
    encode(text, options = {}) {
      checkOptions('encode', encodeOptions, options);
      checkValue('encode', 'text', textField, text);
      return encode(text, options.addSpecialTokens);
    },
    decode(ids, options = {}) {
      checkOptions('decode', decodeOptions, options);
      if (ids.length === 0) return '';
      for (const id of ids) checkId(id);
      const text = pipeline.decode(ids, options.skipSpecialTokens ?? false);
      return config.clean_up_tokenization_spaces === true ? tidy(text) : text;
    },
    tokenOf,
    textOf,
    show,
    isSpecial: (id) => pipeline.special.has(id),
    idOf,
    pieces: (text) => encode(text, false).map(tokenOf),
    lost: (text) => pipeline.encode(text, false).lost,
    continuation,
    singleToken(word, options) {
      checkOptions('singleToken', wordOptions, options);
      checkValue('singleToken', 'word', textField, word);
      const { kind, after } = options;
      const text = word.trim();
      if (text === '') throw new UserError('tokenizer', `${name}: the target word is empty`);
      // Any word will do as the one before: no letter joins with a space.
      const following = () =>
        after === undefined ? continuation('a', ` ${text}`) : continuation(after, word);
      const ids = kind === 'masked' ? encode(word.trimEnd(), false) : following();
      if (ids.length === 1 && ids[0] !== unknownId) return ids[0]!;
      const pieces = ids.map((id) => (id === unknownId ? `${show(id)} (unknown)` : show(id)));
      throw new UserError(
        'target',
        `${JSON.stringify(kind === 'masked' ? text : word)} is not one known token of ${name}; its pieces: ${pieces.join(' ') || 'none'}`,
      );
    },
  };
}
