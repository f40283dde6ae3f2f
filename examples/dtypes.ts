/**
 * The error of each dtype of weights against float32, on the bundled models: logits, probabilities and NeurGrad.
 *
 *   npm run build && node dist/examples/dtypes.js > docs/dtypes.md
 */

import {
  loadModelWeights,
  loadTokenizer,
  localFolder,
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

const MODELS = {
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
} as const;

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
async function measure(name: keyof typeof MODELS, dtype: WeightDtype, targets: number[]): Promise<Measured> {
  const folder = await localFolder(`examples/models/${name}`);
  const tokenizer = await loadTokenizer(folder);
  const before = device.memory.weights;
  const model = await loadModelWeights(folder, device, { dtype });
  const bytes = device.memory.weights - before;
  const prompts: Measured['prompts'][number][] = [];
  for (const [i, text] of MODELS[name].entries()) {
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

const lines = [
  '# Error of each dtype of weights',
  '',
  'Against the same model with float32 weights; arithmetic is float32 in all. Logits and p over the whole vocabulary at the',
  'probe position, NeurGrad (site `paper`, of p of the float32 answer) over all neurons; means over the prompts, largest',
  'values over all of them. Written by `examples/dtypes.ts`.',
];
for (const name of Object.keys(MODELS) as (keyof typeof MODELS)[]) {
  const targets: number[] = [];
  const exact = await measure(name, 'f32', targets);
  lines.push(
    '',
    `## ${name}, ${MODELS[name].length} prompts`,
    '',
    '| dtype | weights, MB | logits: largest error | relative (L2) | p: largest error | NeurGrad: relative (L2) | Pearson | same sign |',
    '|---|---|---|---|---|---|---|---|',
  );
  for (const dtype of WEIGHT_DTYPES) {
    const got = await measure(name, dtype, targets);
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
process.stdout.write(`${lines.join('\n')}\n`);
device.destroy();
