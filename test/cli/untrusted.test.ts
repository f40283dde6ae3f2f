/** What strangers' files and folders hold besides what is meant: each is told in one line that names it, by the reader itself. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readPlan } from '../../cli/commands/study.ts';
import { UserError } from '../../engine/errors.ts';
import { lockHolder } from '../../engine/lock.ts';
import { readFacts } from '../../examples/train-facts-bert/facts.ts';
import { BoundedService } from '../../models/boundedProcess.ts';
import { readChatTemplate } from '../../models/chat.ts';
import { loadTokenizer, localFolder } from '../../models/index.ts';
import { seal, UNSEALED } from '../../models/seal.ts';
import { isTame } from '../../models/tokenizer/boundedPattern.ts';
import { divideBy } from '../../models/tokenizer/pattern.ts';
import { encodePart, readPart } from '../../neurgrad/study/part.ts';
import { readQuestions } from '../../neurgrad/study/prompts.ts';
import { neurgrad } from './command.ts';

const folder = mkdtempSync(join(tmpdir(), 'neurgrad-untrusted-'));
afterAll(() => rmSync(folder, { recursive: true }));
const place = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

const QUESTIONS = {
  format: 'jsonl',
  count: 5,
  seed: 0,
  answeredRight: true,
  onePerFact: false,
  hideAnswer: false,
} as const;
const deep = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`;

/** Where text is meant: a value without a text of its own, one that cannot be called, one too deep to be shown. */
const STRANGE = ['{"toString":1,"valueOf":2}', '{"__proto__":{"x":1}}', '[[]]', 'true', deep(20_000)];

