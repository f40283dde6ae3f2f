/** The results page: made by its command from tiny samples, its numbers those of the studies, and the one in docs/ that of its entries. */

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collectEntry, type Entry, readEntry, writeEntry } from '../../examples/results/entry.ts';
import { figuresOf } from '../../examples/results/figures.ts';
import { readmePart, renderPage, verdict } from '../../examples/results/page.ts';
import { plansOf } from '../../examples/results/plans.ts';
import { factQuestions, storyQuestions } from '../../examples/results/questions.ts';
import { readFacts } from '../../examples/train-facts-bert/facts.ts';
import { encodePrompt, loadModel, predict, resolveTarget } from '../../neurgrad/index.ts';
import { parsePlan, StudyFolder, summarise } from '../../neurgrad/study/index.ts';
import { claims } from '../probing/rows.ts';

const folder = mkdtempSync(join(tmpdir(), 'neurgrad-results-'));
const docs = join(folder, 'docs');
const runs = join(folder, 'runs');
afterAll(() => rmSync(folder, { recursive: true }));

function results(...args: string[]): Promise<{ code: number | null; err: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      ['dist/examples/results/main.js', '--docs', docs, '--out', runs, ...args],
      {
        env: { ...process.env, NO_COLOR: '1', HF_HUB_OFFLINE: '1' },
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    let err = '';
    child.stderr.on('data', (part) => (err += part));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, err }));
  });
}

describe('questions', () => {
  const facts = readFacts('examples/models/facts-bert');

  it('are one a fact; causal ones end where the object would stand', () => {
    const masked = factQuestions(facts, '[MASK]', 1);
    expect(masked.length).toBe(facts.facts.length);
    expect(masked.every(({ prompt }) => prompt.split('[MASK]').length === 2)).toBe(true);
    const causal = factQuestions(facts, null, 1);
    expect(causal.length).toBeGreaterThan(20_000);
    expect(causal.every(({ prompt }) => !/\[[A-Z]+\]|\s$/.test(prompt))).toBe(true);
    expect(factQuestions(facts, null, 1)).toEqual(causal);
    expect(factQuestions(facts, null, 2)).not.toEqual(causal);
  });

  it('of stories are answered as the model goes on', async () => {
    const { model, tokenizer } = await loadModel('examples/models/stories260k');
    const questions = await storyQuestions(model, tokenizer, ['Lily']);
    expect(questions.length).toBeGreaterThan(20);
    for (const { prompt: text, answer } of questions.slice(0, 5)) {
      const prompt = encodePrompt(model, tokenizer, text);
      const [best] = await predict(model, prompt, 1);
      expect(best!.id).toBe(resolveTarget(model, tokenizer, prompt, answer));
    }
    model.device.destroy();
  });
});

