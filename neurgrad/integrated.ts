/**
 * Integrated gradients of feed-forward neurons (Sundararajan et al. 2017), the baseline that NeurGrad is measured against.
 *
 * IG = A * mean of dv/da along the way from 0 to A. Two ways: the whole activation vector of one layer at the probe
 * position is scaled at once (Dai et al. 2022, "Knowledge Neurons"), or one neuron alone. Points of the way are batch
 * rows of one forward and one backward.
 *
 * Engine `naive` runs them as they stand. `auto` begins each point's row after the feed-forward of the layer scaled; an answer of
 * several tokens is run as it stands by both: its p at a point is known when all its tokens' runs are.
 *
 * Scaling u or silu(g) in SwiGLU scales their product too, so that those sites need no care of their own.
 */

import { UserError } from '../engine/errors.ts';
import {
  activationFunctions,
  add,
  concat,
  full,
  gatherRows,
  integers,
  linear,
  matmul,
  mul,
  reshape,
  scope,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../engine/index.ts';
import {
  callback,
  checkOptions,
  checkValue,
  flag,
  list,
  one,
  optionsSchema,
  whole,
} from '../engine/options.ts';
import { feedForwardOf } from '../models/description.ts';
import { type LanguageModel, type Quantity, runModel, type Site } from '../models/model.ts';
import {
  askedOf,
  checkOther,
  manyTargets,
  partMeasure,
  productOf,
  type Target,
  targetField,
  tokensOf,
} from './answers.ts';
import { type Measure, measureFields } from './conventions.ts';
import { besideSite, injection, outputDerivative, outputDerivatives } from './difference/injection.ts';
import { injectNeurons } from './difference/ops.ts';
import { eachOf, isListOfLists, isMany, oneOrEach } from './each.ts';
import {
  checkNeuron,
  type Neuron,
  type NeuronOrName,
  neuronsOf,
  resolveSite,
  SITES,
  siteHook,
  siteOfHook,
} from './neuron.ts';
import { probeMeasure } from './plainRun.ts';
import {
  checkProbe,
  gradientFactor,
  measuredValues,
  neuronPosition,
  objectiveOf,
  type Probe,
  probeRows,
  quantityOf,
  tokenField,
} from './predict.ts';
import { hooksOf, neuronsAt, type ProbedHooks } from './probed.ts';
import type { RunTensors } from './repeated.ts';
import { activationNoise, cotangentRounding, gradientNoise, typicalGradient } from './rounding.ts';
import {
  type Beginning,
  beginsRows,
  rideTogether,
  Suffix,
  type SuffixModel,
  type SuffixRows,
} from './suffixRows.ts';

/**
 * `right`: k/m, k = 1…m (Dai et al.); `linspace`: k/(m-1) from 0, both ends (common code), all of the same weight; `trapezoid`: the same
 * points, both ends with half the weight of the others; `gauss`: Gauss-Legendre. The default comes first.
 */
export const ENDPOINTS = ['right', 'linspace', 'left', 'mid', 'gauss', 'trapezoid'] as const;
/** One of {@link ENDPOINTS}. */
export type Endpoints = (typeof ENDPOINTS)[number];
/** The same as a field of options. */
export const endpointsField = one(ENDPOINTS);

/** A point of the way from the baseline (0) to the activation (1), and its weight in the mean. */
export interface PathPoint {
  readonly alpha: number;
  /** Weights sum to 1. */
  readonly weight: number;
}

/**
 * The points of a way from 0 to 1. @throws UserError for an unknown rule, and for steps that are no whole number above 0 (1 for
 * `linspace` and `trapezoid`).
 * @example
 * ```ts
 * import { pathPoints } from 'neurgrad';
 *
 * console.log(pathPoints(4, 'right').map(({ alpha }) => alpha)); // → [ 0.25, 0.5, 0.75, 1 ]
 * ```
 */
export function pathPoints(steps: number, endpoints: Endpoints): PathPoint[] {
  checkValue('pathPoints', 'endpoints', endpointsField, endpoints);
  if (typeof steps !== 'number') checkValue('pathPoints', 'steps', whole(1), steps);
  const least = endpoints === 'linspace' || endpoints === 'trapezoid' ? 2 : 1;
  if (!Number.isInteger(steps) || steps < least)
    throw new UserError('steps', `steps ${steps}: must be a whole number above ${least - 1}`);
  if (endpoints === 'gauss') return gaussLegendre(steps);
  const alpha = {
    right: (k: number) => (k + 1) / steps,
    left: (k: number) => k / steps,
    mid: (k: number) => (k + 0.5) / steps,
    linspace: (k: number) => k / (steps - 1),
    trapezoid: (k: number) => k / (steps - 1),
  }[endpoints];
  if (endpoints === 'trapezoid')
    return Array.from({ length: steps }, (_, k) => ({
      alpha: alpha(k),
      weight: (k === 0 || k === steps - 1 ? 0.5 : 1) / (steps - 1),
    }));
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

/** What is integrated, along which points. */
export interface IntegratedOptions {
  /** Token id, or those of an answer of several tokens (see {@link neuronGradients}), by full passes; default the model's argmax. */
  readonly target?: Target | undefined;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
  /** Default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default 20. */
  readonly steps?: number;
  /** Default `right`. */
  readonly endpoints?: Endpoints;
  /** Default `prob`. `logit_diff`: the target's logit less that of `other`. */
  readonly of?: Measure;
  /** Most batch rows of one pass; default 20 of `naive`, else as many as fit. */
  readonly rowsPerPass?: number;
  /** `naive` runs full passes; `auto` begins rows after the layer scaled (docs/science.md#integrated-gradients-by-rows), where the model is whole. */
  readonly engine?: 'auto' | 'naive';
  /** Default true: `auto` records a pass that is followed by others of its shape, and replays it. False: each anew, to the same bits. */
  readonly replay?: boolean;
  /** Told after each pass how many of all rows are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** Which layers are integrated, at which site. */
export interface LayerOptions extends IntegratedOptions {
  /** Default `paper`: pre_linear where it gates, else post. */
  readonly site?: Site | 'paper';
  /** Default all. */
  readonly layers?: readonly number[];
}

/** Options that differ between prompts: one for all, or a list of one a prompt. */
interface EachOptions {
  /** A list is one a prompt, in which an answer of several tokens is a list. */
  readonly target?: number | undefined | readonly (Target | undefined)[];
  readonly other?: number | undefined | readonly (number | undefined)[];
  readonly neuronPosition?: number | undefined | readonly (number | undefined)[];
}

/** {@link IntegratedOptions} of several prompts. */
export interface ManyIntegratedOptions extends Omit<IntegratedOptions, keyof EachOptions>, EachOptions {}

/** {@link LayerOptions} of several prompts. */
export interface ManyLayerOptions extends Omit<LayerOptions, keyof EachOptions>, EachOptions {}

const eachFields = {
  target: manyTargets,
  other: oneOrEach(tokenField, "a token's id, or a list of one a prompt"),
  neuronPosition: oneOrEach(whole(), 'a position, or a list of one a prompt'),
};

/** {@link IntegratedOptions} */
export const integratedOptions = optionsSchema<IntegratedOptions>({
  target: targetField,
  other: tokenField,
  neuronPosition: whole(),
  steps: whole(1),
  endpoints: endpointsField,
  of: measureFields.of,
  rowsPerPass: whole(1),
  engine: one(['auto', 'naive']),
  replay: flag,
  onProgress: callback(),
});

/** {@link LayerOptions} */
export const layerOptions = optionsSchema<LayerOptions>({
  ...integratedOptions.entries,
  site: one(SITES),
  layers: list(whole(), 'a list of layers'),
});

/** {@link ManyIntegratedOptions} */
export const manyIntegratedOptions = optionsSchema<ManyIntegratedOptions>({
  ...integratedOptions.entries,
  ...eachFields,
});

/** {@link ManyLayerOptions} */
export const manyLayerOptions = optionsSchema<ManyLayerOptions>({
  ...layerOptions.entries,
  ...eachFields,
});

/** Integrated gradients of all neurons of a layer, scaled together. */
export interface LayerIntegrated {
  readonly layer: number;
  /** Token id. */
  readonly target: number;
  /** Of an answer of several tokens all of them; `target` is the first. */
  readonly answer?: readonly number[];
  /** The target's probability, nothing scaled. */
  readonly p: number;
  /** [width] */
  readonly ig: Float64Array;
  /** What of each may be rounding, [width]. */
  readonly noise: Float64Array;
  /** Sum of the above. */
  readonly sum: number;
  /**
   * v(A) - v(0), which the sum tends to with more steps (completeness): slowly where a norm follows the output weights (Gemma 2,
   * OLMo 2), which makes much the same of any share of a layer, so that nearly all of the way happens next to 0.
   */
  readonly change: number;
}

/** One neuron scaled alone. */
export interface NeuronIntegrated extends Neuron {
  /** Token id. */
  readonly target: number;
  /** Of an answer of several tokens all of them; `target` is the first. */
  readonly answer?: readonly number[];
  /** The target's probability, nothing scaled. */
  readonly p: number;
  readonly ig: number;
  /** What of it may be rounding. */
  readonly noise: number;
  /** v(A) - v(0), which `ig` tends to. */
  readonly change: number;
  /** v(0): the value with this neuron at 0. */
  readonly zero: number;
}

type Setup = ReturnType<typeof prepare>;

function prepare(door: string, model: LanguageModel, probe: Probe, options: IntegratedOptions) {
  const { target, other } = options;
  const { steps = 20, endpoints = 'right', of = 'prob', engine = 'auto', rowsPerPass, onProgress } = options;
  const { replay = true } = options;
  const points = pathPoints(steps, endpoints);
  const at = neuronPosition(probe, options.neuronPosition);
  checkOther(door, of, other);
  const { parts } = askedOf(door, model, probe, { at, of, target, other });
  const about = { model, probe, at, parts, target: parts[0]!.target, other, of };
  return { ...about, points, rowsPerPass, replay, engine, onProgress };
}

/** Rows of one full pass. */
const NAIVE_ROWS = 20;

/** A neuron, or all of a layer's (`index` null), scaled by alpha in one batch row. */
interface Scaled {
  readonly index: number | null;
  readonly alpha: number;
}

/** A token of the answer, behind the prompt and the tokens before it. */
interface Token {
  readonly probe: Probe;
  readonly target: number;
  readonly other: number | undefined;
}

/** The plain run of each token of the answer, and the values of the whole. */
async function plainTokens(setup: Setup, hooks: readonly string[]) {
  const { model, at, parts, of } = setup;
  const runs: ProbedHooks[] = [];
  for (const part of parts)
    runs.push(
      await probeMeasure(model, part.probe, at, hooksOf(model, hooks), partMeasure(of, { parts }), part),
    );
  const tokens = parts.map(({ probe, other }, k): Token => ({ probe, target: runs[k]!.token, other }));
  const whole = productOf(runs.map(({ target }) => target));
  return { runs, tokens, whole, answer: tokensOf(parts).answer };
}

/** What makes the gradient of a token's run, of {@link differentiated}, that of the answer's quantity. */
const shareOf = (
  { of, parts }: Setup,
  token: Record<Quantity, number>,
  whole: Record<Quantity, number>,
): number =>
  gradientFactor(partMeasure(of, { parts }), token) * (parts.length > 1 && of === 'prob' ? whole.prob : 1);

/** Gradients at the site of one layer, of what {@link differentiated} says, and the token's values, of each row. */
async function scaledRows(
  setup: Setup,
  { probe, target, other }: Token,
  hook: string,
  rows: readonly Scaled[],
  read: (gradient: Tensor) => Tensor,
): Promise<{ gradients: Float32Array; values: Record<Quantity, number>[] }> {
  const { model, at } = setup;
  const of = partMeasure(setup.of, setup);
  const { width, vocabulary } = model.sizes;
  const length = probe.ids.length;
  // Functions cannot be sent to other processes; a patch of every neuron says the same, at more length.
  const asEdit = rows.every(({ index }) => index === null) && model.running !== 'split';
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
    grad: {
      at: [hook],
      of: { ...objectiveOf(of, repeat({ target, other })), position: repeat(probe.position) },
    },
    logits: repeat(probe.position),
  });
  const wanted = read(reshape(run.gradients.get(hook)!, [rows.length * length * width, 1]));
  try {
    const [logits, gradients] = await Promise.all([run.logits.read(), wanted.read()]);
    return {
      gradients,
      values: rows.map((_, row) =>
        measuredValues(logits.subarray(row * vocabulary, (row + 1) * vocabulary), { target, other }),
      ),
    };
  } finally {
    wanted.dispose();
  }
}

function prepareOne(door: string, model: LanguageModel, probe: Probe, options: IntegratedOptions): Setup {
  checkProbe(door, model, probe);
  return prepare(door, model, probe, options);
}

/** A setup a prompt. */
function prepareMany(
  door: string,
  model: LanguageModel,
  probes: readonly Probe[],
  { target, other, neuronPosition, ...shared }: ManyIntegratedOptions,
): Setup[] {
  for (const probe of probes) checkProbe(door, model, probe);
  const each = eachOf(door, probes);
  const [targets, others] = [each('targets', target), each('others', other)];
  const positions = each('positions', neuronPosition);
  return probes.map((probe, i) => {
    const own = { target: targets[i], other: others[i], neuronPosition: positions[i] };
    return prepare(door, model, probe, { ...shared, ...own });
  });
}

/** Prompts whose rows can ride together do, the others one by one. */
async function ofAll<Result>(
  setups: readonly Setup[],
  rows: (model: SuffixModel, some: readonly Setup[], told: Told) => Promise<Result[]>,
  passes: (setup: Setup, told: Told) => Promise<Result>,
): Promise<Result[]> {
  const found = new Array<Result>(setups.length);
  let before = 0;
  const told =
    (count: number): Told =>
    (done, all) =>
      setups[0]!.onProgress?.(before * all + done * count, setups.length * all);
  const riding = new Map<SuffixModel, number[]>();
  for (const [i, setup] of setups.entries()) {
    const { model, probe, at } = setup;
    if (setup.engine === 'auto' && setup.parts.length === 1 && beginsRows(model, probe, at)) {
      riding.set(model, [...(riding.get(model) ?? []), i]);
      continue;
    }
    found[i] = await passes(setup, told(1));
    before++;
  }
  for (const [model, some] of riding)
    for (const group of rideTogether(
      model,
      some.map((i) => setups[i]!),
    )) {
      const own = group.map((k) => some[k]!);
      const results = await rows(
        model,
        own.map((i) => setups[i]!),
        told(own.length),
      );
      for (const [k, i] of own.entries()) found[i] = results[k]!;
      before += own.length;
    }
  return found;
}

/** Told how much of one prompt's share, or of each of a group's, is done. */
type Told = (done: number, all: number) => void;

/**
 * The same of many prompts, the rows of as many as can ride together in the same passes: those of causal models whose neurons are at the
 * last token, whatever their lengths, and prompts of one length. The same bits as one by one.
 * @throws UserError as for one, and where targets or positions are not one a prompt.
 */
export function integrateLayers(
  model: LanguageModel,
  probes: readonly Probe[],
  options?: ManyLayerOptions,
): Promise<LayerIntegrated[][]>;
/**
 * Integrated gradients of whole layers (Dai et al.): all neurons of a layer at the position go from 0 to A together.
 * @throws UserError for an option or value that there is not, as {@link neuronGradients}.
 * @example
 * ```ts
 * import { encodePrompt, integrateLayers, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const [last] = await integrateLayers(model, prompt, { layers: [3], steps: 10, endpoints: 'gauss' });
 * // Completeness: the sum over the layer is the change that the layer makes.
 * console.log(last!.ig.length, Math.abs(last!.sum - last!.change) < 1e-3); // → 512 true
 * model.device.destroy();
 * ```
 */
export function integrateLayers(
  model: LanguageModel,
  probe: Probe,
  options?: LayerOptions,
): Promise<LayerIntegrated[]>;
export async function integrateLayers(
  model: LanguageModel,
  probes: Probe | readonly Probe[],
  options: LayerOptions | ManyLayerOptions = {},
): Promise<LayerIntegrated[] | LayerIntegrated[][]> {
  const many = isMany(probes);
  if (many) checkOptions('integrateLayers', manyLayerOptions, options);
  else checkOptions('integrateLayers', layerOptions, options as LayerOptions);
  const { site: named = 'paper', layers: asked, ...shared } = options;
  const setups = many
    ? prepareMany('integrateLayers', model, probes, shared as ManyIntegratedOptions)
    : [prepareOne('integrateLayers', model, probes, shared as IntegratedOptions)];
  const site = resolveSite(named, model);
  const layers = asked ?? Array.from({ length: model.sizes.layers }, (_, layer) => layer);
  for (const layer of layers) checkNeuron({ layer, index: 0, site }, model);
  const found = await ofAll(
    setups,
    (whole, some, told) => layersFromRows(whole, some, site, layers, told),
    (setup, told) => layersFromPasses(setup, site, layers, told),
  );
  return many ? found : found[0]!;
}

async function layersFromPasses(
  setup: Setup,
  site: Site,
  layers: readonly number[],
  told: Told,
): Promise<LayerIntegrated[]> {
  const { model, at, points, rowsPerPass = NAIVE_ROWS } = setup;
  const { width } = model.sizes;
  const feedForward = feedForwardOf(model.description);
  const hooks = layers.map((layer) => siteHook(layer, site));
  const plain = await plainTokens(setup, hooks);
  const [base] = plain.runs as [ProbedHooks];
  const of = quantityOf(setup.of);
  // The point 0 rides along without weight, for completeness.
  const path = [...points, { alpha: 0, weight: 0 }];
  const found: LayerIntegrated[] = [];
  for (const [done, layer] of layers.entries()) {
    const hook = hooks[done]!;
    const activation = base.activation.get(hook)!;
    const ig = new Float64Array(width);
    const noise = new Float64Array(width);
    let zero = 0;
    for (let start = 0; start < path.length; start += rowsPerPass) {
      const part = path.slice(start, start + rowsPerPass);
      const rows = part.map(({ alpha }) => ({ index: null, alpha }));
      const runs: Awaited<ReturnType<typeof scaledRows>>[] = [];
      for (const token of plain.tokens)
        runs.push(
          await scaledRows(setup, token, hook, rows, (gradient) =>
            gatherRows(
              reshape(gradient, [gradient.size / width, width]),
              part.map((_, row) => row * token.probe.ids.length + at),
            ),
          ),
        );
      const wholes = part.map((_, row) => productOf(runs.map(({ values }) => values[row]!)));
      for (const [k, { gradients, values }] of runs.entries())
        for (const [row, { alpha, weight }] of part.entries()) {
          const share = weight * shareOf(setup, values[row]!, wholes[row]!);
          const gradient = gradients.subarray(row * width, (row + 1) * width);
          const factor = outputDerivatives(feedForward, site, activation, base.beside.get(hook), alpha);
          const spread = of === 'logit' ? 0 : plain.runs[k]!.spread;
          const rounding = gradientNoise(model, { gradient, factor, spread });
          for (let i = 0; i < width; i++) {
            ig[i]! += share * gradient[i]!;
            noise[i]! += Math.abs(share) * rounding[i]!;
          }
        }
      if (start + part.length === path.length) zero = wholes.at(-1)![of];
    }
    scaleByActivation(model, activation, ig, noise);
    const about = { token: base.token, target: plain.whole, answer: plain.answer };
    found.push(layerResult(layer, about, ig, noise, plain.whole[of] - zero));
    told(done + 1, layers.length);
  }
  return found;
}

/** From a mean gradient and its noise to IG and its own, in place. */
function scaleByActivation(
  model: LanguageModel,
  activation: Float32Array,
  mean: Float64Array,
  noise: Float64Array,
): void {
  const uncertain = activationNoise(model, activation);
  for (const [i, a] of activation.entries()) {
    noise[i] = Math.abs(a) * noise[i]! + uncertain * Math.abs(mean[i]!);
    mean[i]! *= a;
  }
}

const layerResult = (
  layer: number,
  {
    token,
    target,
    answer,
  }: Pick<ProbedHooks, 'token' | 'target'> & { readonly answer?: readonly number[] | undefined },
  ig: Float64Array,
  noise: Float64Array,
  change: number,
): LayerIntegrated => ({
  layer,
  target: token,
  ...(answer && { answer }),
  p: target.prob,
  ig,
  noise,
  sum: ig.reduce((a, b) => a + b, 0),
  change,
});

/**
 * The same of many prompts, all of the same neurons, or a list of lists, one a prompt; see {@link integrateLayers}.
 * @throws UserError as for one, and where targets, positions or lists of neurons are not one a prompt.
 */
export function integrateNeurons(
  model: LanguageModel,
  probes: readonly Probe[],
  neurons: readonly NeuronOrName[] | readonly (readonly NeuronOrName[])[],
  options?: ManyIntegratedOptions,
): Promise<NeuronIntegrated[][]>;
/**
 * Integrated gradients of single neurons (or their names): each goes from 0 to A alone.
 * @throws UserError for an option or value that there is not, as {@link neuronGradients}.
 * @example
 * ```ts
 * import { encodePrompt, integrateNeurons, loadModel, parseNeuron } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const neurons = [parseNeuron('L3.N327', model)];
 * const [one] = await integrateNeurons(model, prompt, neurons, { endpoints: 'gauss' });
 * console.log(Math.abs(one!.ig - one!.change) < 1e-5); // → true
 * model.device.destroy();
 * ```
 */
export function integrateNeurons(
  model: LanguageModel,
  probe: Probe,
  neurons: readonly NeuronOrName[],
  options?: IntegratedOptions,
): Promise<NeuronIntegrated[]>;
export async function integrateNeurons(
  model: LanguageModel,
  probes: Probe | readonly Probe[],
  neurons: readonly NeuronOrName[] | readonly (readonly NeuronOrName[])[],
  options: IntegratedOptions | ManyIntegratedOptions = {},
): Promise<NeuronIntegrated[] | NeuronIntegrated[][]> {
  const many = isMany(probes);
  if (many) checkOptions('integrateNeurons', manyIntegratedOptions, options);
  else checkOptions('integrateNeurons', integratedOptions, options as IntegratedOptions);
  const all = many ? probes : [probes];
  const setups = many
    ? prepareMany('integrateNeurons', model, all, options as ManyIntegratedOptions)
    : [prepareOne('integrateNeurons', model, probes, options as IntegratedOptions)];
  const lists: readonly (readonly NeuronOrName[])[] =
    many && isListOfLists(neurons)
      ? eachOf('integrateNeurons', all)('lists of neurons', neurons)
      : all.map(() => neurons as readonly NeuronOrName[]);
  const named = new Map(
    setups.map((setup, i) => [setup, neuronsOf('integrateNeurons', lists[i]!, model)] as const),
  );
  const found = await ofAll(
    setups,
    (whole, some, told) =>
      neuronsFromRows(
        whole,
        some,
        some.map((setup) => named.get(setup)!),
        told,
      ),
    (setup, told) => neuronsFromPasses(setup, named.get(setup)!, told),
  );
  return many ? found : found[0]!;
}

async function neuronsFromPasses(
  setup: Setup,
  neurons: readonly Neuron[],
  told: Told,
): Promise<NeuronIntegrated[]> {
  const { model, at, points, rowsPerPass = NAIVE_ROWS } = setup;
  const { width } = model.sizes;
  const hooks = [...new Set(neurons.map(({ layer, site }) => siteHook(layer, site)))];
  const plain = await plainTokens(setup, hooks);
  const [base] = plain.runs as [ProbedHooks];
  const of = quantityOf(setup.of);
  /** Of each neuron and token of the answer. */
  const ways = neurons.map(() => plain.tokens.map(() => ({ mean: 0, share: 0, steepest: 0 })));
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
      const runs: Awaited<ReturnType<typeof scaledRows>>[] = [];
      for (const token of plain.tokens)
        runs.push(
          await scaledRows(setup, token, hook, part, (gradient) =>
            gatherRows(
              gradient,
              part.map(({ index }, row) => (row * token.probe.ids.length + at) * width + index),
            ),
          ),
        );
      for (const [row, { n, k, weight }] of part.entries()) {
        const whole = productOf(runs.map(({ values }) => values[row]!));
        for (const [t, { gradients, values }] of runs.entries()) {
          const way = ways[n]![t]!;
          const share = weight * shareOf(setup, values[row]!, whole);
          way.mean += share * gradients[row]!;
          way.share += Math.abs(share);
          way.steepest = Math.max(way.steepest, Math.abs(gradients[row]!));
        }
        if (k === points.length) zeros[n] = whole[of];
      }
      done += part.length;
      told(done, neurons.length * (points.length + 1));
    }
  }
  return neurons.map((neuron, n) => {
    const hook = siteHook(neuron.layer, neuron.site);
    const activation = base.activation.get(hook)!;
    const a = activation[neuron.index]!;
    const noises = plain.runs.map(({ target, noise, spread }, t) => {
      const factor = gradientFactor(partMeasure(setup.of, setup), target);
      const own = factor === 0 ? 0 : noise.get(hook)![neuron.index]! / factor;
      return neuronNoise(setup, activation, a, { ...ways[n]![t]!, plain: own, spread });
    });
    return {
      ...neuron,
      target: base.token,
      ...(plain.answer && { answer: plain.answer }),
      p: plain.whole.prob,
      ig: a * ways[n]!.reduce((sum, { mean }) => sum + mean, 0),
      noise: noises.reduce((sum, own) => sum + own, 0),
      change: plain.whole[of] - zeros[n]!,
      zero: zeros[n]!,
    };
  });
}

