/**
 * Every kind of tokenizer file that is let in gives the ids and texts of the reference, Hugging Face's `tokenizers` in
 * Rust: strings of many scripts, files of every component and flag, encoding and decoding. What is not so is refused by
 * the name of the component. `TOKENIZER_FILES=2000` compares so many files.
 */

import { Tokenizer as Reference } from 'tokenizers';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import { fileMapFolder } from '../../models/byteSource.ts';
import { loadTokenizer, type Tokenizer } from '../../models/tokenizer.ts';
import { drawStrings, makeTokenizerFile, randomNumbers, STRINGS } from './tokenizerFiles.ts';

const FILES = Number(process.env.TOKENIZER_FILES ?? 64);
/** Strings drawn for each file. */
const DRAWN = 20;
const FIRST = Number(process.env.TOKENIZER_FIRST ?? 0);

const load = (json: string) =>
  loadTokenizer(fileMapFolder(new Map([['tokenizer.json', new Blob([json])]]), 'm'));

/** All strings; `throws` for those that the vocabulary cannot spell. */
async function encodeAll(
  reference: Reference,
  texts: readonly string[],
  addSpecialTokens: boolean,
): Promise<(number[] | 'throws')[]> {
  // What has no UTF-8 does not reach the reference.
  const sent = texts.map((text) => Buffer.from(text, 'utf8').toString('utf8'));
  const batch = await reference.encodeBatch(sent, { addSpecialTokens }).catch(() => undefined);
  if (batch !== undefined) return batch.map((encoding) => encoding.getIds());
  const one = async (text: string) => (await reference.encode(text, null, { addSpecialTokens })).getIds();
  return Promise.all(sent.map((text) => one(text).catch(() => 'throws' as const)));
}

function idsOf(tokenizer: Tokenizer, text: string, addSpecialTokens: boolean): number[] | 'throws' {
  try {
    return tokenizer.encode(text, { addSpecialTokens });
  } catch (error) {
    if (error instanceof UserError) return 'throws';
    throw error;
  }
}

/** `expect` for some hundred thousand values would take longer than all else. */
function same(got: unknown, right: unknown, where: () => string): void {
  if (String(got) !== String(right)) expect(got, where()).toEqual(right);
}

describe('as the reference', () => {
  const counts = { files: 0, encodings: 0, decodings: 0, refused: 0, reasons: new Set<string>() };

  it(`${STRINGS.length} strings and ${DRAWN} drawn for each of ${FILES} files`, {
    timeout: 3_600_000,
  }, async () => {
    expect(new Set(STRINGS).size).toBeGreaterThanOrEqual(65);
    for (let i = FIRST; i < FIRST + FILES; i++) {
      const json = makeTokenizerFile(i);
      const ours = await load(json).catch((error: unknown) => {
        if (!(error instanceof UserError)) throw error;
        return error;
      });
      if (ours instanceof UserError) {
        // By name: the field and what is wrong with it.
        expect(ours.message).toMatch(
          /^m: tokenizer\.json: (normalizer|pre_tokenizer|model|post_processor|decoder|added_tokens)\b./,
        );
        counts.refused++;
        counts.reasons.add(ours.message.slice(19, 60));
        continue;
      }
      const reference = Reference.fromString(json);
      const random = randomNumbers(i);
      counts.files++;
      const strings = [...STRINGS, ...drawStrings(DRAWN, random)];
      for (const addSpecialTokens of [true, false]) {
        const right = await encodeAll(reference, strings, addSpecialTokens);
        const lists: number[][] = [];
        for (const [at, text] of strings.entries()) {
          const got = idsOf(ours, text, addSpecialTokens);
          same(got, right[at]!, () => `${i}: ${JSON.stringify(text)} of ${json.slice(0, 2000)}`);
          counts.encodings++;
          if (got !== 'throws')
            lists.push(
              got,
              got.slice(1 + random(3)),
              Array.from(got, () => random(ours.vocabularySize)),
            );
        }
        const some = lists.filter((list) => list.length > 0);
        for (const skipSpecialTokens of [true, false]) {
          const texts = await reference.decodeBatch(some, skipSpecialTokens);
          for (const [at, list] of some.entries())
            same(
              ours.decode(list, { skipSpecialTokens }),
              texts[at]!,
              () => `${i}: ${list} of ${json.slice(0, 2000)}`,
            );
          counts.decodings += some.length;
        }
      }
    }
    const { files, encodings, decodings, refused, reasons } = counts;
    console.info(
      `tokenizers: ${STRINGS.length} strings and ${DRAWN} drawn x ${FILES} files; ${files} files compared (${encodings} encodings, ${decodings} decodings), ${refused} refused by name:\n  ${[...reasons].join('\n  ')}`,
    );
    expect(files).toBeGreaterThanOrEqual(30);
  });
});
