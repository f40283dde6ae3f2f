/**
 * What integrated gradients of all neurons cost in units of one G_C, by rows that begin after their layer and by full passes;
 * and sweep points a second in the last layer of a pre-norm model, along lines and as in any other layer.
 *
 * A full pass costs the same for every layer: one layer of it runs, times the layers. Both ways must agree on that layer.
 */

import { loadModel } from '../../models/index.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Transformer } from '../../models/transformer.ts';
import { openBundle } from '../../neurgrad/difference/bundle.ts';
import { rowChanges } from '../../neurgrad/difference/wave.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { integrateLayers } from '../../neurgrad/integrated.ts';
import type { Probe } from '../../neurgrad/predict.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { relativeRounding } from '../../neurgrad/rounding.ts';
import { BERT_BASE, LLAMA_12, onDevice, randomWeights } from '../network.ts';
import { demand } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, median } from '../timing.ts';
import type { Suite } from './suite.ts';

const TARGET = 7;
const prompt = (tokens: number, position: number): Probe => ({
  ids: Array.from({ length: tokens }, (_, i) => i + 5),
  position,
});

export const integratedSuite: Suite = async ({ device, rounds, clock, only, progress }) => {
  const rows: Row[] = [];
  const shapes = {
    facts: 'facts-bert, 9 tokens',
    bert: 'BERT-base, 16 tokens',
    llama: 'Llama 12 x 768, 40 tokens',
    lines: 'Llama 12 x 768, last layer',
  };
  if (shapes.facts.includes(only)) {
    const { model, tokenizer } = await loadModel('examples/models/facts-bert', { device });
    rows.push(
      await cost(shapes.facts, model, encodePrompt(model, tokenizer, 'The capital of France is [MASK].')),
    );
    model.dispose();
  }
  if (shapes.bert.includes(only)) {
    const model = onDevice(device, BERT_BASE, randomWeights(BERT_BASE));
    rows.push(await cost(shapes.bert, model, prompt(16, 8)));
    model.dispose();
  }
  if (shapes.llama.includes(only) || shapes.lines.includes(only)) {
    const model = onDevice(device, LLAMA_12, randomWeights(LLAMA_12));
    if (shapes.llama.includes(only)) rows.push(await cost(shapes.llama, model, prompt(40, 39)));
    if (shapes.lines.includes(only)) rows.push(await lastLayer(model));
    model.dispose();
  }
  return rows;

  async function cost(name: string, model: LanguageModel, probe: Probe): Promise<Row> {
    progress(`integrated ${name}`);
    const { layers } = model.sizes;
    const middle = layers >> 1;
    const integrate = (which: readonly number[] | null, engine: 'auto' | 'naive') =>
      integrateLayers(model, probe, { target: TARGET, engine, ...(which ? { layers: which } : {}) });
    const times = await interleave(
      {
        gradient: async () => void (await neuronGradients(model, probe, { target: TARGET })),
        rows: async () => void (await integrate(null, 'auto')),
        pass: async () => void (await integrate([middle], 'naive')),
      },
      Math.min(rounds, 3),
      clock,
    );
    const [[fast], [slow]] = [await integrate([middle], 'auto'), await integrate([middle], 'naive')];
    const scale = Math.max(...slow!.ig.map(Math.abs));
    const error = Math.max(...slow!.ig.map((value, i) => Math.abs(value - fast!.ig[i]!))) / scale;
    const { gradient, rows: own, pass } = times;
    const inUnits = (ms: readonly number[], factor: number): number =>
      median(ms.map((value, i) => (factor * value) / gradient.rounds[i]!));
    return {
      suite: 'integrated gradients',
      shape: name,
      unit: 'ms',
      ours: own.median,
      spread: own.spread,
      figures: {
        'G_C (ms)': gradient.median,
        'cost in G_C': inUnits(own.rounds, 1),
        'full passes, in G_C': inUnits(pass.rounds, layers),
      },
      peers: {},
      ratio: median(pass.rounds.map((ms, i) => (layers * ms) / own.rounds[i]!)),
      ratioOf: 'full passes / ours',
      checked: demand(`integrated ${name}`, error, 1e-3),
    };
  }

  async function lastLayer(model: Transformer): Promise<Row> {
    progress(`integrated ${shapes.lines}`);
    using bundle = await openBundle(model, [{ probe: prompt(40, 39), at: 39, target: TARGET }]);
    const [neurons, points] = [20, 20];
    const shifted = Array.from({ length: neurons * points }, (_, i) => ({
      case: 0,
      neuron: { layer: model.sizes.layers - 1, index: 7 * Math.floor(i / points), site: model.paperSite },
      shift: ((i % points) + 1) / 10,
    }));
    const run = (lines: boolean) => rowChanges(bundle, shifted, { lines });
    const times = await interleave(
      { lines: async () => void (await run(true)), waves: async () => void (await run(false)) },
      Math.min(rounds, 3),
      clock,
    );
    const [fast, slow] = [await run(true), await run(false)];
    const noise = relativeRounding(model);
    const error = Math.max(
      ...fast.logprob.map(
        (value, i) => Math.abs(value - slow.logprob[i]!) / (noise * slow.size[i]! * slow.rest[i]!),
      ),
    );
    const rate = (ms: number): number => (1000 * shifted.length) / ms;
    return {
      suite: 'last layer',
      shape: shapes.lines,
      unit: 'points/s',
      ours: rate(times.lines.median),
      spread: times.lines.spread,
      figures: { 'as in any layer (points/s)': rate(times.waves.median) },
      peers: {},
      ratio: median(times.waves.rounds.map((ms, i) => ms / times.lines.rounds[i]!)),
      ratioOf: 'lines / any layer',
      checked: demand(`integrated ${shapes.lines}, in units of its noise`, error, 1),
    };
  }
};
