/** The built command in a process of its own, on the bundled model, as a user runs it. */

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFile } from '../../models/byteSource.ts';
import { readSafetensorsHeader } from '../../models/safetensors.ts';
import { type Finished, neurgrad } from './command.ts';

const MODEL = 'examples/models/facts-bert';
const PROMPT = 'The capital of France is [MASK].';
const folder = mkdtempSync(join(tmpdir(), 'neurgrad-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Lines on standard error that are ours: Dawn remarks on an adapter's limits in its own words. */
const ownLines = (err: string): string[] =>
  err.split('\n').filter((line) => line !== '' && !line.startsWith('Warning: max'));

const onModel = (command: string, ...args: string[]): Promise<Finished> =>
  neurgrad(command, '--model', MODEL, '--prompt', PROMPT, ...args);

describe('neurgrad', { timeout: 60_000 }, () => {
  it('tells its version and how to use it', async () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(await neurgrad('--version')).toMatchObject({ code: 0, out: `${version}\n` });
    for (const command of ['doctor', 'demo', 'predict', 'gradients', 'sweep']) {
      const { code, out } = await neurgrad(command, '--help');
      expect(code).toBe(0);
      expect(out).toContain(`Examples:\n  neurgrad ${command}`);
      expect(out).toContain('--json');
    }
  });

  it('examines the machine', async () => {
    const { code, out } = await neurgrad('doctor', '--json');
    const diagnosis = JSON.parse(out);
    expect(code).toBe(0);
    expect(diagnosis.ok).toBe(true);
    expect(diagnosis.adapter.name).toMatch(/(soft|hard)ware$/);
    expect(diagnosis.selfCheck.largestError).toBeLessThan(1e-4);
  });

  it('predicts', async () => {
    const { code, out, err } = await onModel('predict', '--top', '3', '--json');
    expect(ownLines(err)).toEqual([]);
    expect(code).toBe(0);
    const { position, predictions } = JSON.parse(out);
    expect(position).toBe(6);
    expect(predictions).toHaveLength(3);
    expect(predictions[0].token).toBe('paris');
    expect(predictions[0].p).toBeCloseTo(0.972, 3);
    expect(Object.keys(predictions[0])).toEqual(['id', 'token', 'text', 'p']);
  });

  it('takes the GGUF file of a folder that --file means, and lists them where it means none', async () => {
    const plan = (...file: string[]) => neurgrad('plan', '--model', 'test/golden-gguf', '--json', ...file);
    expect(JSON.parse((await plan('--file', 'gpt2-a')).out).stored.bytes).toBeGreaterThan(0);
    const { code, err } = await plan();
    expect(code).toBe(2);
    expect(err).toMatch(
      /^error: test\/golden-gguf: has several GGUF files; choose one with --file.*gpt2-a.gguf \(/,
    );
  });

  it('sweeps, and the slope is the gradient along the axis', async () => {
    const file = join(folder, 'curve.json');
    const { code, out } = await onModel(
      'sweep',
      '--neurons',
      'L0.N3,L3.N7@pre',
      '--range',
      '-0.6:0.6:0.2',
      '--fit',
      '0.2',
      '--json',
      '--out',
      file,
    );
    expect(code).toBe(0);
    const document = JSON.parse(out);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(document);
    expect(document.target.token).toBe('paris');
    expect(document.engine).toBe('differences');
    expect(document.neurons.map(({ site }: { site: string }) => site)).toEqual(['post', 'pre']);
    for (const neuron of document.neurons) {
      expect(neuron.shifts).toEqual([-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]);
      expect(neuron.p[3]).toBeCloseTo(document.target.p, 7);
      expect(neuron.neurgrad).toBeCloseTo(neuron.activation < 0 ? -neuron.gradient : neuron.gradient, 12);
      expect(Math.abs(neuron.slope - neuron.neurgrad)).toBeLessThan(0.05 * Math.abs(neuron.neurgrad) + 2e-6);
      expect(neuron.polarity).toBe(Math.sign(neuron.slope));
    }
  });

  it('reads a range with or without =, on either axis', async () => {
    const curves = await Promise.all([
      onModel('sweep', '--neurons', 'L1.N7', '--range=-1:1:1', '--direction', 'plain', '--json'),
      onModel('sweep', '--neurons', 'L1.N7', '--range', '-1:1:1', '--direction', 'outward', '--json'),
    ]);
    const [plain, outward] = curves.map(({ out }) => JSON.parse(out).neurons[0]);
    const turned = plain.activation < 0 ? outward.p.toReversed() : outward.p;
    plain.p.forEach((p: number, i: number) => {
      expect(p).toBeCloseTo(turned[i], 9);
    });
    expect(plain.neurgrad).toBe(plain.gradient);
  });

  it('writes the gradients of all neurons', async () => {
    const file = join(folder, 'gradients.safetensors');
    const { code, out } = await onModel(
      'gradients',
      '--target',
      'paris',
      '--top',
      '4',
      '--out',
      file,
      '--json',
    );
    expect(code).toBe(0);
    const summary = JSON.parse(out);
    expect(summary.conventions).toEqual({
      site: 'post',
      of: 'prob',
      direction: 'outward',
      sign: '+',
      dtype: 'float32',
    });
    expect(summary.positive).toHaveLength(4);
    expect(summary.negative[0].neurgrad).toBeLessThan(0);
    const source = await openFile(file);
    const { tensors, metadata } = await readSafetensorsHeader(source);
    expect(tensors.map(({ name }) => name).sort()).toEqual(['activation', 'gradient', 'neurgrad', 'noise']);
    for (const { name, dtype, shape } of tensors)
      expect([dtype, shape]).toEqual([name === 'activation' ? 'F32' : 'F64', [4, 512]]);
    expect(metadata).toMatchObject({ target_token: 'paris', site: 'post', direction: 'outward', sign: '+' });
    const span = tensors.find(({ name }) => name === 'neurgrad')!;
    const neurgrad = new Float64Array((await source.read(span.begin, span.end)).slice().buffer);
    await source.close();
    const best = summary.positive[0];
    expect(neurgrad[best.layer * 512 + best.index]).toBe(Math.max(...neurgrad));
    expect(best.neurgrad).toBe(Math.max(...neurgrad));
    expect(best.belowNoise).toBe(false);
    expect(best.noise).toBeGreaterThan(0);
    expect(best.noise).toBeLessThan(best.neurgrad);
    expect(summary.belowNoise).toBeLessThan(4 * 512);
  });

  it('writes them as text where the name says so, and refuses what else it says', async () => {
    const [file, tensors] = [join(folder, 'gradients.csv'), join(folder, 'again.safetensors')];
    for (const out of [file, tensors]) expect((await onModel('gradients', '--out', out)).code).toBe(0);
    const [head, ...texts] = readFileSync(file, 'utf8').trimEnd().split('\n');
    const names = head!.split(',');
    const from = names.indexOf('layer');
    expect(names.slice(from)).toEqual(['layer', 'neuron', 'activation', 'g_c', 'neurgrad', 'noise']);
    // No cell before them has a comma.
    const lines = texts.map((line) => line.split(',').slice(from).join(','));
    expect(lines).toHaveLength(4 * 512);
    const source = await openFile(tensors);
    const { tensors: spans } = await readSafetensorsHeader(source);
    for (const [i, { begin, end, dtype }] of spans.entries()) {
      const bytes = (await source.read(begin, end)).slice().buffer;
      const values = dtype === 'F64' ? new Float64Array(bytes) : new Float32Array(bytes);
      const column = ['activation', 'gradient', 'neurgrad', 'noise'].indexOf(spans[i]!.name);
      expect(lines.map((line) => Number(line.split(',')[2 + column]))).toEqual([...values]);
    }
    await source.close();
    expect(lines[512 + 7]!.split(',').slice(0, 2)).toEqual(['1', '7']);
    for (const [command, name] of [
      ['gradients', 'x.txt'],
      ['sweep', 'x.safetensors'],
    ] as const) {
      const more = command === 'sweep' ? ['--neurons', 'L0.N3'] : [];
      const { code, err } = await onModel(command, ...more, '--out', join(folder, name));
      expect(code).toBe(2);
      expect(ownLines(err)).toEqual([
        expect.stringMatching(/^error: --out .*: \.(txt|safetensors) is not what is written/),
      ]);
      expect(existsSync(join(folder, name))).toBe(false);
    }
  });

  it('finds out first whether it can write', async () => {
    const file = join(folder, 'in-the-way');
    writeFileSync(file, '');
    const facts = ['--prompts', 'package.json', '--num-prompts', '1'];
    for (const args of [
      ['demo', '--model', 'no/such', '--out', file],
      ['demo', '--model', 'no/such', '--out', '/proc/neurgrad'],
      ['gradients', '--model', 'no/such', '--prompt', 'x', '--out', '/proc/x.csv'],
      ['sweep', '--model', 'no/such', '--prompt', 'x', '--neurons', 'L0.N0', '--out', '/proc/x.json'],
      ['study', '--preset', 'paper', '--model', 'no/such', ...facts, '--out', join(file, 'x')],
      ['probe', 'run', '--model', 'no/such', '--data', 'no/such', '--out', join(file, 'x')],
      ['data', 'build', 'no/such', '--out', file],
      ['data', 'audit', 'no/such', '--out', '/proc/x.json'],
      ['synth', '--like', 'llama2-7b', '--out', '/proc/x'],
    ]) {
      const { code, err } = await neurgrad(...args);
      expect(ownLines(err), args.join(' ')).toEqual([
        expect.stringMatching(/^error: .*(in-the-way|\/proc\/)/),
      ]);
      expect(code, args.join(' ')).toBe(2);
    }
  });

  it('tells the whole story in a report', async () => {
    const out = join(folder, 'a', 'run');
    const done = await neurgrad(
      'demo',
      '--random',
      '4',
      '--out',
      out,
      '--prompt',
      'Rome is the capital of [MASK].',
    );
    expect(done.code).toBe(0);
    expect(done.out).toContain('Pearson');
    expect(done.err).toMatch(/^adapter /m);
    expect(done.err).toMatch(/^sweep: (\d+)\/\1 rows/m);
    const report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    expect(report.model.sha256['model.safetensors']).toMatch(/^[0-9a-f]{64}$/);
    expect(report.study.target.token).toBe('italy');
    expect(report.study.sweep).toMatchObject({ engine: 'curve', by: 'differences' });
    expect(report.study.comparison.all.pearson.value).toBeGreaterThan(0.9);
    const drawn = report.study.sweep.neurons.filter(({ chosen }: { chosen: string }) => chosen === 'random');
    expect(drawn).toHaveLength(4);
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toContain('Rome is the capital of <mark>italy</mark>.');
    expect(page).not.toContain('NaN');
  });

  it('asks a model that has no mask to go on, where no sentence is given', async () => {
    const stories = 'examples/models/stories260k';
    const { code, out } = await neurgrad(
      'demo',
      '--model',
      stories,
      '--random',
      '2',
      '--json',
      '--out',
      join(folder, 'b'),
    );
    expect(code).toBe(0);
    expect(JSON.parse(out).study.prompt.text).toBe('The capital of France is');
  });

  it('prints tables for people', async () => {
    const { out } = await onModel('gradients', '--top', '2');
    expect(out).toContain('NeurGrad');
    expect(out).toContain('site post, of prob, direction outward, sign +, float32');
  });
});

describe('a mistake is one line and exit code 2', { timeout: 60_000 }, () => {
  const sweep = ['sweep', '--model', MODEL, '--prompt', PROMPT];
  it.each<[string, string[], RegExp]>([
    ['no [MASK]', ['predict', '--model', MODEL, '--prompt', 'Paris.'], /no \[MASK\]/],
    ['two [MASK]', ['predict', '--model', MODEL, '--prompt', '[MASK] [MASK]'], /2 times \[MASK\]/],
    [
      'a long prompt',
      ['predict', '--model', MODEL, '--prompt', `${'a '.repeat(80)}[MASK]`],
      /83 tokens, the model takes 64/,
    ],
    ['no such folder', ['predict', '--model', './no/such', '--prompt', PROMPT], /no\/such/],
    ['no model', ['predict', '--prompt', PROMPT], /--model/],
    ['bad --top', ['predict', '--model', MODEL, '--prompt', PROMPT, '--top', '0'], /--top/],
    [
      'a target of pieces',
      ['gradients', '--model', MODEL, '--prompt', PROMPT, '--target', 'Paris Rome'],
      /paris rome/,
    ],
    [
      'a target id too large',
      ['gradients', '--model', MODEL, '--prompt', PROMPT, '--target-id', '99999'],
      /99999/,
    ],
    [
      'both targets',
      [...sweep, '--neurons', 'L0.N0', '--target', 'a', '--target-id', '3'],
      /cannot be used with/,
    ],
    ['an unknown site', [...sweep, '--neurons', 'L0.N0', '--site', 'gate'], /unknown site "gate"/],
    ['an unknown site of a neuron', [...sweep, '--neurons', 'L0.N0@act'], /unknown site "act"/],
    ['a neuron too far', [...sweep, '--neurons', 'L0.N512'], /N0 to N511/],
    ['a layer too far', [...sweep, '--neurons', 'L4.N0'], /L0 to L3/],
    ['no neuron', [...sweep, '--neurons', '7'], /not a neuron/],
    ['a range backwards', [...sweep, '--neurons', 'L0.N0', '--range', '2:-2:0.2'], /--range/],
    ['a range without step', [...sweep, '--neurons', 'L0.N0', '--range', '-2:2:0'], /--range/],
    ['a range of text', [...sweep, '--neurons', 'L0.N0', '--range', 'a:b'], /--range/],
    ['a range outside the fit', [...sweep, '--neurons', 'L0.N0', '--range', '5:6:1'], /within ±2/],
    [
      'shifts that overflow',
      [...sweep, '--neurons', 'L0.N0', '--range=-1e39:1e39:1e39', '--fit', '1e39'],
      /--range.*beyond ±1000000000000000/,
    ],
    ['a direction', [...sweep, '--neurons', 'L0.N0', '--direction', 'up'], /--direction/],
    ['an output nowhere', [...sweep, '--neurons', 'L0.N0', '--out', '/no/where.json'], /--out/],
    [
      'a seed without draws',
      ['synth', '--like', 'llama2-7b', '--out', join(folder, 'seed'), '--seed', '3'],
      /--seed goes with --random only/,
    ],
    ['an unknown option', ['predict', '--modle', MODEL], /unknown option|--model/],
    ['an unknown command', ['frobnicate'], /frobnicate/],
  ])('%s', async (_, args, message) => {
    const { code, out, err } = await neurgrad(...args);
    expect(err).toMatch(message);
    // No adapter has been opened, so not even Dawn has said anything.
    expect(err.trim().split('\n')).toHaveLength(1);
    expect(err).toMatch(/^error: /);
    expect(out).toBe('');
    expect(code).toBe(2);
  });
});

describe('weights that are no numbers are told, not passed on', { timeout: 60_000 }, () => {
  const damaged = join(folder, 'damaged');
  beforeAll(async () => {
    cpSync('examples/models/stories260k', damaged, { recursive: true });
    const path = join(damaged, 'model.safetensors');
    const file = await openFile(path);
    const { tensors } = await readSafetensorsHeader(file);
    await file.close();
    const bytes = readFileSync(path);
    bytes.writeFloatLE(
      Number.NaN,
      tensors.find(({ name }) => name.endsWith('1.mlp.down_proj.weight'))!.begin,
    );
    writeFileSync(path, bytes);
  });
  it.each([
    ['predict'],
    ['generate'],
    ['gradients'],
    ['sweep', '--neurons', 'L0.N3'],
    ['steer', '--to', '0.5'],
  ])('%s', async (command, ...args) => {
    const { code, out, err } = await neurgrad(command, '--model', damaged, '--prompt', 'Once', ...args);
    expect(ownLines(err)).toEqual([
      expect.stringMatching(
        /^error: .*damaged: the logits are not finite \(NaN at token 0\): .*; check the checkpoint/,
      ),
    ]);
    expect(out).toBe('');
    expect(code).toBe(2);
  });
});
