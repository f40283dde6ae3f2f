/**
 * A `tokenizer.json` as a whole: added tokens are found, the rest is normalized, divided into words and cut by the model,
 * and special tokens are put around; back from ids to text by the decoder.
 *
 * The reference is Hugging Face's `tokenizers` in Rust, which models are trained and published with. Its settings for
 * padding and truncation are passed over: a text is encoded whole and by itself.
 */

import { type AddedToken, readAddedTokens, sectionFinder } from './addedTokens.ts';
import { byteOfToken, fromByteLetters } from './characters.ts';
import {
  addedToken,
  decoder,
  model,
  normalizer,
  type PostProcessorSpec,
  postProcessor,
  preTokenizer,
  readComponent,
} from './components.ts';
import { buildDecoder, type Decoder } from './decoders.ts';
import { buildNormalizer } from './normalizers.ts';
import { buildPreTokenizer } from './preTokenizers.ts';
import { buildWordModel } from './wordModels.ts';

export interface Pipeline {
  /** Token ids, and the characters that no token stands for. */
  encode(text: string, addSpecialTokens: boolean): { ids: number[]; lost: string };
  decode(ids: readonly number[], skipSpecialTokens: boolean): string;
  /** What a token stands for in the middle of a text; as bytes where it is spelt in bytes. */
  textOf(id: number): string | readonly number[];
  readonly tokens: ReadonlyMap<number, string>;
  readonly ids: ReadonlyMap<string, number>;
  /** Ids that are special: put around texts, or not a part of them. */
  readonly special: ReadonlySet<number>;
  /** What encoding gives for text that the vocabulary does not have; undefined where it has a token for any, or leaves it out. */
  readonly unknownId: number | undefined;
}

type Json = Record<string, unknown>;

/** Puts ids before and after a text's, unless these alone are asked for: a template may still say them twice. */
type Around = (ids: readonly number[], addSpecialTokens: boolean) => number[];

/** @throws Error for a special token that the template does not define. */
function around(spec: PostProcessorSpec): Around {
  switch (spec.type) {
    case 'Sequence': {
      // What follows one that adds tokens would take each part of its result for a text of its own.
      const steps = stepsOf(spec).filter(({ type }) => type !== 'ByteLevel');
      if (steps.length > 1)
        throw new Error(
          `two that add tokens (${steps.map(({ type }) => type).join(', ')}) are not supported`,
        );
      return steps[0] ? around(steps[0]) : (ids) => [...ids];
    }
    case 'ByteLevel':
      return (ids) => [...ids];
    case 'BertProcessing':
    case 'RobertaProcessing':
      return (ids, add) => (add ? [spec.cls[1], ...ids, spec.sep[1]] : [...ids]);
    case 'TemplateProcessing': {
      const parts = spec.single.map((part) => {
        if ('Sequence' in part) return undefined;
        const { id } = part.SpecialToken;
        const token = spec.special_tokens[id];
        if (token === undefined)
          throw new Error(`post_processor.special_tokens does not define ${JSON.stringify(id)}`);
        return token.ids;
      });
      return (ids, add) => parts.flatMap((part) => (part === undefined ? ids : add ? part : []));
    }
  }
}

const stepsOf = (spec: PostProcessorSpec): readonly PostProcessorSpec[] =>
  spec.type === 'Sequence' ? spec.processors.flatMap(stepsOf) : [spec];

/** Files from before kinds were written have none: the reference takes the first that has the fields. */
function kindOf(json: Json): unknown {
  if (json.type != null) return json.type;
  if (Array.isArray(json.vocab)) return 'Unigram';
  if ('merges' in json) return 'BPE';
  return 'max_input_chars_per_word' in json && 'continuing_subword_prefix' in json
    ? 'WordPiece'
    : 'WordLevel';
}

