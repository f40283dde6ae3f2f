/**
 * What a family says of one model, and all that follows from it by walking its blocks: parameters in the checkpoint's order,
 * hook points with their widths, sites, where changes of neurons join.
 */

import type { ActivationName } from '../kernels/activation.ts';
import {
  body,
  decode,
  enter,
  finish,
  type HeadSpec,
  type LayerSpec,
  type LinearSpec,
  leave,
  type NormSpec,
  type StoredRows,
  same,
  type Words,
} from './block.ts';
import type { Stage } from './pass.ts';

/** A feed-forward value that can be "the neuron" (docs/conventions.md#sites), as the last part of its hook name without `hook_`. */
export type Site = 'pre' | 'pre_linear' | 'act' | 'post';

/** Sizes that every family has, read from `config.json`. */
export interface ModelSizes {
  readonly layers: number;
  readonly hidden: number;
  /** Feed-forward neurons a layer (`intermediate_size`). */
  readonly width: number;
  readonly heads: number;
  /** Key/value heads; equals `heads` without grouped-query attention. */
  readonly keyValueHeads: number;
  readonly headSize: number;
  readonly vocabulary: number;
  /** Longest prompt, in tokens. */
  readonly positions: number;
}

/** A named value inside a model. */
export interface HookPoint {
  readonly name: string;
  /** -1 before the first layer, the number of layers after the last. */
  readonly layer: number;
  /** Numbers a token, of all heads where it has such. */
  readonly width: number;
  /** Of an attention pattern [B, heads, Q, K], whose numbers go by pairs of tokens. */
  readonly heads?: number;
  /** Heads that the numbers of a token are of: q, k, v, z. */
  readonly parts?: number;
}

/** All names of one model: canonical ones in forward order, and aliases to them. */
export interface HookTable {
  readonly names: readonly string[];
  readonly points: ReadonlyMap<string, HookPoint>;
  readonly aliases: ReadonlyMap<string, string>;
}

/** Rows of a table that are added to the embedding. */
export interface TableSpec {
  /** Parameter [rows, hidden]. */
  readonly weight: string;
  readonly rows: number;
}

/** From tokens to the first layer's input. */
export interface EmbeddingSpec {
  /** Parameter [vocabulary, hidden]. */
  readonly word: string;
  /** What its rows are multiplied by (Gemma: the root of hidden). */
  readonly scale?: number | undefined;
  /**
   * By position. `first`: row of the first token. `padding`: id of the padding token and its row, both; padding is told by that id
   * then, whatever the mask says, and not counted (RoBERTa).
   */
  readonly position?: (TableSpec & { readonly first?: number; readonly padding?: number }) | undefined;
  readonly type?: TableSpec | undefined;
  /** Of the sum. */
  readonly norm?: NormSpec | undefined;
}

/** A model, as its family describes it. */
export interface Description {
  readonly sizes: ModelSizes;
  /** Whether a token sees those before it alone; else all, and a mask's token is to be filled in. */
  readonly causal: boolean;
  readonly embedding: EmbeddingSpec;
  readonly layers: readonly LayerSpec[];
  readonly head: HeadSpec;
  /** Hugging Face modules, besides linear maps and norms, and the hook points at their outputs. */
  readonly modules: ReadonlyMap<string, string>;
}

/** A tensor that a model computes with. */
export interface Parameter {
  /** In Hugging Face's `state_dict`; of a part of a tensor there, `tensor[part]`. */
  readonly name: string;
  /** A matrix is [out, in], however it is stored. */
  readonly shape: readonly number[];
  readonly kind: 'embedding' | 'matrix' | 'bias' | 'norm';
  /** Where it is read first; the decoder's may be read there, too. */
  readonly stage: Stage;
  /** Before training; null: drawn. */
  readonly initial: 0 | 1 | null;
  readonly stored?: StoredRows | undefined;
}

