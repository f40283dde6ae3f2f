/**
 * Integrated gradients (Sundararajan et al. 2017) of the values of a layer from any baseline, at one token or all, and conductance
 * (Dhamdhere et al. 2018), which follows the same values while the input goes from the corrupt prompt's to the clean one's.
 *
 * IG_i = (x_i - x'_i) sum over k of w_k dM/dx_i at x' + a_k (x - x'), all numbers of the layer moved together. Conductance of y_i =
 * sum over k = 1 … n of dM/dy_i(k) (y_i(k) - y_i(k-1)), the input being e' + (k/n) (e - e'): the gradient at the end of each step.
 * Points are batch rows that begin at their layer (downstream.ts).
 */

import { UserError } from '../../engine/errors.ts';
import {
  add,
  type Device,
  grad,
  matmul,
  mul,
  noGrad,
  reshape,
  scope,
  slice,
  sub,
  Tensor,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { checkOptions, either, like, one, optionsSchema, whole } from '../../engine/options.ts';
import { disown } from '../../engine/scope.ts';
import { hooksOf } from '../../models/description.ts';
import { pointOf } from '../../models/hooks.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Transformer } from '../../models/transformer.ts';
import { type Endpoints, endpointsField, pathPoints } from '../integrated.ts';
import { checkProbe, type Probe } from '../predict.ts';
import { Downstream } from './downstream.ts';
import {
  differentiatedMetric,
  type Metric,
  type MetricValues,
  metricField,
  metricRows,
  metricsOf,
  metricValues,
} from './metric.ts';
import { firstDifference, type PromptAnswers, type PromptPair, pairList, wholeModel } from './pairs.ts';
import { type Component, componentHook, layersOf, placeFields } from './places.ts';
import { type ExperimentTable, type PairResult, type PlaceKeys, tableOf } from './table.ts';

/** What is integrated, from where, and along which points. */
export interface IntegratedGradientsOptions {
  /** One or several; default `logit_diff`. */
  readonly metric?: Metric | readonly Metric[];
  /** Values [tokens, numbers] of a layer; default `post`, the neurons. */
  readonly component?: Component;
  /** Default all. */
  readonly layers?: readonly number[];
  /** `probe` (default) moves the token read alone, `all` all tokens. */
  readonly scope?: 'probe' | 'all';
  /** `zero` (default), the values of the corrupt prompt, those of another prompt of this length, or a tensor [tokens, numbers]. */
  readonly baseline?: 'zero' | 'corrupt' | Probe | Tensor;
  /** Points; default 20. */
  readonly steps?: number;
  /** Which points: see {@link pathPoints}; default `right`. */
  readonly endpoints?: Endpoints;
  /** Most batch rows of one pass; default as many as fit. */
  readonly rowsPerPass?: number;
}

const baselineField = either(
  one(['zero', 'corrupt']),
  like<Probe | Tensor>(
    (value) => value instanceof Tensor || Array.isArray((value as Probe | null)?.ids),
    'a prompt or a tensor',
  ),
  "'zero', 'corrupt', a prompt or a tensor",
);
/** {@link IntegratedGradientsOptions} */
export const integratedGradientsOptions = optionsSchema<IntegratedGradientsOptions>(
  {
    metric: metricField,
    component: placeFields.component,
    layers: placeFields.layers,
    scope: one(['probe', 'all']),
    baseline: baselineField,
    steps: whole(1),
    endpoints: endpointsField,
    rowsPerPass: whole(1),
  },
  { rule: 'endpoints', nSteps: 'steps', baselines: 'baseline' },
);

/** What is followed from the corrupt prompt to the clean one. */
export interface ConductanceOptions {
  /** One or several; default `logit_diff`. */
  readonly metric?: Metric | readonly Metric[];
  /** Default `post`. */
  readonly component?: Component;
  /** Default all. */
  readonly layers?: readonly number[];
  /** Default 20. */
  readonly steps?: number;
  /** Most batch rows of one pass; default as many as fit. */
  readonly rowsPerPass?: number;
}

/** {@link ConductanceOptions} */
export const conductanceOptions = optionsSchema<ConductanceOptions>(
  {
    metric: metricField,
    component: placeFields.component,
    layers: placeFields.layers,
    steps: whole(1),
    rowsPerPass: whole(1),
  },
  { nSteps: 'steps' },
);

/** {@link ExperimentTable} of attributions, a row for each number of each token. */
export interface AttributionTable extends ExperimentTable {
  /** For each prompt, layer and metric: the sum of all attributions, and the change of the metric that it tends to with more steps. */
  readonly sums: readonly {
    readonly prompt: number;
    readonly layer: number;
    readonly metric: Metric;
    readonly sum: number;
    readonly change: number;
  }[];
}

/** Attributions [tokens, numbers] of one layer, tokens of the whole prompt. */
export interface LayerParts {
  readonly metric: Metric;
  readonly layer: number;
  readonly parts: Float64Array;
  readonly change: number;
}

/**
 * Integrated gradients of every number of a layer's values.
 * @throws UserError for a model that is not whole on one device, a baseline that does not fit, or none where it is the corrupt prompt's.
 * @example
 * ```ts
 * import { encodePrompt, integratedGradients, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const clean = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const prompt = { clean, answer: tokenizer.idOf('paris')! };
 * const { sums } = await integratedGradients(model, prompt, { layers: [3], metric: 'prob', endpoints: 'gauss' });
 * console.log(Math.abs(sums[0]!.sum - sums[0]!.change) < 1e-3); // → true
 * model.device.destroy();
 * ```
 */
export async function integratedGradients(
  model: LanguageModel,
  prompts: (PromptAnswers & Partial<PromptPair>) | readonly (PromptAnswers & Partial<PromptPair>)[],
  options: IntegratedGradientsOptions = {},
): Promise<AttributionTable> {
  checkOptions('integratedGradients', integratedGradientsOptions, options);
  const list = pairList('integratedGradients', model, prompts, options.baseline === 'corrupt');
  const resident = wholeModel('integratedGradients', model);
  const metrics = metricsOf(options.metric, list);
  const {
    component = 'post',
    scope: moved = 'probe',
    baseline = 'zero',
    steps = 20,
    endpoints = 'right',
  } = options;
  const points = pathPoints(steps, endpoints);
  const layers = layersOf(model, options.layers);
  const hooks = layers.map((layer) => componentHook(component, layer));
  const width = widthOf(model, hooks[0]!);
  const found: LayerParts[][] = [];
  for (const pair of list) {
    const { clean } = pair;
    const other =
      baseline === 'corrupt'
        ? pair.corrupt!
        : typeof baseline === 'object' && 'ids' in baseline
          ? baseline
          : null;
    if (other) checkProbe('integratedGradients', model, other);
    if (other && other.ids.length !== clean.ids.length)
      throw new UserError(
        'pair',
        `a baseline of ${other.ids.length} tokens for a prompt of ${clean.ids.length}`,
      );
    const first =
      moved === 'probe'
        ? clean.position
        : other
          ? firstDifference({ ...pair, corrupt: { ...other, position: clean.position } })
          : 0;
    using plain = Downstream.open(resident, clean, first, hooks);
    using beside = other
      ? Downstream.open(resident, { ...other, position: clean.position }, plain.first, hooks)
      : null;
    const base = metricValues(await plain.logits.read(), pair);
    const parts: LayerParts[] = [];
    for (const [i, layer] of layers.entries()) {
      const hook = hooks[i]!;
      const x = plain.values([hook]).get(hook)!;
      const given =
        beside?.values([hook]).get(hook) ??
        (typeof baseline === 'object' && !('ids' in baseline) ? baseline : null);
      const start = baselineOf(plain, x, given, moved, width);
      try {
        parts.push(
          ...(await integrateLayer(
            plain,
            { hook, layer, x, start },
            points,
            pair,
            metrics,
            base,
            options.rowsPerPass,
          )),
        );
      } finally {
        start.dispose();
      }
    }
    found.push(parts);
  }
  return attributionTable('integrated_gradients', list, found, metrics, layers, component, width, moved);
}

const widthOf = (model: LanguageModel, hook: string): number => {
  const { width, heads } = pointOf(hooksOf(model.description), hook);
  if (heads !== undefined) throw new UserError('place', `${hook} is a pattern; take another component`);
  return width;
};

/** x', of the shape of x, where not all tokens are moved the values of x at the others. */
function baselineOf(
  plain: Downstream,
  x: Tensor,
  given: Tensor | null,
  moved: 'probe' | 'all',
  width: number,
): Tensor {
  const { first, tokens, probe } = plain;
  const made = noGrad(() =>
    scope(() => {
      let start: Tensor;
      if (!given) start = zeros(x.device, [tokens, width]);
      else if (given.size === tokens * width) start = reshape(given, [tokens, width]);
      else if (given.size % width === 0 && given.size / width >= first + tokens)
        start = slice(reshape(given, [given.size / width, width]), [first], [first + tokens]);
      else
        throw new UserError(
          'baseline',
          `[${given.shape.join(', ')}] is no baseline of ${first + tokens} tokens x ${width} numbers`,
        );
      const mask = Float32Array.from({ length: tokens }, (_, t) =>
        moved === 'all' || t === probe.position - first ? 1 : 0,
      );
      const flat = reshape(x, [tokens, width]);
      const moving = mul(sub(start, flat), tensor(x.device, mask, [tokens, 1]));
      return reshape(add(flat, moving), x.shape);
    }),
  );
  disown(made);
  return made;
}

/** Weighted gradients of rows x' + alpha (x - x') at one layer, times x - x'. */
async function integrateLayer(
  plain: Downstream,
  {
    hook,
    layer,
    x,
    start,
  }: { readonly hook: string; readonly layer: number; readonly x: Tensor; readonly start: Tensor },
  points: ReturnType<typeof pathPoints>,
  answers: PromptAnswers,
  metrics: readonly Metric[],
  base: MetricValues,
  rowsPerPass = plain.rowsThatFit(true),
): Promise<LayerParts[]> {
  const { model, tokens } = plain;
  const all = [...points, { alpha: 0, weight: 0 }];
  const sums = new Map(metrics.map((metric) => [metric, new Float64Array(x.size)]));
  let at0 = base;
  for (let begin = 0; begin < all.length; begin += rowsPerPass) {
    const some = all.slice(begin, begin + rowsPerPass);
    for (const metric of metrics) {
      const { of, factor } = differentiatedMetric(metric, answers);
      const [logits, gradient] = scope(() => {
        const alphas = tensor(
          model.device,
          some.map(({ alpha }) => alpha),
          [some.length, ...x.shape.slice(1).map(() => 1)],
        );
        const given = noGrad(() => add(start, mul(alphas, sub(x, start)))).requireGrad();
        const run = plain.run({ rows: some.length, given: new Map([[hook, given]]) });
        const [gradient] = grad(of(run.logits!), [given], { unconnected: 'zero' });
        const kept = [run.logits!.detach(), gradient!] as const;
        run[Symbol.dispose]();
        return [...kept];
      }) as [Tensor, Tensor];
      try {
        const values = metricRows(await logits.read(), model.sizes.vocabulary, answers);
        const weights = some.map(({ weight }, k) => weight * factor(values[k]!));
        if (begin + some.length === all.length) at0 = values.at(-1)!;
        const numbers = await weighted(model.device, gradient, weights);
        const sum = sums.get(metric)!;
        numbers.forEach((v, i) => void (sum[i]! += v));
      } finally {
        logits.dispose();
        gradient.dispose();
      }
    }
  }
  const [from, to] = await Promise.all([start.read(), x.read()]);
  return metrics.map((metric) => {
    const sum = sums.get(metric)!;
    const parts = wholePrompt(
      plain,
      sum.map((g, i) => g * (to[i]! - from[i]!)),
      x.size / tokens,
    );
    return { metric, layer, parts, change: base[metric] - at0[metric] };
  });
}

/** The sum of rows times weights; float32 holds the weights' proportions, whatever their size. */
async function weighted(device: Device, rows: Tensor, weights: readonly number[]): Promise<Float64Array> {
  const size = Math.max(...weights.map(Math.abs)) || 1;
  const count = weights.length;
  const product = noGrad(() =>
    scope(() =>
      matmul(
        tensor(
          device,
          weights.map((w) => w / size),
          [1, count],
        ),
        reshape(rows, [count, rows.size / count]),
      ),
    ),
  );
  try {
    return Float64Array.from(await product.read(), (v) => v * size);
  } finally {
    product.dispose();
  }
}

/** Numbers of the tokens at hand, among zeros for the others. */
function wholePrompt({ first, probe }: Downstream, numbers: Float64Array, width: number): Float64Array {
  const all = new Float64Array(Math.max(probe.ids.length * width, first * width + numbers.length));
  all.set(numbers, first * width);
  return all;
}

function attributionTable(
  experiment: string,
  prompts: readonly PromptAnswers[],
  found: readonly (readonly LayerParts[])[],
  metrics: readonly Metric[],
  layers: readonly number[],
  component: Component,
  width: number,
  moved: 'probe' | 'all',
): AttributionTable {
  const lengths = prompts.map(({ clean }) => clean.ids.length);
  if (moved === 'all' && lengths.some((length) => length !== lengths[0]))
    throw new UserError(
      'pair',
      "prompts of several lengths have no positions in common; take scope 'probe', or one by one",
    );
  const positions =
    moved === 'probe' ? [prompts[0]!.clean.position] : Array.from({ length: lengths[0]! }, (_, i) => i);
  const places: PlaceKeys[] = layers.flatMap((layer) =>
    positions.flatMap((position) =>
      Array.from({ length: width }, (_, neuron) => ({ component, layer, position, head: null, neuron })),
    ),
  );
  const none = { logit_diff: Number.NaN, logit: Number.NaN, logprob: Number.NaN, prob: Number.NaN };
  const results = found.map((parts, p): PairResult => {
    const own = prompts[p]!.clean.position;
    const values = layers.flatMap((layer) => {
      const here = parts.filter((each) => each.layer === layer);
      return positions.flatMap((position) =>
        Array.from({ length: width }, (_, n) =>
          Object.fromEntries(
            here.map(({ metric, parts }) => [
              metric,
              parts[(moved === 'probe' ? own : position) * width + n] ?? 0,
            ]),
          ),
        ),
      );
    });
    return { clean: none, corrupt: null, base: null, values };
  });
  const sums = found.flatMap((parts, prompt) =>
    parts.map(({ metric, layer, parts, change }) => ({
      prompt,
      layer,
      metric,
      sum: parts.reduce((a, b) => a + b, 0),
      change,
    })),
  );
  return { ...tableOf(experiment, null, metrics, places, results), sums };
}

/**
 * Conductance of every number of a layer's values, from the corrupt prompt to the clean one.
 * @throws UserError for a model that is not whole on one device, and prompts that are not of equal length.
 * @example
 * ```ts
 * import { conductance, encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const [clean, corrupt] = ['Japan', 'Egypt'].map((country) =>
 *   encodePrompt(model, tokenizer, `The capital of ${country} is [MASK].`),
 * );
 * const pair = { clean: clean!, corrupt: corrupt!, answer: tokenizer.idOf('tokyo')! };
 * const { sums } = await conductance(model, pair, { metric: 'prob', layers: [3], steps: 8 });
 * console.log(Math.abs(sums[0]!.change) > 0.9); // → true
 * model.device.destroy();
 * ```
 */
export async function conductance(
  model: LanguageModel,
  pairs: PromptPair | readonly PromptPair[],
  options: ConductanceOptions = {},
): Promise<AttributionTable> {
  checkOptions('conductance', conductanceOptions, options);
  const list = pairList('conductance', model, pairs);
  const resident = wholeModel('conductance', model);
  const metrics = metricsOf(options.metric, list);
  const { component = 'post', steps = 20, rowsPerPass } = options;
  const layers = layersOf(model, options.layers);
  const width = widthOf(model, componentHook(component, layers[0]!));
  const asked = { metrics, component, layers, steps, rowsPerPass };
  const found: LayerParts[][] = [];
  for (const pair of list) found.push(await conductanceParts(resident, pair, asked));
  return attributionTable('conductance', list, found, metrics, layers, component, width, 'all');
}

/** Conductance of one pair. @param pair `corrupt` null: from an input of zeros. */
export async function conductanceParts(
  model: Transformer,
  pair: PromptAnswers & { readonly corrupt: Probe | null },
  asked: {
    readonly metrics: readonly Metric[];
    readonly component: Component;
    readonly layers: readonly number[];
    readonly steps: number;
    readonly rowsPerPass?: number | undefined;
  },
): Promise<LayerParts[]> {
  const { metrics, component, layers, steps, rowsPerPass } = asked;
  const { clean, corrupt } = pair;
  const hooks = layers.map((layer) => componentHook(component, layer));
  const width = widthOf(model, hooks[0]!);
  const entry = 'blocks.0.hook_resid_pre';
  using plain = Downstream.open(model, clean, corrupt ? firstDifference({ ...pair, corrupt }) : 0);
  using other = corrupt && Downstream.open(model, corrupt, plain.first);
  const to = plain.values([entry]).get(entry)!;
  using none = other ? null : zeros(model.device, to.shape);
  const from = none ?? other!.values([entry]).get(entry)!;
  const base = metricValues(await plain.logits.read(), pair);
  const parts: LayerParts[] = [];
  const size = Math.max(2, rowsPerPass ?? plain.rowsThatFit(true));
  for (const metric of metrics) {
    const { of, factor } = differentiatedMetric(metric, pair);
    const sums = new Map(layers.map((layer) => [layer, new Float64Array(plain.tokens * width)]));
    let start: MetricValues | null = null;
    // Passes share the point between them: the end of one step is the beginning of the next.
    for (let begin = 0; begin < steps; begin += size - 1) {
      const points = Array.from({ length: Math.min(size, steps - begin + 1) }, (_, k) => begin + k);
      const rows = points.length;
      const made = scope(() => {
        const shares = tensor(
          model.device,
          points.map((k) => k / steps),
          [rows, 1, 1],
        );
        const given = noGrad(() => add(from, mul(shares, sub(to, from)))).requireGrad();
        const run = plain.run({ rows, given: new Map([[entry, given]]), capture: hooks });
        const values = hooks.map((hook) => run.captures.get(hook)!);
        const gradients = grad(of(run.logits!), values, { unconnected: 'zero' });
        const moves = noGrad(() =>
          values.map((y) => {
            const flat = reshape(y.detach(), [rows, y.size / rows]);
            return sub(slice(flat, [1], [rows]), slice(flat, [0], [rows - 1]));
          }),
        );
        const parts = noGrad(() =>
          gradients.map((g, i) => mul(slice(reshape(g, [rows, g.size / rows]), [1], [rows]), moves[i]!)),
        );
        const kept = [run.logits!.detach(), ...parts];
        run[Symbol.dispose]();
        return kept;
      });
      try {
        const [logits, ...products] = made as [Tensor, ...Tensor[]];
        const values = metricRows(await logits.read(), model.sizes.vocabulary, pair);
        start ??= values[0]!;
        for (const [i, product] of products.entries()) {
          const numbers = await weighted(model.device, product, values.map(factor).slice(1));
          const sum = sums.get(layers[i]!)!;
          numbers.forEach((v, at) => void (sum[at]! += v));
        }
      } finally {
        for (const t of made) t.dispose();
      }
    }
    for (const layer of layers)
      parts.push({
        metric,
        layer,
        parts: wholePrompt(plain, sums.get(layer)!, width),
        change: base[metric] - start![metric],
      });
  }
  return parts;
}
