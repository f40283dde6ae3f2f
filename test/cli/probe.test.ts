/** `neurgrad data` and `neurgrad probe` as a user runs them, on small rows of our own. */

import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { finishRun, lockReport, lockRun } from '../../cli/probeRun.ts';
import { memorySource } from '../../models/byteSource.ts';
import { readSafetensorsHeader } from '../../models/safetensors.ts';
import { SEALED, sealJson } from '../../models/seal.ts';
import { readTable } from '../../neurgrad/study/tableFile.ts';
import { evaluateMethod, forest, logistic } from '../../probing/index.ts';
import { choices, claims, task } from '../probing/rows.ts';
import { neurgrad } from './command.ts';

const MODEL = 'examples/models/facts-bert';
const folder = mkdtempSync(join(tmpdir(), 'neurgrad-probe-cli-'));
const data = join(folder, 'data');
const run = join(folder, 'run');

beforeAll(() => {
  mkdirSync(join(data, 'fact', 'fever'), { recursive: true });
  const write = (split: string, rows: unknown[]): void =>
    writeFileSync(join(data, 'fact', 'fever', `${split}.json`), JSON.stringify(rows));
  write('train', [...claims(40), { claim: 'No label.' }]);
  write('valid', claims(8, 40));
  write('test', claims(8, 40));
});
afterAll(() => rmSync(folder, { recursive: true }));

const probe = (...more: string[]) =>
  neurgrad('probe', 'run', '--model', MODEL, '--data', data, '--tasks', 'FEVER', '--shots', '0', ...more);

