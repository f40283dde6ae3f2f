/** Features of chosen neurons: those of a reader, prompt by prompt; read back from their file; and what probers make of them. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { memorySource } from '../../models/byteSource.ts';
import { readSafetensorsHeader } from '../../models/safetensors.ts';
import { ESTIMATORS, type LanguageModel, loadModel } from '../../neurgrad/index.ts';
import { fullReader } from '../../probing/collect.ts';
import { SPLITS, sortRows } from '../../probing/data.ts';
import { type Features, readFeatures, writeFeatures } from '../../probing/features.ts';
import { evaluateMethod } from '../../probing/methodEvaluation.ts';
import { PROBERS } from '../../probing/methods.ts';
import { planTask, type TaskPlan } from '../../probing/prompts.ts';
import { claims, task } from './rows.ts';

const CONVENTIONS = { site: 'post', of: 'prob', direction: 'outward', sign: '+' } as const;
const NEURONS = [700, 3, 2047, 1024];
const folder = mkdtempSync(join(tmpdir(), 'neurgrad-features-'));
let model: LanguageModel;
let plan: TaskPlan;
let features: Features;

beforeAll(async () => {
  const loaded = await loadModel('examples/models/facts-bert');
  ({ model } = loaded);
  const split = (from: number, count: number) => sortRows(task('FEVER'), claims(count, from)).rows;
  const rows = {
    train: split(0, 6).map((row) => ({ ...row, from: 'test' as const })),
    valid: split(10, 2),
    test: split(20, 4),
  };
  plan = planTask(model, loaded.tokenizer, task('FEVER'), rows, {
    ...{ rows: 6, evaluationRows: 4, seed: 1, shots: 0, labelTokens: 'continuation' },
  });
  features = await readFeatures(model, plan, CONVENTIONS, NEURONS);
});
afterAll(() => {
  model?.dispose();
  model?.device.destroy();
  rmSync(folder, { recursive: true });
});

it('are what a reader gives of these neurons, and where their rows stand', async () => {
  using reader = fullReader(model, CONVENTIONS);
  for (const split of ['train', 'test'] as const) {
    const { gradients, activations, probabilities, gold, ids } = features.splits[split];
    const prompts = plan.prompts[split];
    expect(gold).toEqual(prompts.map((prompt) => prompt.gold));
    expect(ids).toEqual(prompts.map(({ index }) => (split === 'train' ? `test/${index}` : `${index}`)));
    for (const p of [0, prompts.length - 1]) {
      const [naive] = await reader.read([prompts[p]!], plan.candidates, []);
      for (const [i, neuron] of NEURONS.entries()) {
        expect(activations[p * 4 + i]).toBe(naive!.activation[neuron]);
        for (const c of [0, 1])
          expect(gradients[(p * 2 + c) * 4 + i]).toBe(naive!.gradients[c * 2048 + neuron]);
      }
      expect([...probabilities.subarray(p * 2, p * 2 + 2)]).toEqual(naive!.probabilities.map(Math.fround));
    }
  }
});

it('are any estimator’s, each candidate being the target', async () => {
  const { splits } = features;
  const of = (name: string) => ESTIMATORS.find((each) => each.name === name)!;
  const neurgrad = await readFeatures(model, plan, CONVENTIONS, NEURONS, { estimator: of('neurgrad') });
  expect(neurgrad.estimator).toBe('neurgrad');
  expect(neurgrad.splits.test.probabilities).toEqual(splits.test.probabilities);
  for (const [i, value] of neurgrad.splits.train.gradients.entries())
    expect(value).toBeCloseTo(splits.train.gradients[i]!, 7);
  const activation = await readFeatures(model, plan, CONVENTIONS, NEURONS, { estimator: of('activation') });
  const { gradients, activations } = activation.splits.valid;
  for (const [i, value] of gradients.entries())
    expect(value).toBe(activations[Math.floor(i / 8) * 4 + (i % 4)]!);
});

it('come back from their file', async () => {
  const path = join(folder, 'fever.safetensors');
  await writeFeatures(path, features, { model: 'facts-bert' });
  const bytes = readFileSync(path);
  const { tensors, metadata } = await readSafetensorsHeader(memorySource(path, bytes));
  expect(metadata).toMatchObject({
    task: 'FEVER',
    labels: '["False","True"]',
    site: 'post',
    model: 'facts-bert',
  });
  const of = (name: string) => tensors.find((tensor) => tensor.name === name)!;
  const floats = (name: string) => {
    const { begin, end } = of(name);
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end));
  };
  for (const split of SPLITS) {
    const { gradients, activations, probabilities, gold, ids } = features.splits[split];
    expect(of(`${split}.gradients`).shape).toEqual([gold.length, 2, 4]);
    expect(floats(`${split}.gradients`)).toEqual(gradients);
    expect(floats(`${split}.activations`)).toEqual(activations);
    expect(floats(`${split}.probabilities`)).toEqual(probabilities);
    const { begin, end, shape } = of(`${split}.gold`);
    expect(shape).toEqual([gold.length]);
    expect([...new Int32Array(bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end))]).toEqual(
      gold,
    );
    expect(JSON.parse(metadata[`${split}.ids`]!)).toEqual(ids);
  }
  const { begin, end } = of('neurons');
  const neurons = new Int32Array(bytes.buffer.slice(bytes.byteOffset + begin, bytes.byteOffset + end));
  expect([...neurons]).toEqual([1, 188, 0, 3, 3, 511, 2, 0]);
});

it('are what any prober learns from', () => {
  for (const method of PROBERS) {
    const { test, size } = evaluateMethod(method, features.splits, { sizes: [1, 4] });
    expect(test).toHaveLength(2);
    expect([1, 4]).toContain(size);
  }
});

it('are of neurons that there are', async () => {
  await expect(readFeatures(model, plan, CONVENTIONS, [2048])).rejects.toThrow('readFeatures: neurons[0]');
  await expect(readFeatures(model, plan, CONVENTIONS, [1, 1])).rejects.toThrow('one of them twice');
});
