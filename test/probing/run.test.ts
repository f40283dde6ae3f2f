/** A whole run on the bundled Llama: in one go, killed and gone on with, in shards; and its probers put to use. */

import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Device,
  type LanguageModel,
  loadModel,
  openDevice,
  type Tokenizer,
} from '../../neurgrad/index.ts';
import { openReader } from '../../probing/collect.ts';
import { sortRows } from '../../probing/data.ts';
import {
  applyProber,
  checkProberModel,
  loadProber,
  type ProberAbout,
  saveProber,
} from '../../probing/proberFile.ts';
import { planTask, type TaskPlan } from '../../probing/prompts.ts';
import {
  collect,
  evaluateParts,
  missingUnits,
  type ProbeSettings,
  recordTask,
  type TaskReport,
} from '../../probing/run.ts';
import { choices, task } from './rows.ts';

const settings: ProbeSettings = {
  site: 'pre_linear',
  of: 'prob',
  direction: 'outward',
  sign: '+',
  variant: 'paper',
  labelTokens: 'continuation',
  splits: 'released',
  shots: 0,
  rows: 68,
  evaluationRows: 12,
  permutations: 3,
  seed: 5,
};

let device: Device;
let model: LanguageModel;
let tokenizer: Tokenizer;
let plan: TaskPlan;
const folder = mkdtempSync(join(tmpdir(), 'neurgrad-probe-'));

beforeAll(async () => {
  device = await openDevice();
  ({ model, tokenizer } = await loadModel('examples/models/stories260k', { device }));
  const split = (from: number, count: number) => sortRows(task('MyriadLAMA'), choices(count, from)).rows;
  const rows = { train: split(0, 68), valid: split(70, 12), test: split(90, 12) };
  plan = planTask(model, tokenizer, task('MyriadLAMA'), rows, settings);
});

afterAll(() => {
  model?.dispose();
  device?.destroy();
  rmSync(folder, { recursive: true });
});

const place = (name: string): string => join(folder, name);
const record = () => recordTask(plan, tokenizer);
const evaluate = (name: string) => evaluateParts(record(), model.sizes, settings, place(name));

