/**
 * ONNX files as bytes: the little of protobuf that a graph of nodes and float tensors needs (onnx.proto3, field numbers
 * beside each call), and the two graphs that ONNX Runtime is measured on.
 */

import type { ModelConfig } from '../models/config.ts';
import type { HostWeight } from './network.ts';

type Part = Uint8Array;

const text = new TextEncoder();

function join(parts: readonly Part[]): Part {
  const whole = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const p of parts) {
    whole.set(p, at);
    at += p.length;
  }
  return whole;
}

function varint(value: number): Part {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Uint8Array.from([...bytes, rest]);
}

const integer = (field: number, value: number): Part => join([varint(field * 8), varint(value)]);
const bytes = (field: number, value: Part): Part =>
  join([varint(field * 8 + 2), varint(value.length), value]);
const string = (field: number, value: string): Part => bytes(field, text.encode(value));
const float = (field: number, value: number): Part =>
  join([varint(field * 8 + 5), new Uint8Array(Float32Array.of(value).buffer)]);

const TYPE = { f32: 1, i64: 7 } as const;

/** TensorProto of 32-bit floats or 64-bit integers. */
function tensorProto(name: string, shape: readonly number[], data: Float32Array | BigInt64Array): Part {
  return join([
    ...shape.map((size) => integer(1, size)),
    integer(2, data instanceof Float32Array ? TYPE.f32 : TYPE.i64),
    string(8, name),
    bytes(9, new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)),
  ]);
}

type Attribute = number | readonly number[] | { readonly f: number };

function attributeProto(name: string, value: Attribute): Part {
  if (typeof value === 'number') return join([string(1, name), integer(3, value), integer(20, 2)]);
  if ('f' in value) return join([string(1, name), float(2, value.f), integer(20, 1)]);
  return join([string(1, name), ...value.map((v) => integer(8, v)), integer(20, 7)]);
}

/** A graph under construction. Values are named; `node` returns the name of its output. */
class Graph {
  readonly #nodes: Part[] = [];
  readonly #initializers: Part[] = [];
  readonly #inputs: Part[] = [];
  readonly #outputs: Part[] = [];
  #count = 0;

  #value(name: string, type: number, shape: readonly number[]): Part {
    const dims = join(shape.map((size) => bytes(1, integer(1, size))));
    return join([string(1, name), bytes(2, bytes(1, join([integer(1, type), bytes(2, dims)])))]);
  }
  input(name: string, shape: readonly number[]): string {
    this.#inputs.push(bytes(11, this.#value(name, TYPE.i64, shape)));
    return name;
  }
  output(name: string, shape: readonly number[]): void {
    this.#outputs.push(bytes(12, this.#value(name, TYPE.f32, shape)));
  }
  constant(shape: readonly number[], data: Float32Array | readonly number[]): string {
    const name = `w${this.#count++}`;
    const numbers = data instanceof Float32Array ? data : BigInt64Array.from(data, (v) => BigInt(v));
    this.#initializers.push(bytes(5, tensorProto(name, shape, numbers)));
    return name;
  }
  scalar(value: number): string {
    return this.constant([], Float32Array.of(value));
  }
  node(op: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    const output = `v${this.#count++}`;
    this.#nodes.push(
      bytes(
        1,
        join([
          ...inputs.map((name) => string(1, name)),
          string(2, output),
          string(4, op),
          ...Object.entries(attributes).map(([name, value]) => bytes(5, attributeProto(name, value))),
        ]),
      ),
    );
    return output;
  }
  /** The complete ModelProto, opset 20. */
  model(): Part {
    const graph = join([
      ...this.#nodes,
      string(2, 'graph'),
      ...this.#initializers,
      ...this.#inputs,
      ...this.#outputs,
    ]);
    return join([integer(1, 9), bytes(7, graph), bytes(8, integer(2, 20))]);
  }
}

/** `count` products of the same A and B, of which one element each is returned (`all`: the whole of one product). */
export function matmulModel(
  a: Float32Array,
  b: Float32Array,
  { m, n, k }: { readonly m: number; readonly n: number; readonly k: number },
  count: number,
  all: boolean,
): Uint8Array {
  const graph = new Graph();
  const [left, right] = [graph.constant([m, k], a), graph.constant([k, n], b)];
  const products = Array.from({ length: all ? 1 : count }, () => graph.node('MatMul', [left, right]));
  if (all) {
    graph.output(products[0]!, [m, n]);
    return graph.model();
  }
  const [from, to] = [graph.constant([2], [0, 0]), graph.constant([2], [1, 1])];
  for (const product of products) graph.output(graph.node('Slice', [product, from, to]), [1, 1]);
  return graph.model();
}

