/**
 * Sweep points a second of both engines on models of random weights, and NeurGrad's cost beside G_C: JSON on standard output.
 *
 * Both engines run in one process on one model; rows are spread evenly over the layers. `integrated` is integrated
 * gradients of all layers by both engines beside G_C: the naive engine's cost is the same for every layer, so that it runs one.
 * Run it after a build: `node dist/bench/sweep.js [bert|llama40|llama200|neurgrad|integrated-facts|integrated-bert|integrated-llama40 ...]`.
 */

import { type Device, openDevice, tensor } from '../engine/index.ts';
import { Bert, bertShapes, Llama, llamaShapes, loadModel } from '../models/index.ts';
import type { LanguageModel } from '../models/model.ts';
import { neurGrad } from '../neurgrad/conventions.ts';
import { neuronGradients, probeHooks } from '../neurgrad/gradients.ts';
import { integrateLayers } from '../neurgrad/integrated.ts';
import { neuronAt, siteHook } from '../neurgrad/neuron.ts';
import { encodePrompt } from '../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../neurgrad/random.ts';
import { sweep } from '../neurgrad/sweep.ts';

interface Setting {
  readonly architecture: 'bert' | 'llama';
  readonly tokens: number;
  /** Neurons swept by each engine, with `shifts` points each. */
  readonly neurons: { readonly differences: number; readonly naive: number };
  readonly shifts: readonly number[];
}

const SHIFTS = [-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2];

const SETTINGS: Readonly<Record<string, Setting>> = {
  bert: { architecture: 'bert', tokens: 16, neurons: { differences: 48, naive: 6 }, shifts: SHIFTS },
  llama40: {
    architecture: 'llama',
    tokens: 40,
    neurons: { differences: 120, naive: 2 },
    shifts: SHIFTS,
  },
  llama200: {
    architecture: 'llama',
    tokens: 200,
    neurons: { differences: 60, naive: 1 },
    shifts: SHIFTS,
  },
};

const COMMON = { layers: 12, hidden: 768, heads: 12, headSize: 64, positions: 512 };

/** Gaussian weights of the usual scale; norms are ones. */
function randomModel(device: Device, architecture: 'bert' | 'llama'): LanguageModel {
  const random = seededRandom(11);
  const config =
    architecture === 'bert'
      ? ({
          ...COMMON,
          type: 'bert',
          width: 3072,
          keyValueHeads: 12,
          vocabulary: 30522,
          tokenTypes: 2,
          layerNormEpsilon: 1e-12,
          tied: true,
        } as const)
      : ({
          ...COMMON,
          type: 'llama',
          width: 2048,
          keyValueHeads: 12,
          vocabulary: 32000,
          rmsNormEpsilon: 1e-5,
          ropeTheta: 10000,
          tied: false,
          endIds: [],
        } as const);
  const shapes = config.type === 'bert' ? bertShapes(config) : llamaShapes(config);
  const weights = new Map(
    [...shapes].map(([name, shape]) => {
      const norm = /norm/i.test(name) && name.endsWith('weight');
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1);
      // Uniform is as good as normal here and much faster to draw.
      if (!norm) for (let i = 0; i < data.length; i++) data[i] = (random() - 0.5) * 0.1;
      return [name, tensor(device, data, shape, 'weights')] as const;
    }),
  );
  return config.type === 'bert' ? new Bert(device, config, weights) : new Llama(device, config, weights);
}

async function measureSweeps(model: LanguageModel, setting: Setting) {
  const random = seededRandom(1);
  const ids = Array.from({ length: setting.tokens }, () => Math.floor(random() * model.sizes.vocabulary));
  const position = setting.architecture === 'bert' ? setting.tokens >> 1 : setting.tokens - 1;
  const { layers, width } = model.sizes;
  const points = async (engine: 'auto' | 'naive', count: number) => {
    // Stratified: as many neurons in each layer.
    const drawn = drawWithoutReplacement(count, width, random);
    const neurons = drawn.map((index, i) => ({
      ...neuronAt(index, width, model.paperSite),
      layer: Math.floor((i * layers) / count),
    }));
    const began = performance.now();
    const cpu = process.cpuUsage();
    await sweep(model, { ids, position }, { neurons, shifts: setting.shifts, target: 7, engine });
    const seconds = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return {
      /** On a software adapter what a busy machine does not change. */
      cpuSeconds: (user + system) / 1e6,
      points: count * setting.shifts.length,
      seconds,
      rate: (count * setting.shifts.length) / seconds,
    };
  };
  await points('auto', 2);
  await points('naive', 1);
  const differences = await points('auto', setting.neurons.differences);
  const naive = await points('naive', setting.neurons.naive);
  const cpuRatio = (naive.cpuSeconds / naive.points) * (differences.points / differences.cpuSeconds);
  return { tokens: setting.tokens, differences, naive, ratio: differences.rate / naive.rate, cpuRatio };
}