async function refusal(read: () => unknown): Promise<string> {
  const error = await Promise.resolve()
    .then(read)
    .catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(UserError);
  const { message } = error as Error;
  expect(message).not.toMatch(/\n|\[object /);
  return message;
}

describe('values that are none', () => {
  it.each(STRANGE)('as the name of a fact: %.30s', async (value) => {
    const path = place('uuid.jsonl', `{"prompt":"a [MASK]","answer":"b","uuid":${value}}`);
    expect(await refusal(() => readQuestions({ ...QUESTIONS, path }, 'bert'))).toMatch(
      /uuid\.jsonl:1: uuid is /,
    );
  });

  it.each([...STRANGE, '"constructor"', '"__proto__"'])('as the preset of a plan: %.30s', async (value) => {
    const plan = place('preset.json', `{"preset":${value}}`);
    expect(await refusal(() => readPlan({ plan }))).toMatch(/^unknown preset .{1,400}$/);
  });

  const nested = `${'{"models":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
  it.each(['null', '[]', '3', '{"models":[', deep(20_000), nested])('as a plan: %.30s', async (value) => {
    const plan = place('plan.json', value);
    expect(await refusal(() => readPlan({ plan }))).toMatch(/^.{1,490}$/);
  });

  it('as a lock: nobody holds it', () => {
    const lock = (more: object) =>
      lockHolder(place('lock.json', JSON.stringify({ pid: 1, host: 'other', birth: null, ...more })));
    expect(lock({})).toBe('1 on other');
    for (const more of [{ host: { toString: 1 } }, { birth: [] }, { space: { toString: 1 } }, { pid: 1.5 }])
      expect(lock(more), JSON.stringify(more)).toMatch(/^that has just begun$/);
    expect(lockHolder(place('lock.json', deep(20_000)))).toBe('that has just begun');
  });

  it.each(['[null]', '[null,{"name":{"toString":1}}]', deep(20_000)])(
    'as chat templates: %.30s',
    async (value) => {
      place('tokenizer_config.json', `{"chat_template":${value}}`);
      const here = await localFolder(folder);
      expect(await refusal(() => readChatTemplate(here))).toContain('chat template');
    },
  );

  it('as facts and templates', async () => {
    const facts = (fact: string, templates: string): Promise<string> => {
      place('facts.jsonl', fact);
      place('templates.json', templates);
      return refusal(() => readFacts(folder));
    };
    const fact = '{"relation":"P1","subject":"a","object":"b"}';
    expect(await facts('{', '{}')).toMatch(/facts\.jsonl:1: is not JSON/);
    expect(await facts('null', '{}')).toMatch(/facts\.jsonl:1: /);
    expect(await facts('{"relation":{"toString":1}}', '{}')).toMatch(
      /facts\.jsonl:1: relation is { toString }/,
    );
    expect(await facts(fact, '[]')).toMatch(/templates\.json/);
    expect(await facts(fact, '{}')).toMatch(/templates\.json: has no templates of 'P1'/);
    expect(await facts(fact, '{"P1":{"train":[1],"held_out":[]}}')).toMatch(
      /templates\.json: P1\.train\.0 is 1/,
    );
    expect(await refusal(() => readFacts(join(folder, 'nowhere')))).toMatch(/nowhere.*no such file/);
  });
});

describe('a tokenizer', () => {
  const load = async (fields: object) => {
    const vocab = { '<unk>': 0, a: 1 };
    place(
      'tokenizer.json',
      JSON.stringify({ model: { type: 'WordLevel', vocab, unk_token: '<unk>' }, ...fields }),
    );
    return loadTokenizer(await localFolder(folder));
  };
  const replace = (content: string) => ({ type: 'Replace', pattern: { String: 'x' }, content });
  const grow = [replace('x'.repeat(3000)), replace('x'.repeat(3000)), replace('x'.repeat(3000))];

  it('whose replacements grow without end is given up', async () => {
    const normal = await load({ normalizer: { type: 'Sequence', normalizers: grow } });
    expect(await refusal(() => normal.encode('x and x'))).toMatch(/makes \d+ characters of 7/);
    const decoded = await load({
      decoder: { type: 'Sequence', decoders: [replace('x'.repeat(999)), ...grow] },
    });
    expect(decoded.decode([1])).toBe('a');
    const spelt = await load({
      model: { type: 'WordLevel', vocab: { '<unk>': 0, xxx: 1 }, unk_token: '<unk>' },
      decoder: { type: 'Sequence', decoders: grow },
    });
    expect(await refusal(() => spelt.decode([1]))).toMatch(/characters of/);
  });

  it('whose pattern tries again for ever is given up', { timeout: 60_000 }, async () => {
    const split = (Regex: string) =>
      load({ pre_tokenizer: { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false } });
    const hostile = await split('(a+)+$');
    expect(await refusal(() => hostile.encode(`${'a'.repeat(60)}b`))).toContain('more than 5 seconds');
    // Patterns of this kind that end are what they were.
    const groups = divideBy({ Regex: '(?:ab)+' });
    expect(groups('xababy')).toEqual([
      [0, 1, false],
      [1, 5, true],
      [5, 6, false],
    ]);
    expect(['(a|a)*b', '.*.*.*x', 'a{1,99}b{1,99}c{1,99}', '(?:a|b)++'].map(isTame)).toEqual(
      Array(4).fill(false),
    );
    const known = [
      String.raw`(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
      String.raw`[(*+]+\(\*\++`,
    ];
    expect(known.map(isTame)).toEqual([true, true]);
  });
});

