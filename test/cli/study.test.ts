/**
 * A study of a masked and a causal model, each asked its own prompts at its own neurons: what the plan takes, what the folder holds, and
 * the rows of it, which the queries of docs/notebooks.md are asked of.
 */

import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { parquetMetadata } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPlan } from '../../cli/commands/study.ts';
import { STUDY_CURVE_ROWS, STUDY_NEURON_ROWS, writeStudyRows } from '../../cli/studyRows.ts';
import { SITES } from '../../neurgrad/index.ts';
import {
  type ModelPlan,
  modelPlans,
  type Part,
  type PlanInput,
  parsePlan,
  planHash,
  StudyFolder,
  summarise,
} from '../../neurgrad/study/index.ts';
import { readStudy } from '../../neurgrad/study/read.ts';
import { drawNeurons } from '../../neurgrad/study/select.ts';
import { neurgrad } from './command.ts';
import { runHere } from './here.ts';

const [BERT, LLAMA] = ['examples/models/facts-bert', 'examples/models/stories260k'] as const;
const folder = mkdtempSync(join(tmpdir(), 'neurgrad-studies-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const lines = (rows: readonly object[]): string => rows.map((row) => JSON.stringify(row)).join('\n');

// Both files have a prompt of the same id: only the model tells their rows apart.
const masked = file(
  'masked.jsonl',
  lines([
    { id: 'one', prompt: 'The capital of France is [MASK].', answer: 'paris' },
    { id: 'two', prompt: 'The capital of Norway is [MASK].', answer: 'oslo' },
  ]),
);
const open = file(
  'open.jsonl',
  lines([
    { id: 'one', prompt: 'Once upon', answer: 'a' },
    { id: 'other', prompt: 'She went to', answer: 'the' },
  ]),
);
const named = file('named.txt', 'L0.N5@act\nL1.N2\n');

const PLAN: PlanInput = {
  name: 'both',
  models: [
    { path: BERT, prompts: masked, neurons: 'L3.N0-1,top:2,random:1' },
    {
      path: LLAMA,
      prompts: { path: open, seed: 5, answeredRight: false },
      neurons: { list: [`@${named}`, 'L4.N0-1'] },
    },
  ],
  prompts: { count: 2 },
  grid: { from: -2, to: 2, step: 1 },
  figure: { prompts: 1, neurons: 2, grid: { from: -4, to: 4, step: 2 } },
  integrated: { prompts: 1, steps: 1 },
};

describe('plans of several models', () => {
  it('give each its own prompts and neurons, and the plan’s where it has none', () => {
    const plan = parsePlan({ ...PLAN, neurons: { perPrompt: 3, seed: 7 } });
    const [bert, llama] = modelPlans(plan) as [ModelPlan, ModelPlan];
    expect(bert).toMatchObject({
      path: BERT,
      prompts: { path: masked, count: 2, seed: 0, answeredRight: true },
      neurons: { list: 'L3.N0-1,top:2,random:1', seed: 7, site: 'paper' },
    });
    expect(bert.neurons).not.toHaveProperty('perPrompt');
    expect(llama).toMatchObject({
      prompts: { path: open, count: 2, seed: 5, answeredRight: false },
      // What the file says is the plan's, whatever becomes of the file.
      neurons: { list: 'L0.N5@act,L1.N2,L4.N0-1' },
    });
    const [other] = modelPlans(
      parsePlan({ ...PLAN, models: ['x'], prompts: { path: 'p', count: 2 }, neurons: 'all' }),
    );
    expect(other).toMatchObject({ path: 'x', prompts: { path: 'p' }, neurons: { list: 'all' } });
    expect(parsePlan(JSON.parse(JSON.stringify(plan)))).toEqual(plan);
  });

  it('are as the page on studies shows them', () => {
    const [, json] = /^```json\n(.*?)^```$/ms.exec(readFileSync('docs/how-to.md', 'utf8'))!;
    const [bert, llama] = modelPlans(parsePlan(JSON.parse(json!.replace('neurons.txt', named)))) as [
      ModelPlan,
      ModelPlan,
    ];
    expect(bert).toMatchObject({ prompts: { path: 'masked.jsonl', count: 100, seed: 1 } });
    expect(bert.neurons).toEqual({
      ...{ list: 'L3.N0-99,top:20,random:100', sampling: 'shared', seed: 0, site: 'paper' },
    });
    expect(llama).toMatchObject({
      prompts: { path: 'open.jsonl', answeredRight: false },
      neurons: { list: 'L0.N5@act,L1.N2' },
    });
  });

  it('of the old form are what they were, by their hash too', () => {
    const old = {
      models: ['a', 'b'],
      prompts: { path: 'p.jsonl', count: 4, seed: 3 },
      neurons: { perPrompt: 6, seed: 1 },
    };
    // Of the version before models had prompts of their own: folders go on.
    expect(planHash(parsePlan(old))).toBe('408447b9f9eb5a82c028e70cb474f8a66064ab6e03292c94b04946a1a4dd1be6');
    expect(parsePlan({ ...old, models: [{ path: 'a' }, 'b'] })).toEqual(parsePlan(old));
    const drawn = parsePlan({ ...old, neurons: { list: 'random:6', seed: 1 } });
    expect(planHash(drawn)).toBe(planHash(parsePlan(old)));
  });

  it('are told wrong by the field', () => {
    const models =
      (...given: unknown[]) =>
      () =>
        parsePlan({ models: given, prompts: { count: 2 }, neurons: { perPrompt: 1 } });
    expect(models('a')).toThrow('plan: prompts.path is missing, expected a file or folder of prompts');
    expect(models({ path: 'a', prompts: 'p' }, { path: 'b', prompts: { count: 1 } })).toThrow(
      'models[1].prompts.path is missing',
    );
    expect(models({ path: 'a', promts: 'p' })).toThrow("did you mean 'models[0].prompts'?");
    expect(models({ path: 'a', prompts: { path: 'p', cuont: 1 } })).toThrow(
      "did you mean 'models[0].prompts.count'?",
    );
    expect(models({ path: 'a', prompts: { path: 'p', count: 0 } })).toThrow(
      'models[0].prompts.count: must be above 0',
    );
    expect(models({ path: 'a', prompts: ['p'] })).toThrow('models[0].prompts: is a list, expected an object');
    expect(models({ prompts: 'p' })).toThrow('models[0].path is missing, expected a text');
    expect(models(5)).toThrow("models[0] is 5, expected a model's folder or Hugging Face id, or an object");
    expect(models({ path: 'a', prompts: 'p', neurons: { list: 'all', perPrompt: 2 } })).toThrow(
      'models[0].neurons: give perPrompt, a number of them, or list',
    );
    expect(models({ path: 'a', prompts: 'p', neurons: '@nowhere' })).toThrow('nowhere');
    expect(models({ path: 'a', prompts: 'p' }, { path: 'a', prompts: 'p' })).toThrow(
      'models[1]: is models[0] again, asked the same prompts',
    );
    expect(models({ path: 'a', prompts: 'p' }, { path: 'a', prompts: 'q' })).not.toThrow();
    expect(() => parsePlan({ models: ['a'], prompts: { path: 'p', count: 1 } })).toThrow(
      'neurons: give perPrompt',
    );
  });

  it('are over by the options of the command line', () => {
    const plan = file('plan.json', JSON.stringify({ ...PLAN, neurons: { perPrompt: 3 } }));
    const own = (options: object) => modelPlans(readPlan({ plan, ...options }));
    expect(own({}).map(({ prompts }) => prompts.path)).toEqual([masked, open]);
    const all = own({ prompts: masked, numPrompts: 1, neurons: 'L0.N1,L0.N2' });
    for (const { prompts, neurons } of all) {
      expect(prompts).toMatchObject({ path: masked, count: 1 });
      expect(neurons.list).toBe('L0.N1,L0.N2');
    }
    expect(all[1]!.prompts).toMatchObject({ seed: 5, answeredRight: false });
    expect(own({ neurons: 'random:9' })[1]!.neurons).toMatchObject({ perPrompt: 9 });
    const preset = readPlan({ preset: 'paper', model: ['x'], prompts: 'p', neurons: 'top:3', figure: '0x0' });
    expect(preset.neurons).toEqual({ list: 'top:3', sampling: 'shared', seed: 20241118, site: 'paper' });
  });
});

describe('a study of both', { timeout: 300_000 }, () => {
  it('is estimated model by model, and nothing is written', async () => {
    const plan = file('estimated.json', JSON.stringify(PLAN));
    const place = join(folder, 'never');
    const { code, out } = await runHere('study', '--plan', plan, '--out', place, '--estimate', '--json');
    expect(code).toBe(0);
    const { study, shard, models } = JSON.parse(out);
    expect({ study, shard }).toEqual({ study: 'both', shard: { index: 0, count: 1 } });
    // Prompts × neurons × shifts but 0, and the figure's.
    const points = [2 * 5 * 4 + 2 * 4, 2 * 4 * 4 + 2 * 4];
    for (const [i, model] of [BERT, LLAMA].entries()) {
      const { integrated, pointsPerSecond, seconds, ...cost } = models[i];
      expect(cost).toMatchObject({ model, units: 4, points: points[i], weights: 'device' });
      expect(cost.memory).toBeGreaterThan(statSync(join(model, 'model.safetensors')).size / 2);
      expect(integrated.prompts).toBe(1);
      expect(seconds).toBeCloseTo(points[i]! / pointsPerSecond + integrated.seconds, 9);
    }
    const told = await runHere('study', '--plan', plan, '--estimate');
    expect(told.out).toMatch(/^examples\/models\/facts-bert: 4 units, 48 points; about \d+.* of parts$/m);
    expect(existsSync(place)).toBe(false);
  });

  const out = join(folder, 'study');
  let study: StudyFolder;
  const partOf = (model: number, kind: 'table' | 'figure', prompt: number): Promise<Part> =>
    study.readUnit({ model, kind, prompt });
  beforeAll(async () => {
    const plan = file('both.json', JSON.stringify(PLAN));
    const ran = await neurgrad('study', '--plan', plan, '--out', out, '--json');
    expect(ran.code, ran.err).toBe(0);
    expect(JSON.parse(ran.out)).toEqual({
      folder: out,
      study: 'both',
      models: [BERT, LLAMA],
      shard: { index: 0, count: 1 },
      done: 8,
      found: 0,
    });
    const told = await neurgrad('report', out, '--json');
    expect(told.code, told.err).toBe(0);
    study = StudyFolder.read(out);
  }, 300_000);
  const ask = async (query: string): Promise<Record<string, unknown>[]> => {
    const connection = await (await DuckDBInstance.create()).connect();
    const reader = await connection.runAndReadAll(query);
    const rows = reader.getRowObjects();
    connection.closeSync();
    return rows;
  };
  const table = (name: 'neurons' | 'curves'): string => `'${join(out, `${name}.parquet`)}'`;

  it('sweeps the neurons that each model’s list names', async () => {
    const bert = await partOf(0, 'table', 0);
    const [layers, index] = [bert.get('layer')!, bert.get('index')!];
    expect([...layers.slice(0, 2), ...index.slice(0, 2)]).toEqual([3, 3, 0, 1]);
    // Those with the largest NeurGrad come in the order of it, before the one drawn.
    const [first, second] = [...bert.get('neurgrad')!].slice(2, 4) as [number, number];
    expect(first).toBeGreaterThanOrEqual(second);
    expect(second).toBeGreaterThan(0);
    const llama = await partOf(1, 'table', 1);
    expect([...llama.get('site')!].map((site) => SITES[site])).toEqual([
      'act',
      'pre_linear',
      'pre_linear',
      'pre_linear',
    ]);
    expect([...llama.get('layer')!]).toEqual([0, 1, 4, 4]);
    expect([...llama.get('index')!]).toEqual([5, 2, 0, 1]);
    // The figure draws, whatever the list.
    const drawn = drawNeurons({ sizes: { layers: 5, width: 172 } }, study.manifest.plan.neurons, 2, 0, 1);
    const figure = await partOf(1, 'figure', 0);
    expect([...figure.get('layer')!].map((layer, i) => layer * 172 + figure.get('index')![i]!)).toEqual(
      drawn,
    );
  });

  it('summarises each by itself', async () => {
    const { models } = await summarise([study]);
    expect(models.map(({ name }) => name)).toEqual(['facts-bert', 'stories260k']);
    expect(models.map(({ neurons }) => neurons)).toEqual([10, 8]);
    expect(models.map(({ asked }) => asked.prompts.path)).toEqual([masked, open]);
    expect(models[1]!.layers.map(({ tested }) => tested)).toEqual([2, 2, 0, 0, 4]);
    // Neurons that were named are no sample of neurons.
    expect(models.map(({ sampling }) => sampling)).toEqual(['perPrompt', 'perPrompt']);
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    for (const said of [
      'facts-bert: L3.N0-1, top:2, random:1 (random: drawn anew for each prompt, seed 0)',
      'stories260k: L0.N5@act, L1.N2, L4.N0-1',
      `stories260k: ${open}, seed 5`,
      '10 neurons of 2 prompts',
    ])
      expect(page).toContain(said);
    expect(page).not.toMatch(/undefined|NaN/);
  });

  it('has a row a (model, prompt, neuron), and a row a shift, as the parts have them', async () => {
    for (const [name, schema] of [
      ['neurons', STUDY_NEURON_ROWS],
      ['curves', STUDY_CURVE_ROWS],
    ] as const) {
      const bytes = new Uint8Array(readFileSync(join(out, `${name}.parquet`)));
      const { key_value_metadata: about, schema: columns } = parquetMetadata(bytes.buffer);
      expect(about).toContainEqual({ key: 'format', value: schema.format });
      expect(columns.slice(1).map((column) => column.name)).toEqual(Object.keys(schema.columns));
    }
    const rows = await ask(`SELECT * FROM ${table('neurons')}`);
    expect(rows).toHaveLength(2 * 5 + 2 + 2 * 4 + 2);
    const [counted] = await ask(
      `SELECT count(*) AS all, count(DISTINCT (model, prompt_id, sample, site, layer, neuron)) AS keys FROM ${table('neurons')}`,
    );
    expect(counted!.keys).toBe(counted!.all);
    const selections = [0, 1].map(
      (model) => study.note<{ prompts: { id: string; text: string }[] }>(`prompts-${model}.json`)!.prompts,
    );
    for (const [model, source] of [BERT, LLAMA].entries())
      for (const prompt of [0, 1]) {
        const part = await partOf(model, 'table', prompt);
        const { id, text } = selections[model]![prompt]!;
        const own = rows.filter(
          (row) => row.model === source && row.prompt_id === id && row.sample === 'table',
        );
        expect(own).toHaveLength(part.get('layer')!.length);
        for (const [i, row] of own.entries()) {
          expect(row).toMatchObject({
            ...{ study: 'both', study_id: study.manifest.study, prompt: text, of: 'prob', dtype: 'float32' },
            prompts: [masked, open][model],
            layer: part.get('layer')![i],
            neuron: part.get('index')![i],
            activation: part.get('activation')![i],
            g_c: part.get('gradient')![i],
            neurgrad: part.get('neurgrad')![i],
            g_e: part.get('slope')![i],
            r: part.get('r')![i],
            p: part.get('base')![i],
            linear: part.get('linear')![i] === 1,
            ig: part.has('ig') ? part.get('ig')![i] : null,
          });
        }
        const curves = await ask(
          `SELECT shift, value, change, neuron FROM ${table('curves')} WHERE model = '${source}' AND prompt_id = '${id}' AND sample = 'table'`,
        );
        expect(curves).toHaveLength(5 * own.length);
        expect(curves.slice(0, 5)).toEqual(
          [-2, -1, 0, 1, 2].map((shift) => {
            const change = part.get(`d${shift}`)?.[0] ?? 0;
            return { shift, value: part.get('base')![0]! + change, change, neuron: part.get('index')![0] };
          }),
        );
      }
    // The word that was studied stands in its row.
    expect(rows.find(({ prompt_id }) => prompt_id === 'two')).toMatchObject({
      target: 'oslo',
      answer: 'oslo',
    });
  });

  it('has rows of a study that was begun before parts said all that they say now', async () => {
    const now = await readStudy([study]);
    const models = now.models.map((model) => ({
      ...model,
      selection: {
        ...model.selection,
        prompts: model.selection.prompts.map((one) => ({ ...one, id: undefined, token: undefined })),
      },
      done: model.done.map(({ part, ...unit }) => ({
        ...unit,
        part: new Map([...part].filter(([name]) => !['site', 'p', 'ran', 'bound'].includes(name))),
      })),
    }));
    const [neurons, curves] = ['old-neurons', 'old-curves'].map((name) => join(folder, `${name}.parquet`));
    writeStudyRows({ ...now, models }, { neurons: neurons!, curves: curves! });
    const columns = 'model, sample, layer, neuron, g_e, p';
    expect(await ask(`SELECT ${columns} FROM '${neurons}'`)).toEqual(
      await ask(`SELECT ${columns} FROM ${table('neurons')}`),
    );
    expect(
      await ask(`SELECT DISTINCT prompt_id, site, target, ran, bound FROM '${neurons}' ORDER BY ALL`),
    ).toEqual(
      ['0', '1'].map((prompt_id) => ({ prompt_id, site: 'paper', target: null, ran: null, bound: null })),
    );
    const shifts = 'model, sample, layer, neuron, shift, value, change';
    expect(await ask(`SELECT ${shifts} FROM '${curves}'`)).toEqual(
      await ask(`SELECT ${shifts} FROM ${table('curves')}`),
    );
  });

  describe('DuckDB, with the queries of docs/notebooks.md', () => {
    const queries = [...readFileSync('docs/notebooks.md', 'utf8').matchAll(/^```sql\n(.*?)^```$/gms)]
      .map(([, query]) => query!)
      .filter((query) => query.includes('runs/tutorial/'))
      .map((query) => query.replaceAll('runs/tutorial', out));
    it('tells models apart', async () => {
      const [byLayer] = queries;
      const rows = await ask(byLayer!);
      expect(rows.map(({ model, layer }) => [model, layer])).toEqual(
        (
          await ask(
            `SELECT DISTINCT model, layer FROM ${table('neurons')} WHERE sample = 'table' ORDER BY ALL`,
          )
        ).map(({ model, layer }) => [model, layer]),
      );
      expect(new Set(rows.map(({ model }) => model))).toEqual(new Set([BERT, LLAMA]));
      for (const { linear } of rows) expect(linear).toSatisfy((share: number) => share >= 0 && share <= 1);
    });
    it('fits curves again within other ranges, as the figure’s parts have them', async () => {
      const rows = await ask(queries[1]!);
      expect(new Set(rows.map(({ model }) => model))).toEqual(new Set([BERT, LLAMA]));
      for (const [model, source] of [BERT, LLAMA].entries()) {
        const part = await partOf(model, 'figure', 0);
        const own = rows.filter((row) => row.model === source);
        expect(own).toHaveLength(2);
        for (const { layer, neuron, r } of own) {
          const i = [...part.get('index')!].findIndex(
            (index, k) => index === neuron && part.get('layer')![k] === layer,
          );
          expect(Number(r)).toBeCloseTo(part.get('r4')![i]!, 5);
        }
      }
    });
    it('gives the columns of before', async () => {
      const rows = await ask(queries[2]!);
      expect(rows).toHaveLength(18);
      const part = await partOf(0, 'table', 0);
      const { id } = study.note<{ prompts: { id: string }[] }>('prompts-0.json')!.prompts[0]!;
      for (const [i, index] of [...part.get('index')!].entries()) {
        const row = rows.find(
          (one) =>
            one.model === BERT &&
            one.prompt_id === id &&
            one.index === index &&
            one.layer === part.get('layer')![i],
        )!;
        for (const name of ['activation', 'gradient', 'neurgrad', 'slope', 'r', 'd-2', 'd-1', 'd1', 'd2'])
          expect(row[name], name).toBe(part.get(name)![i]);
      }
    });
  });
});

it('a plan whose neurons a model has not is refused before any weight is read', async () => {
  const of = (models: PlanInput['models'], name: string): string =>
    file(name, JSON.stringify({ ...PLAN, models }));
  const told = await runHere(
    ...[
      'study',
      '--plan',
      of([{ path: LLAMA, prompts: open, neurons: 'L9.N1' }], 'l9.json'),
      '--out',
      join(folder, 'no'),
    ],
  );
  expect([told.code, told.err]).toEqual([
    2,
    expect.stringContaining(`${LLAMA}: L9.N1: the model has layers L0 to L4`),
  ]);
  const none = await runHere(
    'study',
    '--plan',
    of([{ path: LLAMA, prompts: 'nowhere', neurons: 'all' }], 'n.json'),
    '--out',
    'x',
  );
  expect([none.code, none.err]).toEqual([2, expect.stringContaining('nowhere: no such file or folder')]);
});