/** Median seconds of `rounds`, of two kinds in turn. */
async function inTurn(
  rounds: number,
  a: () => Promise<void>,
  b: () => Promise<void>,
): Promise<[number, number]> {
  const times: [number[], number[]] = [[], []];
  for (let round = 0; round <= rounds; round++)
    for (const [i, work] of [a, b].entries()) {
      const began = performance.now();
      await work();
      if (round > 0) times[i as 0 | 1].push((performance.now() - began) / 1000);
    }
  const median = (values: number[]): number => values.sort((x, y) => x - y)[values.length >> 1]!;
  return [median(times[0]), median(times[1])];
}

/** One forward and backward for G_C of all neurons, without and with NeurGrad made of it. */
async function measureNeurGrad(model: LanguageModel) {
  const ids = Array.from({ length: 16 }, (_, i) => i + 5);
  const { layers } = model.sizes;
  const names = Array.from({ length: layers }, (_, layer) => siteHook(layer, model.paperSite));
  const gradients = () => probeHooks(model, { ids, position: 8 }, 8, names, 'prob', 7);
  const [computed, estimated] = await inTurn(
    5,
    async () => void (await gradients()),
    async () => {
      const { activation, gradient } = await gradients();
      for (const name of names) {
        const a = activation.get(name)!;
        gradient.get(name)!.map((g, i) => neurGrad(a[i]!, g, { direction: 'outward', sign: '+' }));
      }
    },
  );
  return { gradient: computed, neurgrad: estimated, ratio: estimated / computed };
}

/** Processor seconds of work that waits for its results. */
async function cpuSeconds(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** Integrated gradients of all neurons, in units of G_C, before (`naive`) and after. */
async function measureIntegrated(model: LanguageModel, ids: readonly number[], position: number) {
  const probe = { ids, position };
  const { layers } = model.sizes;
  const options = { target: 7, site: 'paper' } as const;
  const computed = () => neuronGradients(model, probe, options);
  await computed();
  await integrateLayers(model, probe, { ...options, layers: [layers - 1] });
  const costs: number[] = [];
  for (let round = 0; round < 3; round++) costs.push(await cpuSeconds(computed));
  const gradient = costs.sort((a, b) => a - b)[1]!;
  const auto = await cpuSeconds(() => integrateLayers(model, probe, options));
  const one = { ...options, layers: [layers >> 1], engine: 'naive' } as const;
  const naive = layers * (await cpuSeconds(() => integrateLayers(model, probe, one)));
  return {
    tokens: ids.length,
    cpuSeconds: { gradient, auto, naive },
    cost: { auto: auto / gradient, naive: naive / gradient },
    ratio: naive / auto,
  };
}

const asked = process.argv.slice(2);
const device = await openDevice();
const results: Record<string, unknown> = { adapter: device.info.description };
for (const architecture of ['bert', 'llama'] as const) {
  const names = Object.keys(SETTINGS).filter((name) => SETTINGS[name]!.architecture === architecture);
  const chosen = names.filter((name) => asked.length === 0 || asked.includes(name));
  const wanted = (name: string): boolean => asked.length === 0 || asked.includes(name);
  const cost = architecture === 'bert' && wanted('neurgrad');
  const tokens = architecture === 'bert' ? 16 : 40;
  const integrated = architecture === 'bert' ? 'integrated-bert' : 'integrated-llama40';
  if (chosen.length === 0 && !cost && !wanted(integrated)) continue;
  const model = randomModel(device, architecture);
  for (const name of chosen) results[name] = await measureSweeps(model, SETTINGS[name]!);
  if (cost) results.neurgrad = await measureNeurGrad(model);
  if (wanted(integrated))
    results[integrated] = await measureIntegrated(
      model,
      Array.from({ length: tokens }, (_, i) => i + 5),
      architecture === 'bert' ? tokens >> 1 : tokens - 1,
    );
  model.dispose();
}
if (asked.length === 0 || asked.includes('integrated-facts')) {
  const { model, tokenizer } = await loadModel('examples/models/facts-bert', { device });
  const { ids, position } = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
  results['integrated-facts'] = await measureIntegrated(model, ids, position);
  model.dispose();
}
device.destroy();
process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
