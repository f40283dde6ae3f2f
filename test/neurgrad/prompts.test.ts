/** Prompts in every published form: rows shaped as their authors published them, a few of each. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { CompressionType, setCompressionCodec, tableFromArrays, tableToIPC } from '@uwdata/flechette';
import { parquetWriteBuffer } from 'hyparquet-writer';
import lz4 from 'lz4js';
import { afterAll, describe, expect, it } from 'vitest';
import { readOpenQuestions, readQuestions } from '../../neurgrad/study/prompts.ts';

const root = mkdtempSync(join(tmpdir(), 'neurgrad-prompts-'));
afterAll(() => rmSync(root, { recursive: true }));
const put = (name: string, content: string | Uint8Array): string => {
  const path = join(root, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
};
const lines = (...rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const read = (path: string, mask: string | null = '[MASK]') => {
  const questions = readOpenQuestions(path, mask);
  const all = Array.from({ length: questions.count }, (_, i) => questions.at(i));
  return { all, asked: all.map(({ prompt, answer }) => [prompt, answer]), dropped: questions.dropped };
};
const study = (path: string) => readQuestions({ path, format: 'jsonl', count: 1 } as never, '[MASK]');

describe('rows', () => {
  it('are prompt and answer, which may be a number, a list, or not there', () => {
    const path = put('own.jsonl', lines({ prompt: '1 + 1 = [MASK].', answer: 2 }, { prompt: 'b [MASK]' }));
    expect(read(path).all).toEqual([
      { id: '0', prompt: '1 + 1 = [MASK].', answer: '2', fact: '1 + 1 = [MASK].\t2' },
      { id: '1', prompt: 'b [MASK]', answer: null, fact: 'b [MASK]\t' },
    ]);
    expect(() => study(path)).toThrow(/own.jsonl:2: has no answer; it has prompt, a study wants/);
  });
  it('have ids of their own, and never the same one twice', () => {
    const row = { prompt: 'a [MASK]', answer: 'b' };
    const path = put(
      'ids.jsonl',
      lines({ ...row, id: 'x' }, { ...row, id: 'x' }, { ...row, uuid: 'u', tpl: 't' }),
    );
    expect(read(path).all.map(({ id }) => id)).toEqual(['x', 'x#2', 'u/t']);
  });
  it("take the model's own mask for another's", () => {
    const path = put('mask.jsonl', lines({ prompt: 'Rome is in [MASK].' }, { prompt: 'It is <mask>.' }));
    expect(read(path, '<mask>').asked.map(([prompt]) => prompt)).toEqual([
      'Rome is in <mask>.',
      'It is <mask>.',
    ]);
    // A causal model's prompt is its author's.
    expect(read(path, null).asked[0]![0]).toBe('Rome is in [MASK].');
  });
  it('are LAMA’s: masked sentences, and evidences of T-REx', () => {
    const lama = put(
      'lama.jsonl',
      lines(
        {
          masked_sentences: ['Kurt was born in [MASK].', 'In [MASK], Kurt was born.', 'No.'],
          obj_label: 'Brno',
        },
        {
          evidences: [{ sub_surface: 'Oslo', masked_sentence: 'Oslo is in [MASK] .' }],
          obj_label: 'Norway',
          uuid: 'n',
        },
      ),
    );
    const found = read(lama);
    expect(found.asked).toEqual([
      ['Kurt was born in [MASK].', 'Brno'],
      ['In [MASK], Kurt was born.', 'Brno'],
      ['Oslo is in [MASK] .', 'Norway'],
    ]);
    expect(found.all.map(({ id }) => id)).toEqual(['0.0', '0.1', 'n']);
    expect(found.dropped).toEqual({ 'sentence without one mask': 1 });
    const causal = read(lama, null);
    expect(causal.asked).toEqual([
      ['Kurt was born in', 'Brno'],
      ['Oslo is in', 'Norway'],
    ]);
    expect(Object.values(causal.dropped)).toEqual([1, 1]);
  });
  it('are MyriadLAMA’s; templates without one object are dropped and counted', () => {
    const row = { sub_ent: 'Oslo', obj_ent: ['Norway'] };
    const templates = ['[X] lies in [Y].', '[Y] and [Y] hold [X].', '[X] lies.'];
    const found = read(put('myriad.jsonl', lines(...templates.map((template) => ({ ...row, template })))));
    expect(found.asked).toEqual([['Oslo lies in [MASK].', 'Norway']]);
    expect(found.dropped).toEqual({ 'template with two [Y]': 1, 'template without [Y]': 1 });
  });
  it('are CounterFact’s, nested and not', () => {
    const nested = {
      case_id: 0,
      requested_rewrite: {
        prompt: 'The mother tongue of {} is',
        subject: 'Danielle $& Darrieux',
        target_true: { str: 'French', id: 'Q150' },
        target_new: { str: 'English', id: 'Q1860' },
      },
    };
    const flat = {
      prompt: 'The mother tongue of Ada is',
      subject: 'Ada',
      target_true: ' English',
      target_false: ' French',
    };
    const path = put('counterfact.json', JSON.stringify([nested, flat]));
    expect(read(path, null).asked).toEqual([
      ['The mother tongue of Danielle $& Darrieux is', 'French'],
      ['The mother tongue of Ada is', 'English'],
    ]);
    expect(read(path).asked[1]).toEqual(['The mother tongue of Ada is [MASK].', 'English']);
  });
  it('that nobody can read say what they have and what is wanted', () => {
    const path = put('odd.jsonl', lines({ question: 'a', text: 'b' }));
    expect(() => read(path)).toThrow(
      /odd.jsonl:1: has question, text; wanted is one of: .*masked_sentences.*; prompt and answer; template/,
    );
    expect(() => read(put('half.jsonl', lines({ template: '[X] is [Y].', sub_ent: 'a' })))).toThrow(
      'half.jsonl:1: has no obj_exp or obj_ent or obj_label; it has template, sub_ent',
    );
    expect(() => read(put('empty.jsonl', '\n'))).toThrow('holds no prompts');
  });
});

describe('files', () => {
  const rows = [
    { prompt: 'Rome, "the city", is in [MASK].', answer: 'Italy', uuid: 'a', tpl: 'P17' },
    { prompt: 'Oslo is in [MASK].', answer: 'Norway', uuid: 'b', tpl: 'P17' },
  ];
  const asked = rows.map(({ prompt, answer }) => [prompt, answer]);
  const column = (name: keyof (typeof rows)[0]) => ({ name, data: rows.map((row) => row[name]) });

  it('are CSV and TSV', () => {
    const quoted = 'prompt,answer\n"Rome, ""the city"", is in [MASK].",Italy\nOslo is in [MASK].,Norway\n';
    expect(read(put('t.csv', quoted)).asked).toEqual(asked);
    expect(read(put('t.tsv', 'prompt\tanswer\nOslo is in [MASK].\tNorway\n')).asked).toEqual([asked[1]]);
    expect(() => read(put('bad.csv', 'prompt,answer\na,b,c\n'))).toThrow(
      /row 1: has 3 cells, the head has 2/,
    );
  });
  it('are Parquet', () => {
    const columnData = (['prompt', 'answer', 'uuid'] as const).map(column);
    const path = put('t.parquet', new Uint8Array(parquetWriteBuffer({ columnData })));
    expect(read(path).asked).toEqual(asked);
    expect(() => read(put('cut.parquet', 'PAR1 and no more'))).toThrow(/cut.parquet: is no Parquet file/);
  });
  it('are the tables of the paper’s release: Feather, plain and compressed, and a stream of Arrow', () => {
    const table = tableFromArrays(
      Object.fromEntries(
        rows.flatMap((_, i) =>
          i
            ? []
            : Object.keys(rows[0]!).map((name) => [name, rows.map((row) => row[name as 'uuid'])] as const),
        ),
      ),
    );
    const codec = {
      encode: (part: Uint8Array) => Uint8Array.from(lz4.compress(part)),
      decode: (part: Uint8Array) => Uint8Array.from(lz4.decompress(part)),
    };
    setCompressionCodec(CompressionType.LZ4_FRAME, codec);
    const files = {
      'plain.feather': tableToIPC(table, { format: 'file' }),
      'lz4.feather': tableToIPC(table, { format: 'file', codec: CompressionType.LZ4_FRAME }),
      'stream.arrow': tableToIPC(table, { format: 'stream' }),
      // The release's tables have no ending.
      'llama2-7b-it': tableToIPC(table, { format: 'file' }),
    };
    for (const [name, bytes] of Object.entries(files)) {
      const found = read(put(name, bytes!), null);
      expect(found.asked, name).toEqual(asked);
      expect(found.all[1]).toMatchObject({ id: 'b/P17', fact: 'b' });
    }
    expect(() => read(put('cut.arrow', 'ARROW1'))).toThrow(/cut.arrow: is no Arrow file/);
  });
});

describe('folders of facts and templates', () => {
  const facts = lines({ sub_label: 'Ada', obj_label: 'London' }, { sub_label: 'Kurt', obj_label: 'Brno' });
  const templates = lines({ pattern: '[X] was born in [Y].' }, { pattern: 'In [Y], [X]: [Y].' });
  it.each([
    ['objects', 'templates'],
    ['trex_lms_vocab', 'graphs_json'],
    ['trex_lms_vocab', 'pattern_data/graphs_json'],
  ])('are ParaRel’s: %s and %s', (objects, patterns) => {
    const name = `pararel-${objects}-${patterns.replace('/', '-')}`;
    put(`${name}/${objects}/P19.jsonl`, facts);
    put(`${name}/${patterns}/P19.jsonl`, templates);
    const found = read(join(root, name));
    expect(found.all).toEqual([
      { id: 'P19/0/0', prompt: 'Ada was born in [MASK].', answer: 'London', fact: 'P19.jsonl\tAda\tLondon' },
      { id: 'P19/1/0', prompt: 'Kurt was born in [MASK].', answer: 'Brno', fact: 'P19.jsonl\tKurt\tBrno' },
    ]);
    expect(found.dropped).toEqual({ 'template with two [Y]': 1 });
  });
  it.each(['examples/models/facts-bert', 'examples/models/facts-bert/facts.jsonl'])(
    'are the bundled one: %s',
    (path) => {
      const questions = readOpenQuestions(path, '[MASK]');
      expect(questions.count).toBeGreaterThan(100_000);
      expect(questions.at(0)).toMatchObject({
        id: 'P1001/0/0',
        prompt: 'president of the French Republic is a legal term in [MASK] .',
        answer: 'France',
      });
      expect(questions.at(questions.count - 1).prompt).toContain('[MASK]');
    },
  );
});
