/**
 * Many prompts by one command, and its rows: as the library's numbers, in every format, and against the golden values of models that get
 * a vocabulary of words t0, t1 … for it.
 */

import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetMetadata, parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADDITIVITY_ROWS } from '../../cli/commands/additivity.ts';
import { GRADIENT_ROWS } from '../../cli/commands/gradients.ts';
import { INTEGRATED_ROWS } from '../../cli/commands/integrated.ts';
import { PREDICTION_ROWS } from '../../cli/commands/predict.ts';
import { STEERING_ROWS } from '../../cli/commands/steer.ts';
import { SWEEP_ROWS } from '../../cli/commands/sweep.ts';
import { STUDY_CURVE_ROWS, STUDY_NEURON_ROWS } from '../../cli/studyRows.ts';
import { type Device, openDevice } from '../../engine/index.ts';
import { loadModel } from '../../models/index.ts';
import {
  encodePrompt,
  integrateNeurons,
  neuronGradients,
  resolveAnswer,
  resolveTarget,
  sweep,
} from '../../neurgrad/index.ts';
import { CASES, inputsOf, neuronGroups, oneAFamily } from '../models/goldenCases.ts';
import { runHere as run } from './here.ts';

const MODEL = 'examples/models/facts-bert';
const folder = mkdtempSync(join(tmpdir(), 'neurgrad-tables-'));
afterAll(() => rmSync(folder, { recursive: true }));

const QUESTIONS = [
  { id: 'fr', prompt: 'The capital of France is [MASK].', answer: 'Paris' },
  { id: 'it', prompt: 'Rome is in [MASK].', answer: 'Italy' },
  { id: 'no', prompt: 'Oslo, "the city", is located in [MASK].', answer: 'Norway' },
];
const prompts = join(folder, 'prompts.jsonl');
writeFileSync(
  prompts,
  [...QUESTIONS, { prompt: 'No mask.', answer: 'x' }].map((row) => JSON.stringify(row)).join('\n'),
);

type Rows = Record<string, unknown>[];
const readJsonl = (path: string): Rows =>
  readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const fileOf = (path: string): ArrayBuffer => new Uint8Array(readFileSync(path)).buffer;
const readParquet = (path: string): Promise<Rows> => parquetReadObjects({ file: fileOf(path) });

describe('answers of several tokens', { timeout: 60_000 }, () => {
  const causal = 'examples/models/stories260k';
  const path = join(folder, 'answers.jsonl');
  const rowsOf = async (command: string, ...options: string[]): Promise<Rows> => {
    const out = join(folder, `answers-${command}.jsonl`);
    const asked = ['--model', causal, '--prompts', path, '--neurons', 'L2.N7', ...options];
    const { code, err } = await run(command, ...asked, '--out', out);
    expect(code).toBe(0);
    expect(err).toContain('note: 1 of 2 answers are several tokens: p is the product of theirs');
    return readJsonl(out);
  };
  let device: Device;
  beforeAll(async () => {
    device = await openDevice();
    const rows = [
      { prompt: 'Once upon a', answer: 'time, there' },
      { prompt: 'Once upon a', answer: 'time' },
    ];
    writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
  });
  afterAll(() => device.destroy());

  it('are the library’s, each with its tokens', async () => {
    const { model, tokenizer } = await loadModel(causal, { device });
    const prompt = encodePrompt(model, tokenizer, 'Once upon a');
    const target = resolveAnswer(model, tokenizer, prompt, 'time, there');
    const about = { target: ' time, there', target_id: target[0], target_ids: target.join(' ') };
    const found = await neuronGradients(model, prompt, { target });
    const flat = 2 * model.sizes.width + 7;
    const [several, one] = await rowsOf('gradients');
    expect(several).toMatchObject({ ...about, p: found.p, g_c: found.gradient[flat] });
    expect(one).toMatchObject({ target: ' time', target_id: target[0], target_ids: null });
    const swept = await sweep(model, prompt, { target, neurons: ['L2.N7'], shifts: [-1, 1] });
    const [point] = await rowsOf('sweep', '--range', '-1:1:1');
    expect(point).toMatchObject({ ...about, change: swept.neurons[0]!.changes[0] });
    const [integrated] = await integrateNeurons(model, prompt, ['L2.N7'], { target, steps: 4 });
    const [ig] = await rowsOf('integrated', '--path', 'neuron', '--steps', '4');
    expect(ig).toMatchObject({ ...about, ig: integrated!.ig });
    const ranked = await run(
      ...['sweep', '--model', causal, '--prompt', 'Once upon a', '--target', 'time, there'],
      ...['--neurons', 'top:1', '--range', '-1:1:1', '--json'],
    );
    expect(JSON.parse(ranked.out).target).toMatchObject({ text: ' time, there', ids: target, p: found.p });
  });

  it('have a probability in predictions, and are steered to one', async () => {
    const { out, err } = await run(
      ...['predict', '--model', causal, '--prompts', path, '--top', '2', '--format', 'jsonl'],
    );
    expect(err).toContain('1 of 2 answers are several tokens');
    const rows = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const [several, , one] = rows;
    expect(rows.map(({ right }) => right)).toEqual([true, false, true, false]);
    expect([one.answer_ids, one.answer_p]).toEqual([null, one.p]);
    const asked = ['--prompt', 'Once upon a', '--target', 'time, there', '--to', '0.5', '--json'];
    const steered = JSON.parse((await run('steer', '--model', causal, ...asked)).out);
    expect(several.answer_ids).toBe(steered.answer.join(' '));
    expect(several.answer_p / steered.before).toBeCloseTo(1, 5);
    expect(steered).toMatchObject({ text: ' time, there', success: true });
  });

  it('are one token where a logit is asked for', async () => {
    const asked = ['--model', causal, '--prompt', 'Once upon a', '--target', 'time, there', '--of', 'logit'];
    const { code, err } = await run('gradients', ...asked);
    expect(code).toBe(2);
    expect(err).toContain('is not one known token');
  });
});

