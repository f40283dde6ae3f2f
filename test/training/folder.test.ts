/** What a training finds again: numbers of its files are checked, and its folder is whole whatever came between. */

import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { AdamW, type Device, LossScale, openDevice, tensor } from '../../engine/index.ts';
import { readNotes, saveCheckpoint, TrainingFolder, writeNotes } from '../../examples/training/folder.ts';
import { loadOptimiser } from '../../models/index.ts';
import { type TensorToWrite, writeSafetensors } from '../../models/safetensors.ts';
import { SEALED, sealJson } from '../../models/seal.ts';

let device: Device;
const root = mkdtempSync(join(tmpdir(), 'neurgrad-folder-'));
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device.destroy();
  rmSync(root, { recursive: true, force: true });
});
let count = 0;
const fresh = (): string => join(root, `t${count++}`);

describe('an optimiser file', () => {
  const moment = (name: string, values: number[], shape = [2]): TensorToWrite => ({
    name,
    dtype: 'F32',
    shape,
    data: Float32Array.from(values),
  });
  const good = [moment('first.w', [1, -1]), moment('second.w', [1, 0])];

  async function load(tensors: readonly TensorToWrite[], metadata: Record<string, string>): Promise<AdamW> {
    const file = `${fresh()}.safetensors`;
    await writeSafetensors(file, tensors, metadata, true);
    const optimiser = new AdamW([tensor(device, [1, 2], [2], 'weights')]);
    await loadOptimiser(file, device, optimiser, ['w']);
    return optimiser;
  }

  test('goes on where it was', async () => {
    const optimiser = await load(good, { steps: '12' });
    expect(optimiser.steps).toBe(12);
    expect([...(await optimiser.moments[0]![0].read())]).toEqual([1, -1]);
  });

  test.each([undefined, '', 'NaN', '-1', '2.5', 'Infinity', '1e3', ' 3', '0x2', '9007199254740993'])(
    'with the number of steps %s is refused',
    async (steps) => {
      await expect(load(good, steps === undefined ? {} : { steps })).rejects.toMatchObject({
        name: 'UserError',
        message: expect.stringMatching(/safetensors: its number of steps is .*, not a whole number$/),
      });
    },
  );

  test.each<[string, readonly TensorToWrite[], RegExp]>([
    ['no number', [moment('first.w', [Number.NaN, 1]), good[1]!], /first\.w holds NaN$/],
    [
      'an infinity',
      [moment('first.w', [1, Number.NEGATIVE_INFINITY]), good[1]!],
      /first\.w holds -Infinity$/,
    ],
    ['a negative mean of squares', [good[0]!, moment('second.w', [1, -1e-9])], /second\.w holds -/],
    ['a moment less', [good[0]!], /has no tensor second\.w$/],
    [
      'another shape',
      [good[0]!, moment('second.w', [1, 1], [1, 2])],
      /second\.w is F32 \[1, 2\], not F32 \[2\]$/,
    ],
    [
      'another dtype',
      [good[0]!, { name: 'second.w', dtype: 'F64', shape: [2], data: new Float64Array(2) }],
      /second\.w is F64 \[2\], not F32 \[2\]$/,
    ],
    [
      'another parameter',
      [...good, moment('first.v', [1, 1])],
      /first\.v, of which the model has no parameter$/,
    ],
  ])('with %s is refused, and leaves no tensor behind', async (_, tensors, message) => {
    const before = device.memory.weights;
    await expect(load(tensors, { steps: '1' })).rejects.toThrow(message);
    // The parameter and its two moments, which the optimiser of this call holds.
    expect(device.memory.weights - before).toBeLessThanOrEqual(3 * 256);
  });

  test('nor does the optimiser or the loss scale take such a number from elsewhere', () => {
    const optimiser = new AdamW([tensor(device, [1], [1], 'weights')]);
    for (const steps of [Number.NaN, -1, 2.5])
      expect(() => optimiser.restore(steps, optimiser.moments)).toThrow('is not a whole number');
    for (const state of [
      { value: Number.NaN, steps: 0 },
      { value: 0, steps: 0 },
      { value: 1024, steps: -1 },
      { value: 1024, steps: 0.5 },
    ])
      expect(() => new LossScale().restore(state)).toThrow('is none');
  });
});

