/** Tasks and their rows: layouts, problems told, leaks found, clean splits. */

import { parquetWriteBuffer } from 'hyparquet-writer';
import { describe, expect, it } from 'vitest';
import { fileMapFolder, localFolder } from '../../models/byteSource.ts';
import { auditTask, contentKey, summariseAudits, type TaskAudit } from '../../probing/audit.ts';
import { countProblems, readTask, SPLITS, type Split, sortRows, type TaskData } from '../../probing/data.ts';
import { cleanSplits } from '../../probing/splits.ts';
import { readRow } from '../../probing/task.ts';
import { parseTasks, TASKS } from '../../probing/tasks.ts';
import { choices, claims, files, task } from './rows.ts';

/** A data set of one task, made of records. */
function dataOf(name: string, records: Partial<Record<Split, unknown[]>>): TaskData {
  const split = (which: Split) => ({
    file: records[which] ? `${which}.json` : null,
    ...sortRows(task(name), records[which] ?? []),
  });
  return { train: split('train'), valid: split('valid'), test: split('test') };
}

function problemOf(name: string, row: unknown): string {
  const read = readRow(task(name), row);
  return 'problem' in read ? read.problem : '';
}

describe('the tasks', () => {
  it('refuse a row that nests deep: whatever writes it would overflow the stack', () => {
    const row = JSON.parse(`{"claim":"x","label":1,"more":${'['.repeat(20_000)}${']'.repeat(20_000)}}`);
    expect(problemOf('FEVER', row)).toBe('nests more than 100 deep');
  });

  it('are 22, each with a heading for every field in every language', () => {
    expect(TASKS).toHaveLength(22);
    for (const { wording, fields, labels, options } of TASKS) {
      expect(labels.length).toBeGreaterThan(1);
      for (const words of Object.values(wording)) {
        expect(words.headings).toHaveLength(fields.length);
        expect(words.options !== undefined).toBe(options !== undefined);
      }
    }
  });

  it('lay a question out and end it in the answer heading', () => {
    const row = {
      text: 'It rains .',
      tokens: ['It'],
      target_token: 'rains',
      options: ['NOUN', 'VERB', 'ADJ', 'ADP'],
    };
    const read = readRow(task('M-POS'), { ...row, label: 1, lang: 'fr' });
    expect(read).toEqual({
      question: {
        language: 'fr',
        text: '### Texte: It rains .\n### Mot: rains\n### Options:\na. NOUN\nb. VERB\nc. ADJ\nd. ADP\n### Réponse:',
        gold: 1,
        source: 'it rains .',
        ambiguous: false,
      },
    });
  });

  it('read labels that count from 1, words for labels, and lists of words', () => {
    const gold = (name: string, row: unknown): unknown => {
      const read = readRow(task(name), row);
      return 'question' in read ? read.question.gold : read.problem;
    };
    expect(gold('Amazon', { text: 'Fine.', label: 4.0 })).toBe(3);
    expect(gold('FEVER', { claim: 'x', label: true })).toBe(1);
    expect(gold('FEVER', { claim: 'x', label: '0' })).toBe(0);
    expect(gold('LTI', { text: 'Guten Tag', lang: 'de' })).toBe(2);
    expect(gold('Stereoset', { context: 'x', sentences: ['p', 'q', 'r'], stereotype: 2 })).toBe(2);
    const chunk = { text: 'a b', target_chunk: ['a', 'b'], options: ['NP', 'VP', 'PP', 'ADVP'], label: 0 };
    expect(gold('CHUNK', chunk)).toBe(0);
  });

  it('are found by name or folder, and the nearest is named', () => {
    expect(parseTasks('fever, nli/paws').map(({ name }) => name)).toEqual(['FEVER', 'PAWS']);
    expect(() => parseTasks('FEVERS')).toThrow('did you mean "FEVER"');
  });
});

