/**
 * Edges between parts of a model: edge attribution patching (EAP: Syed et al. 2023) and its average along the way from the corrupt input to
 * the clean one (EAP-IG: Hanna et al. 2024), and how much of the answer a circuit of the strongest edges keeps (faithfulness).
 *
 * Nodes that write: the embedding, heads (z), feed-forward parts. Nodes that read: q, k and v of a head, a feed-forward part, the logits.
 * The score of an edge is the first-order estimate of path patching along it: (source - base) of what the one writes, times the gradient of
 * the metric at what the other reads, brought back along the stream alone: all other parts stay as they are, sums and norms of the stream are
 * differentiated. Where norms lie before the parts this is the published formula, the gradient at the reader's input; where they lie on the
 * stream (BERT) or on outputs (Gemma, OLMo 2) each norm on the way counts with its derivative.
 *
 * A circuit runs with what its edges carry taken from the clean prompt's run through the circuit, and all other edges from the corrupt prompt.
 */

import {
  add,
  broadcastTo,
  grad,
  matmul,
  mul,
  noGrad,
  reshape,
  scope,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { checkOptions, list, one, optionsSchema, whole } from '../../engine/options.ts';
import { disown } from '../../engine/scope.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Transformer } from '../../models/transformer.ts';
import { type ContrastOptions, contrastFields } from './activationPatching.ts';
import { Downstream } from './downstream.ts';
import { differentiatedMetric, type Metric, type MetricValues, metricsOf, metricValues } from './metric.ts';
import { firstDifference, type PromptPair, pairList, wholeModel } from './pairs.ts';
import {
  type ExperimentRow,
  type ExperimentTable,
  ends,
  type PairResult,
  type PlaceKeys,
  tableOf,
} from './table.ts';

/** What is estimated, and which circuits are run. */
export interface EdgeOptions extends ContrastOptions {
  /** `eap` (default): gradients of the base run; `eap-ig`: their mean at inputs from the corrupt prompt's to the clean one's. */
  readonly method?: 'eap' | 'eap-ig';
  /** Of `eap-ig`: k/steps, k = 1 … steps; default 5. */
  readonly steps?: number;
  /** Numbers of edges, the strongest by size of the first metric, whose circuit is run. */
  readonly circuits?: readonly number[];
}

/** {@link EdgeOptions} */
export const edgeOptions = optionsSchema<EdgeOptions>(
  {
    ...contrastFields,
    method: one(['eap', 'eap-ig']),
    steps: whole(1),
    circuits: list(whole(), 'a list of numbers of edges'),
  },
  { topN: 'circuits', n: 'circuits' },
);

/** A node that reads: of a head (k, v: key/value head), of a feed-forward part, or the logits. */
export interface Reader {
  readonly component: 'q' | 'k' | 'v' | 'mlp' | 'logits';
  readonly layer: number | null;
  readonly head: number | null;
}

/** A row of {@link edgeAttribution}: its own keys are the node that writes. */
export interface EdgeRow extends ExperimentRow {
  readonly to: Reader;
}

/** What a circuit keeps, the mean over pairs. */
export interface CircuitResult {
  readonly edges: number;
  readonly metric: Metric;
  readonly value: number;
  /** (value - corrupt) / (clean - corrupt): 1 is the clean prompt's answer. */
  readonly faithfulness: number;
}

/** {@link ExperimentTable} of edges. */
export interface EdgeTable extends ExperimentTable {
  readonly rows: readonly EdgeRow[];
  readonly circuits: readonly CircuitResult[];
}

/** Names of a layer's values. */
const at = (layer: number, hook: string): string => `blocks.${layer}.${hook}`;
const EMBED = 'blocks.0.hook_resid_pre';

/** The parts of a model as nodes. */
class Graph {
  readonly model: Transformer;
  readonly writers: readonly PlaceKeys[];
  readonly readers: readonly Reader[];
  /** By writer and reader, in the order of the rows. */
  readonly edges: readonly (readonly [writer: number, reader: number])[];

  constructor(model: Transformer) {
    this.model = model;
    const writers: PlaceKeys[] = [
      { component: 'embed', layer: null, position: null, head: null, neuron: null },
    ];
    const readers: Reader[] = [];
    for (const [layer, { attention }] of model.description.layers.entries()) {
      for (const [component, count] of [
        ['q', attention.heads],
        ['k', attention.keyHeads],
        ['v', attention.keyHeads],
      ] as const)
        for (let head = 0; head < count; head++) readers.push({ component, layer, head });
      readers.push({ component: 'mlp', layer, head: null });
      for (let head = 0; head < attention.heads; head++)
        writers.push({ component: 'z', layer, position: null, head, neuron: null });
      writers.push({ component: 'mlp_out', layer, position: null, head: null, neuron: null });
    }
    readers.push({ component: 'logits', layer: null, head: null });
    this.writers = writers;
    this.readers = readers;
    this.edges = readers.flatMap((reader, r) =>
      writers.flatMap((writer, w) => (this.#hears(writer, reader) ? [[w, r] as const] : [])),
    );
  }

  #hears(writer: PlaceKeys, reader: Reader): boolean {
    if (writer.layer === null || reader.layer === null) return true;
    if (writer.layer !== reader.layer) return writer.layer < reader.layer;
    // Both halves of a parallel layer read its input.
    return (
      reader.component === 'mlp' &&
      writer.component === 'z' &&
      !this.model.description.layers[writer.layer]!.parallel
    );
  }

  /** What a half writes, before norms of outputs: where heads add up. */
  raw(layer: number, half: 'attn' | 'mlp'): string {
    return at(
      layer,
      this.model.description.layers[layer]!.outputsNormed ? `hook_${half}_raw` : `hook_${half}_out`,
    );
  }

  /** The hook points of a reader's values. */
  hooks({ component, layer }: Reader): readonly string[] {
    if (component !== 'mlp') return [at(layer!, `attn.hook_${component}`)];
    const gated = this.model.description.layers[layer!]!.feedForward.gate !== undefined;
    return gated
      ? [at(layer!, 'mlp.hook_pre'), at(layer!, 'mlp.hook_pre_linear')]
      : [at(layer!, 'mlp.hook_pre')];
  }

  /** Layers and, last, null for the logits; the readers of each. */
  stages(): readonly { readonly layer: number | null; readonly readers: readonly number[] }[] {
    const layers = [...this.model.description.layers.keys(), null];
    return layers.map((layer) => ({
      layer,
      readers: this.readers.flatMap((reader, r) => (reader.layer === layer ? [r] : [])),
    }));
  }
}

/**
 * Scores of all edges; `change` is the estimated change of the metric when the edge carries what the source prompt's run writes.
 * @throws UserError for a model that is not whole on one device, and prompts that are not of equal length.
 * @example
 * ```ts
 * import { edgeAttribution, encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const [clean, corrupt] = ['Japan', 'Egypt'].map((country) =>
 *   encodePrompt(model, tokenizer, `The capital of ${country} is [MASK].`),
 * );
 * const [answer, other] = [tokenizer.idOf('tokyo')!, tokenizer.idOf('cairo')!];
 * const pair = { clean: clean!, corrupt: corrupt!, answer, other };
 * const { rows, circuits } = await edgeAttribution(model, pair, { circuits: [100_000] });
 * console.log(rows.length, circuits[0]!.faithfulness.toFixed(3)); // → 479 1.000
 * model.device.destroy();
 * ```
 */
export async function edgeAttribution(
  model: LanguageModel,
  pairs: PromptPair | readonly PromptPair[],
  options: EdgeOptions = {},
): Promise<EdgeTable> {
  checkOptions('edgeAttribution', edgeOptions, options);
  const prompts = pairList('edgeAttribution', model, pairs);
  const graph = new Graph(wholeModel('edgeAttribution', model));
  const { direction = 'denoise', method = 'eap', steps = 5, circuits = [] } = options;
  const metrics = metricsOf(options.metric, prompts);
  const results: PairResult[] = [];
  for (const pair of prompts) {
    using clean = Downstream.open(graph.model, pair.clean, firstDifference(pair));
    using corrupt = Downstream.open(graph.model, pair.corrupt, clean.first);
    const [base, source] = direction === 'denoise' ? [corrupt, clean] : [clean, corrupt];
    const inputs =
      method === 'eap'
        ? [direction === 'denoise' ? 0 : 1]
        : Array.from({ length: steps }, (_, k) => (k + 1) / steps);
    const plain = metricValues(await base.logits.read(), pair);
    const values = graph.edges.map((): Record<string, number> => ({}));
    for (const metric of metrics) {
      const scores = graph.edges.map(() => 0);
      for (const share of inputs)
        for (const [i, score] of (
          await scoresAt(graph, base, source, mixed(clean, corrupt, share), pair, metric)
        ).entries())
          scores[i]! += score / inputs.length;
      for (const [i, score] of scores.entries()) values[i]![metric] = plain[metric] + score;
    }
    const given = metricValues(await source.logits.read(), pair);
    results.push({ ...ends(direction, plain, given), base: plain, values });
  }
  const table = tableOf(
    'edge_attribution',
    direction,
    metrics,
    graph.edges.map(([w]) => graph.writers[w]!),
    results,
    method,
  );
  const rows = table.rows.map(
    (row, i): EdgeRow => ({ ...row, to: graph.readers[graph.edges[i % graph.edges.length]![1]]! }),
  );
  const order = [...graph.edges.keys()].sort(
    (a, b) => Math.abs(rows[b]!.change) - Math.abs(rows[a]!.change) || a - b,
  );
  const found: CircuitResult[] = [];
  for (const count of circuits) {
    const inside = new Set(order.slice(0, count));
    const runs: { value: MetricValues; clean: MetricValues; corrupt: MetricValues }[] = [];
    for (const pair of prompts) runs.push(await runCircuit(graph, pair, inside));
    for (const metric of metrics) {
      const mean = (of: (run: (typeof runs)[number]) => number): number =>
        runs.reduce((total, run) => total + of(run), 0) / runs.length;
      found.push({
        edges: inside.size,
        metric,
        value: mean(({ value }) => value[metric]),
        faithfulness: mean(
          ({ value, clean, corrupt }) =>
            (value[metric] - corrupt[metric]) / (clean[metric] - corrupt[metric]),
        ),
      });
    }
  }
  return { ...table, rows, circuits: found };
}

/** An input between the corrupt prompt's (0) and the clean one's (1). */
const mixed = (clean: Downstream, corrupt: Downstream, share: number) => (): Tensor => {
  const [to, from] = [clean.values([EMBED]).get(EMBED)!, corrupt.values([EMBED]).get(EMBED)!];
  if (share === 0 || share === 1) return (share === 1 ? to : from).detach();
  return add(from, mul(sub(to, from), tensor(to.device, [share])));
};

/** Scores of all edges by gradients at one input. */
async function scoresAt(
  graph: Graph,
  base: Downstream,
  source: Downstream,
  input: () => Tensor,
  answers: PromptPair,
  metric: Metric,
): Promise<number[]> {
  const { model, readers, writers } = graph;
  const { sizes, description, parameters } = model;
  const { of, factor } = differentiatedMetric(metric, answers);
  const layers = [...description.layers.keys()];
  const readHooks = [
    ...new Set(readers.filter(({ layer }) => layer !== null).flatMap((reader) => graph.hooks(reader))),
  ];
  const written = layers.flatMap((layer) => [graph.raw(layer, 'attn'), graph.raw(layer, 'mlp')]);
  const z = layers.map((layer) => at(layer, 'attn.hook_z'));
  const held: Tensor[] = [];
  const hold = (t: Tensor): Tensor => {
    disown(t);
    held.push(t);
    return t;
  };
  try {
    // The run at this input: what is written and, by one backward, the gradients of what is read.
    const entry = hold(noGrad(() => scope(input)));
    const gradients = new Map<string, Tensor>();
    const values = new Map<string, Tensor>();
    let logits: Tensor | null = null;
    scope(() => {
      const given = entry.detach().requireGrad();
      const run = base.run({
        rows: 1,
        given: new Map([[EMBED, given]]),
        capture: [...readHooks, ...written, ...z],
      });
      const wanted = readHooks.map((hook) => run.captures.get(hook)!);
      const found = grad(of(run.logits!), wanted, { unconnected: 'zero' });
      for (const [i, hook] of readHooks.entries()) gradients.set(hook, hold(found[i]!));
      for (const hook of [...written, ...z]) values.set(hook, hold(run.captures.get(hook)!.detach()));
      logits = hold(run.logits!.detach());
      run[Symbol.dispose]();
    });
    const times = factor(metricValues(await logits!.read(), answers));
    // What the source writes besides.
    const difference = (name: string): Tensor =>
      sub(source.values([name]).get(name)!, base.values([name]).get(name)!);
    const differences = new Map<string, Tensor>();
    for (const name of [EMBED, ...z, ...layers.map((layer) => graph.raw(layer, 'mlp'))])
      differences.set(name, hold(noGrad(() => scope(() => difference(name)))));

    const found = new Map<number, readonly (readonly number[])[]>();
    for (const stage of graph.stages()) {
      const rows = stage.readers.length;
      const names = [EMBED, ...written].filter(
        (name) => stage.layer === null || name === EMBED || layerOfName(name) <= stage.layer,
      );
      const parts = scope(() => {
        const leaves = names.map((name) => {
          const value = name === EMBED ? entry : values.get(name)!;
          return noGrad(() => broadcastTo(value, [rows, ...value.shape.slice(1)])).requireGrad();
        });
        const given = new Map(names.map((name, i) => [name, leaves[i]!]));
        // The reader's own layer is not read behind it.
        let objective: Tensor;
        let free: Disposable;
        if (stage.layer === null) {
          const run = base.run({ rows, given });
          objective = of(run.logits!);
          free = run;
        } else {
          const hooks = [...new Set(stage.readers.flatMap((r) => graph.hooks(readers[r]!)))];
          const run = base.run({ rows, given, capture: hooks, logits: false });
          objective = hooks
            .map((hook) =>
              sum(
                mul(run.captures.get(hook)!, cotangentOf(graph, stage.readers, hook, gradients.get(hook)!)),
              ),
            )
            .reduce((a, b) => add(a, b));
          free = run;
        }
        const back = grad(objective, leaves, { unconnected: 'zero' });
        free[Symbol.dispose]();
        return noGrad(() =>
          names.flatMap((name, i): Tensor[] => {
            const g = back[i]!;
            if (name === EMBED) return [reduced(mul(g, differences.get(EMBED)!), rows, 1)];
            const layer = layerOfName(name);
            if (name === graph.raw(layer, 'mlp')) return [reduced(mul(g, differences.get(name)!), rows, 1)];
            const { out, heads, size } = description.layers[layer]!.attention;
            const along = matmul(
              reshape(g, [g.size / sizes.hidden, sizes.hidden]),
              parameters.get(out.weight)!,
            );
            const tokens = g.dim(1);
            const moved = mul(
              reshape(along, [rows, tokens, heads * size]),
              reshape(differences.get(at(layer, 'attn.hook_z'))!, [1, tokens, heads * size]),
            );
            return [reduced(moved, rows, heads)];
          }),
        );
      });
      for (const t of parts) disown(t);
      const numbers = await Promise.all(parts.map((t) => t.read()));
      for (const t of parts) t.dispose();
      // Writers in the order of the graph: the embedding, then heads and feed-forward part of each layer.
      for (const [row, r] of stage.readers.entries())
        found.set(
          r,
          numbers.map((list) =>
            Array.from(list.subarray((row * list.length) / rows, ((row + 1) * list.length) / rows)),
          ),
        );
    }
    return graph.edges.map(([w, r]) => {
      const list = found.get(r)!.flat();
      const score = list[w];
      if (score === undefined) throw new RangeError(`no score of ${JSON.stringify(writers[w])}`);
      return score * times;
    });
  } finally {
    for (const t of held) t.dispose();
  }
}

const layerOfName = (name: string): number => Number(/^blocks\.(\d+)\./.exec(name)![1]);

/** Sums of [rows, tokens, parts x n] by row and part, [rows, parts]. */
const reduced = (x: Tensor, rows: number, parts: number): Tensor => {
  const tokens = x.dim(1);
  return sum(reshape(x, [rows, tokens, parts, x.size / (rows * tokens * parts)]), [1, 3]);
};

/** Of each reader's row the gradient at its own numbers, zeros elsewhere. */
function cotangentOf({ readers }: Graph, rows: readonly number[], hook: string, gradient: Tensor): Tensor {
  const own = rows.map((r) => readers[r]!);
  const component = /hook_([qkv])$/.exec(hook)?.[1] ?? 'mlp';
  const heads = gradient.shape.length === 4 ? gradient.dim(2) : 1;
  const mask = Float32Array.from({ length: own.length * heads }, (_, i) => {
    const reader = own[Math.floor(i / heads)]!;
    return reader.component === component && (reader.head === null || reader.head === i % heads) ? 1 : 0;
  });
  const shape = gradient.shape.length === 4 ? [own.length, 1, heads, 1] : [own.length, 1, 1];
  return noGrad(() => mul(gradient, tensor(gradient.device, mask, shape)));
}

/** The metric of a run in which the edges inside carry clean values and all others corrupt ones. */
async function runCircuit(
  graph: Graph,
  pair: PromptPair,
  inside: ReadonlySet<number>,
): Promise<{ value: MetricValues; clean: MetricValues; corrupt: MetricValues }> {
  const { model, readers, writers } = graph;
  const { description } = model;
  const layers = [...description.layers.keys()];
  using clean = Downstream.open(model, pair.clean, firstDifference(pair));
  using corrupt = Downstream.open(model, pair.corrupt, clean.first);
  const names = layers.flatMap((layer) => [at(layer, 'attn.hook_z'), graph.raw(layer, 'mlp')]);
  const outside = corrupt.values([EMBED, ...names, ...layers.map((layer) => graph.raw(layer, 'attn'))]);
  /** What the writers of the circuit write, by hook name. */
  const own = new Map<string, Tensor>([[EMBED, clean.values([EMBED]).get(EMBED)!]]);
  const held: Tensor[] = [];
  const hold = (make: () => Tensor): Tensor => {
    const made = noGrad(() => scope(make));
    disown(made);
    held.push(made);
    return made;
  };
  const heard = new Set([...inside].map((edge) => graph.edges[edge]!.join()));
  /** A writer's value for each reader: the circuit's where there is an edge. */
  const mixedFor = (name: string, stage: readonly number[], of: readonly number[]): Tensor =>
    hold(() => {
      const [mine, theirs] = [own.get(name)!, outside.get(name)!];
      const heads = of.length;
      const mask = Float32Array.from({ length: stage.length * heads }, (_, i) =>
        heard.has(`${of[i % heads]},${stage[Math.floor(i / heads)]}`) ? 1 : 0,
      );
      const shape = mine.shape.length === 4 ? [stage.length, 1, heads, 1] : [stage.length, 1, 1];
      const share = tensor(mine.device, mask, shape);
      const rest = tensor(
        mine.device,
        mask.map((m) => 1 - m),
        shape,
      );
      // Of two products one is zero: the values as they are.
      return add(mul(mine, share), mul(theirs, rest));
    });
  /** Values of all writers before a layer, for each of some readers. @param through whether its own heads are among them. */
  const stream = (stage: readonly number[], layer: number, through: boolean): Map<string, Tensor> => {
    const given = new Map([[EMBED, mixedFor(EMBED, stage, [0])]]);
    const of = (component: string, at: number): number[] =>
      writers.flatMap((writer, w) => (writer.component === component && writer.layer === at ? [w] : []));
    for (const each of layers.filter((l) => l < layer || (through && l === layer)))
      given.set(at(each, 'attn.hook_z'), mixedFor(at(each, 'attn.hook_z'), stage, of('z', each)));
    for (const each of layers.filter((l) => l < layer))
      given.set(graph.raw(each, 'mlp'), mixedFor(graph.raw(each, 'mlp'), stage, of('mlp_out', each)));
    return given;
  };
  try {
    for (const layer of layers) {
      const { parallel } = description.layers[layer]!;
      const stage = readers.flatMap((reader, r) =>
        reader.layer === layer && reader.component !== 'mlp' ? [r] : [],
      );
      const heads = ['q', 'k', 'v'].map((part) => at(layer, `attn.hook_${part}`));
      const given = stream(stage, layer, false);
      // Nothing of this layer's own attention is read: its heads are given, so that none is computed.
      const z = at(layer, 'attn.hook_z');
      given.set(z, outside.get(z)!);
      using run = corrupt.run({ rows: stage.length, given, capture: heads, logits: false });
      const attention = new Map(
        heads.map((name, i) => {
          const value = run.captures.get(name)!;
          const part = ['q', 'k', 'v'][i]!;
          const count = value.dim(2);
          const rows = stage.flatMap((r, row) => (readers[r]!.component === part ? [row] : []));
          // Head h of the row of reader h.
          const mask = new Float32Array(stage.length * count);
          for (const [h, row] of rows.entries()) mask[row * count + h] = 1;
          return [
            name,
            hold(() => sum(mul(value, tensor(value.device, mask, [stage.length, 1, count, 1])), [0], true)),
          ] as const;
        }),
      );
      using mixed = corrupt.run({ rows: 1, given: attention, capture: [z], logits: false });
      own.set(
        z,
        hold(() => mixed.captures.get(z)!.detach()),
      );
      const mlp = readers.findIndex((reader) => reader.layer === layer && reader.component === 'mlp');
      const before = stream([mlp], layer, !parallel);
      if (parallel) before.set(z, outside.get(z)!);
      const raw = graph.raw(layer, 'mlp');
      using fed = corrupt.run({ rows: 1, given: before, capture: [raw], logits: false });
      own.set(
        raw,
        hold(() => fed.captures.get(raw)!.detach()),
      );
    }
    const end = stream([readers.length - 1], layers.length, false);
    using run = corrupt.run({ rows: 1, given: end });
    const value = metricValues(await run.logits!.read(), pair);
    const [to, from] = [
      metricValues(await clean.logits.read(), pair),
      metricValues(await corrupt.logits.read(), pair),
    ];
    return { value, clean: to, corrupt: from };
  } finally {
    for (const t of held) t.dispose();
  }
}
