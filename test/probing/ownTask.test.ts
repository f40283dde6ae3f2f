/** Questions of one's own: read alike from every format, refused by row and field, and split and asked as the 22 tasks are. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, describe, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import { loadTokenizer, localFolder } from '../../models/index.ts';
import { auditTask, leakShare } from '../../probing/audit.ts';
import { ownTask, readOwnTask } from '../../probing/ownTask.ts';
import { planTask } from '../../probing/prompts.ts';
import { cleanSplits } from '../../probing/splits.ts';

const folder = mkdtempSync(join(tmpdir(), 'neurgrad-own-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, content: string | Uint8Array): string => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const CITIES = ['Rome', 'Oslo', 'Lima', 'Cairo'];
const questions = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({
    question: `Which city has number ${from + i}?`,
    choices: CITIES,
    answer: CITIES[i % 4]!,
  }));
const own = (rows: readonly Record<string, unknown>[]) =>
  ownTask(
    'cities',
    rows.map((row, i) => ({ row, where: `row ${i}` })),
  );

describe('sentences with a blank', () => {
  const words = ['Rome', 'Oslo'];
  const sentence = (i: number, more: object = {}) => ({
    ...{ sentence: `Tower ${i} stands in [Y].`, choices: words, answer: words[i % 2]! },
    ...more,
  });
  const plan = async (folder: string, rows: readonly object[], shots: 0 | 1) => {
    const { task, data } = own(rows as Record<string, unknown>[]);
    const tokenizer = await loadTokenizer(await localFolder(`examples/models/${folder}`));
    const model = { causal: folder !== 'facts-bert', sizes: { positions: 64 } };
    const [first] = data.train.rows;
    const split = { train: data.train.rows, valid: [{ ...first! }], test: [{ ...first! }] };
    const asked = { rows: 9, evaluationRows: 1, seed: 0, shots, labelTokens: 'continuation' } as const;
    return { tokenizer, task, data, plan: planTask(model, tokenizer, task, split, asked) };
  };

  it('are asked as they are, answered by words, at the mask', async () => {
    const { tokenizer, task, data, plan: masked } = await plan('facts-bert', [sentence(0), sentence(1)], 0);
    expect(task).toMatchObject({ labels: words, cloze: true });
    expect(data.train.rows.map(({ question }) => [question.text, question.gold])).toEqual([
      ['Tower 0 stands in [Y].', 0],
      ['Tower 1 stands in [Y].', 1],
    ]);
    expect(masked.candidates.map(tokenizer.tokenOf)).toEqual(['rome', 'oslo']);
    const { ids, position } = masked.prompts.test[0]!;
    expect(tokenizer.decode(ids)).toBe('[CLS] tower 0 stands in [MASK]. [SEP]');
    expect(ids[position]).toBe(tokenizer.maskId);
  });

  it('show their words in demonstrations, and take choices in any order', async () => {
    const rows = [0, 1, 2, 3].map((i) =>
      sentence(i, i === 3 ? { choices: ['Oslo', 'Rome'], answer: 'a' } : {}),
    );
    const { plan: shown, data } = await plan('facts-bert', rows, 1);
    expect(data.train.rows[3]!.question.gold).toBe(1);
    expect(shown.contexts.en).toMatch(/^Tower [02] stands in Rome\.\n\nTower [13] stands in Oslo\.\n\n$/);
  });

  it('end in their blank where a causal model is asked', async () => {
    const rows = ['Once upon a [Y] .', 'Once upon a [Y]', 'A [Y] was there.'].map((text, i) => ({
      ...{ sentence: text, choices: ['time', 'day'], answer: i % 2 },
    }));
    const { tokenizer, plan: causal } = await plan('stories260k', rows, 0);
    expect(causal.candidates.map(tokenizer.tokenOf)).toEqual(['▁time', '▁day']);
    const { ids, position } = causal.prompts.test[0]!;
    expect(tokenizer.decode(ids, { skipSpecialTokens: true }).trim()).toBe('Once upon a');
    expect(position).toBe(ids.length - 1);
    expect(causal.prompts.train).toHaveLength(2);
    const late = [{ ...rows[2]!, answer: 0 }, rows[2]!];
    await expect(plan('stories260k', late, 0)).rejects.toThrow('none of 2 train sentences can be asked');
    expect(causal.left.train[0]!.problem).toBe('text goes on after [Y], which a causal model does not read');
  });

  it('are refused by row and field', () => {
    const said = (rows: Record<string, unknown>[], what: string) => expect(() => own(rows)).toThrow(what);
    said([{ ...sentence(0), sentence: 'No blank.' }], 'row 0: sentence needs one [Y]');
    said(
      [sentence(0), { ...sentence(1), choices: ['Rome', 'Lima'], answer: 0 }],
      "row 1: choices has 'Lima'",
    );
    said(
      [sentence(0), questions(1)[0]!].map((row) => ({ ...row, choices: words, answer: 0 })),
      'in one way',
    );
    said([{ ...sentence(0), question: 'Where?' }], 'row 0: sentence stands beside question');
    said([{ ...sentence(0), choices: ['a', 'b'], answer: 'a' }], 'choices are letters');
  });
});

describe('a file', () => {
  it('is the same task in every format', async () => {
    const rows = questions(3);
    const csv = rows.map(({ question, choices, answer }) => `${question},${choices.join('|')},${answer}`);
    const column = (name: 'question' | 'answer') => ({ name, data: rows.map((row) => row[name]) });
    const found = await Promise.all(
      [
        file('cities.jsonl', rows.map((row) => JSON.stringify(row)).join('\n')),
        file('cities.csv', ['question,choices,answer', ...csv].join('\n')),
        file(
          'cities.parquet',
          new Uint8Array(
            parquetWriteBuffer({
              columnData: [
                column('question'),
                { name: 'choices', data: rows.map(() => CITIES.join('|')) },
                column('answer'),
              ],
            }),
          ),
        ),
      ].map(readOwnTask),
    );
    const [first, ...others] = found.map(({ task, data }) => ({ task, rows: data.train.rows }));
    for (const other of others) expect(other).toEqual(first);
    expect(first!.task.labels).toEqual(['a', 'b', 'c', 'd']);
    expect(first!.rows[1]!.question).toMatchObject({
      gold: 1,
      text: '### Question: Which city has number 1?\n### Options:\na. Rome\nb. Oslo\nc. Lima\nd. Cairo\n### Answer:',
    });
  });

  it('is refused by file, row and field', async () => {
    const lines = questions(3).map((row) => JSON.stringify(row));
    const bad = file('bad.jsonl', [lines[0], '', '{"question":"x","choices":["y","z"]}'].join('\n'));
    await expect(readOwnTask(bad)).rejects.toThrow(
      `${bad}:3: answer is missing; fields are question, choices`,
    );
    const csv = file('bad.csv', 'question,choices,answer\nx,y|z,w');
    await expect(readOwnTask(csv)).rejects.toThrow(`${csv}: row 1: answer 'w' is none of the choices (y, z)`);
    await expect(readOwnTask(file('two words.jsonl', lines[0]!))).rejects.toThrow('rename the file');
    await expect(readOwnTask(file('fever.jsonl', lines[0]!))).rejects.toThrow('of a task of MCEval8K');
  });
});

describe('a row', () => {
  const row: Record<string, unknown> = questions(1)[0]!;

  it.each([
    [{ answer: 'Lima' }, 2],
    [{ answer: 'c' }, 2],
    [{ answer: 'C' }, 2],
    [{ answer: 2 }, 2],
    [{ answer: '2' }, 2],
    // The letter of one and no choice of its own.
    [{ choices: ['x', 'y', 'z', 'a1'], answer: 'd' }, 3],
    [{ choices: ['a', 'b', 'c', 'd'], answer: 'b' }, 1],
  ])('with %j answers choice %i', (change, gold) => {
    expect(own([{ ...row, ...change }]).data.train.rows[0]!.question.gold).toBe(gold);
  });

  it.each([
    [{ answer: 4 }, /row 0: answer '4' is none of the choices .* places \(0 to 3\)/],
    [{ choices: ['b', 'a', 'x', 'y'], answer: 'a' }, /answer 'a' may be 'a' or 'b'/],
    [{ choices: ['1', '0', '3', '2'], answer: 0 }, /answer '0' may be '0' or '1'/],
    [{ choices: ['one'] }, /row 0: choices has 1 texts, expected 2 to 26/],
    [{ choices: ['one', null] }, /row 0: choices\[1\] is null/],
    [{ choices: ['one', 'one'] }, /choices has 'one' twice/],
    [{ choices: 5 }, /choices is 5, expected a list/],
    [{ question: ' ' }, /question is ' ', expected a text/],
    [{ prompt: 'x' }, /prompt stands beside question/],
    [{ split: 'dev' }, /split is 'dev', expected train, valid, test, demonstration/],
  ])('with %j is refused', (change, message) => {
    const call = () => own([{ ...row, ...change }]);
    expect(call).toThrow(UserError);
    expect(call).toThrow(message);
  });

  it('must go with the others', () => {
    expect(() => own([row, { ...row, choices: ['x', 'Rome'] }])).toThrow(
      'row 1: choices has 2 texts, row 0 has 4',
    );
    expect(() => own([{ ...row, instruction: 'A' }, row, { ...row, instruction: 'B' }])).toThrow(
      'row 2: instruction differs from that of row 0',
    );
    expect(() => own([row, { ...row, split: 'test' }])).toThrow('row 0: split is missing, row 1 has one');
    expect(() => own([row, { ...row, split: 'demonstration' }])).toThrow(
      'row 0: question is shown as a demonstration, too, by row 1',
    );
  });
});

describe('a task', () => {
  it('has clean splits and a leak that is counted', () => {
    const rows = [
      ...questions(32).map((row) => ({ ...row, split: 'train' })),
      ...questions(4, 100).map((row) => ({ ...row, split: 'valid' })),
      ...questions(4).map((row) => ({ ...row, split: 'test' })),
    ];
    const { task, data, split } = own(rows);
    expect(split).toBe(true);
    expect(leakShare(auditTask(task, data), 'test', 'train')).toBe(1);
    const clean = cleanSplits(task, data, 0);
    expect(clean.left.duplicates).toBe(4);
    expect([clean.rows.train, clean.rows.valid, clean.rows.test].map(({ length }) => length)).toEqual([
      28, 4, 4,
    ]);
    expect(
      leakShare(
        auditTask(task, {
          train: { file: 'f', rows: clean.rows.train, bad: [] },
          valid: { file: 'f', rows: clean.rows.valid, bad: [] },
          test: { file: 'f', rows: clean.rows.test, bad: [] },
        }),
        'test',
        'train',
      ),
    ).toBe(0);
  });

  it('is asked with its own instruction and demonstrations', async () => {
    const tokenizer = await loadTokenizer(await localFolder('examples/models/stories260k'));
    const shown = { ...questions(1, 900)[0]!, split: 'demonstration', instruction: 'Choose.' };
    const { task, data } = own([
      ...questions(16).map((row, i) => ({ ...row, split: i < 8 ? 'train' : i < 12 ? 'valid' : 'test' })),
      shown,
    ]);
    const plan = planTask(
      { causal: true, sizes: { positions: 512 } },
      tokenizer,
      task,
      {
        train: data.train.rows,
        valid: data.valid.rows,
        test: data.test.rows,
      },
      { rows: 8, evaluationRows: 4, seed: 0, shots: 1, labelTokens: 'continuation' },
    );
    expect(plan.contexts.en).toBe(
      `Choose.\n\n${'### Question: Which city has number 900?\n### Options:\na. Rome\nb. Oslo\nc. Lima\nd. Cairo\n### Answer:a'}\n\n`,
    );
    expect(plan.demonstrations).toEqual([16]);
    // None of train is spent on showing.
    expect(plan.prompts.train).toHaveLength(8);
  });
});