/** BertForMaskedLM with logits at one position a row, as an exporter would write it: ids [B, S] to logits [B, V]. */
export function bertModel(
  { description }: ModelConfig,
  weights: ReadonlyMap<string, HostWeight>,
  batch: number,
  length: number,
  position: readonly number[],
): Uint8Array {
  const { hidden: H, heads, headSize: D, layers, vocabulary } = description.sizes;
  const { eps } = description.embedding.norm!;
  const graph = new Graph();
  const get = (name: string): HostWeight => weights.get(name)!;
  const vector = (name: string): string => graph.constant(get(name).shape, get(name).data);
  const turned = (name: string): string => {
    const { shape, data } = get(name);
    const [out, input] = shape as [number, number];
    const flat = new Float32Array(data.length);
    for (let o = 0; o < out; o++) for (let i = 0; i < input; i++) flat[i * out + o] = data[o * input + i]!;
    return graph.constant([input, out], flat);
  };
  const linear = (x: string, name: string): string =>
    graph.node('Add', [graph.node('MatMul', [x, turned(`${name}.weight`)]), vector(`${name}.bias`)]);
  const norm = (x: string, name: string): string =>
    graph.node('LayerNormalization', [x, vector(`${name}.weight`), vector(`${name}.bias`)], {
      axis: 2,
      epsilon: { f: eps },
    });
  const [places, types] = ['position', 'token_type'].map(
    (part) => get(`bert.embeddings.${part}_embeddings.weight`).data,
  ) as [Float32Array, Float32Array];
  const offsets = places.slice(0, length * H).map((v, i) => v + types[i % H]!);
  const words = vector('bert.embeddings.word_embeddings.weight');
  const ids = graph.input('ids', [batch, length]);
  let x = norm(
    graph.node('Add', [graph.node('Gather', [words, ids]), graph.constant([1, length, H], offsets)]),
    'bert.embeddings.LayerNorm',
  );
  const split = graph.constant([4], [batch, length, heads, D]);
  const joined = graph.constant([3], [batch, length, H]);
  const scale = graph.scalar(1 / Math.sqrt(D));
  for (let layer = 0; layer < layers; layer++) {
    const at = `bert.encoder.layer.${layer}`;
    const byHead = (part: string, perm: readonly number[]): string =>
      graph.node('Transpose', [graph.node('Reshape', [linear(x, `${at}.attention.self.${part}`), split])], {
        perm,
      });
    const scores = graph.node('MatMul', [byHead('query', [0, 2, 1, 3]), byHead('key', [0, 2, 3, 1])]);
    const pattern = graph.node('Softmax', [graph.node('Mul', [scores, scale])], { axis: 3 });
    const mixed = graph.node('MatMul', [pattern, byHead('value', [0, 2, 1, 3])]);
    const z = graph.node('Reshape', [graph.node('Transpose', [mixed], { perm: [0, 2, 1, 3] }), joined]);
    const middle = norm(
      graph.node('Add', [linear(z, `${at}.attention.output.dense`), x]),
      `${at}.attention.output.LayerNorm`,
    );
    const post = graph.node('Gelu', [linear(middle, `${at}.intermediate.dense`)]);
    x = norm(graph.node('Add', [linear(post, `${at}.output.dense`), middle]), `${at}.output.LayerNorm`);
  }
  const flat = graph.node('Reshape', [x, graph.constant([2], [batch * length, H])]);
  const rows = graph.node('Gather', [
    flat,
    graph.constant(
      [batch],
      position.map((p, i) => i * length + p),
    ),
  ]);
  const dense = graph.node('Gelu', [linear(rows, 'cls.predictions.transform.dense')]);
  const final = graph.node(
    'LayerNormalization',
    [
      dense,
      vector('cls.predictions.transform.LayerNorm.weight'),
      vector('cls.predictions.transform.LayerNorm.bias'),
    ],
    { axis: 1, epsilon: { f: eps } },
  );
  const logits = graph.node('Add', [
    graph.node('MatMul', [final, turned('bert.embeddings.word_embeddings.weight')]),
    vector('cls.predictions.bias'),
  ]);
  graph.output(logits, [batch, vocabulary]);
  return graph.model();
}