describe('neurgrad data', { timeout: 60_000 }, () => {
  it('audits', async () => {
    const { code, out } = await neurgrad('data', 'audit', data, '--tasks', 'FEVER,PAWS', '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out).summary).toMatchObject({ validIsTest: ['FEVER'], testInTrain: [], badRows: 1 });
  });

  it('builds clean splits with a manifest, and not into a folder in use', async () => {
    const out = join(folder, 'clean');
    const built = await neurgrad('data', 'build', data, '--out', out, '--splits', 'clean');
    expect(built.code).toBe(0);
    const { tasks } = JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8'));
    expect(tasks.FEVER.rows).toEqual({ train: 36, valid: 6, test: 6 });
    expect(tasks.FEVER.left).toMatchObject({ bad: 1, duplicates: 8 });
    expect(tasks.FEVER.sources.train.sha256).toMatch(/^[0-9a-f]{64}$/);
    const audit = await neurgrad('data', 'audit', out);
    expect(audit.out).toContain('No test row stands in another split.');
    // The same again is found; anything else in the folder is left as it is.
    const again = await neurgrad('data', 'build', data, '--out', out, '--splits', 'clean');
    expect(again).toMatchObject({ code: 0, out: expect.stringContaining(`found ${out}`) });
    const other = await neurgrad('data', 'build', data, '--out', out, '--seed', '1');
    expect(other).toMatchObject({ code: 2, err: expect.stringContaining('holds other splits') });
    expect(JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8')).seed).toBe(0);
    const foreign = await neurgrad('data', 'build', data, '--out', data);
    expect(foreign).toMatchObject({ code: 2, err: expect.stringContaining('is not empty') });
  });
});

describe('neurgrad probe', { timeout: 120_000 }, () => {
  it('runs a task to its table, page and probers', async () => {
    const { code, out, err } = await probe('--train-rows', '16', '--evaluation-rows', '6', '--out', run);
    expect(code).toBe(0);
    expect(err).toContain('FEVER train: 1 row: label: missing');
    expect(err).toMatch(/this run: 28 prompts, .* operations, about/);
    expect(err).toMatch(/Llama2-7B on all tasks: 160,202 prompts/);
    expect(err).toMatch(/^FEVER: Rand 0.5000, LM-Prob 0\.\d+, Polar/m);
    expect(existsSync(join(run, 'parts', 'FEVER'))).toBe(false);
    expect(out).toContain('macro average');
    const summary = JSON.parse(readFileSync(join(run, 'summary.json'), 'utf8'));
    expect(summary.tasks[0].prompts).toEqual({ train: 16, valid: 6, test: 6 });
    const page = readFileSync(join(run, 'report.html'), 'utf8');
    expect(page).toContain('<svg');
    // Six test prompts carry no interval: none in the table, no band in the figure, and both say so.
    expect(page).toContain('n = 6 test prompts. No bands: an interval needs 10 prompts.');
    expect(page).toContain('An interval needs 10 test prompts: FEVER 6.');
    expect(page).not.toContain('fill-opacity="0.13"');
    const { polar, lmProb } = summary.tasks[0];
    expect([
      polar.interval,
      lmProb.interval,
      polar.overLmProb.interval,
      summary.macro.polar.interval,
    ]).toEqual(new Array(4).fill(null));
    expect(polar.null.interval).toHaveLength(2);
    expect(page).not.toMatch(/NaN|undefined|<script[^>]+src|https?:\/\/(?!www\.w3\.org)/);
    expect(readFileSync(join(run, 'tables', 'table3.md'), 'utf8')).toContain('| FEVER | 0.5000 |');
  });

  it('exports what it read of some neurons, as tensors and as rows', async () => {
    const asked = ['probe', 'export', '--run', run, '--neurons', 'magn:3,L1.N7'];
    const tensors = join(folder, 'fever.safetensors');
    const made = await neurgrad(...asked, '--out', tensors, '--json');
    expect(made.code, made.err).toBe(0);
    const { neurons, prompts } = JSON.parse(made.out);
    expect(prompts).toEqual({ train: 16, valid: 6, test: 6 });
    const [fever] = JSON.parse(readFileSync(join(run, 'summary.json'), 'utf8')).tasks;
    expect(`${neurons[0]}@post`).toBe(fever.magn.neurons[0].neuron);
    expect(neurons[3]).toBe('L1.N7');
    const bytes = readFileSync(tensors);
    const { tensors: spans, metadata } = await readSafetensorsHeader(memorySource(tensors, bytes));
    const { begin, end, shape } = spans.find(({ name }) => name === 'test.gradients')!;
    expect(shape).toEqual([6, 2, 4]);
    const gradients = new Float32Array(bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end));

    const table = join(folder, 'fever.parquet');
    const rows = await neurgrad(...asked, '--out', table);
    expect(rows.code, rows.err).toBe(0);
    const found = readTable(table).map(({ row }) => row);
    expect(found).toHaveLength(28 * 2);
    const tested = found.filter(({ split }) => split === 'test');
    expect(tested.flatMap((row) => neurons.map((name: string) => row[name]))).toEqual([...gradients]);
    expect(tested.map(({ prompt }) => prompt)).toEqual(
      JSON.parse(metadata['test.ids']!).flatMap((id: string) => [id, id]),
    );
    expect(tested.filter(({ right }) => right).map(({ candidate }) => candidate)).toEqual(fever.gold);

    const bad = await neurgrad('probe', 'export', '--run', run, '--neurons', 'top:3', '--out', table);
    expect(bad).toMatchObject({ code: 2, err: expect.stringContaining('top and bottom are of one prompt') });
    const moved = join(folder, 'moved');
    cpSync(data, moved, { recursive: true });
    writeFileSync(join(moved, 'fact', 'fever', 'test.json'), JSON.stringify(claims(8, 100)));
    const other = await neurgrad(...asked, '--data', moved, '--out', table);
    expect(other).toMatchObject({ code: 2, err: expect.stringContaining('has other questions than') });
  });

  it('puts other probers to the test in a run that is there, as the library does', async () => {
    const out = join(folder, 'others');
    cpSync(run, out, { recursive: true });
    const more = [
      '--probers',
      'logistic,forest',
      '--neurons',
      'L0.N0-9,L3.N0-9',
      '--prober-permutations',
      '3',
    ];
    const again = () => probe('--train-rows', '16', '--evaluation-rows', '6', '--out', out, ...more);
    const found = await again();
    expect(found.code, found.err).toBe(0);
    const { methods } = JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8'));
    expect(methods).toHaveLength(1);
    expect(methods[0]).toMatchObject({ task: 'FEVER', looked: 20, permutations: 3, estimator: 'neurgrad' });
    const table = join(out, 'features.safetensors');
    await neurgrad('probe', 'export', '--run', out, '--neurons', 'L0.N0-9,L3.N0-9', '--out', table);
    const bytes = readFileSync(table);
    const { tensors } = await readSafetensorsHeader(memorySource(table, bytes));
    const of = (name: string) => {
      const { begin, end } = tensors.find((tensor) => tensor.name === name)!;
      return bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end);
    };
    const split = (name: string) => ({
      ...{ candidates: 2, neurons: 20, gold: new Int32Array(of(`${name}.gold`)) },
      gradients: new Float32Array(of(`${name}.gradients`)),
      activations: new Float32Array(of(`${name}.activations`)),
    });
    const examples = { train: split('train'), valid: split('valid'), test: split('test') };
    for (const [i, method] of [logistic, forest].entries()) {
      const { accuracy, size, predictions } = evaluateMethod(method, examples, { seed: 0, permutations: 3 });
      expect(methods[0].methods[i]).toMatchObject({ prober: method.name, accuracy, size, predictions });
    }
    expect(readFileSync(join(out, 'tables', 'table3.md'), 'utf8')).toMatch(/^\| FEVER \| logistic \|/m);
    expect(readFileSync(join(out, 'report.html'), 'utf8')).toContain('Other probers');
    const file = join(out, 'methods', 'FEVER.json');
    const before = readFileSync(file);
    expect((await again()).code).toBe(0);
    expect(readFileSync(file)).toEqual(before);
    const shares = await probe('--out', out, ...more, '--shard', '1/2');
    expect(shares).toMatchObject({ code: 2, err: expect.stringContaining('--probers learns from all') });
  });

  it('tells what skill neurons are like, beside chance, in a table, a figure and a file', async () => {
    const out = join(folder, 'like');
    cpSync(run, out, { recursive: true });
    const asked = ['probe', 'properties', '--run', out, '--size', '2', '--permutations', '3', '--draws', '3'];
    const found = await neurgrad(
      ...asked,
      '--neurons',
      'L0.N0-9,L3.N0-9',
      '--probers',
      'magn,logistic',
      '--json',
    );
    expect(found.code, found.err).toBe(0);
    const { rows } = JSON.parse(found.out) as { rows: { property: string; prober: string; p: number }[] };
    const count = (property: string): number => rows.filter((row) => row.property === property).length;
    // Twice five sizes; no instruction, accuracy and kept; eight pairs; two halves, both, and both less each.
    expect(['efficiency', 'robustness', 'flexibility', 'interdependency'].map(count)).toEqual([10, 4, 16, 8]);
    for (const { p } of rows) expect(p).toBeGreaterThan(0);
    const table = readTable(join(out, 'properties', 'FEVER.parquet')).map(({ row }) => row);
    expect(table).toHaveLength(38);
    expect(table[0]).toMatchObject({
      task: 'FEVER',
      property: 'efficiency',
      which: 'first 1',
      test_prompts: 6,
    });
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toContain('FEVER: what its skill neurons are like');
    expect(page).toContain('aria-label="FEVER: disjoint sets"');
    expect(page).not.toMatch(/NaN|undefined/);
    expect(JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8')).properties[0].rows).toEqual(rows);

    const file = join(out, 'properties', 'FEVER.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"value": ', '"value":  '));
    const changed = await neurgrad('probe', 'report', '--out', out);
    expect(changed).toMatchObject({ code: 2, err: expect.stringContaining('FEVER.json: is ') });
    const all = await neurgrad(...asked, '--probers', 'magn,best');
    expect(all).toMatchObject({ code: 2, err: expect.stringContaining('unknown prober "best"') });
  });

  it('runs questions of one’s own, and lets their prober answer more of them', async () => {
    // Four options are more than the 64 positions of facts-bert hold.
    const llama = 'examples/models/stories260k';
    const own = join(folder, 'boxes.csv');
    const rows = choices(64).map(
      ({ text, options, label }) => `${text},${options.join('|')},${'abcd'[label]}`,
    );
    writeFileSync(own, ['question,choices,answer', ...rows].join('\n'));
    const out = join(folder, 'own');
    const asked = ['--model', llama, '--shots', '0', '--train-rows', '12', '--evaluation-rows', '4'];
    const found = await neurgrad(
      ...['probe', 'run', ...asked, '--task-file', own, '--permutations', '0', '--out', out],
    );
    expect(found.code, found.err).toBe(0);
    const summary = JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8'));
    expect(summary.tasks[0]).toMatchObject({ task: 'boxes', labels: ['a', 'b', 'c', 'd'] });
    expect(Object.keys(summary.data.sha256)).toEqual(['boxes.csv']);
    // The paper has no such task.
    expect(readFileSync(join(out, 'tables', 'table3.md'), 'utf8')).toMatch(
      /^\| boxes \| 0.2500 \|.*\| – \|/m,
    );
    expect(readFileSync(join(out, 'report.html'), 'utf8')).not.toMatch(/NaN|undefined|\(paper/);
    const more = join(folder, 'more.json');
    writeFileSync(more, JSON.stringify([{ question: 'Box 99 holds a [Y].', choices: ['w', 'x', 'y', 'z'] }]));
    const prober = join(out, 'probers', 'boxes-magn');
    const answered = await neurgrad(
      'probe',
      'apply',
      '--model',
      llama,
      '--prober',
      prober,
      '--questions',
      more,
      '--json',
    );
    expect(answered.code, answered.err).toBe(0);
    expect(JSON.parse(answered.out).answers).toHaveLength(1);

    const audit = await neurgrad('data', 'audit', own, '--json');
    expect(JSON.parse(audit.out).tasks[0]).toMatchObject({ task: 'boxes', contradictions: 0 });
    const released = await neurgrad(
      'probe',
      'run',
      ...asked,
      '--task',
      own,
      '--splits',
      'released',
      '--out',
      out,
    );
    expect(released).toMatchObject({ code: 2, err: expect.stringContaining('its rows have no split') });
    expect(released.err).toContain('--task-file');
  });

  it('draws intervals and bands from ten test prompts on, rounded and not cut', async () => {
    const wide = join(folder, 'wide', 'data', 'fact', 'fever');
    mkdirSync(wide, { recursive: true });
    for (const [split, rows] of Object.entries({
      train: claims(40),
      valid: claims(14, 40),
      test: claims(14, 54),
    }))
      writeFileSync(join(wide, `${split}.json`), JSON.stringify(rows));
    const out = join(folder, 'wide', 'run');
    const { code } = await neurgrad(
      ...['probe', 'run', '--model', MODEL, '--data', join(folder, 'wide', 'data'), '--tasks', 'FEVER'],
      ...['--shots', '0', '--splits', 'released', '--train-rows', '16', '--evaluation-rows', '14'],
      ...['--permutations', '0', '--out', out],
    );
    expect(code).toBe(0);
    const [found] = JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8')).tasks;
    const { magn, lmProb, prompts } = found;
    expect(prompts.test).toBe(14);
    for (const { accuracy, interval } of [magn, lmProb]) {
      expect(interval[0]).toBeLessThan(accuracy);
      expect(interval[1]).toBeGreaterThan(accuracy);
    }
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toContain('n = 14 test prompts');
    expect(page).toContain('Bands: 95% of each curve alone (Wilson)');
    // A band for each of three curves.
    const [, bands] = /<g[^>]*fill-opacity="0.13"[^>]*>(.*?)<\/g>/s.exec(page)!;
    expect(bands!.match(/<path/g)).toHaveLength(3);
    expect(page).toContain('no permutations of the labels');
    expect(page).not.toMatch(/NaN|undefined/);
    const table = readFileSync(join(out, 'tables', 'table3.md'), 'utf8');
    const shown = /^\| FEVER \| Magn \| \S+ \| (\S+) to (\S+) \|/m.exec(table)!;
    const { interval } = magn.overLmProb;
    for (const end of [0, 1])
      expect(Math.abs(Number(shown[end + 1]!.replace('−', '-')) - interval[end])).toBeLessThanOrEqual(
        0.00051,
      );
    expect(table).toMatch(/^\| macro average \|/m);
  });

  it('takes clean splits and 200 permutations unless told otherwise, and tests what it found', async () => {
    const summary = JSON.parse(readFileSync(join(run, 'summary.json'), 'utf8'));
    expect(summary.settings).toMatchObject({ splits: 'clean', permutations: 200 });
    const [found] = summary.tasks;
    expect(found.magn.null.accuracies).toHaveLength(200);
    expect(found.magn.overLmProb).toMatchObject({ difference: expect.any(Number), p: expect.any(Number) });
    expect(found.majority.accuracy).toBe(0.5);
    expect(summary.macro.holm.magn.permutation).toEqual([found.magn.null.p]);
    expect(summary.spread).toBeNull();
    const table = readFileSync(join(run, 'tables', 'table3.md'), 'utf8');
    expect(table).toMatch(/^\| task \| Rand \| Majority \| LM-Prob \| .* \| null 95% \| p \|/m);
    expect(table).toMatch(/^\| FEVER \| Magn \| [+−]0\.\d{4} \|/m);
    expect(table).not.toContain('test in train');
    expect(readFileSync(join(run, 'report.html'), 'utf8')).toContain('Against the model’s own answer');
  });

  it('says how much of test lies in train where the released splits are asked for', async () => {
    const leaky = join(folder, 'leaky');
    const place = join(leaky, task('MyriadLAMA').folder);
    mkdirSync(place, { recursive: true });
    for (const [split, rows] of Object.entries({
      train: choices(24),
      valid: choices(4, 24),
      test: choices(8, 20),
    }))
      writeFileSync(join(place, `${split}.json`), JSON.stringify(rows));
    const out = join(folder, 'released');
    const run = [
      'probe',
      'run',
      '--model',
      'examples/models/stories260k',
      '--data',
      leaky,
      '--tasks',
      'MyriadLAMA',
    ];
    const { code, err } = await neurgrad(
      ...[
        ...run,
        '--splits',
        'released',
        '--train-rows',
        '8',
        '--evaluation-rows',
        '4',
        '--permutations',
        '0',
      ],
      ...['--out', out, '--demonstration-seeds', '3'],
    );
    expect(code).toBe(0);
    expect(err).toContain('MyriadLAMA: 50.0% of test stands in train; --splits clean');
    const table = readFileSync(join(out, 'tables', 'table3.md'), 'utf8');
    expect(table).toMatch(/test in train \|$/m);
    expect(table).toMatch(/^\| MyriadLAMA .* 50% \|$/m);
    expect(table).toContain('over demonstrations drawn with the seeds 0, 1, 2.');
    const { spread, tasks } = JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8'));
    expect(spread.seeds).toEqual([0, 1, 2]);
    expect(spread.tasks[0].magn).toHaveLength(3);
    expect(spread.tasks[0].magn[0]).toBe(tasks[0].magn.accuracy);
    const drawn = ['', 'demonstrations-1', 'demonstrations-2'].map(
      (name) => JSON.parse(readFileSync(join(out, name, 'manifest.json'), 'utf8')).tasks[0],
    );
    expect(new Set(drawn.map((task) => String(task.demonstrations))).size).toBeGreaterThan(1);
    // The same questions each time, but for rows that are shown.
    expect(new Set(drawn.map((task) => String(task.gold.test))).size).toBe(1);
    const none = await neurgrad(
      ...[...run, '--shots', '0', '--demonstration-seeds', '2', '--out', join(folder, 'none')],
    );
    expect(none).toMatchObject({ code: 2, err: expect.stringContaining('no demonstrations to draw') });
  });

  it('is one process’s at a time, but for shares of as many', () => {
    const out = join(folder, 'locked');
    {
      using first = lockRun(out, { index: 0, count: 2 });
      expect(first).toBeDefined();
      lockRun(out, { index: 1, count: 2 })[Symbol.dispose]();
      for (const shard of [
        { index: 0, count: 2 },
        { index: 0, count: 1 },
        { index: 2, count: 3 },
      ])
        expect(() => lockRun(out, shard)).toThrow(`share 1/2: process ${process.pid} is at work on it`);
      // Shards that are done may be put together meanwhile.
      expect(() => lockReport(out)).toThrow('holds no probing run');
      lockReport(run)[Symbol.dispose]();
    }
    expect(readdirSync(out)).toEqual([]);
    using whole = lockRun(run, { index: 0, count: 1 });
    expect(whole).toBeDefined();
    expect(() => lockReport(run)).toThrow('is at work on it');
  });

  it('goes on in its folder and in no other run’s', async () => {
    const same = await probe('--train-rows', '16', '--evaluation-rows', '6', '--out', run, '--json');
    expect(same.code).toBe(0);
    expect(JSON.parse(same.out).macro.rand).toBe(0.5);
    expect(same.err).not.toContain('/28 prompts');
    const other = await probe('--train-rows', '12', '--out', run);
    expect(other).toMatchObject({ code: 2, err: expect.stringContaining('holds a run of other settings') });
  });

  it('comes out of shards the same', async () => {
    const folders = join(folder, 'shards');
    for (const shard of ['2/2', '1/2']) {
      const part = await probe(
        '--train-rows',
        '16',
        '--evaluation-rows',
        '6',
        '--out',
        folders,
        '--shard',
        shard,
      );
      expect(part.err).toContain(`shard ${shard} is read`);
    }
    expect((await neurgrad('probe', 'report', folders)).code).toBe(0);
    const tasks = (where: string) => JSON.parse(readFileSync(join(where, 'summary.json'), 'utf8')).tasks;
    expect(tasks(folders)[0].magn).toEqual(tasks(run)[0].magn);
  });

  it('refuses a manifest or results with a changed byte, and does what is damaged again', async () => {
    const again = () => probe('--train-rows', '16', '--evaluation-rows', '6', '--out', run);
    const names = ['manifest.json', 'tasks/FEVER.json', 'probers/FEVER-polar.safetensors'];
    for (const name of names) {
      const path = join(run, name);
      const file = readFileSync(path);
      const damaged = Buffer.from(file);
      damaged[Math.floor(0.7 * file.length)]! ^= 1;
      writeFileSync(path, damaged);
      if (!name.startsWith('probers')) {
        const { code, err } = await neurgrad('probe', 'report', run);
        expect([code, err], name).toEqual([2, expect.stringMatching(`^error: ${path}: is damaged .*\n$`)]);
      }
      const { code, err } = await again();
      expect(err, name).toContain(`${path}: is damaged`);
      if (name === 'manifest.json') {
        expect(code).toBe(2);
        writeFileSync(path, file);
      } else {
        expect([code, err], name).toEqual([0, expect.stringContaining('; doing FEVER again')]);
        expect(readFileSync(path).equals(file), name).toBe(true);
        expect(readFileSync(`${path}.damaged`).equals(damaged), name).toBe(true);
      }
    }
  });

  it('refuses a manifest and results that are sealed and still none', async () => {
    const copy = join(folder, 'strange');
    cpSync(run, copy, { recursive: true });
    const strange: [file: string, change: (json: never) => void, message: RegExp][] = [
      ['manifest.json', (m: { tasks: unknown }) => void (m.tasks = {}), /tasks is /],
      [
        'manifest.json',
        (m: { tasks: { task: string }[] }) => void (m.tasks[0]!.task = '../x'),
        /tasks\.0\.task is '\.\.\/x'/,
      ],
      [
        'manifest.json',
        (m: { tasks: { candidates: number[] }[] }) => void m.tasks[0]!.candidates.pop(),
        /2 labels but 1 cand/,
      ],
      [
        'manifest.json',
        (m: { tasks: { gold: { test: number[] } }[] }) => void (m.tasks[0]!.gold.test[0] = 7),
        /label 7, of 2/,
      ],
      [
        'manifest.json',
        (m: { settings: { permutations: unknown } }) => void (m.settings.permutations = [[1]]),
        /permutations is \[…\]/,
      ],
      [
        'tasks/FEVER.json',
        (t: { magn: { accuracy: unknown } }) => void (t.magn.accuracy = 'x\u001b[2J'),
        /magn\.accuracy is 'x/,
      ],
      ['tasks/FEVER.json', (t: { gold: number[] }) => void t.gold.pop(), /is not of this run/],
      ['tasks/FEVER.json', (t: { task: string }) => void (t.task = 'NER'), /is not of this run/],
      [
        'tasks/FEVER.json',
        (t: { magn: { predictions: number[] } }) => void (t.magn.predictions[0] = 9),
        /is not of this/,
      ],
    ];
    for (const [name, change, message] of strange) {
      const path = join(copy, name);
      const json = JSON.parse(readFileSync(path, 'utf8'));
      change(json as never);
      writeFileSync(path, sealJson(JSON.stringify({ ...json, ...SEALED })));
      await expect(finishRun(copy, false), `${change}`).rejects.toThrow(message);
      cpSync(join(run, name), path);
    }
  });

  it('answers new questions', async () => {
    const rows = join(folder, 'new.json');
    writeFileSync(rows, JSON.stringify([{ claim: 'The red fox has number 3.' }, { nothing: true }]));
    const args = ['--model', MODEL, '--prober', join(run, 'probers', 'FEVER-magn')];
    const { code, out } = await neurgrad('probe', 'apply', ...args, '--questions', rows, '--json');
    expect(code).toBe(0);
    const { answers } = JSON.parse(out);
    expect(['True', 'False']).toContain(answers[0].label);
    expect(answers[1]).toEqual({ row: 1, problem: 'claim: missing' });
    const question = await neurgrad('probe', 'apply', ...args, '--question', '### Claim: x\n### Answer:');
    expect(question.code).toBe(0);
    writeFileSync(rows, '\ufeff[]');
    const none = await neurgrad('probe', 'apply', ...args, '--questions', rows);
    expect([none.code, none.err]).toEqual([2, expect.stringContaining('new.json: holds no rows')]);
    const missing = await neurgrad('probe', 'apply', ...args, '--questions', join(folder, 'nowhere.json'));
    expect([missing.code, missing.err]).toEqual([2, expect.stringContaining('nowhere.json: no such file')]);
  });

  it('tells what it cannot run', async () => {
    const shots = await neurgrad(
      ...['probe', 'run', '--model', 'examples/models/stories260k', '--data', data, '--tasks', 'FEVER'],
      ...['--out', join(folder, 'no')],
    );
    expect(shots.code).toBe(2);
    expect(shots.err).toContain('label "False" is not one token of this model');
    expect(await probe('--shard', '3/2', '--out', run)).toMatchObject({ code: 2 });
  });
});
