/**
 * Direct logit attribution (Elhage et al. 2021; nostalgebraist 2020): the answer's logit, or its difference to another's, as a sum of what
 * each part of the model writes into the residual stream.
 *
 * The final norm is linear once its statistics are those of this run: for a vector c in the stream, c . d, d = (w / rms(x)) (U[a] - U[b]); a
 * layer norm takes the mean of c out first. So are norms of the halves' outputs (Gemma, OLMo 2), each with the statistics of its own input.
 * What is no part's stands in rows of its own: biases of attention and of norms and decoder, and what a soft-cap of the logits takes.
 *
 * Where norms lie on the stream itself (BERT, RoBERTa, DistilBERT), or a transform before the decoder (all encoders), nothing is linear. There
 * (`removed`) a part's row is the metric with the part taken out of the stream at all positions, outputs of all that comes after it, and of
 * what stands beside it, kept as they are.
 */

import { UserError } from '../../engine/errors.ts';
import {
  broadcastTo,
  gatherRows,
  linear,
  matmul,
  mul,
  noGrad,
  reshape,
  scope,
  sub,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { checkOptions, one, optionsSchema } from '../../engine/options.ts';
import { disown } from '../../engine/scope.ts';
import type { LayerSpec, NormSpec } from '../../models/block.ts';
import type { Description } from '../../models/description.ts';
import { jointsOf } from '../../models/description.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Transformer } from '../../models/transformer.ts';
import { Downstream } from './downstream.ts';
import {
  type Metric,
  type MetricValues,
  metricField,
  metricRows,
  metricsOf,
  metricValues,
} from './metric.ts';
import { type PromptAnswers, pairList, wholeModel } from './pairs.ts';
import { layersOf, placeFields } from './places.ts';
import { type ExperimentTable, type PairResult, type PlaceKeys, tableOf, type Values } from './table.ts';

/** What the logit is split into, and how. */
export interface DirectLogitAttributionOptions {
  /**
   * One or several; default `logit_diff`. `direct` takes `logit` and `logit_diff`, which are linear.
   */
  readonly metric?: Metric | readonly Metric[];
  /** `direct` where the model's stream is linear, else `removed`, by default; the table's note says which. */
  readonly method?: 'direct' | 'removed';
  /**
   * Of `direct`: `components` (default) are embedding, heads and feed-forward parts, which sum to the metric; `neurons` single ones of
   * `mlp.hook_post`; `accumulated` the stream before each layer.
   */
  readonly parts?: 'components' | 'neurons' | 'accumulated';
  /** Of `neurons`, `accumulated` and `removed`; default all. */
  readonly layers?: readonly number[];
}

/** {@link DirectLogitAttributionOptions} */
export const directLogitAttributionOptions = optionsSchema<DirectLogitAttributionOptions>({
  metric: metricField,
  method: one(['direct', 'removed']),
  parts: one(['components', 'neurons', 'accumulated']),
  layers: placeFields.layers,
});

/** {@link ExperimentTable} of parts of a logit. */
export interface DirectTable extends ExperimentTable {
  /** Of `components`: for each prompt and metric the sum of the parts beside the metric itself. */
  readonly sums: readonly {
    readonly prompt: number;
    readonly metric: Metric;
    readonly sum: number;
    readonly total: number;
  }[];
}

/** Whether what the layers write adds up to what the decoder reads, but for norms' statistics. */
const isLinear = ({ layers, head }: Description): boolean =>
  !head.transform && layers.every(({ norms }) => !norms.attention.around && !norms.feedForward.around);

/**
 * The parts of each prompt's metric: rows have the layer, and the head or neuron.
 * @throws UserError for a model that is not whole on one device, and `direct` where nothing is linear.
 * @example
 * ```ts
 * import { directLogitAttribution, encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/stories260k');
 * const clean = encodePrompt(model, tokenizer, 'Once upon a time');
 * const { rows, sums } = await directLogitAttribution(model, { clean, answer: 432 }, { metric: 'logit' });
 * console.log(rows.length, Math.abs(sums[0]!.sum - sums[0]!.total) < 1e-3); // → 46 true
 * model.device.destroy();
 * ```
 */
export async function directLogitAttribution(
  model: LanguageModel,
  prompts: PromptAnswers | readonly PromptAnswers[],
  options: DirectLogitAttributionOptions = {},
): Promise<DirectTable> {
  checkOptions('directLogitAttribution', directLogitAttributionOptions, options);
  const list = pairList('directLogitAttribution', model, prompts, false);
  const whole = wholeModel('directLogitAttribution', model);
  const metrics = metricsOf(options.metric, list);
  const linearHere = isLinear(model.description);
  const method = options.method ?? (linearHere ? 'direct' : 'removed');
  const layers = layersOf(model, options.layers);
  if (method === 'removed') {
    const places = removedPlaces(whole, layers);
    const results: PairResult[] = [];
    for (const one of list) {
      using plain = Downstream.open(whole, one.clean);
      const base = metricValues(await plain.logits.read(), one);
      results.push({ base, clean: base, corrupt: null, values: await removedParts(plain, one, layers) });
    }
    const note = 'removed: the metric with a part taken out of the stream, the outputs of all others kept';
    return { ...tableOf('direct_logit_attribution', null, metrics, places, results, note), sums: [] };
  }
  if (!linearHere)
    throw new UserError(
      'method',
      "directLogitAttribution: norms lie on this model's stream, nothing is linear there; take method 'removed'",
    );
  const wrong = metrics.find((metric) => metric !== 'logit' && metric !== 'logit_diff');
  if (wrong)
    throw new UserError(
      'metric',
      `directLogitAttribution: ${wrong} is not linear; take logit or logit_diff, or method 'removed'`,
    );
  const { parts = 'components' } = options;
  const results: PairResult[] = [];
  const sums: DirectTable['sums'][number][] = [];
  let places: readonly PlaceKeys[] = [];
  for (const [prompt, one] of list.entries()) {
    using plain = Downstream.open(whole, one.clean);
    const base = metricValues(await plain.logits.read(), one);
    const values: Record<string, number>[] = [];
    for (const metric of metrics) {
      const found = await directParts(plain, one, metric, parts, layers, base);
      places = found.map(({ value: _, ...place }) => place);
      for (const [i, { value }] of found.entries()) (values[i] ??= {})[metric] = value;
      if (parts === 'components')
        sums.push({
          prompt,
          metric,
          sum: found.reduce((sum, { value }) => sum + value, 0),
          total: base[metric],
        });
    }
    results.push({ base: null, clean: base, corrupt: null, values });
  }
  const note = "direct: norms with the statistics of this run, which make the stream's parts add up";
  return { ...tableOf('direct_logit_attribution', null, metrics, places, results, note), sums };
}

type Part = PlaceKeys & { readonly value: number };
const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

/** A linear function of vectors: f(c) = c . d + constant. */
interface Functional {
  readonly d: Float64Array;
  readonly constant: number;
}

/** A function of a norm's result as one of its input, the statistics those of x. */
async function throughNorm(
  { parameters }: Transformer,
  { kind, weight, bias, eps }: NormSpec,
  x: Float32Array,
  { d, constant }: Functional,
): Promise<Functional> {
  const w = await parameters.get(weight)!.read();
  const b = bias === undefined ? null : await parameters.get(bias)!.read();
  const size = x.length;
  const middle = kind === 'layer' ? x.reduce((a, v) => a + v, 0) / size : 0;
  const scale = Math.sqrt(x.reduce((a, v) => a + (v - middle) ** 2, 0) / size + eps);
  const g = d.map((v, i) => (v * (kind === 'rms1' ? 1 + w[i]! : w[i]!)) / scale);
  const shared = kind === 'layer' ? g.reduce((a, v) => a + v, 0) / size : 0;
  return { d: g.map((v) => v - shared), constant: constant + (b ? dot(b, d) : 0) };
}

/** A function of a product W x as one of x. */
async function throughWeight(model: Transformer, weight: string, { d }: Functional): Promise<Float32Array> {
  const product = noGrad(() =>
    scope(() =>
      matmul(tensor(model.device, Float32Array.from(d), [1, d.length]), model.parameters.get(weight)!),
    ),
  );
  try {
    return await product.read();
  } finally {
    product.dispose();
  }
}

async function directParts(
  plain: Downstream,
  { answer, other }: PromptAnswers,
  metric: Metric,
  wanted: NonNullable<DirectLogitAttributionOptions['parts']>,
  layers: readonly number[],
  base: MetricValues,
): Promise<Part[]> {
  const { model } = plain;
  const { description, parameters, sizes } = model;
  const { norm, decoder, cap } = description.head;
  const at = plain.probe.position - plain.first;
  const row = async (name: string): Promise<Float32Array> => {
    const value = plain.values([name]).get(name)!;
    const numbers = await value.read();
    const width = numbers.length / plain.tokens;
    return numbers.subarray(at * width, (at + 1) * width);
  };
  const ids = metric === 'logit' ? [answer] : [answer, other!];
  const table = noGrad(() => scope(() => gatherRows(parameters.get(decoder.weight)!, ids)));
  const unembed = await table.read();
  table.dispose();
  const bias = decoder.bias === undefined ? null : await parameters.get(decoder.bias)!.read();
  const difference = (of: ArrayLike<number>, i: number, j: number): number =>
    of[i]! - (ids.length > 1 ? of[j]! : 0);
  const read: Functional = {
    d: Float64Array.from({ length: sizes.hidden }, (_, i) => difference(unembed, i, sizes.hidden + i)),
    constant: bias ? difference(bias, answer, other ?? 0) : 0,
  };
  const last = await row(jointsOf(description, sizes.layers - 1).next);
  const end = norm ? await throughNorm(model, norm, last, read) : read;
  const none = { layer: null, position: null, head: null, neuron: null };
  if (wanted === 'accumulated') {
    const found: Part[] = [];
    for (const layer of layers)
      found.push({
        ...none,
        component: 'resid_pre',
        layer,
        value: dot(await row(`blocks.${layer}.hook_resid_pre`), end.d),
      });
    return found;
  }
  const found: Part[] = [];
  if (wanted === 'components')
    found.push({ ...none, component: 'embed', value: dot(await row('blocks.0.hook_resid_pre'), end.d) });
  for (const [layer, spec] of description.layers.entries()) {
    if (wanted === 'neurons' && !layers.includes(layer)) continue;
    const name = (hook: string): string => `blocks.${layer}.${hook}`;
    const half = async (which: 'attn' | 'mlp', after: NormSpec | undefined): Promise<Functional> =>
      after
        ? throughNorm(model, after, await row(name(rawHook(spec, which))), { d: end.d, constant: 0 })
        : { d: end.d, constant: 0 };
    if (wanted === 'components') {
      const { attention } = spec;
      const f = await half('attn', spec.norms.attention.after);
      const [z, along] = [
        await row(name('attn.hook_z')),
        await throughWeight(model, attention.out.weight, f),
      ];
      for (let head = 0; head < attention.heads; head++) {
        const [from, to] = [head * attention.size, (head + 1) * attention.size];
        found.push({
          ...none,
          component: 'z',
          layer,
          head,
          value: dot(z.subarray(from, to), along.subarray(from, to)),
        });
      }
      const ofBias =
        attention.out.bias === undefined ? 0 : dot(await parameters.get(attention.out.bias)!.read(), f.d);
      if (attention.out.bias !== undefined || f.constant !== 0)
        found.push({ ...none, component: 'attn_bias', layer, value: ofBias + f.constant });
    }
    const f = await half('mlp', spec.norms.feedForward.after);
    if (wanted === 'components') {
      const raw = await row(name(rawHook(spec, 'mlp')));
      found.push({ ...none, component: 'mlp_out', layer, value: dot(raw, f.d) + f.constant });
    } else {
      const [post, along] = [
        await row(name('mlp.hook_post')),
        await throughWeight(model, spec.feedForward.down.weight, f),
      ];
      for (const [neuron, a] of post.entries())
        found.push({ ...none, component: 'post', layer, neuron, value: a * along[neuron]! });
    }
  }
  if (wanted === 'components') {
    if (norm?.bias !== undefined || decoder.bias !== undefined)
      found.push({ ...none, component: 'bias', value: end.constant });
    if (cap !== undefined) {
      // Undone: cap tanh(y / cap) = logit.
      const before = found.reduce((sum, { value }) => sum + value, 0);
      found.push({ ...none, component: 'cap', value: base[metric] - before });
    }
  }
  return found;
}

/** The name of a half's output as its weights give it. */
const rawHook = ({ outputsNormed }: LayerSpec, half: 'attn' | 'mlp'): string =>
  outputsNormed ? `hook_${half}_raw` : `hook_${half}_out`;

function removedPlaces({ description }: Transformer, layers: readonly number[]): PlaceKeys[] {
  const none = { position: null, neuron: null };
  return layers.flatMap((layer): PlaceKeys[] => [
    ...Array.from({ length: description.layers[layer]!.attention.heads }, (_, head) => ({
      ...none,
      component: 'z',
      layer,
      head,
    })),
    { ...none, component: 'mlp_out', layer, head: null },
  ]);
}

/** Metrics with each head, then the feed-forward part, of each layer taken out. */
async function removedParts(
  plain: Downstream,
  answers: PromptAnswers,
  layers: readonly number[],
): Promise<Values[]> {
  const { model, tokens } = plain;
  const { description, sizes, parameters } = model;
  const outputs = (half: 'attn' | 'mlp', from: number): string[] =>
    Array.from({ length: sizes.layers }, (_, layer) => layer)
      .slice(from)
      .map((layer) => `blocks.${layer}.hook_${half}_out`);
  const found: Values[] = [];
  for (const layer of layers) {
    const spec = description.layers[layer]!;
    const { heads, size, out } = spec.attention;
    const raw = `blocks.${layer}.${rawHook(spec, 'attn')}`;
    const z = `blocks.${layer}.attn.hook_z`;
    const mlp = `blocks.${layer}.hook_mlp_out`;
    const later = outputs('attn', layer + 1);
    const values = plain.values([raw, z, mlp, ...later, ...outputs('mlp', layer)]);
    const frozen = (names: readonly string[]) => names.map((name) => [name, values.get(name)!] as const);
    const without = noGrad(() =>
      scope(() => {
        // A row keeps the columns of its head alone.
        const mask = Float32Array.from({ length: heads * heads * size }, (_, i) =>
          Math.floor((i % (heads * size)) / size) === Math.floor(i / (heads * size)) ? 1 : 0,
        );
        const mixed = reshape(values.get(z)!, [1, tokens, heads * size]);
        const own = mul(mixed, tensor(model.device, mask, [heads, 1, heads * size]));
        const written = linear(own, parameters.get(out.weight)!);
        return sub(broadcastTo(values.get(raw)!, written.shape), written);
      }),
    );
    disown(without);
    const nothing = zeros(model.device, values.get(mlp)!.shape);
    disown(nothing);
    try {
      for (const [rows, given] of [
        [heads, [[raw, without] as const, ...frozen(later), ...frozen(outputs('mlp', layer))]],
        [1, [[mlp, nothing] as const, ...frozen([...later, ...outputs('mlp', layer + 1)])]],
      ] as const) {
        using run = plain.run({ rows, given: new Map(given) });
        found.push(...metricRows(await run.logits!.read(), sizes.vocabulary, answers));
      }
    } finally {
      without.dispose();
      nothing.dispose();
    }
  }
  return found;
}