describe('gradients of many prompts', { timeout: 120_000 }, () => {
  const common = ['--model', MODEL, '--prompts', prompts, '--neurons', 'L3.N0-2,top:2,L0.N5@pre'];
  let rows: Rows;
  let device: Device;
  beforeAll(async () => {
    device = await openDevice();
    const out = join(folder, 'rows.jsonl');
    const { code, err } = await run('gradients', ...common, '--out', out);
    expect(code).toBe(0);
    expect(err).toContain('1 of 4 prompts left out, such as 3: the prompt has no [MASK]');
    rows = readJsonl(out);
  });
  afterAll(() => device.destroy());

  it('are the library’s, prompt by prompt', async () => {
    const { model, tokenizer } = await loadModel(MODEL, { device });
    expect(rows).toHaveLength(3 * 6);
    for (const [i, { id, prompt: text, answer }] of QUESTIONS.entries()) {
      const prompt = encodePrompt(model, tokenizer, text);
      const target = resolveTarget(model, tokenizer, prompt, answer);
      const [post, pre] = [
        await neuronGradients(model, prompt, { target }),
        await neuronGradients(model, prompt, { target, site: 'pre' }),
      ];
      const own = rows.slice(6 * i, 6 * i + 6);
      for (const row of own) {
        const found = row.site === 'pre' ? pre : post;
        const flat = (row.layer as number) * 512 + (row.neuron as number);
        expect(Object.keys(row)).toEqual(Object.keys(GRADIENT_ROWS.columns));
        expect(row).toMatchObject({
          ...{ model: MODEL, prompt_id: id, prompt: text, answer, target_id: target, p: found.p },
          activation: found.activation[flat],
          g_c: found.gradient[flat],
          neurgrad: found.neurgrad[flat],
          noise: found.noise[flat],
        });
      }
      expect(own.filter((row) => row.site === 'pre')).toHaveLength(1);
      expect(own.map((row) => row.neurgrad)).toContain(Math.max(...post.neurgrad));
    }
  });

  it('are the same in every format, and a Parquet file says which table it is', async () => {
    const path = (ending: string): string => join(folder, `rows.${ending}`);
    for (const ending of ['parquet', 'csv', 'json'])
      expect((await run('gradients', ...common, '--out', path(ending))).code).toBe(0);
    expect(await readParquet(path('parquet'))).toEqual(rows);
    const { key_value_metadata: about } = parquetMetadata(fileOf(path('parquet')));
    expect(about).toContainEqual({ key: 'format', value: 'neurgrad gradients 2' });
    expect(JSON.parse(readFileSync(path('json'), 'utf8'))).toEqual({ format: 'neurgrad gradients 2', rows });
    const { out } = await run('gradients', ...common, '--format', 'csv');
    expect(out).toBe(readFileSync(path('csv'), 'utf8'));
    expect(out.split('\n')[13]).toContain('"Oslo, ""the city"", is located in [MASK]."');
  });

  it('go on in a folder, and are refused in another’s', async () => {
    const out = join(folder, 'parts');
    expect((await run('gradients', ...common, '--out', out)).code).toBe(0);
    const [part] = readdirSync(out).filter((name) => name.endsWith('.parquet'));
    expect(await readParquet(join(out, part!))).toEqual(rows);
    const before = readFileSync(join(out, part!));
    expect((await run('gradients', ...common, '--out', out)).code).toBe(0);
    expect(readFileSync(join(out, part!))).toEqual(before);
    writeFileSync(join(out, part!), before.subarray(0, 500));
    const again = await run('gradients', ...common, '--out', out);
    expect(again.err).toContain('doing it again');
    expect(readFileSync(join(out, part!))).toEqual(before);
    const other = await run('gradients', ...common, '--of', 'logit', '--out', out);
    expect([other.code, other.err]).toEqual([2, expect.stringContaining('was begun with another model')]);
  });

  it('say where they cannot be asked for', async () => {
    for (const [args, said] of [
      [['--out', 'x.csv', '--format', 'parquet'], '--out x.csv is named as csv, --format asks for parquet'],
      [['--json', '--format', 'csv'], '--json prints a document'],
      [['--out', join(folder, 'new'), '--format', 'csv'], 'a folder holds parts in Parquet'],
      [['--prompt', 'x'], 'give one of --prompt, --prompt-file and --prompts'],
      [['--neurons', 'L9.*'], 'the model has layers L0 to L3'],
      [['--position', 'Atlantis'], 'none of 4 prompts can be asked'],
    ] as const) {
      const { code, err } = await run('gradients', ...common, ...args);
      expect([code, err], args.join(' ')).toEqual([2, expect.stringContaining(said)]);
    }
    const { code, err } = await run('gradients', '--model', MODEL);
    expect([code, err]).toEqual([2, expect.stringContaining('nothing is asked: give --prompt TEXT')]);
  });
});

