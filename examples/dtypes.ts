/**
 * The error of each dtype of weights against float32: logits, probabilities and NeurGrad, on the bundled models and, where
 * NEURGRAD_REAL_MODEL names its GGUF file, on SmolLM2-135M-Instruct, whose speed with packed weights is measured, too.
 *
 *   npm run build && NEURGRAD_REAL_MODEL=SmolLM2-135M-Instruct.Q4_1.gguf node dist/examples/dtypes.js > docs/dtypes.md
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  type ByteFolder,
  loadModelWeights,
  loadTokenizer,
  localFolder,
  readConfig,
  resolveModelFolder,
  runModel,
  saveModel,
  WEIGHT_DTYPES,
  type WeightDtype,
} from '../models/index.ts';
import {
  encodePrompt,
  mean,
  neuronGradients,
  openDevice,
  pearson,
  probeLogits,
  signAgreement,
} from '../neurgrad/index.ts';

const PROMPTS = {
  stories260k: [
    'Once upon a time',
    'The dog was very happy. He wanted to',
    'Lily said, "I am sad." Her mom',
    'One day, a boy named Tim went to the park with his',
    'The big red ball was under the',
  ],
  'facts-bert': [
    'The capital of France is [MASK].',
    'Rome is the capital of [MASK].',
    'The language of Japan is [MASK].',
    'Berlin is a city in [MASK].',
  ],
  'SmolLM2-135M-Instruct': [
    'The capital of France is',
    'The capital of Japan is',
    'The official language of Brazil is',
    'Water boils at a temperature of 100 degrees',
    'The opposite of hot is',
  ],
} as const;
type Model = keyof typeof PROMPTS;

interface Measured {
  readonly bytes: number;
  readonly prompts: readonly {
    readonly logits: Float32Array;
    readonly probabilities: Float64Array;
    readonly neurgrad: Float64Array;
  }[];
}

const device = await openDevice();

/** `targets` of the float32 model, so that all dtypes are asked the same. */
async function measure(
  name: Model,
  folder: ByteFolder,
  dtype: WeightDtype,
  targets: number[],
): Promise<Measured> {
  const tokenizer = await loadTokenizer(folder);
  const before = device.memory.weights;
  const model = await loadModelWeights(folder, device, { dtype, onNote: () => {} });
  const bytes = device.memory.weights - before;
  const prompts: Measured['prompts'][number][] = [];
  for (const [i, text] of PROMPTS[name].entries()) {
    const prompt = encodePrompt(model, tokenizer, text);
    const logits = await probeLogits(model, prompt);
    targets[i] ??= logits.indexOf(Math.max(...logits));
    const { neurgrad } = await neuronGradients(model, prompt, { target: targets[i] });
    const top = Math.max(...logits);
    const all = logits.reduce((sum, x) => sum + Math.exp(x - top), 0);
    prompts.push({
      logits,
      probabilities: Float64Array.from(logits, (x) => Math.exp(x - top) / all),
      neurgrad,
    });
  }
  model.dispose();
  return { bytes, prompts };
}

type Numbers = ArrayLike<number>;
const values = (x: Numbers): number[] => Array.from(x);
const norm = (x: Numbers): number => Math.sqrt(values(x).reduce((sum, v) => sum + v * v, 0));
const largest = (a: Numbers, b: Numbers): number =>
  values(a).reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0);
const relative = (a: Numbers, b: Numbers): number => norm(values(a).map((v, i) => v - b[i]!)) / norm(b);

/** How a document calls a model, and where it is. */
interface Section {
  readonly title: string;
  readonly name: Model;
  readonly folder: ByteFolder;
}
const bundled = async (name: Model): Promise<Section> => ({
  title: name,
  name,
  folder: await localFolder(`examples/models/${name}`),
});
const sections = [await bundled('stories260k'), await bundled('facts-bert')];
const real = process.env.NEURGRAD_REAL_MODEL;
const scratch = await mkdtemp(join(tmpdir(), 'neurgrad-dtypes-'));
if (real) {
  const name = 'SmolLM2-135M-Instruct';
  const folder = await resolveModelFolder(real);
  sections.push({ title: `${name} from its GGUF file, in Q4_1 and Q8_0`, name, folder });
  const config = await readConfig(folder);
  const model = await loadModelWeights(folder, device, { dtype: 'f32' });
  const path = join(scratch, 'f32');
  await saveModel(path, model, config, folder);
  model.dispose();
  sections.push({
    title: `${name}, the same numbers as float32 safetensors`,
    name,
    folder: await localFolder(path),
  });
}

