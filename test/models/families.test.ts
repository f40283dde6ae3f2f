/**
 * What every family has to keep, whatever its block is made of: looking changes nothing, a row is the same alone and in a
 * batch, a text goes on as it is read at once, layers that run again give the same gradients, saving gives back what was loaded.
 */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  crossEntropyRows,
  type Device,
  grad,
  openDevice,
  scope,
  sum,
  type Tensor,
} from '../../engine/index.ts';
import { cachedText } from '../../models/generate.ts';
import {
  type Checkpoint,
  type Llama,
  localFolder,
  openCheckpoint,
  readConfig,
  saveModel,
} from '../../models/index.ts';
import type { LanguageModel, ModelInput, RunOptions, RunResult } from '../../models/model.ts';
import { expectSameBits } from '../engine/support.ts';
import {
  CASES,
  CAUSAL_CASES,
  type GoldenInputs,
  inputsOf,
  MASKED_CASES,
  named,
  openCase,
  REFUSED,
} from './goldenCases.ts';

let device: Device;
const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-families-'));
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device?.destroy();
  rmSync(scratch, { recursive: true });
});

/** Largest difference relative to the largest value; NaN where a number is none. */
function distance(got: ArrayLike<number>, want: ArrayLike<number>): number {
  expect(got.length).toBe(want.length);
  const size = Math.max(1e-30, ...Array.from(want, Math.abs));
  return Math.max(...Array.from(got, (value, i) => Math.abs(value - want[i]!))) / size;
}

/** One row of an input. */
const rowOf = (input: ModelInput, row: number): ModelInput =>
  Object.fromEntries(
    Object.entries(input).map(([name, table]) => [name, [(table as number[][])[row]!]]),
  ) as unknown as ModelInput;

describe.skipIf(REFUSED.length === 0)('families that do not load yet', () => {
  test.each(named(REFUSED))('%s is refused in one line that names its config', async (_, golden) => {
    await expect(openCase(golden, device)).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/^[^\n]*config\.json: [^\n]*$/),
    });
  });
});

describe.each(named(CASES))('%s', (_, golden) => {
  let model: LanguageModel;
  let inputs: GoldenInputs;
  let input: ModelInput;
  beforeAll(async () => {
    model = await openCase(golden, device);
    inputs = await inputsOf(golden);
    ({ input } = inputs);
  });
  afterAll(() => model?.dispose());

  const objective = () =>
    ({ of: 'prob', target: inputs.targets.map((row) => row[0]!), position: inputs.position }) as const;
  /** Logits, values and gradients of a run by name. */
  const read = async ({ logits, captures, gradients }: RunResult): Promise<Map<string, Float32Array>> => {
    const found = new Map([['logits', await logits.read()]]);
    for (const [name, t] of captures) found.set(`value ${name}`, await t.read());
    for (const [name, t] of gradients) found.set(`gradient ${name}`, await t.read());
    return found;
  };
  const values = async (of: ModelInput, options: RunOptions): Promise<Map<string, Float32Array>> => {
    using run = model.run(of, options);
    return await read(run);
  };

  test('the same bits whoever looks', async () => {
    const names = model.hookNames;
    const last = [`blocks.${model.sizes.layers - 1}.hook_resid_post`, names.at(-1)!];
    const few = await values(input, { capture: last });
    const all = await values(input, { capture: names, grad: { at: names, of: objective() } });
    expect(all.size).toBe(1 + 2 * names.length);
    for (const [name, want] of few) expectSameBits(all.get(name)!, want, name);
    for (const [name, found] of all) expect(found.every(Number.isFinite), name).toBe(true);
    // Nothing is a value that only its name has.
    const [name] = names.filter((each) => each.endsWith('mlp.hook_post'));
    const one = await values(input, { capture: [name!], grad: { at: [name!], of: objective() } });
    for (const [what, found] of one) expectSameBits(found, all.get(what)!, what);
  });

  test('a padded row alone is the row in its batch, bit for bit, and without padding the same values', async () => {
    const names = model.hookNames;
    const { rows, length } = inputs;
    const grads = (row?: number): RunOptions => {
      const { of, target, position } = objective();
      const some = <T>(list: readonly T[]): T[] => list.filter((_, i) => row === undefined || i === row);
      return { grad: { at: names, of: { of, target: some(target), position: some(position) } } };
    };
    const together = await values(input, { capture: names, ...grads() });
    for (let row = 0; row < rows; row++) {
      const alone = await values(rowOf(input, row), { capture: names, ...grads(row) });
      for (const [name, found] of alone) {
        const part = together.get(name)!.subarray(row * found.length, (row + 1) * found.length);
        expectSameBits(found, part, `row ${row}: ${name}`);
      }
      const { ids, position, tokenTypeIds, target, pad } = inputs.prompt(row);
      // Patterns have a key for every token.
      const at = names.filter((name) => !name.endsWith('hook_pattern'));
      const bare = await values(
        { ids: [ids], ...(tokenTypeIds ? { tokenTypeIds: [tokenTypeIds] } : {}) },
        { capture: at, grad: { at, of: { of: 'prob', target: [target], position: [position] } } },
      );
      for (const [name, found] of bare) {
        const token = found.length / ids.length;
        const padded = alone.get(name)!.subarray(pad * token, (pad + ids.length) * token);
        expect(padded.length, name).toBe(found.length);
        expect(distance(padded, found), `row ${row} of ${length}: ${name}`).toBeLessThan(1e-4);
      }
    }
  });

  test('layers that run again in the backward give the same parameter gradients, bit for bit', async () => {
    const trained = await openCase(golden, device);
    try {
      const parameters = [...trained.parameters.values()];
      for (const t of parameters) t.requireGrad();
      const { target, position } = objective();
      const [plain, again] = [false, true].map((recompute) =>
        scope((): Tensor[] => {
          using run = trained.run(input, { logits: position, recompute });
          return grad(sum(crossEntropyRows(run.logits, target)), parameters, { unconnected: 'zero' });
        }),
      );
      for (const [i, name] of [...trained.parameters.keys()].entries())
        expectSameBits(await again![i]!.read(), await plain![i]!.read(), name);
      for (const t of [...plain!, ...again!]) t.dispose();
    } finally {
      trained.dispose();
    }
  });

  test('saved and loaded it is the same model, with the tensors and the config of the first', async () => {
    const paths = ['once', 'twice'].map((time) => join(scratch, `${golden.name}-${time}`));
    const source = await localFolder(golden.model);
    const config = await readConfig(source);
    await saveModel(paths[0]!, model, config);
    const saved = await localFolder(paths[0]!);
    expect(await readConfig(saved)).toEqual(config);
    const second = await openCase({ model: paths[0]! }, device);
    try {
      await saveModel(paths[1]!, second, await readConfig(saved));
      for (const file of ['config.json', 'model.safetensors'])
        expect(readFileSync(join(paths[1]!, file)).equals(readFileSync(join(paths[0]!, file))), file).toBe(
          true,
        );
      expect([...second.parameters.keys()].sort()).toEqual([...model.parameters.keys()].sort());
      using before = model.run(input);
      using after = second.run(input);
      expectSameBits(await after.logits.read(), await before.logits.read(), 'logits');
    } finally {
      second.dispose();
    }
    const [theirs, ours] = await Promise.all([source, saved].map(openCheckpoint));
    try {
      await expectSameTensors(ours!, theirs!, golden.legacy);
    } finally {
      await Promise.all([theirs!.close(), ours!.close()]);
    }
  });
});