/** @throws what `fail` makes of one line that names the component which cannot be used. */
export function buildPipeline(json: Json, fail: (what: string, cause?: unknown) => Error): Pipeline {
  const component = <Spec, Built>(
    field: string,
    schema: Parameters<typeof readComponent<Spec>>[0],
    build: (spec: Spec) => Built,
  ): Built | undefined => {
    const value = json[field];
    if (value == null) return undefined;
    const spec = readComponent(schema, value, field, fail);
    try {
      return build(spec);
    } catch (cause) {
      throw fail(`${field} cannot be used: ${(cause as Error).message}`, cause);
    }
  };
  const normalize = component('normalizer', normalizer, buildNormalizer);
  const divide = component('pre_tokenizer', preTokenizer, buildPreTokenizer);
  const decode = component('decoder', decoder, buildDecoder);
  const surround = component('post_processor', postProcessor, around);

  const modelJson = json.model as Json;
  const spec = readComponent(model, { ...modelJson, type: kindOf(modelJson) }, 'model', fail);
  const vocab = new Map(
    spec.type === 'Unigram' ? spec.vocab.map(([token], id) => [token, id]) : Object.entries(spec.vocab),
  );
  const size = spec.type === 'Unigram' ? spec.vocab.length : vocab.size;
  const listed = ((json.added_tokens ?? []) as unknown[]).map((entry, i) =>
    readComponent(addedToken, entry, `added_tokens[${i}]`, fail),
  );
  let added: AddedToken[];
  let cut: ReturnType<typeof buildWordModel>;
  try {
    added = readAddedTokens(listed, vocab, size, normalize);
    cut = buildWordModel(spec, vocab);
  } catch (cause) {
    throw fail((cause as Error).message, cause);
  }
  const sections = sectionFinder(added, normalize);
  const ids = new Map(vocab);
  const tokens = new Map<number, string>();
  if (spec.type === 'Unigram') for (const [id, [token]] of spec.vocab.entries()) tokens.set(id, token);
  else for (const [token, id] of vocab) tokens.set(id, token);
  for (const { content, id } of added) {
    ids.set(content, id);
    tokens.set(id, content);
  }
  const addedById = new Map(added.map((token) => [token.id, token]));
  const special = new Set(added.filter((token) => token.special).map(({ id }) => id));
  const skipped = new Set(added.filter((token) => token.special).map(({ content }) => content));
  // Without a decoder the reference puts spaces between tokens; what each stands for is said by how words were spelt.
  const spelling = JSON.stringify([json.normalizer, json.pre_tokenizer]);
  const inBytes = spelling.includes('"type":"ByteLevel"');
  const spaced = spelling.includes('"type":"Metaspace"');
  const plain: Decoder = {
    chain: (parts) => [parts.join(' ')],
    one(token) {
      if (typeof token !== 'string') return token;
      return inBytes ? fromByteLetters(token) : spaced ? token.replaceAll('▁', ' ') : token;
    },
  };
  const unknown =
    spec.type === 'Unigram' ? spec.unk_id : spec.unk_token == null ? null : vocab.get(spec.unk_token);
  const byteFallback = 'byte_fallback' in spec && spec.byte_fallback;

  return {
    ids,
    tokens,
    special,
    unknownId: unknown ?? undefined,
    encode(text, addSpecialTokens) {
      const found: number[] = [];
      let lost = '';
      for (const { id, ...piece } of sections(text.replace(LONE_SURROGATE, '\ufffd'))) {
        if (id !== undefined) {
          found.push(id);
          continue;
        }
        for (const word of divide ? divide(piece) : [piece]) {
          if (word.text === '') continue;
          const part = cut(word.text);
          for (const one of part.ids) found.push(one);
          lost += part.lost;
        }
      }
      return { ids: surround ? surround(found, addSpecialTokens) : found, lost };
    },
    decode(list, skipSpecialTokens) {
      // The reference skips by spelling: a special token that the normalizer changes stays.
      const spelt = list
        .map((id) => addedById.get(id)?.spelling ?? tokens.get(id) ?? `<${id}>`)
        .filter((token) => !(skipSpecialTokens && skipped.has(token)));
      if (spelt.length === 0) return '';
      return (decode ?? plain).chain(spelt).join('');
    },
    textOf(id) {
      const token = tokens.get(id);
      if (token === undefined || addedById.has(id)) return token ?? `<${id}>`;
      const byte = byteFallback ? byteOfToken(token) : undefined;
      if (byte !== undefined) return [byte];
      return (decode ?? plain).one(token);
    },
  };
}

/** Half a character, which UTF-8 cannot say. */
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