/**
 * Noise of a single neuron's IG, from that of its plain gradient, in which its rivals count, and the steepest gradient of the way:
 * gradients and noise of what {@link differentiated} says, `share` the sum of the points' weights times what makes them the quantity's.
 */
function neuronNoise(
  { model, of }: Setup,
  activation: Float32Array,
  a: number,
  way: {
    readonly mean: number;
    readonly share: number;
    readonly steepest: number;
    readonly plain: number;
    readonly spread: number;
  },
): number {
  const steep = cotangentRounding(model, quantityOf(of) === 'logit' ? 0 : way.spread) * way.steepest;
  return (
    Math.abs(a) * way.share * (way.plain + steep) + activationNoise(model, activation) * Math.abs(way.mean)
  );
}

/**
 * The points that rows have to be run for: the plain prompt is alpha 1, and 0 is wanted for completeness in any case.
 * `plain` is the weight of alpha 1.
 */
function rowPoints(points: readonly PathPoint[]): { path: PathPoint[]; plain: number } {
  const path = points.filter(({ alpha }) => alpha !== 1);
  if (!path.some(({ alpha }) => alpha === 0)) path.push({ alpha: 0, weight: 0 });
  return { path, plain: points.find(({ alpha }) => alpha === 1)?.weight ?? 0 };
}