describe('a training’s folder', () => {
  /** A checkpoint of a model and an optimiser that are none. */
  const save = (folder: string, step: number, more: object = {}): Promise<string> =>
    saveCheckpoint(folder, step, async (path) => {
      for (const name of ['model.safetensors', 'optimizer.safetensors'])
        writeFileSync(join(path, name), `${name} of step ${step}`);
      writeNotes(path, { step, seconds: 0, seed: 0, facts: 0, ...more });
    });
  const found = (folder: string): string | null => {
    using training = new TrainingFolder(folder);
    return training.latest;
  };

  test('has its last checkpoint whatever a kill has left undone', async () => {
    const folder = fresh();
    expect(found(folder)).toBeNull();
    await save(folder, 0);
    await save(folder, 2, { seed: 5 });
    expect(found(folder)).toBe(join(folder, 'latest'));
    // Between the folder and the link.
    rmSync(join(folder, 'latest'));
    expect(found(folder)).toBe(join(folder, 'step-2'));
    const told = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    symlinkSync('step-9', join(folder, 'latest'));
    expect(found(folder)).toBe(join(folder, 'step-2'));
    expect(told.mock.calls.flat().join()).toContain('latest leads nowhere; going on from');
    told.mockRestore();
    // A step again takes the place of the first, whole, and is linked to.
    await save(folder, 2, { seed: 6 });
    expect(readNotes(join(folder, 'latest')).seed).toBe(6);
    expect(readlinkSync(join(folder, 'latest'))).toBe('step-2');
    expect(readdirSync(folder).sort()).toEqual(['latest', 'step-0', 'step-2']);
  });

  test('keeps the checkpoint that is there where the next cannot be written', async () => {
    const folder = fresh();
    await save(folder, 1, { seed: 1 });
    const broken = saveCheckpoint(folder, 1, async (path) => {
      writeFileSync(join(path, 'training.json'), '{');
      throw new Error('no space');
    });
    await expect(broken).rejects.toThrow('no space');
    expect(readNotes(join(folder, 'latest')).seed).toBe(1);
    expect(readdirSync(folder).sort()).toEqual(['latest', 'step-1']);
  });

  test('has its logs up to the checkpoint, without a line that was cut', async () => {
    const folder = fresh();
    await save(folder, 1);
    const log = join(folder, 'loss.jsonl');
    writeFileSync(log, '{"step":0}\n{"step":1,"loss":null}\n{"step":2}\n{"step":3,"lo');
    using training = new TrainingFolder(folder);
    expect(training.readLog('loss.jsonl')).toEqual([{ step: 0 }, { step: 1, loss: null }]);
    training.log('loss.jsonl', { step: 2 });
    expect(readFileSync(log, 'utf8')).toBe('{"step":0}\n{"step":1,"loss":null}\n{"step":2}\n');
    for (const line of ['{"step":1.5}', '{"step":"1"}', '{"step":-1}', '7', 'x']) {
      writeFileSync(log, `{"step":0}\n${line}\n`);
      expect(() => training.readLog('loss.jsonl')).toThrow(`${log}: line 2 is no row`);
    }
  });

  test('whose checkpoints are gone does not begin anew over its logs', () => {
    const folder = fresh();
    mkdirSync(folder);
    using training = new TrainingFolder(folder);
    // As a kill before the first checkpoint leaves it.
    writeFileSync(join(folder, 'a.jsonl'), '{"step":0}\n');
    expect(training.readLog('a.jsonl')).toEqual([]);
    writeFileSync(join(folder, 'b.jsonl'), '{"step":0}\n{"step":40}\n');
    expect(() => training.readLog('b.jsonl')).toThrow('tells of steps whose checkpoints are gone');
    expect(readFileSync(join(folder, 'b.jsonl'), 'utf8')).toContain('40');
  });

  test('is one process’s at a time, and of one training', async () => {
    const folder = fresh();
    await save(folder, 1, { seed: 1, recipe: 'small' });
    using training = new TrainingFolder(folder);
    expect(() => new TrainingFolder(folder)).toThrow(`process ${process.pid} is at work on it`);
    expect(training.checkNotes({ seed: 1, recipe: 'small' }).step).toBe(1);
    expect(() => training.checkNotes({ seed: 2 })).toThrow('its training has the seed 1, not 2');
    const path = join(folder, 'step-1', 'training.json');
    const notes = JSON.parse(readFileSync(path, 'utf8'));
    for (const text of ['', '{}', '[1]', JSON.stringify({ ...notes, seed: 2 })]) {
      writeFileSync(path, text);
      expect(() => readNotes(join(folder, 'step-1'))).toThrow(/training\.json: is /);
    }
    for (const [field, value] of Object.entries({
      step: -1,
      lossScale: { value: '8', steps: 0 },
      files: {},
    })) {
      writeFileSync(path, sealJson(JSON.stringify({ ...notes, ...SEALED, [field]: value })));
      expect(() => readNotes(join(folder, 'step-1'))).toThrow(`training.json: ${field}`);
    }
  });
});