describe('a model measured', () => {
  const model = 'examples/models/facts-bert';
  const sizes = ['--prompts', '10', '--neurons', '4', '--figure', '2x3', '--ig', '1'];
  const probing = ['--tasks', 'FEVER', '--shots', '0', '--rows', '16', '--evaluation-rows', '12'];
  const data = join(folder, 'data');
  const file = join(docs, 'results', 'facts-bert.json');
  let page: string;
  let entry: Entry;

  beforeAll(async () => {
    mkdirSync(join(data, 'fact', 'fever'), { recursive: true });
    for (const [split, count, from] of [
      ['train', 40, 0],
      ['valid', 16, 40],
      ['test', 16, 56],
    ] as const)
      writeFileSync(join(data, 'fact', 'fever', `${split}.json`), JSON.stringify(claims(count, from)));
    mkdirSync(docs);
    writeFileSync(join(folder, 'README.md'), 'before <!-- results -->old<!-- /results --> after\n');
    const { code, err } = await results('--model', model, '--data', data, ...sizes, ...probing);
    expect(err).toContain('wrote ');
    expect(code).toBe(0);
    page = readFileSync(join(docs, 'results.md'), 'utf8');
    entry = readEntry(file);
  }, 300_000);

  it('has a page whose numbers are those of its studies', async () => {
    const study = await summarise([StudyFolder.read(join(runs, 'facts-bert', 'table'))]);
    const { linear, table1, table2, prompts } = study.models[0]!;
    expect(entry.studies.table!.models[0]!.linear).toEqual(linear);
    expect(prompts.count).toBe(10);
    const row = page.split('\n').find((line) => line.startsWith('| [facts-bert]'))!;
    for (const shown of [
      '10 × 4',
      `${(100 * linear.value).toFixed(1)}% [${(100 * linear.interval!.low).toFixed(1)}%`,
      `${table1.neurgrad.pearson.value.toFixed(4)} [${table1.neurgrad.pearson.interval!.low.toFixed(4)}, `,
      `${table1.gradient.pearson.value.toFixed(4)} [`,
      table1.neurgrad.spearman.toFixed(4),
      table2.lg.value.toFixed(4),
    ])
      expect(row).toContain(shown);
    const probe = JSON.parse(readFileSync(join(runs, 'facts-bert', 'probe', 'summary.json'), 'utf8'));
    const task = page.split('\n').find((line) => line.startsWith('| FEVER | 0.5000'))!;
    for (const method of ['lmProb', 'polar', 'magn'])
      expect(task).toContain(probe.tasks[0][method].accuracy.toFixed(4));
    expect(page).toContain(`of ${prompts.tried.toLocaleString('en')} looked at`);
  });

  it('shows figures that are there', () => {
    const shown = [...page.matchAll(/!\[[^\]]*\]\(results\/([^)]+)\)/g)].map((match) => match[1]!).sort();
    const there = readdirSync(join(docs, 'results')).filter((name) => name.endsWith('.svg'));
    expect(there).toEqual(expect.arrayContaining(shown));
    expect(shown).toHaveLength(4);
    for (const name of there) {
      const svg = readFileSync(join(docs, 'results', name), 'utf8');
      expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
      expect(svg).not.toMatch(/var\(|NaN/);
    }
  });

  it('is drawn again from its file alone, and gone on with without computing anything twice', async () => {
    const part = join(runs, 'facts-bert', 'table', 'parts', 'm0-table-00003.parquet');
    rmSync(part);
    // What was probed and integrated stays on the page.
    const { code, err } = await results('--model', model, ...sizes.slice(0, -1), '0');
    expect(code).toBe(0);
    expect(readFileSync(part).length).toBeGreaterThan(1000);
    expect(err).not.toContain('choose prompts');
    expect(readFileSync(join(docs, 'results.md'), 'utf8')).toBe(page);
    rmSync(runs, { recursive: true });
    expect(await results('--page')).toMatchObject({ code: 0 });
    expect(readFileSync(join(docs, 'results.md'), 'utf8')).toBe(page);
  });

  it('keeps the parts that were measured elsewhere, with when and where', async () => {
    const elsewhere = join(folder, 'elsewhere');
    const probe = { date: '2001-02-03', commit: 'abc', cores: 64 };
    const before = { ...entry, occasions: { ...entry.occasions, probe } };
    expect(await collectEntry(elsewhere, 'facts-bert', before)).toEqual({ ...before, figures: [] });
    expect(renderPage([before])).toContain(
      'Figure 2, integrated gradients; on 2001-02-03, with commit `abc`, 64 cores: skill neurons.',
    );
    expect(await results('--model', model, '--parts', 'tables')).toMatchObject({
      code: 2,
      err: expect.stringContaining('"tables" is no part of the results; there are figure, table,'),
    });
  });

  it('is a check, which the README does not speak of', () => {
    expect(page.indexOf('## Checks')).toBeLessThan(page.indexOf('### facts-bert'));
    expect(readmePart([entry])).toBeNull();
    expect(readFileSync(join(folder, 'README.md'), 'utf8')).toContain('old');
    const other = { ...entry, name: 'big' };
    expect(readmePart([entry, other])).toContain(
      `| ${entry.studies.table!.models[0]!.table1.neurgrad.pearson.value.toFixed(4)} |`,
    );
    expect(renderPage([entry, other])).toContain('\n## big\n');
  });

  it('calls chance chance', () => {
    const { probe } = entry;
    const at = (p: number) => ({ ...probe!.macro.holm.magn, permutation: [p] });
    const said = (p: number) =>
      verdict({ ...probe!, macro: { ...probe!.macro, holm: { polar: at(p), magn: at(p) } } });
    expect(said(0.2)).toContain('on none of them; on FEVER what it answers is chance');
    expect(said(0.01)).toContain('for 1 task) on FEVER.');
  });

  it('keeps a correlation that there is none of', () => {
    const table = entry.studies.table!;
    const [one] = table.models as [(typeof table.models)[0]];
    const hollow = {
      ...one,
      table1: { ...one.table1, gradient: { ...one.table1.gradient, spearman: Number.NaN } },
    };
    const path = join(folder, 'hollow.json');
    writeFileSync(
      path,
      writeEntry({ ...entry, studies: { ...entry.studies, table: { ...table, models: [hollow] } } }),
    );
    expect(readEntry(path).studies.table!.models[0]!.table1.gradient.spearman).toBeNaN();
  });
});

it('a folder without a prompt that is done is refused, and so is no model', async () => {
  await expect(collectEntry(join(folder, 'nothing'), 'nothing')).rejects.toThrow('no prompt is done yet');
  expect(await results()).toMatchObject({ code: 2, err: expect.stringContaining('name a model') });
});

it('plans are plans', () => {
  const plans = plansOf(
    'm',
    'q.jsonl',
    { prompts: 100, neurons: 50, figure: { prompts: 10, neurons: 50 }, integrated: 0 },
    { engine: 'curve' },
  );
  expect(parsePlan(plans.table).engine).toBe('curve');
  for (const plan of Object.values(plans))
    expect(parsePlan(plan).prompts).toMatchObject({ onePerFact: true, hideAnswer: true });
  expect(parsePlan(plans.table)).toMatchObject({ figure: { prompts: 0 }, integrated: { prompts: 0 } });
});

describe('the page of the docs', () => {
  const entries = readdirSync('docs/results')
    .filter((name) => name.endsWith('.json'))
    .map((name) => readEntry(join('docs/results', name)));

  it('is drawn from the entries beside it, the README’s part too', () => {
    expect(readFileSync('docs/results.md', 'utf8')).toBe(renderPage(entries));
    expect(readFileSync('README.md', 'utf8')).toContain(
      `<!-- results -->\n${readmePart(entries)}\n<!-- /results -->`,
    );
  });

  it('has the figures of each', () => {
    const there = readdirSync('docs/results');
    for (const { name, figures } of entries)
      for (const figure of figures) expect(there).toContain(`${name}-${figure}.svg`);
    expect(entries.every((entry) => figuresOf({ ...entry, probe: null }).size <= entry.figures.length)).toBe(
      true,
    );
  });
});