describe('rows that are no question', () => {
  it.each([
    ['FEVER', { label: 1 }, 'claim: missing'],
    ['FEVER', { claim: ' ', label: 1 }, 'claim: not what it should be'],
    ['FEVER', { claim: '', label: 1 }, 'claim: empty'],
    ['FEVER', { claim: 'x' }, 'label: missing'],
    ['FEVER', { claim: 'x', label: 2 }, 'label 2 is outside 0 to 1'],
    ['FEVER', { claim: 'x', label: [1] }, 'label [1] is outside 0 to 1'],
    ['FEVER', { claim: 'x', label: '' }, 'label: missing'],
    ['FEVER', { claim: 'x', label: ' ' }, "label ' ' is outside 0 to 1"],
    ['FEVER', { claim: 'x', label: { a: 1 } }, 'label { a } is outside 0 to 1'],
    ['FEVER', { claim: { a: 1 }, label: 1 }, 'claim: not what it should be'],
    ['FEVER', 7, 'not an object'],
    ['MyriadLAMA', { text: 'x', label: 0 }, 'options: missing'],
    [
      'MyriadLAMA',
      { text: 'x', label: 3, options: ['p', 'q'] },
      'options without the answer: label 3 of 2 options',
    ],
    ['MyriadLAMA', { text: 'x', label: 0, options: ['p', 'q'] }, '2 options for 4 labels'],
    [
      'XNLI',
      { premise: 'x', hypothesis: 'y', label: 0, lang: 'ru' },
      "lang 'ru' is none of de, en, es, fr, zh",
    ],
  ])('%s %j: %s', (name, row, problem) => {
    expect(problemOf(name, row)).toBe(problem);
  });

  it('are counted with their numbers', () => {
    const { bad } = sortRows(task('FEVER'), [...claims(3), { claim: 'x' }, { label: 0 }, { claim: 'y' }]);
    expect(countProblems(bad)).toEqual([
      { problem: 'label: missing', count: 2, rows: [3, 5] },
      { problem: 'claim: missing', count: 1, rows: [4] },
    ]);
  });
});

describe('readTask', () => {
  it('reads JSON, JSON lines and Parquet, and misses nothing silently', async () => {
    const rows = choices(5);
    const parquet = parquetWriteBuffer({
      columnData: [
        { name: 'text', data: rows.map(({ text }) => text) },
        { name: 'options', data: rows.map(({ options }) => options), type: 'JSON' },
        { name: 'label', data: rows.map(({ label }) => BigInt(label)) },
      ],
    });
    const folder = fileMapFolder(
      files({
        'fact/myriadlama/train.json': rows,
        'fact/myriadlama/validation.jsonl': rows.map((row) => JSON.stringify(row)).join('\n'),
        'fact/myriadlama/test.parquet': new Blob([parquet]),
      }),
    );
    const data = (await readTask(folder, task('MyriadLAMA')))!;
    for (const split of SPLITS) {
      expect(data[split].bad).toEqual([]);
      expect(data[split].rows.map(({ question }) => question.gold)).toEqual([0, 1, 2, 3, 0]);
    }
    expect(await readTask(folder, task('FEVER'))).toBeNull();
  });

  it('tells a file that is no list', async () => {
    const read = (content: string) =>
      readTask(fileMapFolder(files({ 'fact/fever/test.json': content })), task('FEVER'));
    await expect(read('{}')).rejects.toThrow('fact/fever/test.json: is not a list of rows');
    await expect(read('[1,')).rejects.toThrow('fact/fever/test.json: is not JSON');
    // As Windows editors begin a file.
    expect((await read('\ufeff[]'))?.test.rows).toEqual([]);
    const lines = readTask(
      fileMapFolder(files({ 'fact/fever/test.jsonl': '{}\n\n{"claim"' })),
      task('FEVER'),
    );
    await expect(lines).rejects.toThrow('fact/fever/test.jsonl:3: is not JSON');
  });
});

describe('the audit', () => {
  const shared = claims(10);
  const audit = auditTask(
    task('FEVER'),
    dataOf('FEVER', {
      train: [...claims(30, 100), ...shared.slice(0, 4), { claim: shared[5]!.claim.toUpperCase(), label: 0 }],
      valid: shared,
      test: [...shared, { claim: shared[0]!.claim, label: 0 }, { claim: 'broken' }],
    }),
  );
  const leak = (from: Split, other: Split) => audit.leaks.find((l) => l.from === from && l.in === other)!;

  it('counts leaks as rows and as questions', () => {
    expect(leak('valid', 'test')).toMatchObject({ exact: 10, content: 10 });
    expect(leak('valid', 'train')).toMatchObject({ exact: 4, content: 5 });
    expect(leak('test', 'train')).toMatchObject({ exact: 4, content: 6 });
  });

  it('counts rows about the same text, whatever they ask', () => {
    const ask = (text: string, target_token: string) => ({
      ...{ text, target_token, options: ['NOUN', 'VERB', 'ADJ', 'ADP'], label: 0 },
    });
    const train = [ask('It rains .', 'It'), ask('Cats purr .', 'Cats')];
    const test = [ask('It  rains .', 'rains'), ask('Dogs bark .', 'Dogs')];
    const { leaks } = auditTask(task('POS'), dataOf('POS', { train, test }));
    expect(leaks[1]).toEqual({ from: 'test', in: 'train', exact: 0, content: 0, source: 1 });
  });

  it('finds duplicates, contradictions, imbalance and bad rows', () => {
    expect(audit.splits.test.duplicates).toBe(1);
    expect(audit.contradictions).toBe(1);
    expect(audit.splits.test.labels).toEqual([6, 5]);
    expect(audit.splits.test.problems).toEqual([{ problem: 'label: missing', count: 1, rows: [11] }]);
    expect(summariseAudits([audit])).toMatchObject({ validIsTest: ['FEVER'], badRows: 1 });
  });

  it('names missing files and labels without rows', () => {
    const poor = auditTask(task('FEVER'), dataOf('FEVER', { test: [{ claim: 'x', label: 1 }] }));
    expect(poor.splits.test.emptyLabels).toEqual(['False']);
    expect(summariseAudits([poor]).missingFiles).toEqual(['FEVER train', 'FEVER valid']);
  });
});