/**
 * Layers by docs/science.md#integrated-gradients-by-rows: scaling z, or a factor of it, scales what the layer adds, W z. The cotangents at that sum are added
 * over the points first; one product with W turns them into gradients of all neurons. Before the non-linearity a scaled
 * value is no scaled output, and the gradients of each point are the neurons' own.
 */
async function layersFromRows(
  model: SuffixModel,
  setups: readonly Setup[],
  site: Site,
  layers: readonly number[],
  told: Told,
): Promise<LayerIntegrated[][]> {
  const [{ of: measure, points, rowsPerPass, replay }] = setups as [Setup];
  const { path, plain } = rowPoints(points);
  const { sites } = model;
  const feedForward = feedForwardOf(model.description);
  using suffix = Suffix.open(model, setups, {
    of: measure,
    capture: layers.flatMap((layer) => sites.map((which) => siteHook(layer, which))),
    gradients: layers.map((layer) => siteHook(layer, site)),
  });
  const numbers = (_: number, __: number, from: number, to: number) => ({
    alpha: Float32Array.from(path.slice(from, to), ({ alpha }) => alpha),
  });
  const begin = (prompt: number, layer: number, { alpha }: { readonly alpha: Tensor }): Beginning => {
    const alphas = reshape(alpha, [-1, 1]);
    const value = (which: Site): Tensor => suffix.at(prompt, siteHook(layer, which));
    const output = model.outWeight(layer);
    if (site !== 'pre') {
      // (alpha - 1) W z
      const whole = linear(value('post'), output);
      const entry = add(suffix.joint(prompt, layer), sub(mul(alphas, whole), whole));
      const mark = entry.requireGrad();
      return { joint: mark, mark };
    }
    const mark = mul(alphas, value('pre')).requireGrad();
    const active = activationFunctions[feedForward.activation](mark);
    const inside = feedForward.gated ? mul(active, value('pre_linear')) : active;
    return { joint: add(suffix.joint(prompt, layer), linear(sub(inside, value('post')), output)), mark };
  };
  const counts = Array.from({ length: model.sizes.layers }, (_, layer) =>
    layers.includes(layer) ? path.length : 0,
  );
  const targets = await Promise.all(setups.map((_, prompt) => suffix.target(prompt)));
  const runs = await suffix.run(
    setups.map(() => counts),
    { numbers, begin },
    {
      ...{ of: measure, rowsPerPass, replay },
      tokens: setups.map(({ other }, i) => ({ target: targets[i]!.target, other })),
      onProgress: (done) => told(Math.floor(done / (path.length * setups.length)), layers.length),
    },
  );
  try {
    const found: LayerIntegrated[][] = [];
    for (const [prompt, run] of runs.entries()) {
      const way = { path, plain, order: counts.flatMap((count, layer) => (count > 0 ? [layer] : [])) };
      const results: LayerIntegrated[] = [];
      for (const layer of layers)
        results.push(
          await layerFromRun(setups[prompt]!, suffix, {
            prompt,
            layer,
            site,
            run,
            ...way,
            ...targets[prompt]!,
          }),
        );
      found.push(results);
    }
    return found;
  } finally {
    for (const { gradients } of runs) for (const t of gradients.values()) t.dispose();
  }
}

