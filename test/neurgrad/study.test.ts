/**
 * Studies: plans, prompts, shares, part files; a study that is shared out or killed ends in the same tables; and each way
 * in which a folder can be wrong is told.
 */

import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { markdown, renderStudy, studyTables } from '../../cli/linearityReport.ts';
import { type Device, openDevice, UserError } from '../../engine/index.ts';
import { loadModel } from '../../models/index.ts';
import { DamagedFile, digestOf, SEALED, sealJson } from '../../models/seal.ts';
import { probeHooks } from '../../neurgrad/plainRun.ts';
import { predict } from '../../neurgrad/predict.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { costsOf, measureCost } from '../../neurgrad/study/cost.ts';
import { estimateStudy } from '../../neurgrad/study/estimate.ts';
import {
  fileHash,
  hashFiles,
  isWeightFile,
  StudyFolder,
  tokenizerHash,
  unitsOf,
} from '../../neurgrad/study/folder.ts';
import { encodePart, readPart } from '../../neurgrad/study/part.ts';
import { type Plan, PRESETS, parsePlan, planHash } from '../../neurgrad/study/plan.ts';
import { fill, readQuestions } from '../../neurgrad/study/prompts.ts';
import { runStudy } from '../../neurgrad/study/run.ts';
import { drawNeurons } from '../../neurgrad/study/select.ts';
import { detectShard, parseShard, type Shard, WHOLE } from '../../neurgrad/study/shard.ts';
import { summarise } from '../../neurgrad/study/summary.ts';
import { neurgrad } from '../cli/command.ts';