describe('a run', () => {
  let whole: TaskReport;
  beforeAll(async () => {
    const seen: number[] = [];
    await collect(model, [plan], settings, place('whole'), { onProgress: (done) => seen.push(done) });
    whole = (await evaluate('whole')).report;
    expect(seen.at(-1)).toBe(92);
    expect([...seen].sort((a, b) => a - b)).toEqual(seen);
  });

  it('gives every method its accuracy, and its prober neurons by name', () => {
    expect(whole.prompts).toEqual({ train: 68, valid: 12, test: 12 });
    expect(whole.rand).toBe(0.25);
    for (const name of ['polar', 'magn'] as const) {
      const { accuracy, test, sizes, size, neurons, layers, null: chance } = whole[name];
      expect(accuracy).toBe(test[sizes.indexOf(size)]);
      expect(neurons).toHaveLength(Math.min(size, 100));
      expect(neurons[0]!.neuron).toMatch(/^L[0-4]\.N\d+@pre_linear$/);
      expect(layers.reduce((a, b) => a + b, 0)).toBe(size);
      expect(chance!.accuracies).toHaveLength(3);
    }
  });

  it('goes on where it was killed, to the same result', async () => {
    const killed = collect(model, [plan], settings, place('killed'), {
      onProgress(done) {
        if (done > 70) throw new Error('killed');
      },
    });
    await expect(killed).rejects.toThrow('killed');
    expect(await missingUnits(record(), 860, settings, place('killed'))).toBe(2);
    let read = 0;
    await collect(model, [plan], settings, place('killed'), { onProgress: () => read++ });
    expect(read).toBeLessThan(40);
    expect((await evaluate('killed')).report).toEqual(whole);
  });

  it('comes out of shards the same', async () => {
    for (const index of [1, 0]) {
      await collect(model, [plan], settings, place('shards'), { shard: { index, count: 2 } });
    }
    // A run in another number of shards finds all of them done.
    const seen: number[] = [];
    await collect(model, [plan], settings, place('shards'), { onProgress: (done) => seen.push(done) });
    expect(seen).toEqual([32, 64, 68, 80, 92]);
    expect(readdirSync(join(place('shards'), 'parts', 'MyriadLAMA'))).toEqual([
      'test-00000.safetensors',
      'train-0.safetensors',
      'train-1.safetensors',
      'valid-00000.safetensors',
    ]);
    const { report } = await evaluate('shards');
    expect({ ...report, act: null }).toEqual({ ...whole, act: null });
  });

  it('counts no part that was changed, and reads it again to the same bytes', async () => {
    const parts = join(place('shards'), 'parts', 'MyriadLAMA');
    const files = readdirSync(parts).filter((name) => name.endsWith('.safetensors'));
    for (const name of files) {
      const path = join(parts, name);
      const file = readFileSync(path);
      const [begin, data] = [8 + Number(file.readBigUInt64LE(0)), Buffer.from(file)];
      for (const at of [0, 9, 40, begin - 1, begin, Math.floor((begin + file.length) / 2), file.length - 1]) {
        data[at]! ^= 4;
        writeFileSync(path, data);
        await expect(evaluate('shards'), `${name}, byte ${at}`).rejects.toThrow(`${name}: is `);
        data[at]! ^= 4;
      }
      writeFileSync(path, file.subarray(0, file.length - 8));
      await expect(evaluate('shards'), `${name}, cut short`).rejects.toThrow(`${name}: is `);
      const notes: string[] = [];
      for (const index of [0, 1]) {
        const shard = { index, count: 2 };
        await collect(model, [plan], settings, place('shards'), {
          shard,
          onNote: (text) => notes.push(text),
        });
      }
      expect(notes, name).toEqual([expect.stringMatching(`${name}: is .*; reading its prompts again$`)]);
      expect(readFileSync(path).equals(file), name).toBe(true);
      expect({ ...(await evaluate('shards')).report, act: null }).toEqual({ ...whole, act: null });
    }
    expect(files).toHaveLength(4);
  });

  it('counts no part of another run, or of another place', async () => {
    const other = (changed: Partial<ProbeSettings>, run = '') =>
      evaluateParts(record(), model.sizes, { ...settings, ...changed }, place('shards'), run);
    await expect(other({})).resolves.toBeDefined();
    const foreign = /train-0\.safetensors: belongs to another run$/;
    await expect(other({}, 'other weights')).rejects.toThrow(foreign);
    await expect(other({ of: 'logit' })).rejects.toThrow(foreign);
    await expect(missingUnits(record(), 860, { ...settings, seed: 6 }, place('shards'))).rejects.toThrow(
      foreign,
    );
    const parts = join(place('shards'), 'parts', 'MyriadLAMA');
    const [test, valid] = ['test', 'valid'].map((split) => join(parts, `${split}-00000.safetensors`));
    const file = readFileSync(valid!);
    copyFileSync(test!, valid!);
    await expect(evaluate('shards')).rejects.toThrow(/valid-00000\.safetensors: belongs to another part$/);
    const notes: string[] = [];
    const onNote = (text: string) => notes.push(text);
    await collect(model, [plan], settings, place('shards'), { onNote });
    expect(notes).toEqual([expect.stringMatching('another part; reading its prompts again$')]);
    expect(readFileSync(valid!).equals(file)).toBe(true);
  });

  it('leaves probers that answer as they did, from their files', async () => {
    const { report, probers } = await evaluate('whole');
    const { site, of, direction, sign, variant } = settings;
    const about: ProberAbout = {
      format: 'neurgrad prober 1',
      task: 'MyriadLAMA',
      kind: 'magn',
      size: report.magn.size,
      accuracy: report.magn.accuracy,
      labels: [...plan.task.labels],
      candidates: [...plan.candidates],
      contexts: plan.contexts,
      ...{ variant, site, of, direction, sign },
      model: { architecture: 'llama', layers: 5, width: 172, name: 'stories260k', dtype: 'int8', sha256: {} },
    };
    await saveProber(place('magn'), { about, prober: probers.magn });
    const saved = await loadProber(place('magn.json'));
    expect(saved).toEqual({ about, prober: probers.magn });
    using reader = openReader(model, saved.about);
    for (const [i, prompt] of plan.prompts.test.slice(0, 4).entries()) {
      const answer = await applyProber(saved, reader, prompt);
      expect(answer.label).toBe(report.magn.predictions[i]);
    }
    expect(() => checkProberModel({ ...about, model: { ...about.model, layers: 4 } }, model)).toThrow(
      'a llama of 4 x 172 neurons, this is a llama of 5 x 172',
    );
  });
});