/** A layer's integrated gradients, of the rows that were run for it. */
async function layerFromRun(
  { model, of: measure, at }: Setup,
  suffix: Suffix,
  about: {
    readonly prompt: number;
    readonly layer: number;
    readonly site: Site;
    readonly run: SuffixRows;
    readonly path: readonly PathPoint[];
    /** Weight of alpha 1. */
    readonly plain: number;
    /** Layers in the order of their rows. */
    readonly order: readonly number[];
    readonly target: number;
    readonly values: Record<Quantity, number>;
    readonly spread: number;
  },
): Promise<LayerIntegrated> {
  const { prompt, layer, site, run, path, plain, order, values: plainValues } = about;
  const of = quantityOf(measure);
  const { device } = model;
  const { width } = model.sizes;
  const feedForward = feedForwardOf(model.description);
  const beside = besideSite(feedForward, site);
  const captured = suffix.plain[prompt]!.run;
  const start = order.indexOf(layer) * path.length;
  const spreads = run.spreads.slice(start, start + path.length);
  const spread = of === 'logit' ? 0 : Math.max(about.spread, ...spreads);
  const ownFactor = plain * gradientFactor(of, plainValues);
  const shares = path.map(({ weight }, k) => weight * gradientFactor(of, run.values[start + k]!));
  // float32 holds the shares' proportions, whatever their size.
  const size = Math.max(...shares.map(Math.abs)) || 1;
  const cotangents = run.gradients.get(layer)!;
  const weights = shares.map((share) => share / size);
  const mean = scope(() => matmul(tensor(device, weights, [1, path.length]), cotangents));
  const meanGradient = scope(() =>
    site === 'pre' ? slice(mean, [], []) : matmul(mean, suffix.model.outWeight(layer)),
  );
  const squares = scope(() => sum(square(concat([mean, cotangents], 0)), -1));
  try {
    const read = async (which: Site): Promise<Float32Array> =>
      neuronsAt(await captured.captures.get(siteHook(layer, which))!.read(), at, width);
    const [means, norms, own, activation, factor, gate] = await Promise.all([
      meanGradient.read(),
      squares.read(),
      captured.gradients.get(siteHook(layer, site))!.read(),
      read(site),
      site === 'act' ? read('pre_linear') : site === 'pre_linear' ? read('act') : null,
      beside ? read(beside) : undefined,
    ]);
    const ownHere = neuronsAt(own, at, width);
    const ig = Float64Array.from(ownHere, (g, i) => ownFactor * g + size * means[i]! * (factor?.[i] ?? 1));
    const factors = outputDerivatives(feedForward, site, activation, gate);
    // Of each point the cotangent's size alone is known: its product with the output weights has the mean's proportion.
    const typicalMean =
      site === 'pre'
        ? typicalGradient(means, factors)
        : typicalGradient(
            means,
            means.map(() => 1),
          );
    const proportion = norms[0]! > 0 ? typicalMean / Math.sqrt(norms[0]!) : 0;
    const typical = shares.reduce(
      (total, share, k) => total + Math.abs(share) * proportion * Math.sqrt(norms[k + 1]!),
      Math.abs(ownFactor) * typicalGradient(ownHere, factors),
    );
    const noise = gradientNoise(model, { gradient: ig, factor: factors, spread, typical });
    scaleByActivation(model, activation, ig, noise);
    const zero = run.values[start + path.findIndex(({ alpha }) => alpha === 0)]!;
    const target = { token: about.target, target: plainValues };
    return layerResult(layer, target, ig, noise, plainValues[of] - zero[of]);
  } finally {
    for (const t of [mean, meanGradient, squares]) t.dispose();
  }
}

