/**
 * Tokens in what the command prints: as text where a vocabulary spells in bytes, and with nothing that steers a terminal,
 * on a model of random weights whose vocabulary was made for this. It has more rows than its tokenizer has tokens.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFile } from '../../models/byteSource.ts';
import { readSafetensorsHeader } from '../../models/safetensors.ts';
import { ADDED, ROWS, SHOWN, SPELT, TEXTS, writeByteMaskModel, writeByteModel } from '../models/byteModel.ts';
import { type Finished, neurgrad } from './command.ts';

const folder = mkdtempSync(join(tmpdir(), 'neurgrad-words-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What steers a terminal or turns the writing, but for line breaks. */
const STEERS =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/u;

function clean({ out, err, code }: Finished): void {
  expect(out).not.toMatch(STEERS);
  expect(err).not.toMatch(STEERS);
  expect(code, err).toBe(0);
}

const run = (command: string, ...args: string[]): Promise<Finished> =>
  neurgrad(command, '--model', folder, '--prompt', 'a Paris', ...args);

beforeAll(() => writeByteModel(folder));

describe('words of a byte-level vocabulary', { timeout: 60_000 }, () => {
  it('predict: all rows, as text, also those without a token', async () => {
    const json = await run('predict', '--top', String(ROWS), '--json');
    clean(json);
    const { predictions } = JSON.parse(json.out) as {
      predictions: { id: number; token: string; text: string }[];
    };
    const sorted = predictions.sort((a, b) => a.id - b.id);
    const beyond = [ROWS - 3, ROWS - 2, ROWS - 1].map((id) => `<${id}>`);
    expect(sorted.map(({ token }) => token)).toEqual([...SPELT, ...ADDED, ...beyond]);
    expect(sorted.map(({ text }) => text)).toEqual([...TEXTS, ...ADDED, ...beyond]);
    const table = await run('predict', '--top', String(ROWS));
    clean(table);
    const cells = table.out.split('\n').map((line) => line.split('│')[1]?.trim());
    for (const shown of [...SHOWN, '<U+001B>[31mred', '<U+009B>1m', '<<U+2066>b>', ...beyond])
      expect(cells).toContain(shown);
  });

  it('a mask that takes the space before it leaves that to the word', async () => {
    const masked = join(folder, 'masked');
    await writeByteMaskModel(masked);
    const about = ['--model', masked, '--prompt', 'a Paris <mask>', '--target', 'Paris', '--json'];
    const found = await neurgrad('gradients', ...about);
    clean(found);
    expect(found.err).not.toContain('note:');
    expect(JSON.parse(found.out)).toMatchObject({ position: 3, target: { token: 'ĠParis', text: ' Paris' } });
    const sweep = await neurgrad('sweep', ...about, '--neurons', 'L1.N3');
    clean(sweep);
    expect(JSON.parse(sweep.out)).toMatchObject({ engine: 'curve', by: 'differences', target: { id: 7 } });
  });

  it('gradients, sweep and steer name the target by its text', async () => {
    for (const [id, shown] of [
      [7, '␣Paris'],
      [5, '\\n'],
      [ROWS - 1, `<${ROWS - 1}>`],
    ] as const) {
      const human = await run('gradients', '--target-id', String(id));
      clean(human);
      expect(human.out).toContain(`p(${shown}) = `);
    }
    const out = join(folder, 'g.safetensors');
    clean(await run('gradients', '--target-id', '7', '--out', out));
    const { metadata } = await readSafetensorsHeader(await openFile(out));
    expect(metadata).toMatchObject({ target_token: 'ĠParis', target_text: ' Paris' });
    const sweep = await run('sweep', '--target-id', '0', '--neurons', 'L0.N1', '--json');
    clean(sweep);
    expect(JSON.parse(sweep.out).target).toMatchObject({ id: 0, token: 'Ñı', text: 'я' });
    const steer = await run('steer', '--target-id', '7', '--to', '0.06', '--max-neurons', '2', '--json');
    clean(steer);
    expect(JSON.parse(steer.out)).toMatchObject({ token: 'ĠParis', text: ' Paris' });
  });

  it('generate streams what it draws, made visible', async () => {
    const drawn = ['--temperature', '50', '--max-tokens', '50', '--seed', '1'];
    const plain = await run('generate', ...drawn);
    clean({ ...plain, out: plain.out.replaceAll('\t', '') });
    const json = await run('generate', ...drawn, '--json');
    clean(json);
    const { ids, tokens, texts } = JSON.parse(json.out) as {
      ids: number[];
      tokens: string[];
      texts: string[];
    };
    expect(ids.some((id) => id >= SPELT.length + ADDED.length)).toBe(true);
    expect(tokens[ids.indexOf(7)]).toBe('ĠParis');
    expect(texts[ids.indexOf(7)]).toBe(' Paris');
  });

  it('the demo’s report shows text', async () => {
    const out = join(folder, 'demo');
    const done = await run('demo', '--target-id', '7', '--out', out, '--neurons', 'random:4');
    clean(done);
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toContain('␣Paris');
    expect(page).not.toContain('ĠParis');
    const { study } = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    expect(study.target).toMatchObject({ token: 'ĠParis', text: ' Paris' });
    expect(study.prompt).toMatchObject({ tokens: ['a', 'ĠParis'], shown: ['a', '␣Paris'] });
  });

  it('what is odd about a prompt is one line on standard error, and errors are clean', async () => {
    const space = await neurgrad('predict', '--model', folder, '--prompt', 'a ');
    clean(space);
    expect(space.err).toMatch(/^note: the prompt ends in a space/m);
    const lost = await neurgrad('predict', '--model', folder, '--prompt', 'aq');
    expect(lost.err).toMatch(/^note: 1 character has no token and is left out: "q"$/m);
    // Of the probability an answer of several tokens would do.
    const error = await run('gradients', '--target', 'a\u009b2Jb\u202e', '--of', 'logit');
    expect(error.code).toBe(2);
    expect(error.err).not.toMatch(STEERS);
    const option = await run('gradients', '--no\u009bsuch');
    expect(option.code).toBe(2);
    expect(option.err).not.toMatch(STEERS);
  });

  it('a tokenizer with more tokens than rows loads; a prompt or target of one is refused', async () => {
    const other = mkdtempSync(join(tmpdir(), 'neurgrad-words-more-'));
    try {
      for (const name of ['config.json', 'model.safetensors'])
        writeFileSync(join(other, name), readFileSync(join(folder, name)));
      writeFileSync(join(other, 'tokenizer.json'), readFileSync(join(folder, 'tokenizer-of-more.json')));
      const on = (...args: string[]) => neurgrad(args[0]!, '--model', other, ...args.slice(1));
      clean(await on('predict', '--prompt', 'a', '--top', String(ROWS)));
      const prompt = await on('predict', '--prompt', 'afar');
      expect([prompt.code, prompt.err]).toEqual([2, expect.stringContaining(`"far" (${ROWS})`)]);
      const target = await on('gradients', '--prompt', 'a', '--target-id', String(ROWS));
      expect(target.code).toBe(2);
    } finally {
      rmSync(other, { recursive: true });
    }
  });
});