/** Milliseconds of processor time of a pass of so many tokens, the least of some turns of each dtype after the other. */
async function speeds(folder: ByteFolder, lengths: readonly number[]): Promise<string[]> {
  const models = [];
  for (const dtype of ['f32', 'packed'] as const)
    models.push(await loadModelWeights(folder, device, { dtype, onNote: () => {} }));
  const used = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  const rows: string[] = [];
  for (const length of lengths) {
    const ids = Array.from({ length }, (_, i) => 100 + 7 * i);
    const least = models.map(() => Number.POSITIVE_INFINITY);
    for (let turn = 0; turn < 6; turn++)
      for (const [i, model] of models.entries()) {
        using prefix = length === 1 ? model.prefill([5, 6, 7, 8]) : null;
        await device.finish();
        const before = used();
        using run = prefix
          ? model.runRows({ prefix, ids: [9] })
          : await runModel(model, { ids: [ids] }, { logits: [length - 1] });
        await run.logits.read();
        // The first turn compiles.
        if (turn > 0) least[i] = Math.min(least[i]!, used() - before);
      }
    const [f32, packed] = least as [number, number];
    const what = length === 1 ? 'one token behind a cache of four' : `${length} tokens`;
    rows.push(`| ${what} | ${f32.toFixed(0)} | ${packed.toFixed(0)} | ${(packed / f32).toFixed(1)} |`);
  }
  for (const model of models) model.dispose();
  return rows;
}

const lines = [
  '# Error of each dtype of weights',
  '',
  'Against the same model with float32 weights; arithmetic is float32 in all. Logits and p over the whole vocabulary at the',
  'probe position, NeurGrad (site `paper`, of p of the float32 answer) over all neurons; means over the prompts, largest',
  'values over all of them. Written by `examples/dtypes.ts`.',
  '',
  'Weights that come in the blocks of a GGUF file stay `packed` unless another dtype is asked for; `--dtype f32` widens them, and gives the same bits',
  '([layout](quantisation.md#a-gguf-files-blocks)). All other checkpoints are `f32` by default.',
];
for (const { title, name, folder } of sections) {
  const targets: number[] = [];
  const exact = await measure(name, folder, 'f32', targets);
  lines.push(
    '',
    `## ${title}, ${PROMPTS[name].length} prompts`,
    '',
    '| dtype | weights, MB | logits: largest error | relative (L2) | p: largest error | NeurGrad: relative (L2) | Pearson | same sign |',
    '|---|---|---|---|---|---|---|---|',
  );
  for (const dtype of WEIGHT_DTYPES) {
    if (dtype === 'packed' && !title.includes('GGUF')) continue;
    const got = await measure(name, folder, dtype, targets);
    const pairs = got.prompts.map((p, i) => [p, exact.prompts[i]!] as const);
    const figure = (x: number) => (x === 0 ? '0' : x.toPrecision(2));
    lines.push(
      `| ${[
        dtype,
        (got.bytes / 1e6).toFixed(2),
        figure(Math.max(...pairs.map(([a, b]) => largest(a.logits, b.logits)))),
        figure(mean(pairs.map(([a, b]) => relative(a.logits, b.logits)))),
        figure(Math.max(...pairs.map(([a, b]) => largest(a.probabilities, b.probabilities)))),
        figure(mean(pairs.map(([a, b]) => relative(a.neurgrad, b.neurgrad)))),
        mean(pairs.map(([a, b]) => pearson(a.neurgrad, b.neurgrad))).toFixed(6),
        mean(pairs.map(([a, b]) => signAgreement(a.neurgrad, b.neurgrad))).toFixed(4),
      ].join(' | ')} |`,
    );
  }
}
if (real)
  lines.push(
    '',
    '## Speed of packed weights',
    '',
    `SmolLM2-135M-Instruct from its GGUF file on ${device.info.description || 'this adapter'}; milliseconds of processor time, least of five.`,
    '',
    '| a pass of | f32 | packed | packed / f32 |',
    '|---|---|---|---|',
    ...(await speeds(sections[2]!.folder, [1, 5, 16, 64])),
    '',
    'A driver on a CPU has float32 matrices in panels of a texture, which it reads faster than blocks in a buffer: on such a machine take',
    '`--dtype f32` for work on many rows (sweeps, studies, probing) where memory allows, and leave weights packed for generation.',
  );
await rm(scratch, { recursive: true });
process.stdout.write(`${lines.join('\n')}\n`);
device.destroy();