describe('folders', () => {
  it('with names that are no UTF-8', async () => {
    const prompts = join(folder, 'prompts');
    mkdirSync(prompts);
    try {
      writeFileSync(
        Buffer.concat([Buffer.from(`${prompts}/`), Buffer.from([0xff]), Buffer.from('.jsonl')]),
        '{}',
      );
    } catch {
      // A disk that has no such names.
      return;
    }
    expect(await refusal(() => readQuestions({ ...QUESTIONS, path: prompts }, 'bert'))).toContain(
      'is not UTF-8',
    );
  });

  it('that are files, and files that are folders', async () => {
    const pararel = { ...QUESTIONS, format: 'pararel' } as const;
    const path = place('file', '');
    expect(await refusal(() => readQuestions({ ...pararel, path }, 'bert'))).toContain('file');
    mkdirSync(join(folder, 'odd', 'rows.jsonl'), { recursive: true });
    const odd = join(folder, 'odd');
    expect(await refusal(() => readQuestions({ ...QUESTIONS, path: odd }, 'bert'))).toMatch(
      /rows\.jsonl: is a folder/,
    );
    mkdirSync(join(odd, 'fact', 'fever', 'train.json'), { recursive: true });
    for (const args of [
      ['audit', odd],
      ['build', odd, '--out', join(folder, 'built')],
      ['build', path, '--out', path],
    ]) {
      const { code, err } = await neurgrad('data', ...args);
      expect([code, err]).toEqual([2, expect.stringMatching(/^error: .{1,490}\n$/)]);
    }
  });

  it('of a data set, earlier built, with what cannot be read', async () => {
    const data = join(folder, 'data');
    mkdirSync(join(data, 'fact', 'fever'), { recursive: true });
    const rows = Array.from({ length: 16 }, (_, i) => ({ claim: `Claim ${i}.`, label: i % 2 === 0 }));
    writeFileSync(join(data, 'fact', 'fever', 'train.json'), JSON.stringify(rows));
    const built = join(folder, 'clean');
    expect((await neurgrad('data', 'build', data, '--out', built)).code).toBe(0);
    rmSync(join(built, 'fact', 'fever', 'test.json'));
    mkdirSync(join(built, 'fact', 'fever', 'test.json'));
    writeFileSync(Buffer.concat([Buffer.from(`${built}/`), Buffer.from([0xfe])]), 'x');
    const { code, err } = await neurgrad('data', 'build', data, '--out', built);
    expect([code, err]).toEqual([2, expect.stringMatching(/error: --out .*holds other splits.*\n$/)]);
  });
});

describe('a reader in a process apart', () => {
  const program = `
process.on('message', ({ what }) => {
  if (what === 'loop') for (;;);
  if (what === 'die') process.exit(3);
  if (what === 'eat') for (const all = []; ; ) all.push(new Array(1e6).fill(all.length));
  process.send(what === 'refuse' ? { reason: 'refused' } : { value: what });
});
process.on('disconnect', () => process.exit());`;

  it('answers in turn, and is begun anew after what ends it', async () => {
    const service = new BoundedService<{ what: string }, string>(program, { seconds: 5, mebibytes: 64 });
    const ask = (what: string): Promise<string> =>
      service.ask({ what }).catch((error: Error) => `failed: ${error.message}`);
    const answers = await Promise.all(
      ['one', 'loop', 'two', 'die', 'refuse', 'three', 'eat', 'four'].map(ask),
    );
    const memory = 'failed: it takes more than 64 MiB of memory, or makes its reader fail';
    expect(answers).toEqual([
      ...['one', 'failed: it takes more than 5 seconds', 'two', memory],
      ...['failed: refused', 'three', memory, 'four'],
    ]);
  });

  it('reads the parts of a study', async () => {
    const columns = [{ name: 'x', type: 'DOUBLE', data: Float64Array.of(1, 2, 3) }] as const;
    const path = place('good.parquet', encodePart('study', 'unit', columns));
    expect(await readPart(path, 'study', 'unit')).toEqual(new Map([['x', Float64Array.of(1, 2, 3)]]));
    expect(await refusal(() => readPart(path, 'study', 'other'))).toContain("holds unit 'unit', not other");
    const other = place('other.parquet', encodePart('other', 'unit', columns));
    expect(await refusal(() => readPart(other, 'study', 'unit'))).toContain('another plan');
    const strange = place('strange.parquet', seal(Buffer.from(`PAR1${UNSEALED}PAR1`), 'last'));
    expect(await refusal(() => readPart(strange, 'study', 'unit'))).toContain('is not a part of a study');
  });
});

it.runIf(process.platform === 'linux')('names that are no text are told as such, not as missing', () => {
  const cases = ['predict --model "$BAD" --prompt x', 'gradients --model x --prompt x --out "$BAD.csv"'];
  for (const given of [...cases, 'report "$BAD"']) {
    const command = `BAD=$(printf 'm\\377'); ${process.execPath} dist/cli/main.js ${given}`;
    const { status, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
    expect(stderr).toMatch(/^error: m\ufffd(\.csv)?: is not UTF-8 text; a file so called must be renamed\n$/);
    expect(status).toBe(2);
  }
  // A name that has the character itself is one like any other.
  const { stderr } = spawnSync(process.execPath, ['dist/cli/main.js', 'report', 'm\ufffd'], {
    encoding: 'utf8',
  });
  expect(stderr).not.toMatch(/UTF-8/);
});
