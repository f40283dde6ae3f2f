/**
 * The tokenizer.json that is written from a GGUF file's metadata: run by the reference, Hugging Face's `tokenizers` in Rust, and by
 * ours it gives the ids of the one that the file was made of, for strings of many scripts. test/golden-gguf/README.md says how the
 * files were made; NEURGRAD_REAL_MODEL names a real one.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Tokenizer as Reference } from 'tokenizers';
import { describe, expect, it } from 'vitest';
import { fileMapFolder, openFile } from '../../models/byteSource.ts';
import { readGgufHeader } from '../../models/gguf/header.ts';
import { Metadata } from '../../models/gguf/metadata.ts';
import { tokenizerOf } from '../../models/gguf/tokenizerOf.ts';
import { loadTokenizer, type Tokenizer } from '../../models/tokenizer.ts';
import { drawStrings, randomNumbers, STRINGS } from './tokenizerFiles.ts';

const FOLDER = 'test/golden-gguf/tokenizers';
/** What has no UTF-8 does not reach the reference. */
const TEXTS = [...STRINGS, ...drawStrings(40, randomNumbers(7))].map((text) =>
  Buffer.from(text, 'utf8').toString('utf8'),
);

/** The tokenizer.json of a file. */
async function writtenFrom(path: string): Promise<string> {
  const source = await openFile(path);
  const { tokenizer } = tokenizerOf(new Metadata(path, await readGgufHeader(source)));
  await source.close();
  return JSON.stringify(tokenizer);
}

const ours = (json: string): Promise<Tokenizer> =>
  loadTokenizer(fileMapFolder(new Map([['tokenizer.json', new Blob([json])]]), 'm'));

async function idsOf(json: string, addSpecialTokens: boolean): Promise<number[][]> {
  const encodings = await Reference.fromString(json).encodeBatch(TEXTS, { addSpecialTokens });
  return encodings.map((encoding) => encoding.getIds());
}

const names = readdirSync(FOLDER).flatMap((name) => /^(.*)\.gguf$/.exec(name)?.[1] ?? []);

describe.each(names)('%s', async (name) => {
  const written = await writtenFrom(join(FOLDER, `${name}.gguf`));
  const original = readFileSync(join(FOLDER, `${name}.json`), 'utf8');
  const tokenizer = await ours(written);

  it.each([true, false])('ids, with special tokens: %s', async (addSpecialTokens) => {
    expect(STRINGS.length).toBeGreaterThanOrEqual(65);
    const [right, same] = [await idsOf(original, addSpecialTokens), await idsOf(written, addSpecialTokens)];
    for (const [i, text] of TEXTS.entries()) {
      expect(same[i], JSON.stringify(text)).toEqual(right[i]);
      expect(tokenizer.encode(text, { addSpecialTokens }), JSON.stringify(text)).toEqual(right[i]);
    }
  });

  it('tokens and texts', async () => {
    const reference = Reference.fromString(original);
    const lists = (await idsOf(original, false)).filter((ids) => ids.length > 0);
    const right = await reference.decodeBatch(lists, true);
    for (const [i, ids] of lists.entries())
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(right[i]);
    for (let id = 0; id < reference.getVocabSize(); id++)
      expect(tokenizer.tokenOf(id)).toBe(reference.idToToken(id));
  });
});

const real = process.env.NEURGRAD_REAL_MODEL;
if (!real)
  console.log('NEURGRAD_REAL_MODEL names no GGUF file: the vocabulary of a real model is not looked at');

describe.skipIf(!real)('of a real model', () => {
  it('ids of its tokenizer.json by the reference and by ours', { timeout: 120_000 }, async () => {
    const written = await writtenFrom(real!);
    const tokenizer = await ours(written);
    const right = await idsOf(written, true);
    for (const [i, text] of TEXTS.entries())
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(right[i]);
    const reference = join(dirname(real!), 'reference.json');
    if (!existsSync(reference)) return;
    const { cases } = JSON.parse(readFileSync(reference, 'utf8')) as {
      cases: { prompt: string; ids: number[] }[];
    };
    expect(cases.length).toBeGreaterThan(0);
    for (const { prompt, ids } of cases) expect(tokenizer.encode(prompt), prompt).toEqual(ids);
  });
});
