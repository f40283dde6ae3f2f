/** The built command on models of any size: text, plans, synthetic checkpoints, weights on disk and in several processes. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readModelCard, withModel } from '../../cli/session.ts';
import { panelSide } from '../../engine/index.ts';
import { floats, readConfigJson, readTensors, writeModel } from '../models/checkpointFiles.ts';
import { choices } from '../probing/rows.ts';
import { type Finished, neurgrad } from './command.ts';

const STORIES = 'examples/models/stories260k';
const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-large-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const onStories = (command: string, ...args: string[]): Promise<Finished> =>
  neurgrad(command, '--model', STORIES, '--prompt', 'Once upon a time', ...args);

describe('generate', () => {
  it('streams text, and gives it as JSON', async () => {
    const plain = await onStories('generate', '--max-tokens', '12');
    expect(plain).toMatchObject({ code: 0 });
    expect(plain.out).toMatch(/^, there was a little girl/);
    const json = JSON.parse((await onStories('generate', '--max-tokens', '12', '--json')).out);
    expect(plain.out.trim()).toBe(json.text.trim());
    expect(json).toMatchObject({ end: 'length', ids: { length: 12 }, tokens: { length: 12 } });
    const drawn = ['--temperature', '0.9', '--seed', '3', '--max-tokens', '12', '--json'];
    const [a, b] = [await onStories('generate', ...drawn), await onStories('generate', ...drawn, '--stream')];
    const c = await onStories('generate', ...drawn, '--devices', '2');
    for (const other of [b, c]) expect(JSON.parse(a.out).ids).toEqual(JSON.parse(other.out).ids);
  });
  it.each([
    [['--chat'], 'no chat template'],
    [['--system', 'x'], '--system goes with --chat'],
    [['--temperature', '-1'], 'must be 0 or a number above it'],
    [['--top-p', '0'], 'must be above 0 and at most 1'],
    [['--dtype', 'f64'], 'Allowed choices'],
  ])('%j', async (args, message) => {
    const { code, err } = await onStories('generate', ...args);
    expect(err).toContain(message);
    expect(code).toBe(2);
  });
  it('a BERT does not', async () => {
    const { code, err } = await neurgrad(
      'generate',
      '--model',
      'examples/models/facts-bert',
      '--prompt',
      'a [MASK]',
    );
    expect([code, err]).toEqual([2, expect.stringContaining('take predict')]);
  });
});

it('weights on disk and in two processes give the numbers of one', async () => {
  const gradients = ['gradients', '--dtype', 'int8', '--json'] as const;
  const [resident, streamed, split, small] = [
    await onStories(...gradients),
    await onStories(...gradients, '--stream'),
    await onStories(...gradients, '--devices', '2'),
    await onStories(...gradients, '--memory', '0.002'),
  ];
  expect(JSON.parse(resident.out).conventions.dtype).toBe('float32 with int8 weights');
  for (const other of [streamed, split, small]) expect(other.out).toBe(resident.out);
  expect(small.err).toContain('streamed from disk instead');
  const many = await onStories('predict', '--devices', '9');
  expect([many.code, many.err]).toEqual([2, expect.stringContaining('9 devices for 5 layers')]);
});

it('runs in the memory that it is given as plan says, or not at all', async () => {
  const plan = async (model: string, ...args: string[]) => {
    const { out } = await neurgrad('plan', '--model', model, '--json', ...args);
    return JSON.parse(out) as { resident: number; streamed: number; fits: Record<string, string> };
  };
  const { resident, streamed } = await plan(STORIES);
  for (const [bytes, fit, code, said] of [
    [streamed - 1, 'no', 2, /needs (\d\.\d\d MB) even with its weights on disk; --memory gives \1/],
    [streamed / 100, 'no', 2, /even with its weights on disk; --memory gives 0\.01 MB \(see neurgrad plan\)/],
    [streamed, 'streamed', 0, /streamed from disk instead/],
    [resident, 'resident', 0, /^$/],
  ] as const) {
    const memory = ['--memory', String(bytes / 1e9)];
    expect((await plan(STORIES, ...memory)).fits.f32).toBe(fit);
    const run = await onStories('predict', ...memory);
    expect([run.code, run.err.replace(/^Warning: max.*\n/gm, '')]).toEqual([
      code,
      expect.stringMatching(said),
    ]);
    if (code === 2) expect(run.out).toBe('');
  }
  // Asked for, streaming takes no less.
  expect(await onStories('predict', '--stream', '--memory', '0.001')).toMatchObject({ code: 2, out: '' });
  expect((await onStories('predict', '--devices', '2', '--memory', '1')).err).toContain(
    'cannot be used with',
  );

  const bert = 'examples/models/facts-bert';
  const small = await plan(bert, '--memory', '0.01');
  expect(small.resident).toBeGreaterThan(1e7);
  expect(Object.values(small.fits)).not.toContain('streamed');
  const refused = await neurgrad('predict', '--model', bert, '--prompt', 'a [MASK]', '--memory', '0.01');
  expect(refused).toMatchObject({ code: 2, out: '' });
  expect(refused.err).toContain(
    `needs ${(small.resident / 1e6).toFixed(2)} MB, and only a causal model can be streamed from disk; --memory gives 10.00 MB`,
  );
}, 60_000);

it('tensors that a model has no place for: named once on stderr, refused by --strict', async () => {
  const folder = writeModel(
    join(scratch, 'extra'),
    readConfigJson(STORIES),
    new Map([...(await readTensors(STORIES)), ['score.weight', floats([3])]]),
    { 'tokenizer.json': readFileSync(join(STORIES, 'tokenizer.json')) },
  );
  const ask = ['predict', '--model', folder, '--prompt', 'Once upon a'];
  const note = /not read, as the model has no place for it: score\.weight/g;
  for (const more of [[], ['--stream'], ['--devices', '2']]) {
    const told = await neurgrad(...ask, ...more);
    expect([told.code, told.err.match(note)?.length]).toEqual([0, 1]);
    const refused = await neurgrad(...ask, ...more, '--strict');
    expect(refused).toMatchObject({ code: 2, out: '' });
    expect(refused.err).toContain('1 tensor extra: score.weight');
  }
  expect((await neurgrad('plan', '--model', folder)).err.match(note)).toHaveLength(1);
  expect((await neurgrad('plan', '--model', folder, '--strict')).code).toBe(2);
}, 60_000);

it('a study keeps its weights as asked, says so, and mixes nothing', async () => {
  const prompts = join(scratch, 'prompts.jsonl');
  const questions = ['Once upon a', 'The little'].map((prompt) => ({ prompt, answer: 'time' }));
  writeFileSync(prompts, questions.map((question) => JSON.stringify(question)).join('\n'));
  const plan = join(scratch, 'plan.json');
  const json = {
    models: [STORIES],
    dtype: 'int8',
    prompts: { path: prompts, count: 1, answeredRight: false },
    neurons: { perPrompt: 4 },
    integrated: { prompts: 1, steps: 2 },
  };
  writeFileSync(plan, JSON.stringify(json));
  const study = (out: string, ...more: string[]) =>
    neurgrad('study', '--plan', plan, '--out', join(scratch, out), ...more);
  const summary = async (out: string) => {
    expect((await neurgrad('report', join(scratch, out))).code).toBe(0);
    return JSON.parse(readFileSync(join(scratch, out, 'summary.json'), 'utf8'));
  };
  expect((await study('resident')).code).toBe(0);
  const resident = await summary('resident');
  expect(resident.plan.dtype).toBe('int8');
  for (const [weights, how] of [
    ['disk', ['--stream']],
    ['processes', ['--devices', '2']],
  ] as const) {
    const { code, err } = await study(weights, ...how);
    expect(err).not.toContain('error');
    expect(code).toBe(0);
    const [found] = (await summary(weights)).models;
    expect(found.stamp.weights).toBe(weights);
    expect(found.table1.neurgrad.pairs).toBe(4);
    expect(found.examples[0].neurgrad).toBe(resident.models[0].examples[0].neurgrad);
    expect(found.examples[0].slope).toBeCloseTo(resident.models[0].examples[0].slope, 5);
  }
  const other = await study('disk');
  expect([other.code, other.err]).toEqual([
    2,
    expect.stringContaining('with their weights elsewhere (disk)'),
  ]);
  const wider = await study('resident', '--dtype', 'f32');
  expect([wider.code, wider.err]).toEqual([2, expect.stringContaining("dtype: 'int8', now 'f32'")]);
}, 120_000);

it('a report takes shards, parts of them, another folder and JSON', async () => {
  const prompts = join(scratch, 'two.jsonl');
  const questions = ['Once upon a', 'The little'].map((prompt) => ({ prompt, answer: 'time' }));
  writeFileSync(prompts, questions.map((question) => JSON.stringify(question)).join('\n'));
  const plan = join(scratch, 'two.json');
  const json = {
    models: [STORIES],
    prompts: { path: prompts, count: 2, answeredRight: false },
    neurons: { perPrompt: 4, sampling: 'shared' },
  };
  writeFileSync(plan, JSON.stringify(json));
  const folders = ['first', 'second'].map((name) => join(scratch, name));
  for (const [i, folder] of folders.entries())
    expect((await neurgrad('study', '--plan', plan, '--out', folder, '--shard', `${i + 1}/2`)).code).toBe(0);
  const out = join(scratch, 'report');
  expect(await neurgrad('report', folders[0]!, '--out', out)).toMatchObject({
    code: 2,
    err: expect.stringContaining('report --partial'),
  });
  for (const [asked, pairs] of [
    [[folders[0]!, '--partial'], 4],
    [folders, 8],
  ] as const) {
    const { code, out: said, err } = await neurgrad('report', ...asked, '--out', out, '--json');
    expect([code, err]).toEqual([0, '']);
    const summary = JSON.parse(said);
    expect(summary.models[0].table1.neurgrad.pairs).toBe(pairs);
    expect(JSON.parse(readFileSync(join(out, 'summary.json'), 'utf8'))).toEqual(summary);
    expect(readFileSync(join(out, 'report.html'), 'utf8')).toContain('No intervals: ');
    expect(readFileSync(join(out, 'tables', 'layers.md'), 'utf8')).toContain('over prompts and neurons, ');
  }
}, 120_000);

it('probing streams and keeps its dtype', async () => {
  const data = join(scratch, 'data', 'fact', 'myriadlama');
  mkdirSync(data, { recursive: true });
  const splits = { train: choices(16), valid: choices(4, 16), test: choices(4, 20) };
  for (const [split, rows] of Object.entries(splits))
    writeFileSync(join(data, `${split}.json`), JSON.stringify(rows));
  const folder = join(scratch, 'data');
  const run = (out: string, ...more: string[]) =>
    neurgrad(
      ...['probe', 'run', '--model', STORIES, '--data', folder, '--tasks', 'MyriadLAMA', '--shots', '0'],
      // Too few rows to make clean splits of.
      ...[
        '--splits',
        'released',
        '--train-rows',
        '4',
        '--out',
        join(scratch, out),
        '--dtype',
        'int8',
        ...more,
      ],
    );
  const tasks = async (out: string, ...more: string[]) => {
    const { code, err } = await run(out, ...more);
    expect(err).not.toContain('error');
    expect(code).toBe(0);
    const { model, weights, tasks } = JSON.parse(readFileSync(join(scratch, out, 'summary.json'), 'utf8'));
    expect(model.dtype).toBe('int8');
    return { weights, tasks };
  };
  const resident = await tasks('probe');
  expect(await tasks('probe-disk', '--stream')).toEqual({ ...resident, weights: 'disk' });
  expect((await tasks('probe-split', '--devices', '2')).weights).toBe('processes');
  const prober = join(scratch, 'probe', 'probers', 'MyriadLAMA-magn.json');
  expect(JSON.parse(readFileSync(prober, 'utf8')).model.dtype).toBe('int8');
  const other = await run('probe', '--dtype', 'f32');
  expect([other.code, other.err]).toEqual([2, expect.stringContaining('holds a run of other model')]);
}, 120_000);

it('a synthetic 70B is written, planned and refused a second time', async () => {
  const out = join(scratch, '70b');
  const synth = ['synth', '--like', 'llama2-70b', '--out', out, '--tokenizer', STORIES, '--json'];
  const made = await neurgrad(...synth);
  expect(JSON.parse(made.out)).toMatchObject({ bytes: 137_953_296_384, files: { length: 15 } });
  const plan = await neurgrad('plan', '--model', out, '--dtype', 'bf16', '--memory', '24', '--json');
  expect(JSON.parse(plan.out)).toMatchObject({
    fits: { f32: 'streamed', bf16: 'streamed', int4: 'streamed' },
    stored: { bytes: 137_953_296_384, shards: 15 },
  });
  const table = await neurgrad('plan', '--model', out, '--dtype', 'int4', '--memory', '80');
  expect(table.out).toMatch(/in 80.00 GB: resident int4; streamed from disk f32, f16, bf16, int8/);
  const again = await neurgrad(...synth);
  expect([again.code, again.err]).toEqual([2, expect.stringContaining('is not empty')]);
});

it('keeps weights in panels, which take more, where the memory that is given holds them', async () => {
  const facts = 'examples/models/facts-bert';
  const { resident } = JSON.parse((await neurgrad('plan', '--model', facts, '--json')).out) as {
    resident: number;
  };
  const card = await readModelCard(facts);
  const packed = (memory: number) =>
    withModel(
      card,
      async ({ device }) => ({ packed: device.panels.packed, side: panelSide(device.capabilities) }),
      { memory },
    );
  const roomy = await packed(8);
  expect(roomy.packed > 0).toBe(roomy.side > 0);
  expect((await packed(resident / 1e9)).packed).toBe(0);
}, 60_000);
