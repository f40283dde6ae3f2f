/**
 * Estimators of G_E: each against what it is made of, computed another way; names, answers and columns that are refused; a study with one
 * from outside the package.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { studyTables } from '../../cli/linearityReport.ts';
import { writeStudyRows } from '../../cli/studyRows.ts';
import { type Device, mul, openDevice, type Tensor, tensor } from '../../engine/index.ts';
import { loadModel, type Tokenizer } from '../../models/index.ts';
import { type LanguageModel, runModel } from '../../models/model.ts';
import { chooseEstimators } from '../../neurgrad/estimators/estimator.ts';
import {
  attributionPatchingEstimator,
  conductanceEstimator,
  ESTIMATORS,
  type EstimateProbe,
  type Estimator,
  estimateNeurons,
} from '../../neurgrad/estimators/index.ts';
import { attributionPatching } from '../../neurgrad/experiments/attributionPatching.ts';
import { conductance } from '../../neurgrad/experiments/attributions.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { integrateLayers } from '../../neurgrad/integrated.ts';
import { gradientFactor, probeRows, targetValues } from '../../neurgrad/predict.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { StudyFolder } from '../../neurgrad/study/folder.ts';
import { parsePlan } from '../../neurgrad/study/plan.ts';
import { readStudy } from '../../neurgrad/study/read.ts';
import { runStudy } from '../../neurgrad/study/run.ts';
import { WHOLE } from '../../neurgrad/study/shard.ts';
import { summarise } from '../../neurgrad/study/summary.ts';
import { secant } from './ownEstimator.ts';

const MODEL = 'examples/models/facts-bert';
let device: Device;
let model: LanguageModel;
let tokenizer: Tokenizer;
let probe: EstimateProbe;
let corrupt: EstimateProbe;
const NAMES = ['L3.N327', 'L0.N4@pre', 'L1.N9', 'L3.N5'];
const root = mkdtempSync(join(tmpdir(), 'neurgrad-estimators-'));
beforeAll(async () => {
  device = await openDevice();
  ({ model, tokenizer } = await loadModel(MODEL, { device }));
  const target = tokenizer.idOf('paris')!;
  [probe, corrupt] = ['France', 'Egypt'].map((country) => ({
    ...encodePrompt(model, tokenizer, `The capital of ${country} is [MASK].`),
    ...{ target, of: 'prob', direction: 'outward', sign: '+' },
  })) as unknown as [EstimateProbe, EstimateProbe];
});
afterAll(() => {
  device.destroy();
  rmSync(root, { recursive: true });
});

const named = (name: string): Estimator => ESTIMATORS.find((each) => each.name === name)!;
const values = async (estimator: Estimator, names = NAMES): Promise<number[]> => [
  ...Array.from((await estimateNeurons(estimator, model, probe, names)).values),
];

it('what one backward gives, at each neuron’s own site', async () => {
  const [post, pre] = await Promise.all(
    (['post', 'pre'] as const).map((site) => neuronGradients(model, probe, { target: probe.target, site })),
  );
  const at = (of: 'gradient' | 'neurgrad' | 'activation' | 'noise'): number[] => [
    post![of][3 * 512 + 327]!,
    pre![of][4]!,
    post![of][512 + 9]!,
    post![of][3 * 512 + 5]!,
  ];
  for (const name of ['gradient', 'neurgrad', 'activation'] as const) {
    expect(await values(named(name)), name).toEqual(at(name));
  }
  const { noise } = await estimateNeurons(named('neurgrad'), model, probe, NAMES);
  expect([...Array.from(noise!)]).toEqual(at('noise'));
  const product = at('activation').map((a, i) => a * at('gradient')[i]!);
  expect(await values(named('attribution_patching'))).toEqual(product);
});

it('integrated gradients are those of the neurons’ layers', async () => {
  const { target } = probe;
  const [last] = await integrateLayers(model, probe, { target, layers: [3] });
  const [first] = await integrateLayers(model, probe, { target, layers: [0], site: 'pre' });
  const found = await values(named('integrated'));
  expect(found[0]).toBe(last!.ig[327]);
  expect(found[1]).toBe(first!.ig[4]);
  expect(found[3]).toBe(last!.ig[5]);
});

it('attribution patching against a corrupt prompt is the experiment’s, the other way round', async () => {
  const { rows } = await attributionPatching(
    model,
    { clean: probe, corrupt, answer: probe.target },
    { component: 'post', by: 'neuron', layers: [3], neurons: [327], direction: 'noise', metric: 'prob' },
  );
  const own = attributionPatchingEstimator({ corrupt: () => corrupt });
  const [found] = await values(own, ['L3.N327']);
  expect(Math.abs(found! + rows[0]!.change)).toBeLessThan(1e-5 * Math.abs(found!));
});

it('conductance from a corrupt prompt is the experiment’s', async () => {
  const { rows } = await conductance(
    model,
    { clean: probe, corrupt, answer: probe.target },
    { layers: [1], steps: 3, metric: 'prob' },
  );
  const [found] = await values(conductanceEstimator({ corrupt: () => corrupt, steps: 3 }), ['L1.N9']);
  expect(found).toBe(rows.find(({ position, neuron }) => position === probe.position && neuron === 9)!.value);
});

it('conductance from zeros is that of whole runs whose input is scaled', async () => {
  const steps = 3;
  const hooks = ['blocks.3.mlp.hook_post', 'blocks.0.mlp.hook_pre'];
  const at = (index: number): number => probe.position * 512 + index;
  const [value, slope] = [[], []] as [number[][], number[][]];
  for (let k = 0; k <= steps; k++) {
    using run = await runModel(model, probeRows(probe), {
      edit: { 'blocks.0.hook_resid_pre': (x: Tensor) => mul(x, tensor(device, [k / steps], [1])) },
      capture: hooks,
      grad: { at: hooks, of: { of: 'logodds', target: [probe.target], position: [probe.position] } },
      logits: [probe.position],
    });
    const factor = gradientFactor('prob', targetValues(await run.logits.read(), probe.target));
    const read = async (from: ReadonlyMap<string, Tensor>): Promise<number[]> => [
      (await from.get(hooks[0]!)!.read())[at(327)]!,
      (await from.get(hooks[1]!)!.read())[at(4)]!,
    ];
    value.push(await read(run.captures));
    slope.push((await read(run.gradients)).map((g) => factor * g));
  }
  const expected = [0, 1].map((n) =>
    Array.from({ length: steps }, (_, k) => slope[k + 1]![n]! * (value[k + 1]![n]! - value[k]![n]!)).reduce(
      (a, b) => a + b,
    ),
  );
  const found = await values(conductanceEstimator({ steps }), ['L3.N327', 'L0.N4@pre']);
  for (const [n, one] of found.entries())
    expect(Math.abs(one - expected[n]!)).toBeLessThan(1e-4 * Math.abs(expected[n]!));
});

it('random numbers depend on the neuron, not on its company', async () => {
  const all = await values(named('random'));
  expect(new Set(all).size).toBe(NAMES.length);
  for (const one of all) expect(Math.abs(one)).toBeLessThan(1);
  expect(await values(named('random'), NAMES.toReversed())).toEqual(all.toReversed());
});

const mine = (name: string, give = (count: number): number[] => new Array(count).fill(1)): Estimator => ({
  name,
  estimate: async (_, __, neurons) => ({ values: give(neurons.length) }),
});

it('the listing of docs/extending.md is the one in ownEstimator.ts, and estimates as NeurGrad does', async () => {
  const source = readFileSync('test/neurgrad/ownEstimator.ts', 'utf8');
  const section = readFileSync('docs/extending.md', 'utf8').split('## Add an estimator')[1]!;
  const listing = /^```ts\n(.*?)^```$/ms.exec(section)?.[1];
  expect(listing?.replace("'neurgrad'", "'../../neurgrad/index.ts'")).toBe(source);
  const [found, expected] = [await values(secant), await values(named('neurgrad'))];
  for (const [i, value] of found.entries()) {
    const scale = Math.max(...expected.map(Math.abs));
    expect(Math.abs(value - expected[i]!), NAMES[i]).toBeLessThan(0.05 * scale);
  }
});

it('refuses names that nobody has, or two, and answers that are none', async () => {
  expect(() => chooseEstimators(['nerugrad'], ESTIMATORS, [])).toThrow('did you mean neurgrad?');
  expect(() => chooseEstimators(['neurgrad'], ESTIMATORS, [mine('neurgrad')])).toThrow('two estimators');
  expect(() => chooseEstimators(['mine', 'mine'], ESTIMATORS, [mine('mine')])).toThrow('named twice');
  await expect(values(mine('Mine'))).rejects.toThrow('estimator is');
  await expect(values(mine('mine', () => [1]))).rejects.toThrow('1 values for 4 neurons');
  await expect(values(mine('mine', (n) => new Array(n).fill(Number.NaN)))).rejects.toThrow('values[0]');
});

it('a study takes any, its own too, and its table follows the plan', async () => {
  const prompts = join(root, 'facts.jsonl');
  const facts = [
    ['France', 'Paris'],
    ['Italy', 'Rome'],
    ['Japan', 'Tokyo'],
  ];
  writeFileSync(
    prompts,
    facts
      .map(([of, answer]) => JSON.stringify({ prompt: `The capital of ${of} is [MASK].`, answer }))
      .join('\n'),
  );
  const given = {
    models: [MODEL],
    prompts: { path: prompts, count: 3 },
    neurons: { perPrompt: 5 },
    grid: { from: -2, to: 2, step: 1 },
  };
  const names = ['random', 'neurgrad', 'mine', 'attribution_patching'];
  const plan = parsePlan({ ...given, estimators: names, integrated: { prompts: 2 } });
  expect(plan.integrated.prompts).toBe(0);
  expect(parsePlan({ ...given, estimators: ['integrated'] }).integrated.prompts).toBe(3);
  expect(() => parsePlan({ ...given, estimators: [] })).toThrow('estimators: must be one or more');
  expect(() => parsePlan({ ...given, estimators: ['No'] })).toThrow('estimators');
  const stamp = { source: MODEL, family: 'bert', layers: 4, hidden: 128, width: 512, files: {} };
  const about = { models: [stamp], adapter: 'test', versions: {} };
  const path = join(root, 'study');
  // Of three prompts and the costs the first and the third prompt.
  const TABLES = { index: 0, count: 2 };
  const run = async (folder: StudyFolder, own: readonly Estimator[]): Promise<unknown> =>
    runStudy(folder, {
      shard: TABLES,
      estimators: own,
      open: async () => ({ model, tokenizer, close: () => {} }),
    });
  using folder = StudyFolder.open(path, { plan, ...about }, WHOLE);
  await expect(run(folder, [])).rejects.toThrow("unknown estimator 'mine'");
  const own: Estimator = {
    name: 'mine',
    async estimate(model, probe, neurons) {
      const { values } = await estimateNeurons(named('neurgrad'), model, probe, neurons);
      return { values: Array.from(values, (value) => 2 * value) };
    },
  };
  await run(folder, [own]);
  const part = await folder.readUnit({ model: 0, kind: 'table', prompt: 0 });
  // The sweep's own gradient differs from one alone in its last digits.
  for (const [i, value] of part.get('mine')!.entries())
    expect(Math.abs(value / (2 * part.get('neurgrad')![i]!) - 1)).toBeLessThan(1e-4);
  const summary = await summarise([StudyFolder.read(path)], { partial: true });
  const [{ table1 }] = summary.models as [(typeof summary.models)[0]];
  expect(table1.rows.map(({ name }) => name)).toEqual(names);
  const pearson = (name: string) => table1.rows.find((row) => row.name === name)!.agreement.pearson.value;
  expect(pearson('mine')).toBeCloseTo(pearson('neurgrad'), 5);
  expect(pearson('random')).toBeLessThan(0.9);
  const [neurons, curves] = ['neurons', 'curves'].map((name) => join(root, `${name}.parquet`));
  writeStudyRows(await readStudy([StudyFolder.read(path)], true), { neurons: neurons!, curves: curves! });
  const rows = await parquetReadObjects({ file: new Uint8Array(readFileSync(neurons!)).buffer });
  expect(rows.slice(0, 5).map((row) => row.mine)).toEqual([...part.get('mine')!]);
  expect(rows[0]).toMatchObject({ mine_noise: null, attribution_patching_noise: null });
  expect(
    studyTables(summary)
      .get('table1')![0]!
      .rows.map(([label]) => label),
  ).toEqual(['random', 'NeurGrad', 'NeurGrad, other sign', 'mine', 'attribution patching']);
  using other = StudyFolder.open(
    join(root, 'other'),
    { plan: parsePlan({ ...given, estimators: ['slope'] }), ...about },
    WHOLE,
  );
  await expect(run(other, [mine('slope')])).rejects.toThrow('another column of that name');
});