const MODEL = 'examples/models/facts-bert';
const root = mkdtempSync(join(tmpdir(), 'neurgrad-study-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;
const fresh = (): string => join(root, `study-${folders++}`);

const FACTS = [
  ['The capital of France is [MASK].', 'Paris'],
  ['The capital of Germany is [MASK].', 'Berlin'],
  ['The capital of Italy is [MASK].', 'Rome'],
  ['The capital of Japan is [MASK].', 'Tokyo'],
  ['The capital of Spain is [MASK].', 'Madrid'],
  ['The capital of Austria is [MASK].', 'Vienna'],
  ['The capital of France is [MASK].', 'Berlin'],
  ['The capital of Poland is [MASK].', 'Warsawandmore'],
  ['No mask here.', 'Paris'],
];
const PROMPTS = join(root, 'facts.jsonl');
writeFileSync(PROMPTS, FACTS.map(([prompt, answer]) => JSON.stringify({ prompt, answer })).join('\n'));

const plan = (over: object = {}): Plan =>
  parsePlan({
    models: [MODEL],
    prompts: { path: PROMPTS, count: 4, seed: 3 },
    neurons: { perPrompt: 6, seed: 1 },
    grid: { from: -2, to: 2, step: 1 },
    figure: { prompts: 1, neurons: 5, grid: { from: -4, to: 4, step: 1 } },
    integrated: { prompts: 1, steps: 3 },
    ...over,
  });

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const stamp = {
  source: MODEL,
  family: 'bert',
  layers: 4,
  hidden: 128,
  width: 512,
  files: { x: 'y' },
} as const;
const open = (path: string, shard: Shard = WHOLE, over: object = {}): StudyFolder =>
  StudyFolder.open(path, { plan: plan(over), models: [stamp], adapter: 'test', versions: {} }, shard);

async function run(path: string, shard: Shard = WHOLE, notes: string[] = [], over: object = {}) {
  using folder = open(path, shard, over);
  return await runStudy(folder, {
    shard,
    open: async () => {
      const { model, tokenizer } = await loadModel(MODEL, { device });
      return { model, tokenizer, close: () => model.dispose() };
    },
    onNote: (text) => void notes.push(text),
  });
}

/** All tables but the times. */
async function tables(...paths: string[]): Promise<string> {
  const found = studyTables(await summarise(paths.map((path) => StudyFolder.read(path))));
  found.delete('cost');
  return [...found.values()].map(markdown).join('\n');
}

describe('plans', () => {
  it('fill in the paper’s protocol', () => {
    const { grid, fit, direction, neurons } = plan();
    expect({ grid, fit, direction }).toEqual({
      grid: { from: -2, to: 2, step: 1 },
      fit: { range: 2, includeZero: false, withIntercept: false },
      direction: 'outward',
    });
    expect(neurons.sampling).toBe('perPrompt');
    for (const preset of Object.values(PRESETS))
      expect(parsePlan({ ...preset, models: ['x'], prompts: { ...preset.prompts, path: 'y' } }).grid).toEqual(
        { from: -2, to: 2, step: 0.2 },
      );
  });
  it('take no list for an object', () => {
    for (const part of ['prompts', 'neurons', 'grid', 'fit', 'figure', 'integrated'])
      expect(() => plan({ [part]: [] }), part).toThrow(`${part}: is a list, expected an object`);
    expect(() => plan({ figure: { prompts: 1, neurons: 1, grid: [] } })).toThrow('figure.grid: is a list');
    expect(() => parsePlan([])).toThrow('the plan: is a list');
  });
  it('are told wrong by the field', () => {
    expect(() => plan({ grid: { from: 0, to: 1, step: 0 } })).toThrow('grid.step');
    expect(() => plan({ grid: { from: 3, to: 9, step: 1 } })).toThrow('grid: 0 shifts but 0 lie within');
    expect(() => plan({ grid: { from: -2, to: 2, step: 4 } })).toThrow('a line needs three');
    expect(() => plan({ grid: { from: -2, to: 2, step: 1e-9 } })).toThrow(/grid: .*more than 100000 points/);
    const figure = { prompts: 1, neurons: 5 };
    for (const [from, to] of [
      [1, 5],
      [0, 5],
      [-3, -1],
    ])
      expect(() => plan({ figure: { ...figure, grid: { from, to, step: 1 } } })).toThrow('both sides of 0');
    expect(() => plan({ typo: 1 })).toThrow('typo');
    expect(() => plan({ neurons: { perPrompt: 0 } })).toThrow('above 0');
    expect(() => plan({ figure: { prompts: 9, neurons: 1 } })).toThrow('only 4');
  });
  it('hash alike whatever the order of fields', () => {
    const a = plan();
    expect(planHash(Object.fromEntries(Object.entries(a).reverse()) as Plan)).toBe(planHash(a));
    expect(planHash(plan({ sign: '-' }))).not.toBe(planHash(a));
  });
});

describe('prompts', () => {
  it('opens templates at their object', () => {
    expect(fill('[X] was born in [Y].', 'Ada $& Co', '[MASK]')).toBe('Ada $& Co was born in [MASK].');
    expect(fill('[X] was born in [Y] .', 'Ada', null)).toBe('Ada was born in');
    expect(fill('[Y] is where [X] was born.', 'Ada', null)).toBeNull();
    expect(fill('nothing', 'Ada', '[MASK]')).toBeNull();
  });
  it('reads facts and templates of a folder, and rows of templates', () => {
    const folder = join(root, 'relations');
    for (const part of ['objects', 'templates']) mkdirSync(join(folder, part), { recursive: true });
    writeFileSync(
      join(folder, 'objects', 'P1.jsonl'),
      '{"sub_label":"Ada","obj_label":"London"}\n{"sub_label":"Kurt","obj_label":"Brno"}\n',
    );
    writeFileSync(
      join(folder, 'templates', 'P1.jsonl'),
      '{"pattern":"[X] was born in [Y]."}\n{"pattern":"In [Y], [X] was born."}\n',
    );
    const questions = readQuestions({ ...plan().prompts, path: folder, format: 'pararel' }, '[MASK]');
    expect(questions.count).toBe(4);
    expect(questions.at(3)).toMatchObject({ prompt: 'In [MASK], Kurt was born.', answer: 'Brno' });
    expect(readQuestions({ ...plan().prompts, path: folder, format: 'pararel' }, null).count).toBe(2);
    const rows = join(root, 'rows.jsonl');
    writeFileSync(rows, '{"template":"[X] lies in [Y].","sub_ent":"Oslo","obj_ent":["Norway"]}\n');
    expect(
      readQuestions({ ...plan().prompts, path: rows, format: 'myriadlama' }, '[MASK]').at(0),
    ).toMatchObject({ prompt: 'Oslo lies in [MASK].', answer: 'Norway' });
    writeFileSync(rows, '{"prompt":\n');
    expect(() => readQuestions({ ...plan().prompts, path: rows }, '[MASK]')).toThrow(
      'rows.jsonl:1: is not JSON',
    );
    for (const line of ['null', '[]', '"text"']) {
      writeFileSync(rows, `\n${line}\n`);
      expect(() => readQuestions({ ...plan().prompts, path: rows }, '[MASK]')).toThrow(
        'rows.jsonl:2: is not an object',
      );
    }
    writeFileSync(
      rows,
      '\ufeff{"prompt":"a [MASK]","answer":"b","uuid":7}\r\n{"prompt":"c [MASK]","answer":"b","uuid":7}\r\n',
    );
    const marked = readQuestions({ ...plan().prompts, path: rows }, '[MASK]');
    expect([marked.at(0).prompt, marked.at(0).fact, marked.at(1).fact]).toEqual(['a [MASK]', '7', '7']);
    expect(() => readQuestions({ ...plan().prompts, path: 'nowhere' }, '[MASK]')).toThrow('nowhere');
  });
  it('draws neurons once for all prompts, or anew', () => {
    const model = { sizes: { layers: 4, width: 512 } } as Parameters<typeof drawNeurons>[0];
    const draw = (sampling: 'shared' | 'perPrompt', prompt: number) =>
      drawNeurons(model, { ...plan().neurons, sampling }, 5, prompt, 0);
    expect(draw('shared', 1)).toEqual(draw('shared', 2));
    expect(draw('perPrompt', 1)).not.toEqual(draw('perPrompt', 2));
    expect(draw('perPrompt', 1)).toEqual(draw('perPrompt', 1));
    expect(() => drawNeurons(model, plan().neurons, 5000, 0, 0)).toThrow('the model has 2048');
  });
});

it('a GGUF file is stamped by its own hash, and so is its tokenizer', () => {
  const file = 'test/golden-gguf/gpt2-a.gguf';
  expect(hashFiles(file, isWeightFile)).toEqual({ 'gpt2-a.gguf': fileHash(file) });
  expect(tokenizerHash(file)).toBe(fileHash(file));
  const folder = 'examples/models/facts-bert';
  expect(hashFiles(folder, isWeightFile)).toEqual({
    'model.safetensors': fileHash(join(folder, 'model.safetensors')),
  });
  expect(tokenizerHash(folder)).toBe(fileHash(join(folder, 'tokenizer.json')));
});

describe('shares', () => {
  it('come from the option, from Slurm or from Kubernetes', () => {
    expect(parseShard('2/4')).toEqual({ index: 1, count: 4 });
    for (const bad of ['0/4', '5/4', '1', 'a/b']) expect(() => parseShard(bad)).toThrow('i/n');
    expect(detectShard({})).toEqual(WHOLE);
    const slurm = {
      SLURM_ARRAY_TASK_ID: '7',
      SLURM_ARRAY_TASK_MIN: '3',
      SLURM_ARRAY_TASK_MAX: '9',
      SLURM_ARRAY_TASK_STEP: '2',
      SLURM_ARRAY_TASK_COUNT: '4',
    };
    expect(detectShard(slurm)).toEqual({ index: 2, count: 4 });
    expect(() => detectShard({ ...slurm, SLURM_ARRAY_TASK_ID: '6' })).toThrow('evenly');
    expect(detectShard({ JOB_COMPLETION_INDEX: '2', JOB_COMPLETIONS: '3' })).toEqual({ index: 2, count: 3 });
    expect(() => detectShard({ JOB_COMPLETION_INDEX: '2' })).toThrow('JOB_COMPLETIONS');
  });
  it('cover every unit once', () => {
    const units = unitsOf(plan(), [4, 3]);
    expect(units).toHaveLength(1 + 4 + 1 + 1 + 3 + 1);
  });
});

it('a study whose prompts all fail says of which model, and why', async () => {
  const path = join(root, 'wrong.jsonl');
  writeFileSync(
    path,
    '{"prompt":"The capital of France is [MASK].","answer":"Berlin"}\n{"prompt":"No mask.","answer":"Paris"}',
  );
  const over = {
    prompts: { path, count: 1, seed: 0 },
    figure: { prompts: 0, neurons: 1 },
    integrated: { prompts: 0 },
  };
  await expect(run(fresh(), WHOLE, [], over)).rejects.toThrow(
    /^examples\/models\/facts-bert: none of 2 prompts passed: 1 .+, 1 /,
  );
});

describe('a study', () => {
  const whole = fresh();
  const notes: string[] = [];
  beforeAll(async () => {
    expect(await run(whole, WHOLE, notes)).toEqual({ done: 6, found: 0 });
  });

  it('has in its table the columns that the page on tables lists', async () => {
    const study = StudyFolder.read(whole);
    const part = await study.readUnit({ model: 0, kind: 'table', prompt: 0 });
    const listed = /<!-- columns: parts -->\n(.*)\n/.exec(readFileSync('docs/tables.md', 'utf8'))![1]!;
    const names = [...part.keys()].filter((name) => !/^d-?\d/.test(name));
    expect(listed.split(', ').map((name) => name.slice(1, -1))).toEqual(names);
  });

  it('counts what it left out, and takes the right answers', async () => {
    const summary = await summarise([StudyFolder.read(whole)]);
    const [model] = summary.models;
    expect(model!.prompts.count).toBe(4);
    expect(model!.prompts.tried).toBe(4 + Object.values(model!.prompts.dropped).reduce((a, b) => a + b, 0));
    expect(model!.neurons).toBe(24);
    expect(model!.table1.neurgrad.pearson.value).toBeGreaterThan(0.9);
    expect(model!.table1.integrated!.pairs).toBe(6);
    expect(model!.figure2).toHaveLength(4);
    expect(model!.belowNoise.gradient).toBeLessThan(24);
    expect(model!.belowNoise.ig).toBeLessThan(6);
    expect(model!.layers.reduce((sum, { tested }) => sum + tested, 0)).toBe(24);
    const { html: page } = renderStudy(summary, '0');
    expect(page).toContain('of the activations here are negative');
    expect(page).toMatch(/\d+ G_C and \d+ IG no larger than their noise/);
    expect(page).not.toMatch(/<script[^>]+src|https?:\/\/(?!www\.w3\.org)/);
  });

  it('compares estimates over the same pairs, and the whole sample apart', async () => {
    const summary = await summarise([StudyFolder.read(whole)]);
    const [model] = summary.models;
    const { table1, whole: all } = model!;
    // One of four prompts has integrated gradients.
    expect([table1.prompts, all!.prompts]).toEqual([1, 4]);
    for (const name of ['gradient', 'integrated', 'neurgrad', 'opposite'] as const)
      expect(table1[name]!.pairs).toBe(6);
    for (const name of ['gradient', 'neurgrad', 'opposite'] as const) expect(all![name].pairs).toBe(24);
    expect([all!.integrated, all!.difference]).toEqual([null, null]);
    expect(table1.difference!.value).toBeCloseTo(
      table1.neurgrad.pearson.value - table1.integrated!.pearson.value,
      12,
    );
    const blocks = studyTables(summary).get('table1')!;
    expect(blocks.map(({ title }) => title.split(': ').at(-1))).toEqual([
      '1 prompt with integrated gradients',
      'the whole sample, 4 prompts',
    ]);
    const [same, rest] = blocks.map(({ rows }) => rows.map((row) => [row[0], row[9]]));
    const names = ['G_C', 'IG', 'NeurGrad', 'NeurGrad, other sign', 'NeurGrad − IG'];
    expect(same).toEqual(names.map((name) => [name, '6']));
    expect(rest).toEqual(['G_C', 'NeurGrad', 'NeurGrad, other sign'].map((name) => [name, '24']));
    // Where all prompts have all estimates, or none has IG, there is one block.
    for (const prompts of [0, 4]) {
      const folder = fresh();
      await run(folder, WHOLE, [], { integrated: { prompts, steps: 2 }, figure: { prompts: 0, neurons: 1 } });
      const one = await summarise([StudyFolder.read(folder)]);
      expect(one.models[0]!.whole).toBeNull();
      expect(one.models[0]!.belowNoise.ig === null).toBe(prompts === 0);
      expect(studyTables(one).get('table1')).toHaveLength(1);
      expect(one.models[0]!.table1.integrated?.pairs).toBe(prompts === 0 ? undefined : 24);
    }
  });

  it('gives no interval of few prompts, and says why wherever one would stand', async () => {
    const summary = await summarise([StudyFolder.read(whole)]);
    const [model] = summary.models;
    const reason = '4 prompts: an interval needs 10';
    for (const found of [
      model!.whole!.gradient.pearson,
      model!.linear,
      ...model!.layers.map(({ shares }) => shares.positive),
    ])
      expect(found).toMatchObject({ interval: null, effective: null, reason });
    expect(model!.figure2[1]!.meanR.reason).toBe('1 prompt: an interval needs 10');
    const tables = studyTables(summary);
    for (const name of ['table1', 'table2', 'layers']) expect(markdown(tables.get(name)!)).toContain(reason);
    expect(markdown(tables.get('figure2')!)).toContain('No interval: 1 prompt: an interval needs 10');
    const { html: page } = renderStudy(summary, '0');
    for (const said of [
      `Pearson of NeurGrad and G_E; no interval: ${reason}`,
      `pairs of 4 prompts, no interval (${reason})`,
      'No band: 1 prompt: an interval needs 10',
      `No intervals: ${reason}`,
    ])
      expect(page).toContain(said);
  });

  it('takes no two points for a line, and no flat curve either, in Figure 2 as in the tables', async () => {
    const summary = await summarise([StudyFolder.read(whole)]);
    const { figure2 } = summary.models[0]!;
    expect(figure2.map(({ range, points }) => [range, points])).toEqual([
      [1, 2],
      [2, 4],
      [3, 6],
      [4, 8],
    ]);
    expect(figure2[0]).toMatchObject({ linear: null, meanR: { value: expect.closeTo(1, 9) } });
    const part = await StudyFolder.read(whole).readUnit({ model: 0, kind: 'figure', prompt: 0 });
    // Within the plan's range the figure's r is the sweep's own.
    expect([...part.get('r2')!]).toEqual([...part.get('r')!]);
    expect(figure2[1]!.linear!.value).toBeCloseTo(
      part.get('linear')!.reduce((a, b) => a + b, 0) / part.get('linear')!.length,
      12,
    );
  });

  it('tells progress that never stands at nothing of nothing, and ends', async () => {
    const folder = fresh();
    const heard = async (): Promise<(readonly [number, number])[]> => {
      using study = open(folder);
      const told: [number, number][] = [];
      await runStudy(study, {
        shard: WHOLE,
        open: async () => {
          const { model, tokenizer } = await loadModel(MODEL, { device });
          return { model, tokenizer, close: () => model.dispose() };
        },
        onProgress: (done, all) => void told.push([done, all]),
      });
      return told;
    };
    const check = (told: (readonly [number, number])[]): void => {
      for (const [i, [done, all]] of told.entries()) {
        expect(all).toBe(told[0]![1]);
        expect(done).toBeGreaterThan(0);
        expect(done).toBeLessThanOrEqual(all);
        expect(done).toBeGreaterThanOrEqual(told[i - 1]?.[0] ?? 0);
      }
      expect(told.at(-1)![0]).toBe(told.at(-1)![1]);
    };
    const all = await heard();
    check(all);
    // Four prompts of 6 neurons at 4 shifts, one of them with 4 layers at 3 points; 5 neurons at 8 shifts; costs.
    expect(all[0]![1]).toBe(4 * 6 * 4 + 4 * 3 + 5 * 8 + 2 * 4 * 3);
    // Where the costs alone are left there are no points to sweep.
    rmSync(join(folder, 'parts', 'm0-cost-00000.parquet'));
    check(await heard());
  });

  it('writes its seeds down', async () => {
    const { seeds } = await summarise([StudyFolder.read(whole)]);
    expect(seeds).toEqual({ prompts: 3, neurons: 1, shuffles: 1, pairs: 1 });
  });

  it('says the range of the plan, and nothing of one prompt or one pair', async () => {
    const folder = fresh();
    const one = { count: 1, path: PROMPTS };
    const grid = { from: -2, to: 2, step: 0.5 };
    await run(folder, WHOLE, [], { grid, fit: { range: 1 }, prompts: one, neurons: { perPrompt: 1 } });
    const summary = await summarise([StudyFolder.read(folder)]);
    const { html: page } = renderStudy(summary, '0');
    expect(page).toContain('upright: ±1');
    expect(page).not.toContain('upright: ±2');
    expect(page).not.toContain('A pooled Pearson');
    expect(markdown(studyTables(summary).get('table1')!)).toMatch(/\| G_C \|( – \|){4} /);
  });

  it('is found done when started again', async () => {
    expect(await run(whole)).toEqual({ done: 0, found: 6 });
  });

  it('ends in the same tables when shared out, in one folder or in several', async () => {
    const [one, two, both] = [fresh(), fresh(), fresh()];
    for (const index of [0, 1]) {
      await run(both, { index, count: 2 });
      await run([one, two][index]!, { index, count: 2 });
    }
    const expected = await tables(whole);
    expect(await tables(both)).toBe(expected);
    expect(await tables(one, two)).toBe(expected);
    await expect(tables(one)).rejects.toThrow('3 of 6 units are not done yet');
    const { units, models } = await summarise([StudyFolder.read(one)], { partial: true });
    expect(units).toEqual({ done: 3, all: 6 });
    expect(models[0]!.prompts.count).toBe(2);
    const full = await summarise([StudyFolder.read(whole)]);
    const curve = models[0]!.examples[0]!;
    expect(full.models[0]!.examples.map(({ prompt }) => prompt)).toContain(curve.prompt);
    expect(renderStudy(await summarise([StudyFolder.read(one)], { partial: true }), '0').html).toContain(
      '3 of 6 units are done',
    );
  });

  it('does a part again that was cut short, and says so', async () => {
    const expected = await tables(whole);
    const part = join(whole, 'parts', 'm0-table-00002.parquet');
    truncateSync(part, 900);
    await expect(tables(whole)).rejects.toThrow('is cut short, damaged or');
    const told: string[] = [];
    expect(await run(whole, WHOLE, told)).toEqual({ done: 1, found: 5 });
    expect(told).toEqual([expect.stringContaining('doing m0-table-00002 again')]);
    expect(await tables(whole)).toBe(expected);
    expect(existsSync(`${part}.damaged`)).toBe(true);
  });

  it('refuses a changed plan, other weights and a second process', async () => {
    expect(() => open(whole, WHOLE, { sign: '-' })).toThrow("another plan (sign: '+', now '-')");
    expect(() => open(whole, WHOLE, { neurons: { perPrompt: 7 } })).toThrow('neurons.perPrompt: 6, now 7');
    expect(() =>
      StudyFolder.open(
        whole,
        { plan: plan(), models: [{ ...stamp, files: { x: 'z' } }], adapter: '', versions: {} },
        WHOLE,
      ),
    ).toThrow('other files of');
    const lock = join(whole, 'lock-1-of-1.json');
    {
      using first = open(whole);
      expect(first.has({ model: 0, kind: 'table', prompt: 0 })).toBe(true);
      expect(() => open(whole)).toThrow(`process ${process.pid} is at work`);
      expect(() => open(whole, { index: 1, count: 3 })).toThrow('at work');
    }
    expect(existsSync(lock)).toBe(false);
    // Numbers of processes are given again, in containers soon: this one's, but of another birth.
    writeFileSync(lock, JSON.stringify({ pid: process.pid, host: hostname(), birth: '1' }));
    open(whole)[Symbol.dispose]();
    // A process that is gone holds nothing; one on another machine does.
    const gone = spawnSync(process.execPath, ['-e', '0']).pid;
    writeFileSync(lock, JSON.stringify({ pid: gone, host: hostname() }));
    open(whole)[Symbol.dispose]();
    writeFileSync(lock, JSON.stringify({ pid: 1, host: 'elsewhere' }));
    expect(() => open(whole)).toThrow('process 1 on elsewhere');
    rmSync(lock);
  });

  it.each<[string, (manifest: Record<string, unknown>) => unknown, RegExp]>([
    ['a plan', (one) => ({ ...one, plan: { ...(one.plan as object), sign: '-' } }), /has been changed/],
    ['no models', (one) => ({ ...one, models: [] }), /models is/],
    [
      'a model of no name',
      (one) => ({ ...one, models: [{ ...(one.models as object[])[0], source: [] }] }),
      /models.0.source is \[\], expected string/,
    ],
    [
      'another model',
      (one) => ({ ...one, models: [{ ...(one.models as object[])[0], layers: 7 }] }),
      /has been changed/,
    ],
    ['no plan', (one) => ({ ...one, plan: [] }), /manifest.json: /],
    ['another format', (one) => ({ ...one, format: 'neurgrad study 1' }), /format is 'neurgrad study 1'/],
    ['no object', () => null, /manifest.json: /],
  ])('does not believe a manifest with %s', (_, change, expected) => {
    const folder = fresh();
    mkdirSync(folder, { recursive: true });
    const manifest = JSON.parse(readFileSync(join(whole, 'manifest.json'), 'utf8'));
    // Sealed anew: what it says is checked as well.
    const changed = change({ ...manifest, ...SEALED });
    writeFileSync(
      join(folder, 'manifest.json'),
      changed === null ? 'null' : sealJson(JSON.stringify(changed)),
    );
    expect(() => StudyFolder.read(folder)).toThrow(expected);
    expect(() => StudyFolder.read(folder)).toThrow(UserError);
  });

  it('goes on in a folder of before, whose stamps call the family architecture', () => {
    const folder = fresh();
    mkdirSync(folder, { recursive: true });
    const manifest = JSON.parse(readFileSync(join(whole, 'manifest.json'), 'utf8'));
    const models = manifest.models.map(({ family, ...rest }: { family: string }) => ({
      ...rest,
      architecture: family,
    }));
    expect(manifest.study).toBe(digestOf({ hash: manifest.planHash, models }));
    writeFileSync(
      join(folder, 'manifest.json'),
      sealJson(JSON.stringify({ ...manifest, models, ...SEALED })),
    );
    expect(StudyFolder.read(folder).manifest.models).toEqual([stamp]);
    open(folder)[Symbol.dispose]();
  });

  it('has one choice of prompts: the first that came, and none where shares chose otherwise', async () => {
    const [one, two] = [fresh(), fresh()];
    for (const index of [0, 1]) await run([one, two][index]!, { index, count: 2 });
    const folder = StudyFolder.read(one);
    const kept = folder.note('prompts-0.json');
    expect(folder.keepNote('prompts-0.json', { other: 1 })).toEqual(kept);
    writeFileSync(join(one, 'prompts-0.json'), '{"study":');
    expect(folder.keepNote('prompts-0.json', kept)).toEqual(kept);
    const { study, value } = JSON.parse(readFileSync(join(two, 'prompts-0.json'), 'utf8'));
    value.prompts.reverse();
    writeFileSync(join(two, 'prompts-0.json'), JSON.stringify({ study, digest: digestOf(value), value }));
    await expect(tables(one, two)).rejects.toThrow('chose other prompts');
  });

  it('tells a folder that cannot be written', () => {
    // Nobody, not even root, makes folders there.
    expect(() => open('/sys/neurgrad-study')).toThrow('/sys/neurgrad-study');
    const file = join(root, 'file');
    writeFileSync(file, '');
    expect(() => open(file)).toThrow(file);
  });
});

describe('costs', () => {
  const part = (columns: Record<string, number[]>) =>
    new Map(Object.entries(columns).map(([name, data]) => [name, Float64Array.from(data)]));
  it('are medians, and ratios within rounds', () => {
    const none = Number.NaN;
    const { gradient, neurgrad, integrated, integratedFull } = costsOf(
      part({
        gradient: [1, 2, 4, 1, 2, 4, 3],
        // A machine that slows down by four slows both: the ratio stays.
        neurgrad: [1.1, 2.2, 4.4, 1.3, 2.2, 4.4, 3.3],
        integrated: [20, 22, none, none, none, none, none],
        integratedFull: [none, none, none, none, none, none, none],
      }),
    );
    expect(gradient).toEqual({ seconds: 2, rounds: 7, ratio: 1, interval: null });
    expect(neurgrad).toMatchObject({ seconds: 2.2, rounds: 7, ratio: expect.closeTo(1.1, 12) });
    expect(neurgrad!.interval).toEqual({ low: expect.closeTo(1.1, 12), high: expect.closeTo(1.3, 12) });
    expect(integrated).toEqual({ seconds: 21, rounds: 2, ratio: 10.5, interval: null });
    expect(integratedFull).toBeNull();
  });
  it('compare one backward without NeurGrad to one with it, and IG on both paths', async () => {
    const { model, tokenizer } = await loadModel(MODEL, { device });
    const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
    const { id: target } = (await predict(model, prompt, 1))[0]!;
    const hooks = [0, 1, 2, 3].map((layer) => `blocks.${layer}.mlp.hook_post`);
    const alone = await probeHooks(model, prompt, prompt.position, hooks, 'prob', target, false);
    const both = await probeHooks(model, prompt, prompt.position, hooks, 'prob', target);
    expect([alone.activation.size, both.activation.size]).toEqual([0, 4]);
    for (const name of hooks) expect(alone.gradient.get(name)).toEqual(both.gradient.get(name));
    const selected = { ...prompt, id: 'france', target, answer: 'paris', token: 'paris' };
    const limits = { gradients: { most: 2, seconds: 1 }, integrated: { most: 1, seconds: 1 } };
    const timed = await measureCost(model, plan({ integrated: { prompts: 1, steps: 2 } }), selected, limits);
    const found = costsOf(part(Object.fromEntries(timed.map(({ name, data }) => [name, Array.from(data)]))));
    for (const method of ['gradient', 'neurgrad', 'integrated', 'integratedFull'] as const)
      expect(found[method]!.seconds, method).toBeGreaterThan(0);
    const without = await measureCost(model, plan({ integrated: { prompts: 0 } }), selected, limits);
    const gradients = costsOf(
      part(Object.fromEntries(without.map(({ name, data }) => [name, Array.from(data)]))),
    );
    expect([gradients.integrated, gradients.integratedFull]).toEqual([null, null]);
    model.dispose();
  });
});

describe('an estimate', () => {
  it('counts what the plan asks for and times what it can', async () => {
    const { model, tokenizer } = await loadModel(MODEL, { device });
    const found = await estimateStudy(plan(), { model, tokenizer, close: () => {} });
    model.dispose();
    // 4 prompts of 6 neurons at 4 shifts; a figure of 5 neurons at 8.
    expect(found).toMatchObject({ units: 6, points: 4 * 6 * 4 + 5 * 8 });
    expect(found.integrated.prompts).toBe(1);
    const { points, pointsPerSecond, integrated } = found;
    expect(found.seconds).toBeCloseTo(points / pointsPerSecond + integrated.seconds, 9);
  });
});

describe('part files', () => {
  it('come back as they were, and only for their unit and study', async () => {
    const path = join(root, 'part.parquet');
    const bytes = encodePart('study', 'unit', [
      { name: 'a', type: 'INT32', data: [1, 2, 3] },
      { name: 'b', type: 'DOUBLE', data: [0.1, -1e-300, 5] },
      { name: 'c', type: 'FLOAT', data: [0.1, 2, -0] },
    ]);
    writeFileSync(path, bytes);
    const part = await readPart(path, 'study', 'unit');
    expect([...part.get('b')!]).toEqual([0.1, -1e-300, 5]);
    expect(part.get('c')![0]).toBe(Math.fround(0.1));
    await expect(readPart(path, 'other', 'unit')).rejects.toThrow('another plan or model');
    await expect(readPart(path, 'study', 'other')).rejects.toThrow("holds unit 'unit', not other");
  });

  it('are refused before they are decoded, whichever byte has changed and wherever they end', async () => {
    const path = join(root, 'changed.parquet');
    const whole = encodePart('study', 'unit', [{ name: 'a', type: 'DOUBLE', data: [0.1, -1e-300, 5] }]);
    for (let at = 0; at < whole.length; at++) {
      const bytes = whole.slice();
      bytes[at]! ^= 1 << (at % 8);
      writeFileSync(path, bytes);
      await expect(readPart(path, 'study', 'unit'), `byte ${at}`).rejects.toThrow(DamagedFile);
    }
    for (const length of [0, 1, 100, whole.length - 1]) {
      writeFileSync(path, whole.subarray(0, length));
      await expect(readPart(path, 'study', 'unit'), `${length} bytes`).rejects.toThrow(DamagedFile);
    }
    writeFileSync(path, Buffer.concat([whole, Buffer.of(0)]));
    await expect(readPart(path, 'study', 'unit')).rejects.toThrow(DamagedFile);
  });
});

describe('the command', { timeout: 600_000 }, () => {
  const file = join(root, 'plan.json');
  const subjects = ['France', 'Italy', 'Japan', 'Spain', 'Peru', 'Egypt', 'Norway', 'Cuba'];
  const words = ['capital', 'king', 'language'];
  const rows = subjects.flatMap((subject) =>
    words.map((word) => ({ prompt: `The ${word} of ${subject} is [MASK].`, answer: 'paris' })),
  );
  const prompts = join(root, 'many.jsonl');
  writeFileSync(prompts, rows.map((row) => JSON.stringify(row)).join('\n'));
  writeFileSync(
    file,
    JSON.stringify({
      models: [MODEL],
      prompts: { path: prompts, count: rows.length, answeredRight: false },
      neurons: { perPrompt: 8 },
      figure: { prompts: 2, neurons: 4, grid: { from: -4, to: 4, step: 1 } },
      integrated: { prompts: 2, steps: 2 },
    }),
  );
  const command = (out: string): string[] => ['study', '--plan', file, '--out', out];
  const finish = async (out: string): Promise<string> => {
    const { code, err } = await neurgrad(...command(out));
    expect(code, err).toBe(0);
    return tables(out);
  };
  const partsOf = (out: string): string[] => {
    const folder = join(out, 'parts');
    return existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.parquet')) : [];
  };
  /** Which file it is, and when it was written: another one where it was written again. */
  const identity = (out: string, name: string): string => {
    const { ino, mtimeMs } = statSync(join(out, 'parts', name));
    return `${ino} ${mtimeMs}`;
  };

  it('killed four times at random moments, it goes on and ends in the same bytes, no part done twice', async () => {
    const whole = fresh();
    const expected = await finish(whole);
    const out = fresh();
    const random = seededRandom(10);
    const seen = new Map<string, string>();
    let struck = 0;
    for (let kill = 0; kill < 4; kill++) {
      const child = spawn(process.execPath, ['dist/cli/main.js', ...command(out)], { stdio: 'ignore' });
      const ended = new Promise((resolve) => child.on('exit', (_, signal) => resolve(signal)));
      // Every third falls into the start; the others come when another part is there, and a little later.
      if (kill % 3 !== 0) while (child.exitCode === null && partsOf(out).length === seen.size) await wait(5);
      await wait(random() * (kill % 3 === 0 ? 1500 : 150));
      child.kill('SIGKILL');
      if ((await ended) === 'SIGKILL') struck++;
      for (const [name, was] of seen) expect(identity(out, name), name).toBe(was);
      for (const name of partsOf(out)) seen.set(name, identity(out, name));
    }
    expect(struck).toBe(4);
    expect(seen.size).toBeLessThan(partsOf(whole).length);
    expect(await finish(out)).toBe(expected);
    for (const [name, was] of seen) expect(identity(out, name), name).toBe(was);
    expect(partsOf(out)).toEqual(partsOf(whole));
    const bytes = (folder: string, name: string) => readFileSync(join(folder, 'parts', name));
    for (const name of partsOf(whole))
      if (!name.includes('cost')) expect(bytes(out, name).equals(bytes(whole, name)), name).toBe(true);
    // Killed processes leave a lock and pieces behind; the last one leaves none of its own.
    expect(readdirSync(out).filter((name) => name.startsWith('lock'))).toEqual([]);
  });
});