describe('other commands', { timeout: 120_000 }, () => {
  const common = ['--model', MODEL, '--prompts', prompts, '--num-prompts', '2', '--seed', '1'];
  it('sweep: a row a shift, the neuron’s numbers in each', async () => {
    const out = join(folder, 'sweep.parquet');
    const { code } = await run('sweep', ...common, '--neurons', 'top:2', '--range', '-1:1:0.5', '--out', out);
    expect(code).toBe(0);
    const rows = await readParquet(out);
    expect(rows).toHaveLength(2 * 2 * 5);
    expect(Object.keys(rows[0]!)).toEqual(Object.keys(SWEEP_ROWS.columns));
    for (const at of [0, 5, 10, 15]) {
      const curve = rows.slice(at, at + 5);
      expect(new Set(curve.map((row) => row.g_e)).size).toBe(1);
      const sum = (of: (row: Rows[0]) => number): number => curve.reduce((all, row) => all + of(row), 0);
      const slope =
        sum((row) => (row.shift as number) * (row.change as number)) /
        sum((row) => (row.shift as number) ** 2);
      expect(slope / (curve[0]!.g_e as number)).toBeCloseTo(1, 9);
      expect(curve[2]).toMatchObject({ shift: 0, change: 0, p_at_shift: curve[0]!.p });
    }
  });
  it('predict: a row a rank, and how many answers are right', async () => {
    const { code, out } = await run(
      'predict',
      '--model',
      MODEL,
      '--prompts',
      prompts,
      '--format',
      'jsonl',
      '--top',
      '2',
    );
    expect(code).toBe(0);
    const rows = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(Object.keys(rows[0])).toEqual(Object.keys(PREDICTION_ROWS.columns));
    expect(rows[0]).toMatchObject({ prompt_id: 'fr', rank: 1, token: 'paris', right: true });
    expect(rows).toHaveLength(6);
  });
  it('steer: a row a neuron shifted', async () => {
    const { code, out } = await run(
      'steer',
      ...common,
      '--target',
      'berlin',
      '--to',
      '0.3',
      '--max-neurons',
      '64',
      '--format',
      'jsonl',
    );
    expect(code).toBe(0);
    const rows = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(Object.keys(rows[0])).toEqual(Object.keys(STEERING_ROWS.columns));
    expect(new Set(rows.map((row) => row.prompt_id)).size).toBe(2);
  });
});