/** All parameters, in the order in which Hugging Face's modules have them. */
export function parametersOf(description: Description): Parameter[] {
  const { sizes, embedding, layers, head } = description;
  const found = new Map<string, Parameter>();
  const put = (parameter: Parameter): void => {
    if (!found.has(parameter.name)) found.set(parameter.name, parameter);
  };
  const table = (name: string, rows: number): void =>
    put({ name, shape: [rows, sizes.hidden], kind: 'embedding', stage: 'embed', initial: null });
  const norm = (spec: NormSpec | undefined, stage: Stage): void => {
    if (!spec) return;
    const initial = spec.kind === 'rms1' ? 0 : 1;
    put({ name: spec.weight, shape: [spec.size], kind: 'norm', stage, initial });
    if (spec.bias) put({ name: spec.bias, shape: [spec.size], kind: 'bias', stage, initial: 0 });
  };
  const linear = (spec: LinearSpec | undefined, stage: Stage): void => {
    if (!spec) return;
    const { weight, bias, out, in: size, stored } = spec;
    put({ name: weight, shape: [out, size], kind: 'matrix', stage, initial: null, stored });
    if (!bias) return;
    const rows = stored && { rows: stored.rows, of: stored.of };
    put({ name: bias, shape: [out], kind: 'bias', stage, initial: 0, stored: rows });
  };
  table(embedding.word, sizes.vocabulary);
  if (embedding.position) table(embedding.position.weight, embedding.position.rows);
  if (embedding.type) table(embedding.type.weight, embedding.type.rows);
  norm(embedding.norm, 'embed');
  for (const [layer, { attention, feedForward, norms }] of layers.entries()) {
    norm(norms.attention.before, layer);
    for (const part of ['q', 'k', 'v'] as const) linear(attention[part], layer);
    norm(attention.norms?.q, layer);
    norm(attention.norms?.k, layer);
    linear(attention.out, layer);
    norm(norms.attention.after, layer);
    norm(norms.attention.around, layer);
    norm(norms.feedForward.before, layer);
    for (const part of ['gate', 'up', 'down'] as const) linear(feedForward[part], layer);
    norm(norms.feedForward.after, layer);
    norm(norms.feedForward.around, layer);
  }
  norm(head.norm, 'head');
  linear(head.transform?.dense, 'head');
  norm(head.transform?.norm, 'head');
  linear(head.decoder, 'head');
  return [...found.values()];
}

/** Whether the decoder is the word embedding. */
export const isTied = ({ embedding, head }: Description): boolean => head.decoder.weight === embedding.word;

/** Names of the parameters that a stage reads; a tied decoder is read in the head, too. */
export function parametersOfStage(description: Description, stage: Stage): string[] {
  const names = parametersOf(description).flatMap((each) => (each.stage === stage ? [each.name] : []));
  return stage === 'head' && isTied(description) ? [...names, description.embedding.word] : names;
}

/** The stored tensor that a parameter is (a part of): names of parts end in `[part]`. */
export const storedName = (parameter: string): string => parameter.replace(/\[[^\]]*\]$/, '');

/** The feed-forward of all layers, which differ in parameters alone. */
export function feedForwardOf({ layers }: Description): {
  readonly activation: ActivationName;
  readonly gated: boolean;
} {
  const { activation, gate } = layers[0]!.feedForward;
  return { activation, gated: gate !== undefined };
}

/** Feed-forward values that can be "the neuron", and the one that Zhao et al. 2025 take (docs/conventions.md#sites). */
export function sitesOf(description: Description): {
  readonly sites: readonly Site[];
  readonly paperSite: Site;
} {
  return feedForwardOf(description).gated
    ? { sites: ['pre', 'pre_linear', 'act', 'post'], paperSite: 'pre_linear' }
    : { sites: ['pre', 'post'], paperSite: 'post' };
}

/** A value as {@link Names} sees it: how wide it is, and the module whose output it is. */
interface Shape {
  readonly width: number;
  readonly module?: string;
  readonly parts?: number | undefined;
}

