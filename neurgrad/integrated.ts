/**
 * Integrated gradients of feed-forward neurons (Sundararajan et al. 2017), the baseline that NeurGrad is measured against.
 *
 * IG = A * mean of dv/da along the way from 0 to A. Two ways: the whole activation vector of one layer at the probe
 * position is scaled at once (Dai et al. 2022, "Knowledge Neurons"), or one neuron alone. Points of the way are batch
 * rows of one forward and one backward.
 *
 * Scaling u or silu(g) in SwiGLU scales their product too, so that those sites need no care of their own.
 */

import { UserError } from '../engine/errors.ts';
import { gatherRows, mul, reshape, type Tensor, tensor } from '../engine/index.ts';
import { type LanguageModel, type Quantity, runModel, type Site } from '../models/model.ts';
import { SplitLlama } from '../models/split.ts';
import { probeHooks } from './gradients.ts';
import { checkNeuron, type Neuron, resolveSite, siteHook } from './neuron.ts';
import { neuronPosition, type Probe, probeRows, targetOrArgmax, targetValues } from './predict.ts';

/** `right`: k/m, k = 1…m (Dai et al.); `linspace`: k/(m-1) from 0, both ends (common code); `gauss`: Gauss-Legendre. */
export type Endpoints = 'right' | 'linspace' | 'left' | 'mid' | 'gauss';
export const ENDPOINTS: readonly Endpoints[] = ['right', 'linspace', 'left', 'mid', 'gauss'];

export interface PathPoint {
  readonly alpha: number;
  /** Weights sum to 1. */
  readonly weight: number;
}

/** The points of a way from 0 to 1. @throws UserError for steps that are no whole number above 0 (1 for `linspace`). */
export function pathPoints(steps: number, endpoints: Endpoints): PathPoint[] {
  if (!Number.isInteger(steps) || steps < (endpoints === 'linspace' ? 2 : 1))
    throw new UserError(
      'steps',
      `steps ${steps}: must be a whole number above ${endpoints === 'linspace' ? 1 : 0}`,
    );
  if (endpoints === 'gauss') return gaussLegendre(steps);
  const alpha = {
    right: (k: number) => (k + 1) / steps,
    left: (k: number) => k / steps,
    mid: (k: number) => (k + 0.5) / steps,
    linspace: (k: number) => k / (steps - 1),
  }[endpoints];
  return Array.from({ length: steps }, (_, k) => ({ alpha: alpha(k), weight: 1 / steps }));
}

/** Nodes: roots of the Legendre polynomial by Newton's method from Tricomi's guess. */
function gaussLegendre(n: number): PathPoint[] {
  return Array.from({ length: n }, (_, k) => {
    let x = Math.cos((Math.PI * (k + 0.75)) / (n + 0.5));
    let slope = 1;
    for (let step = 0; step < 100; step++) {
      let [before, now] = [1, x];
      for (let j = 2; j <= n; j++) [before, now] = [now, ((2 * j - 1) * x * now - (j - 1) * before) / j];
      slope = (n * (x * now - before)) / (x * x - 1);
      const change = now / slope;
      x -= change;
      if (Math.abs(change) < 1e-16) break;
    }
    return { alpha: (1 - x) / 2, weight: 1 / ((1 - x * x) * slope * slope) };
  });
}

export interface IntegratedOptions {
  /** Token id; default the model's argmax. */
  readonly target?: number | undefined;
  /** Default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default 20. */
  readonly steps?: number;
  /** Default `right`. */
  readonly endpoints?: Endpoints;
  /** Default `prob`. */
  readonly of?: Quantity;
  /** Most batch rows of one pass; default 20. */
  readonly rowsPerPass?: number;
  readonly onProgress?: (done: number, all: number) => void;
}

/** Integrated gradients of all neurons of a layer, scaled together. */
export interface LayerIntegrated {
  readonly layer: number;
  /** [width] */
  readonly ig: Float64Array;
  /** Sum of the above. */
  readonly sum: number;
  /** v(A) - v(0), which the sum tends to with more steps (completeness). */
  readonly change: number;
}

/** One neuron scaled alone. */
export interface NeuronIntegrated extends Neuron {
  readonly ig: number;
  /** v(A) - v(0), which `ig` tends to. */
  readonly change: number;
  /** v(0): the value with this neuron at 0. */
  readonly zero: number;
}

interface Setup {
  readonly model: LanguageModel;
  readonly probe: Probe;
  readonly at: number;
  readonly target: number;
  readonly of: Quantity;
  readonly points: readonly PathPoint[];
  readonly rowsPerPass: number;
}

async function prepare(model: LanguageModel, probe: Probe, options: IntegratedOptions): Promise<Setup> {
  const { steps = 20, endpoints = 'right', of = 'prob', rowsPerPass = 20 } = options;
  const points = pathPoints(steps, endpoints);
  const at = neuronPosition(probe, options.neuronPosition);
  const target = await targetOrArgmax(model, probe, options.target);
  return { model, probe, at, target, of, points, rowsPerPass };
}

/** A neuron, or all of a layer's (`index` null), scaled by alpha in one batch row. */
interface Scaled {
  readonly index: number | null;
  readonly alpha: number;
}

