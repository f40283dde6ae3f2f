/** A made-up result of the demo: what the page looks like does not depend on a GPU. */

import type { Report } from '../../cli/report.ts';
import type { Chosen, Study } from '../../cli/study.ts';
import { paperGrid } from '../../neurgrad/grid.ts';
import { type Estimate, fitCurve } from '../../neurgrad/index.ts';

function curve(
  layer: number,
  index: number,
  chosen: Chosen,
  strength: number,
): Study['sweep']['neurons'][number] {
  const shifts = paperGrid();
  const p = shifts.map((s) => 1 / (1 + Math.exp(-(0.4 + strength * s))));
  const { slope, intercept, r, flat, linear, noise } = fitCurve(shifts, p);
  const gradient = (p[50]! * (1 - p[50]!) * strength) / -1;
  return {
    layer,
    index,
    site: 'post',
    activation: -0.1,
    gradient,
    gradientNoise: 1e-9,
    neurgrad: -gradient,
    slope,
    intercept,
    r,
    flat,
    noise,
    valueNoise: p.map(() => noise),
    ran: p.length - 1,
    bound: 0,
    response: null,
    changes: p.map((value) => value - p[50]!),
    polarity: strength > 0 ? 1 : -1,
    linear,
    shifts,
    p,
    values: p,
    chosen,
  };
}

const estimate = (value: number, width: number): Estimate => ({
  value,
  interval: { low: value - width, high: value + width / 2 },
  reason: null,
  count: 12,
  effective: 8.3,
});

/** `text` is the prompt. */
export function exampleReport(text = 'The capital of <b>France</b> & co is [MASK].'): Report {
  const neurons = [
    ...[0.3, 0.2, 0.15, 0.1].map((strength, i) => curve(3, i, 'positive', strength)),
    ...[-0.25, -0.2, -0.1, -0.1].map((strength, i) => curve(2, i, 'negative', strength)),
    ...[0.01, -0.02, 0.005, -0.001, 0.004].map((strength, i) => curve(i % 4, 40 + i, 'random', strength)),
  ];
  const comparison = {
    neurons: 12,
    pearson: estimate(0.9991, 0.0004),
    spearman: 1,
    signAgreement: 1,
    meanAbsoluteError: 1.2e-5,
    pearsonGradient: estimate(-0.9991, 0.0002),
  };
  return {
    neurgrad: '0.0.0',
    created: '2026-01-02T03:04:05.000Z',
    seconds: 12.3,
    machine: {
      adapter: 'example adapter, software',
      software: true,
      node: 'v20.0.0',
      webgpu: '0.0.0',
      platform: 'linux x64',
    },
    model: {
      folder: 'examples/models/facts-bert',
      architecture: 'bert',
      layers: 4,
      width: 512,
      sha256: { 'model.safetensors': 'ab'.repeat(32) },
    },
    study: {
      prompt: {
        text,
        tokens: ['[CLS]', 'the', '[MASK]', '[SEP]'],
        shown: ['[CLS]', 'the', '[MASK]', '[SEP]'],
        position: 2,
      },
      target: { id: 7, token: 'paris', text: 'paris', p: 0.6 },
      predictions: [
        { id: 7, token: 'paris', text: 'paris', p: 0.6 },
        { id: 8, token: '<lyon>', text: '<lyon>', p: 0.00001 },
      ],
      seed: 1,
      conventions: { site: 'post', of: 'prob', direction: 'outward', sign: '+', dtype: 'float32' },
      gradients: {
        neurons: 2048,
        zeros: { activation: 0, gradient: 3 },
        negativeActivations: 0.94,
        positive: [],
        negative: [],
        seconds: 0.12,
      },
      sweep: { engine: 'naive', by: 'naive', rows: 1301, seconds: 4.5, fit: { range: 2 }, neurons },
      comparison: { random: comparison, all: { ...comparison, neurons: 13 } },
      linearShare: estimate(0.975, 0.04),
      straightness: [0.2, 2, 4, 10].map((range) => ({ range, meanR: estimate(1 - range / 50, range / 200) })),
    },
  };
}