/** Single neurons: one scaled value adds a column of the output weights, and its gradient is the product with that column. */
async function neuronsFromRows(
  model: SuffixModel,
  setups: readonly Setup[],
  lists: readonly (readonly Neuron[])[],
  told: Told,
): Promise<NeuronIntegrated[][]> {
  const [{ of: measure, points, rowsPerPass, replay }] = setups as [Setup];
  const { path, plain } = rowPoints(points);
  const { sites } = model;
  const all = lists.flat();
  using suffix = Suffix.open(model, setups, {
    of: measure,
    capture: [...new Set(all.map(({ layer }) => layer))].flatMap((layer) =>
      sites.map((site) => siteHook(layer, site)),
    ),
    gradients: [...new Set(all.map(({ layer, site }) => siteHook(layer, site)))],
  });
  const ways = await Promise.all(
    lists.map((neurons, prompt) => wayOf(setups[prompt]!, suffix, { prompt, neurons, path, plain })),
  );
  const numbers = (prompt: number, layer: number, from: number, to: number) =>
    ways[prompt]!.numbers(layer, from, to);
  const begin = (
    prompt: number,
    layer: number,
    { column, scale }: RunTensors<ReturnType<typeof numbers>>,
  ): Beginning => {
    const change = injectNeurons(model.outWeight(layer), column, scale);
    const mark = add(suffix.joint(prompt, layer), change).requireGrad();
    return { joint: mark, mark };
  };
  const runs = await suffix.run(
    ways.map(({ counts }) => counts),
    { numbers, begin },
    {
      ...{ of: measure, rowsPerPass, replay },
      tokens: ways.map(({ target }, i) => ({ target, other: setups[i]!.other })),
      onProgress: (done, rows) => told(Math.floor(done / setups.length), Math.ceil(rows / setups.length)),
    },
  );
  try {
    return await Promise.all(runs.map((run, prompt) => ways[prompt]!.results(run)));
  } finally {
    for (const { gradients } of runs) for (const t of gradients.values()) t.dispose();
  }
}

