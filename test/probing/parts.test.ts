/** Parts and probers of a run: numbers that are none are told with their file, and never counted. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { emptyTraining } from '../../probing/evaluation.ts';
import { readTraining, readUnits, writeTraining, writeUnit } from '../../probing/parts.ts';
import { readTensorFile, type Table, writeTensorFile } from '../../probing/tensorFile.ts';

const root = mkdtempSync(join(tmpdir(), 'neurgrad-parts-'));
afterAll(() => rmSync(root, { recursive: true }));
const shape = { candidates: 2, neurons: 3, permutations: 1, run: 'r' };

/** Writes a file again with some of its metadata or of one table's numbers changed. */
async function change(
  path: string,
  metadata: Record<string, string>,
  [name, value]: [string?, number?] = [],
): Promise<void> {
  const file = await readTensorFile(path);
  const tables: Record<string, Table> = Object.fromEntries(file.tables);
  if (name !== undefined) tables[name]![1] = value!;
  await writeTensorFile(path, tables, { ...file.metadata, ...metadata });
}

describe('counters', () => {
  const path = join(root, 'train-0.safetensors');
  const write = (): Promise<void> => writeTraining(root, 0, emptyTraining(2, 3, 1), [0, 2], 'r');

  test('are as they were written', async () => {
    await write();
    expect((await readTraining(root, 0, shape)).units).toEqual([0, 2]);
  });

  test.each<[string, Record<string, string>, [string?, number?], RegExp]>([
    ['prompts of NaN', { prompts: 'NaN' }, [], /train-0\.safetensors: its prompts are no such numbers/],
    ['prompts of 1.5', { prompts: '1.5' }, [], /its prompts are no such numbers/],
    ['prompts below 0', { prompts: '-1' }, [], /its prompts are no such numbers/],
    ['a unit that is text', { units: '["0"]' }, [], /its units are no such numbers/],
    ['a unit of 0.5', { units: '[0.5]' }, [], /its units are no such numbers/],
    ['units that are no list', { units: '7' }, [], /its units are no such numbers/],
    ['a counter below 0', {}, ['polar.plus', -1], /polar holds -1/],
    ['a sum that is none', {}, ['act.sum', Number.NaN], /act\.sum holds NaN/],
    ['squares below 0', {}, ['act.square', -2], /act\.square holds -2/],
  ])('with %s are refused', async (_, metadata, table, message) => {
    await write();
    await change(path, metadata, table);
    await expect(readTraining(root, 0, shape)).rejects.toMatchObject({
      name: 'UserError',
      message: expect.stringMatching(message),
    });
  });
});

describe('a unit', () => {
  const folder = join(root, 'units');
  mkdirSync(folder);
  const path = join(folder, 'test-00000.safetensors');
  const read = async (): Promise<unknown[]> => {
    const found: unknown[] = [];
    for await (const prompt of readUnits(folder, 'test', [0], shape)) found.push(prompt.probabilities);
    return found;
  };

  test.each<[string, Record<string, string>]>([
    ['gold of 2 in 2', { gold: '[2]' }],
    ['gold of 0.5', { gold: '[0.5]' }],
    ['a probability above 1', { probabilities: '[[2,0]]' }],
    ['a probability that is null', { probabilities: '[[null,0]]' }],
    ['a probability less', { probabilities: '[[1]]' }],
    ['a prompt more', { probabilities: '[[1,0],[1,0]]' }],
    ['text', { probabilities: 'x' }],
  ])('with %s is refused', async (_, metadata) => {
    const prompt = { marks: new Uint8Array(6), activation: new Float32Array(3), gold: 1 };
    await writeUnit(folder, 'test', 0, [{ ...prompt, probabilities: [0.25, 0.5] }], 'r');
    expect(await read()).toEqual([[0.25, 0.5]]);
    await change(path, metadata);
    await expect(read()).rejects.toThrow(
      /test-00000\.safetensors: its (gold|probabilities) are no such numbers/,
    );
    expect(readFileSync(path).length).toBeGreaterThan(0);
    writeFileSync(path, '');
  });
});