describe('clean splits', () => {
  const shared = claims(40);
  const leaky = dataOf('FEVER', {
    train: [
      ...claims(160),
      { claim: 'The sea is salt.', label: 1 },
      { claim: 'the sea  is salt.', label: 0 },
    ],
    valid: shared,
    test: [...shared, { claim: 'broken' }],
  });
  const clean = cleanSplits(task('FEVER'), leaky, 7);

  it('are disjoint, without duplicates, and balanced', () => {
    const keys = SPLITS.flatMap((split) => clean.rows[split].map(contentKey));
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys.some((key) => key.includes('salt'))).toBe(false);
    for (const split of SPLITS) {
      const ones = clean.rows[split].filter(({ question }) => question.gold === 1).length;
      expect(2 * ones).toBe(clean.rows[split].length);
    }
    expect(SPLITS.map((split) => clean.rows[split].length)).toEqual([120, 20, 20]);
  });

  it('account for every row', () => {
    const kept = SPLITS.reduce((sum, split) => sum + clean.rows[split].length, 0);
    const { bad, duplicates, contradictions, unbalanced } = clean.left;
    expect(kept + bad + duplicates + contradictions + unbalanced).toBe(162 + 40 + 41);
    expect({ bad, duplicates, contradictions }).toEqual({ bad: 1, duplicates: 80, contradictions: 2 });
  });

  it('are the same for the same seed, and others for another', () => {
    expect(cleanSplits(task('FEVER'), leaky, 7)).toEqual(clean);
    expect(cleanSplits(task('FEVER'), leaky, 8).rows.test).not.toEqual(clean.rows.test);
  });

  it('keep rows about one source together', () => {
    const words = (text: string) =>
      ['one', 'two', 'three', 'four'].map((target_token, label) => ({
        text,
        target_token,
        options: ['NOUN', 'VERB', 'ADJ', 'ADP'],
        label,
      }));
    const texts = Array.from({ length: 40 }, (_, n) => words(`Text number ${n}`)).flat();
    const { rows } = cleanSplits(task('POS'), dataOf('POS', { train: texts }), 1);
    const sources = SPLITS.map((split) => new Set(rows[split].map(({ question }) => question.source)));
    expect(sources.map((set) => set.size)).toEqual([30, 5, 5]);
    expect(new Set(sources.flatMap((set) => [...set])).size).toBe(40);
  });

  it('are made from a task that has no train file', () => {
    const { rows } = cleanSplits(
      task('FEVER'),
      dataOf('FEVER', { valid: claims(40), test: claims(40, 40) }),
      0,
    );
    expect(SPLITS.map((split) => rows[split].length)).toEqual([60, 10, 10]);
  });
});

/** A copy of the released data; it may not be passed on, so that it is not here. */
const RELEASE = process.env.NEURGRAD_MCEVAL8K;

describe.skipIf(!RELEASE)('the released data', () => {
  it('leaks as is known, and its clean splits do not', { timeout: 300_000 }, async () => {
    const folder = await localFolder(RELEASE!);
    const audits: TaskAudit[] = [];
    for (const one of TASKS) {
      const data = (await readTask(folder, one))!;
      audits.push(auditTask(one, data));
      const { rows } = cleanSplits(one, data, 0);
      const split = (name: Split) => ({ file: name, rows: rows[name], bad: [] });
      const again = auditTask(one, { train: split('train'), valid: split('valid'), test: split('test') });
      expect(again.leaks.map(({ content, source }) => [content, source])).toEqual(
        again.leaks.map(() => [0, 0]),
      );
      expect(again.contradictions).toBe(0);
      for (const { labels, duplicates } of Object.values(again.splits)) {
        expect(new Set(labels).size).toBe(1);
        expect(duplicates).toBe(0);
      }
    }
    const { validIsTest, testInTrain, missingFiles } = summariseAudits(audits);
    expect(validIsTest).toHaveLength(12);
    const whole = testInTrain.filter(({ share }) => share === 1).map(({ task: name }) => name);
    expect(whole).toEqual(['GED', 'NER', 'Amazon', 'MyriadLAMA', 'TempLAMA', 'PAWS', 'HaluEval', 'M-POS']);
    expect(testInTrain.find(({ task: name }) => name === 'M-Amazon')!.share).toBeCloseTo(0.2, 3);
    expect(missingFiles).toEqual(['CHUNK train', 'IMDB train']);
  });
});