/** The ways of one prompt's neurons: what its rows are made of, and what they say. */
async function wayOf(
  setup: Setup,
  suffix: Suffix,
  about: {
    readonly prompt: number;
    readonly neurons: readonly Neuron[];
    readonly path: readonly PathPoint[];
    /** Weight of alpha 1. */
    readonly plain: number;
  },
) {
  const { at } = setup;
  const { prompt, neurons, path, plain } = about;
  const { model } = suffix;
  const of = quantityOf(setup.of);
  const feedForward = feedForwardOf(model.description);
  const { layers, width } = model.sizes;
  const { run: captured } = suffix.plain[prompt]!;
  const readAll = async (tensors: ReadonlyMap<string, Tensor>, names: ReadonlySet<string>) =>
    new Map(
      await Promise.all(
        [...tensors]
          .filter(([name]) => names.has(name))
          .map(async ([name, t]) => [name, neuronsAt(await t.read(), at, width)] as const),
      ),
    );
  const used = [...new Set(neurons.map(({ layer }) => layer))];
  const wanted = used.flatMap((layer) => model.sites.map((site) => siteHook(layer, site)));
  const captures = await readAll(captured.captures, new Set(wanted));
  const gradients = await readAll(
    captured.gradients,
    new Set(neurons.map(({ layer, site }) => siteHook(layer, site))),
  );
  const { target, values: whole, spread } = await suffix.target(prompt);
  const plainValues = neurons.map(({ layer, index, site }) => {
    const one = (which: Site): number | undefined => captures.get(siteHook(layer, which))?.[index];
    return {
      activation: one(site)!,
      gradient: gradients.get(siteHook(layer, site))![index]!,
      pre: one('pre')!,
      up: one('pre_linear') ?? 0,
    };
  });
  // Rows by layer, each neuron's points one after the other.
  const order = [...neurons.keys()].sort((a, b) => neurons[a]!.layer - neurons[b]!.layer || a - b);
  const jobs = order.flatMap((n) => path.map((point) => ({ n, ...point })));
  const counts = Array.from(
    { length: layers },
    (_, layer) => jobs.filter(({ n }) => neurons[n]!.layer === layer).length,
  );
  const first = counts.map((_, layer) => counts.slice(0, layer).reduce((a, b) => a + b, 0));
  const numbers = (layer: number, from: number, to: number) => {
    const some = jobs.slice(first[layer]! + from, first[layer]! + to);
    return {
      column: Uint32Array.from(some, ({ n }) => neurons[n]!.index),
      scale: Float32Array.from(some, ({ n, alpha }) => {
        const { activation, pre, up } = plainValues[n]!;
        return injection(feedForward, neurons[n]!.site, pre, up, (alpha - 1) * activation);
      }),
    };
  };
  const results = async (run: SuffixRows): Promise<NeuronIntegrated[]> => {
    const alongColumn = new Map<number, Float32Array>();
    for (const [layer, gradient] of run.gradients) {
      using products = scope(() => {
        const column = integers(model.device, numbers(layer, 0, counts[layer]!).column);
        const ones = full(model.device, [column.size], 1);
        return sum(mul(gradient, injectNeurons(model.outWeight(layer), column, ones)), -1);
      });
      alongColumn.set(layer, await products.read());
    }
    const noises = new Map(
      [...gradients].map(([hook, gradient]) => {
        const { layer, site } = siteOfHook(hook);
        const beside = besideSite(feedForward, site);
        const factor = outputDerivatives(
          feedForward,
          site,
          captures.get(hook)!,
          beside ? captures.get(siteHook(layer, beside)) : undefined,
        );
        return [hook, gradientNoise(model, { gradient, factor, spread: of === 'logit' ? 0 : spread })];
      }),
    );
    const found: NeuronIntegrated[] = [];
    for (const [place, n] of order.entries()) {
      const neuron = neurons[n]!;
      const { activation, gradient, pre, up } = plainValues[n]!;
      const start = place * path.length;
      const products = alongColumn.get(neuron.layer)!;
      let share = plain * gradientFactor(of, whole);
      let mean = share * gradient;
      let steepest = 0;
      for (const [k, { alpha, weight }] of path.entries()) {
        const along =
          products[start - first[neuron.layer]! + k]! *
          outputDerivative(feedForward, neuron.site, { pre, up }, alpha * activation);
        const part = weight * gradientFactor(of, run.values[start + k]!);
        mean += part * along;
        share += Math.abs(part);
        steepest = Math.max(steepest, Math.abs(along));
      }
      const hook = siteHook(neuron.layer, neuron.site);
      const widest = Math.max(spread, ...run.spreads.slice(start, start + path.length));
      const way = { mean, share, steepest, plain: noises.get(hook)![neuron.index]!, spread: widest };
      const noise = neuronNoise(setup, captures.get(hook)!, activation, way);
      const zero = run.values[start + path.findIndex(({ alpha }) => alpha === 0)]![of];
      const change = whole[of] - zero;
      found[n] = { ...neuron, target, p: whole.prob, ig: activation * mean, noise, change, zero };
    }
    return found;
  };
  return { target, counts, numbers, results };
}