/** Gradients at the site of one layer, and the target's value, of each row. */
async function scaledRows(
  setup: Setup,
  hook: string,
  rows: readonly Scaled[],
  read: (gradient: Tensor) => Tensor,
): Promise<{ gradients: Float32Array; values: number[] }> {
  const { model, probe, at, target, of } = setup;
  const { width, vocabulary } = model.sizes;
  const length = probe.ids.length;
  // Functions cannot be sent to other processes; a patch of every neuron says the same, at more length.
  const asEdit = rows.every(({ index }) => index === null) && !(model instanceof SplitLlama);
  const everyNeuron = Array.from({ length: width }, (_, i) => i);
  const scale = (value: Tensor): Tensor => {
    const factors = new Float32Array(rows.length * length).fill(1);
    for (const [row, { alpha }] of rows.entries()) factors[row * length + at] = alpha;
    return mul(value, tensor(model.device, factors, [rows.length, length, 1]));
  };
  const repeat = <Value>(value: Value): Value[] => rows.map(() => value);
  using run = await runModel(model, probeRows(probe, rows.length), {
    ...(asEdit
      ? { edit: { [hook]: scale } }
      : {
          patch: rows.map(({ index, alpha }, row) => ({
            name: hook,
            row,
            position: at,
            neuron: index ?? everyNeuron,
            op: 'scale' as const,
            value: alpha,
          })),
        }),
    grad: { at: [hook], of: { of, target: repeat(target), position: repeat(probe.position) } },
    logits: repeat(probe.position),
  });
  const wanted = read(reshape(run.gradients.get(hook)!, [rows.length * length * width, 1]));
  try {
    const [logits, gradients] = await Promise.all([run.logits.read(), wanted.read()]);
    return {
      gradients,
      values: rows.map(
        (_, row) => targetValues(logits.subarray(row * vocabulary, (row + 1) * vocabulary), target)[of],
      ),
    };
  } finally {
    wanted.dispose();
  }
}

/**
 * Integrated gradients of whole layers (Dai et al.): all neurons of a layer at the position go from 0 to A together.
 * `layers`: default all.
 */
export async function integrateLayers(
  model: LanguageModel,
  probe: Probe,
  options: IntegratedOptions & { readonly site?: Site | 'paper'; readonly layers?: readonly number[] } = {},
): Promise<LayerIntegrated[]> {
  const setup = await prepare(model, probe, options);
  const site = resolveSite(options.site ?? 'paper', model);
  const layers = options.layers ?? Array.from({ length: model.sizes.layers }, (_, layer) => layer);
  for (const layer of layers) checkNeuron({ layer, index: 0, site }, model);
  const { width } = model.sizes;
  const { at, points, rowsPerPass } = setup;
  const hooks = layers.map((layer) => siteHook(layer, site));
  const base = await probeHooks(model, probe, at, hooks, setup.of, setup.target);
  // The point 0 rides along without weight, for completeness.
  const path = [...points, { alpha: 0, weight: 0 }];
  const found: LayerIntegrated[] = [];
  for (const [done, layer] of layers.entries()) {
    const hook = hooks[done]!;
    const activation = base.activation.get(hook)!;
    const ig = new Float64Array(width);
    let zero = 0;
    for (let start = 0; start < path.length; start += rowsPerPass) {
      const part = path.slice(start, start + rowsPerPass);
      const rows = part.map(({ alpha }) => ({ index: null, alpha }));
      const { gradients, values } = await scaledRows(setup, hook, rows, (gradient) =>
        gatherRows(
          reshape(gradient, [gradient.size / width, width]),
          part.map((_, row) => row * probe.ids.length + at),
        ),
      );
      for (const [row, { weight }] of part.entries())
        for (let i = 0; i < width; i++) ig[i]! += weight * gradients[row * width + i]!;
      if (start + part.length === path.length) zero = values.at(-1)!;
    }
    for (let i = 0; i < width; i++) ig[i]! *= activation[i]!;
    found.push({
      layer,
      ig,
      sum: ig.reduce((a, b) => a + b, 0),
      change: base.target[setup.of] - zero,
    });
    options.onProgress?.(done + 1, layers.length);
  }
  return found;
}

/** Integrated gradients of single neurons: each goes from 0 to A alone. */
export async function integrateNeurons(
  model: LanguageModel,
  probe: Probe,
  neurons: readonly Neuron[],
  options: IntegratedOptions = {},
): Promise<NeuronIntegrated[]> {
  for (const neuron of neurons) checkNeuron(neuron, model);
  const setup = await prepare(model, probe, options);
  const { at, points, rowsPerPass } = setup;
  const { width } = model.sizes;
  const hooks = [...new Set(neurons.map(({ layer, site }) => siteHook(layer, site)))];
  const base = await probeHooks(model, probe, at, hooks, setup.of, setup.target);
  const sums = neurons.map(() => 0);
  const zeros = neurons.map(() => 0);
  let done = 0;
  for (const hook of hooks) {
    const jobs = neurons.flatMap((neuron, n) =>
      siteHook(neuron.layer, neuron.site) === hook
        ? [...points, { alpha: 0, weight: 0 }].map((point, k) => ({ n, index: neuron.index, k, ...point }))
        : [],
    );
    for (let start = 0; start < jobs.length; start += rowsPerPass) {
      const part = jobs.slice(start, start + rowsPerPass);
      const { gradients, values } = await scaledRows(setup, hook, part, (gradient) =>
        gatherRows(
          gradient,
          part.map(({ index }, row) => (row * probe.ids.length + at) * width + index),
        ),
      );
      for (const [row, { n, k, weight }] of part.entries()) {
        sums[n]! += weight * gradients[row]!;
        if (k === points.length) zeros[n] = values[row]!;
      }
      done += part.length;
      options.onProgress?.(done, neurons.length * (points.length + 1));
    }
  }
  return neurons.map((neuron, n) => ({
    ...neuron,
    ig: base.activation.get(siteHook(neuron.layer, neuron.site))![neuron.index]! * sums[n]!,
    change: base.target[setup.of] - zeros[n]!,
    zero: zeros[n]!,
  }));
}