/** Every tensor of `got` is in `want`, with the same numbers; and every other way round, but for a file with more than is needed. */
async function expectSameTensors(got: Checkpoint, want: Checkpoint, more: boolean): Promise<void> {
  for (const [name, { shape }] of got.tensors) {
    // Older names of what is stored.
    const stored = want.tensors.get(name) ?? want.tensors.get(legacyName(name));
    expect(stored, name).toBeDefined();
    expect(shape, name).toEqual(stored!.shape);
    expectSameBits(await got.readFloat32(name), await want.readFloat32(stored!.name), name);
  }
  if (!more) expect([...got.tensors.keys()].sort()).toEqual([...want.tensors.keys()].sort());
}
const legacyName = (name: string): string =>
  name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta');

describe.each(named(CAUSAL_CASES))('%s, token by token', (_, golden) => {
  test('each token behind the cache has the logits of the whole text read at once', async () => {
    const model = (await openCase(golden, device)) as Llama;
    const inputs = await inputsOf(golden);
    const prompts = inputs.input.ids.map((_, row) => inputs.prompt(row).ids);
    const { vocabulary } = model.sizes;
    try {
      for (const ids of prompts) {
        using whole = model.run({ ids: [ids] });
        const want = await whole.logits.read();
        const text = cachedText(model);
        // The beginning at once, the rest one by one.
        let end = 2;
        let got = await text.extend(ids.slice(0, end));
        for (;;) {
          const expected = want.subarray((end - 1) * vocabulary, end * vocabulary);
          expect(distance(got, expected), `after ${end} tokens`).toBeLessThan(1e-5);
          if (end === ids.length) break;
          got = await text.extend(ids.slice(end, ++end));
        }
        text.dispose();
      }
    } finally {
      model.dispose();
    }
  });
});

describe.each(named(MASKED_CASES))('%s, read at one token', (_, golden) => {
  test('the last layer at the tokens read has what the whole one has there, and the same gradients', async () => {
    const model = await openCase(golden, device);
    const { input, position, targets, length } = await inputsOf(golden);
    const { layers } = model.sizes;
    const names = model.hookNames.filter((name) => !name.endsWith('hook_pattern'));
    const target = targets.map((row) => row[0]!);
    const options = {
      capture: names,
      grad: { at: names, of: { of: 'logprob', target, position } },
      logits: position,
    } as const;
    try {
      using whole = model.run(input, options);
      using read = model.run(input, { ...options, lastLayer: 'read' });
      expect(distance(await read.logits.read(), await whole.logits.read())).toBeLessThan(1e-6);
      let narrowed = 0;
      for (const kind of ['captures', 'gradients'] as const)
        for (const name of names) {
          const [got, want] = [read[kind].get(name)!, whole[kind].get(name)!];
          let expected = await want.read();
          if (got.dim(1) === 1 && want.dim(1) === length) {
            narrowed++;
            const token = want.size / input.ids.length / length;
            expected = Float32Array.from(
              position.flatMap((at, row) => [
                ...expected.subarray((row * length + at) * token, (row * length + at + 1) * token),
              ]),
            );
          }
          expect(distance(await got.read(), expected), `${kind} ${name}`).toBeLessThan(1e-5);
        }
      expect(narrowed).toBeGreaterThan(0);
      expect(read.captures.get(`blocks.${layers - 1}.mlp.hook_post`)!.dim(1)).toBe(1);
    } finally {
      model.dispose();
    }
  });
});
