/** What training is made of: accumulation, recomputation, checkpoints that go on to the same bits, sentences, batches. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  AdamW,
  add,
  crossEntropyRows,
  type Device,
  gelu,
  globalNorm,
  grad,
  linear,
  openDevice,
  recompute,
  reshape,
  scope,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { batchInput, readFacts, SentenceMaker } from '../../examples/train-facts-bert/facts.ts';
import { TrainingFolder } from '../../examples/training/folder.ts';
import { batchesOf, passRandom } from '../../examples/training/order.ts';
import { Trainer } from '../../examples/training/trainer.ts';
import {
  changed,
  initialise,
  loadModelWeights,
  loadTokenizer,
  localFolder,
  openCheckpoint,
  parametersOf,
  parseConfig,
  presetConfig,
  saveModel,
} from '../../models/index.ts';
import { seededRandom } from '../../neurgrad/index.ts';
import { shuffle } from '../../probing/index.ts';
import { normal, upload } from '../engine/support.ts';
import { bert, llama, losses, rows, schedule, values } from './toy.ts';

const FACTS = 'examples/models/facts-bert';

let device: Device;
let folder: string;
beforeAll(async () => {
  device = await openDevice();
  folder = mkdtempSync(join(tmpdir(), 'neurgrad-training-'));
});
afterAll(() => {
  device.destroy();
  rmSync(folder, { recursive: true, force: true });
});

describe.each([bert, llama])('$family.type', (config) => {
  test('goes on from a checkpoint to the same bits', async () => {
    const whole = initialise(device, config, seededRandom(1));
    const straight = new Trainer(whole, { schedule });
    const reports = [];
    for (let step = 0; step < 6; step++) reports.push(await straight.step(losses(whole, step), 6));
    const first = initialise(device, config, seededRandom(1));
    const until = new Trainer(first, { schedule });
    for (let step = 0; step < 3; step++) await until.step(losses(first, step), 6);
    const out = join(folder, config.family.type);
    const path = await until.save(out, config, await localFolder(FACTS), { seed: 1 });
    const second = await loadModelWeights(await localFolder(join(out, 'latest')), device);
    const rest = new Trainer(second, { schedule });
    await rest.resume(path);
    expect(rest.steps).toBe(3);
    for (let step = 3; step < 6; step++)
      expect(await rest.step(losses(second, step), 6)).toEqual(reports[step]);
    expect(await values(second)).toEqual(await values(whole));
    expect(reports.at(-1)!.loss).toBeLessThan(reports[0]!.loss);
  });

  test('a damaged checkpoint is moved aside, and the one before it is gone on from', async () => {
    const out = join(folder, `${config.family.type}-damaged`);
    const model = initialise(device, config, seededRandom(1));
    const trainer = new Trainer(model, { schedule });
    const names = ['training.json', 'model.safetensors', 'optimizer.safetensors'];
    await trainer.save(out, config, await localFolder(FACTS), {});
    for (const name of names) {
      await trainer.step(losses(model, trainer.steps), 6);
      const path = await trainer.save(out, config, await localFolder(FACTS), {});
      const file = readFileSync(join(path, name));
      file[Math.floor(0.6 * file.length)]! ^= 1;
      writeFileSync(join(path, name), file);
      await expect(trainer.resume(path), name).rejects.toThrow(`${name}: is damaged`);
      using training = new TrainingFolder(out);
      expect(training.latest, name).toBe(join(out, 'step-0'));
      expect(readdirSync(out), name).toContain(`step-${trainer.steps}.damaged`);
    }
    trainer.dispose();
    model.dispose();
  });

  test('layers that run again in the backward give the same bits and keep less', async () => {
    const model = initialise(device, changed(config, { num_hidden_layers: 4 }), seededRandom(5));
    const names = [...model.parameters.keys()];
    const parameters = [...model.parameters.values()].map((t) => t.requireGrad());
    const { ids, label } = rows(0);
    const input = { ids, attentionMask: ids.map((row, i) => row.map((_, j) => Number(j < 5 - (i % 2)))) };
    const saved: number[] = [];
    const patch = [
      { name: 'blocks.1.mlp.hook_post', position: 1, neuron: 3, op: 'add', value: 0.5 },
    ] as const;
    const results: Float32Array[][] = [];
    for (const recompute of [false, true])
      results.push(
        await Promise.all(
          scope(() => {
            using run = model.run(input, { logits: ids.map(() => 1), recompute, patch });
            const loss = sum(crossEntropyRows(run.logits, label));
            saved.push(device.memory.saved);
            return [loss.detach(), ...grad(loss, parameters, { unconnected: 'zero' })];
          }).map((t) => t.read()),
        ),
      );
    expect(saved[1]!).toBeLessThan(0.4 * saved[0]!);
    names.forEach((name, i) => {
      expect(results[1]![i + 1], name).toEqual(results[0]![i + 1]);
      if (name.includes('mlp') || name.includes('intermediate'))
        expect(results[0]![i + 1]!.some((v) => Math.abs(v) > 1e-6)).toBe(true);
    });
    expect(results[1]![0]).toEqual(results[0]![0]);
    for (const other of [{ capture: ['hook_embed'] }, { edit: {} }])
      expect(() => model.run(input, { recompute: true, ...other })).toThrow(/recompute goes with patch only/);
    model.dispose();
  });

  test('writes what transformers reads: names, shapes, config, tokenizer, the mark of the format', async () => {
    const model = initialise(device, config, seededRandom(2));
    const path = join(folder, `${config.family.type}-saved`);
    await saveModel(path, model, config, await localFolder(FACTS));
    const checkpoint = await openCheckpoint(await localFolder(path));
    const stored = [...checkpoint.tensors.values()].map((entry) => [entry.name, [...entry.shape]]);
    await checkpoint.close();
    expect(new Map(stored as [string, number[]][])).toEqual(
      new Map(parametersOf(config.description).map(({ name, shape }) => [name, [...shape]])),
    );
    const saved = parseConfig(JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')));
    expect(saved.description).toEqual(config.description);
    expect(saved.endIds).toEqual(config.endIds);
    expect(saved.json).toMatchObject(config.json);
    expect(readFileSync(join(path, 'model.safetensors'), 'latin1')).toContain('"format":"pt"');
    expect((await loadTokenizer(await localFolder(path))).vocabularySize).toBeGreaterThan(10_000);
  });

  test('micro-batches have the gradient of their batch', async () => {
    const model = initialise(device, config, seededRandom(4));
    for (const t of model.parameters.values()) t.requireGrad();
    const parameters = [...model.parameters.values()];
    const gradients = (size: number): Tensor[] =>
      scope(() => {
        const parts = losses(model, 0, size).map((loss) => grad(loss(), parameters, { unconnected: 'zero' }));
        return parts.reduce((a, b) => a.map((t, i) => add(t, b[i]!)));
      });
    const [one, three] = [gradients(6), gradients(2)];
    for (const [i, t] of one.entries()) {
      const [a, b] = [await t.read(), await three[i]!.read()];
      const scale = Math.max(...a.map(Math.abs), 1e-3);
      expect(Math.max(...a.map((v, j) => Math.abs(v - b[j]!)))).toBeLessThanOrEqual(1e-5 * scale);
    }
  });
});

test('initial weights are seeded, of the right spread, norms 1 and biases 0', async () => {
  const [a, b, c] = await Promise.all(
    [1, 1, 2].map((seed) => values(initialise(device, bert, seededRandom(seed)))),
  );
  expect(a).toEqual(b);
  expect(a).not.toEqual(c);
  const words = a!.get('bert.embeddings.word_embeddings.weight')!;
  const spread = Math.sqrt(words.reduce((s, v) => s + v * v, 0) / words.length);
  expect(spread).toBeGreaterThan(0.018);
  expect(spread).toBeLessThan(0.022);
  expect(new Set(a!.get('bert.embeddings.LayerNorm.weight'))).toEqual(new Set([1]));
  expect(new Set(a!.get('cls.predictions.bias'))).toEqual(new Set([0]));
  const norms = await values(initialise(device, llama, seededRandom(1)));
  expect(new Set(norms.get('model.norm.weight'))).toEqual(new Set([1]));
});

test.each(['gpt2', 'gemma-3-1b', 'phi-3-mini', 'modernbert-base'])(
  '%s: weights are drawn in the order of the parameters, norms do nothing',
  async (preset) => {
    const json = presetConfig(preset, 2);
    const small = Object.fromEntries(
      Object.entries(json).map(([field, value]) => [
        field,
        /^(hidden_size|n_embd)$/.test(field)
          ? 48
          : /^(vocab_size|intermediate_size)$/.test(field)
            ? 40
            : value,
      ]),
    );
    const heads = { num_attention_heads: 4, num_key_value_heads: 2, n_head: 4, pad_token_id: 0 };
    const config = parseConfig({
      ...small,
      ...heads,
      eos_token_id: null,
      max_position_embeddings: 64,
      n_positions: 64,
    });
    const model = initialise(device, config, seededRandom(9));
    const parameters = parametersOf(config.description);
    expect([...model.parameters.keys()]).toEqual(parameters.map(({ name }) => name));
    const random = seededRandom(9);
    for (const { name, shape, initial } of parameters) {
      const drawn = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(initial ?? 0);
      for (let i = 0; initial === null && i < drawn.length; i += 2) {
        const [u, v] = [random(), random()];
        const radius = 0.02 * Math.sqrt(-2 * Math.log(1 - u));
        drawn[i] = radius * Math.cos(2 * Math.PI * v);
        if (i + 1 < drawn.length) drawn[i + 1] = radius * Math.sin(2 * Math.PI * v);
      }
      expect(await model.parameters.get(name)!.read(), name).toEqual(drawn);
    }
    model.dispose();
  },
);

test('recomputed parts give the same values and gradients and save only their input', async () => {
  const x = upload(device, normal([64, 16], 1)).requireGrad();
  const w = upload(device, normal([64, 16], 2)).requireGrad();
  const v = upload(device, normal([16, 64], 3)).requireGrad();
  const part = (t: Tensor): Tensor => linear(gelu(linear(t, w)), v);
  const saved: number[] = [];
  const results = [];
  for (const again of [false, true])
    results.push(
      await Promise.all(
        scope(() => {
          const y = again ? recompute((t) => recompute(part, part(t), [w, v]), x, [w, v]) : part(part(x));
          saved.push(device.memory.saved);
          return [y.detach(), ...grad(sum(y), [x, w, v])];
        }).map((t) => t.read()),
      ),
    );
  expect(results[1]).toEqual(results[0]);
  expect(saved[1]!).toBeLessThan(saved[0]!);
});

test('the global norm is that of all elements', async () => {
  const parts = [tensor(device, [3, 0], [2]), tensor(device, [4], [1]), tensor(device, [12], [1, 1])];
  expect(await globalNorm(parts).item()).toBeCloseTo(13, 5);
});

test('AdamW refuses gradients and moments that do not fit', () => {
  const parameter = tensor(device, [1, 2], [2], 'weights').requireGrad();
  const optimiser = new AdamW([parameter]);
  expect(() => optimiser.step([])).toThrow(/0 gradients for 1 parameters/);
  expect(() => optimiser.step([tensor(device, [1])])).toThrow(/gradient \[1\] for parameter \[2\]/);
  expect(optimiser.steps).toBe(0);
  expect(() => optimiser.restore(1, [])).toThrow(/0 moments/);
  expect(() => optimiser.restore(1, [[reshape(parameter, [1, 2]), parameter]])).toThrow(/moment \[1, 2\]/);
  optimiser.dispose();
});

describe('sentences', () => {
  test('put together from parts equal sentences encoded whole', async () => {
    const tokenizer = await loadTokenizer(await localFolder(FACTS));
    const maker = new SentenceMaker(tokenizer);
    const { facts, templates } = readFacts(FACTS);
    expect(facts).toHaveLength(23_763);
    let compared = 0;
    for (const [at, fact] of facts.entries()) {
      if (at % 97 !== 0) continue;
      const { train, held_out } = templates[fact.relation]!;
      for (const template of [...train, ...held_out]) {
        const { ids, object } = maker.sentence(fact, template);
        const text = template.replace('[X]', () => fact.subject).replace('[Y]', () => fact.object);
        expect(ids, text).toEqual(tokenizer.encode(text));
        expect(tokenizer.tokenOf(ids[object]!)).toBe(fact.object.toLowerCase());
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(1000);
  });

  test('are padded to the longest of a batch', () => {
    const masked = (length: number) => ({ ids: new Array<number>(length).fill(7), position: 1, label: 3 });
    expect(batchInput([masked(2), masked(3)])).toEqual({
      ids: [
        [7, 7, 0],
        [7, 7, 7],
      ],
      attentionMask: [
        [1, 1, 0],
        [1, 1, 1],
      ],
    });
  });
});

test('a pass holds every item once, in batches of like length, and only the seed and the pass decide its order', () => {
  const items = Array.from({ length: 103 }, (_, i) => i);
  const length = (item: number): number => item % 10;
  const make = (seed: number, pass: number) => batchesOf(items, 4, length, passRandom(seed, pass));
  expect(
    make(1, 2)
      .flat()
      .sort((a, b) => a - b),
  ).toEqual(items);
  expect(make(1, 2)).toEqual(make(1, 2));
  expect(make(1, 2)).not.toEqual(make(1, 3));
  expect(make(1, 2)).not.toEqual(make(2, 2));
  const spread = (batch: number[]): number => Math.max(...batch.map(length)) - Math.min(...batch.map(length));
  const average = (batches: number[][]): number =>
    batches.reduce((sum, batch) => sum + spread(batch), 0) / batches.length;
  expect(average(make(1, 2))).toBeLessThan(2);
  expect(shuffle([1, 2, 3], seededRandom(0)).sort()).toEqual([1, 2, 3]);
});