it('docs/tables.md has the columns', () => {
  const page = readFileSync('docs/tables.md', 'utf8');
  const tables = {
    gradients: GRADIENT_ROWS,
    sweep: SWEEP_ROWS,
    integrated: INTEGRATED_ROWS,
    predictions: PREDICTION_ROWS,
    steering: STEERING_ROWS,
    additivity: ADDITIVITY_ROWS,
    'study neurons': STUDY_NEURON_ROWS,
    'study curves': STUDY_CURVE_ROWS,
  };
  for (const [name, { format, columns }] of Object.entries(tables)) {
    const [, listed] = new RegExp(`<!-- columns: ${name} -->\n(.*)\n`).exec(page)!;
    expect(
      listed!.split(', ').map((column) => column.slice(1, -1)),
      name,
    ).toEqual(Object.keys(columns));
    expect(page).toContain(`## ${format}\n`);
  }
});

// Two families are enough for what is between the library and a file.
const GOLDEN = oneAFamily(CASES).filter(
  ({ family, model }) => /^(distilbert|modernbert|llama)$/.test(family) && existsSync(model),
);
describe.each(GOLDEN.map((golden) => [golden.name, golden] as const))(
  'golden %s',
  { timeout: 180_000 },
  (name, golden) => {
    it('gradients and integrated gradients are within its tolerance', async () => {
      const inputs = await inputsOf(golden);
      const want = await golden.read('neurons');
      const config = JSON.parse(readFileSync(join(golden.model, 'config.json'), 'utf8'));
      const model = join(folder, name);
      cpSync(golden.model, model, { recursive: true });
      const vocab = Object.fromEntries(Array.from({ length: config.vocab_size }, (_, i) => [`t${i}`, i]));
      const added_tokens: object[] = [];
      writeFileSync(
        join(model, 'tokenizer.json'),
        JSON.stringify({
          version: '1.0',
          added_tokens,
          normalizer: null,
          pre_tokenizer: { type: 'WhitespaceSplit' },
          post_processor: null,
          decoder: null,
          model: { type: 'WordLevel', vocab, unk_token: 't0' },
        }),
      );
      let compared = 0;
      for (const { row, column, neurons } of neuronGroups(inputs)) {
        // Each command opens a device: some neurons of the first positions will do.
        if (compared >= 16) break;
        const { ids, position, target, pad, tokenTypeIds } = inputs.prompt(row);
        const mask = ids[position]!;
        // A prompt of text reads at its last token, or its only mask, and is one sentence.
        const readable = golden.causal
          ? position === ids.length - 1
          : ids.filter((id) => id === mask).length === 1;
        if (!readable || tokenTypeIds?.some((type) => type !== 0)) continue;
        writeFileSync(join(model, 'tokenizer_config.json'), JSON.stringify({ mask_token: `t${mask}` }));
        const one = join(folder, 'one.jsonl');
        writeFileSync(one, JSON.stringify({ prompt: ids.map((id) => `t${id}`).join(' ') }));
        const named = neurons.map(({ layer, index, site }) => `L${layer}.N${index}@${site}`);
        const asked = [
          ...[
            '--model',
            model,
            '--prompts',
            one,
            '--target-id',
            `${target}`,
            '--position',
            `${column - pad}`,
          ],
          ...['--neurons', [...new Set(named)].join(',')],
        ];
        const results: Record<string, Rows> = {};
        for (const [command, ...more] of [
          ['gradients', '--sign', '-'],
          ['integrated', '--path', 'neuron'],
        ] as const) {
          const out = join(folder, `${command}.jsonl`);
          const { code, err } = await run(command, ...asked, ...more, '--out', out);
          expect(code, err).toBe(0);
          results[command] = readJsonl(out);
        }
        for (const [i, { line, layer, index, site }] of neurons.entries()) {
          const of = (command: string): Rows[0] =>
            results[command]!.find(
              (one) => one.layer === layer && one.neuron === index && one.site === site,
            )!;
          for (const [command, column, tensor] of [
            ['gradients', 'activation', 'a'],
            ['gradients', 'g_c', 'gc'],
            ['gradients', 'neurgrad', 'neurgrad'],
            ['integrated', 'ig', 'ig'],
          ] as const) {
            const got = of(command)[column] as number;
            const expected = want.of(tensor).data[line]!;
            const close = Math.abs(got - expected) <= golden.atol('neurons', tensor);
            expect(close, `${named[i]} ${column}: ${got}, want ${expected}`).toBe(true);
            compared++;
          }
        }
      }
      expect(compared).toBeGreaterThan(0);
    });
  },
);