/** The words by names: what hook points there are. */
class Names implements Words<Shape> {
  readonly points: HookPoint[] = [];
  readonly modules = new Map<string, string>();
  readonly activate = same;
  readonly add = same;
  readonly rotate = same;
  readonly cap = same;
  readonly asked = same;
  readonly queries = same;
  readonly #layer: number;
  readonly #prefix: string;

  /** @param prefix of the names in a layer. */
  constructor(layer: number, prefix = '') {
    this.#layer = layer;
    this.#prefix = prefix;
  }

  at(hook: string, { width, module, parts }: Shape): Shape {
    this.#point(hook, width, parts === undefined ? {} : { parts });
    if (module !== undefined) this.modules.set(module, this.points.at(-1)!.name);
    return { width, parts };
  }

  #point(hook: string, width: number, others: Pick<HookPoint, 'heads' | 'parts'>): void {
    const name = this.#prefix + hook;
    this.points.push({ name, layer: this.#layer, width, ...others });
  }

  split(x: Shape, parts: number): Shape {
    return { ...x, parts };
  }

  linear(_: Shape, { weight, out, stored }: LinearSpec): Shape {
    // A module that several maps share has no output of its own here.
    return stored && stored.rows.reduce((sum, [, count]) => sum + count, 0) < stored.of
      ? { width: out }
      : { width: out, module: moduleOf(weight) };
  }

  norm({ width, parts }: Shape, { weight }: NormSpec): Shape {
    return { width, parts, module: moduleOf(weight) };
  }

  gated(gate: Shape): Shape {
    return this.at('mlp.hook_act', { width: gate.width });
  }

  attend(q: Shape, _k: Shape, _v: Shape, { heads }: { readonly heads: number }): Shape {
    this.#point('attn.hook_pattern', heads, { heads });
    return { width: q.width, parts: heads };
  }
}

const moduleOf = (weight: string): string => weight.replace(/\.weight$/, '');

/** All hook points in forward order, and Hugging Face modules whose outputs they are. */
export function hooksOf(description: Description): HookTable {
  const { sizes, embedding, layers, head } = description;
  const points: HookPoint[] = [];
  const modules = new Map<string, string>();
  const collect = (names: Names): void => {
    points.push(...names.points);
    for (const [module, hook] of names.modules) modules.set(module, hook);
  };
  const start = new Names(-1);
  const table = (hook: string, weight: string): Shape =>
    start.at(hook, { width: sizes.hidden, module: moduleOf(weight) });
  table('hook_embed', embedding.word);
  if (embedding.type) table('hook_token_type_embed', embedding.type.weight);
  if (embedding.position) table('hook_pos_embed', embedding.position.weight);
  if (embedding.norm) start.at(embedding.norm.hook, start.norm({ width: sizes.hidden }, embedding.norm));
  collect(start);
  for (const [number, spec] of layers.entries()) {
    const names = new Names(number, `blocks.${number}.`);
    const { product } = body(names, spec, { width: sizes.hidden });
    leave(names, spec, names.add(enter(names, spec, product)));
    collect(names);
  }
  const end = new Names(layers.length);
  decode(end, head, finish(end, head, { width: sizes.hidden }));
  collect(end);
  for (const [module, hook] of description.modules) modules.set(module, hook);
  return {
    names: points.map(({ name }) => name),
    points: new Map(points.map((point) => [point.name, point])),
    aliases: modules,
  };
}

/** Names of the values that shifted neurons join and leave by: where a row's mark lies, and what the next layer reads. */
export function jointsOf(
  { layers }: Description,
  layer: number,
): { readonly mark: string; readonly next: string } {
  const { feedForward } = layers[layer]!.norms;
  const name = (hook: string): string => `blocks.${layer}.${hook}`;
  const raw = layers[layer]!.outputsNormed ? 'hook_mlp_raw' : 'hook_mlp_out';
  return {
    mark: name(feedForward.after ? raw : 'hook_resid_post'),
    next: name(feedForward.around?.hook ?? 'hook_resid_post'),
  };
}
