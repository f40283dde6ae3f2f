/**
 * BERT and Llama in jax-js, compiled by its `jit`, with the gradient of the targets' log-probabilities at every neuron
 * (after the activation) by its `grad`: a shift of zeros is added there, and the gradient is that of the shifts.
 *
 * Embeddings are looked up on the host and rows are picked by products with one-hot matrices, neither of which costs it
 * time worth mentioning; all else is its own functions.
 */

import type { ModelConfig } from '../models/config.ts';
import { type Description, isTied } from '../models/description.ts';
import type { HostWeight } from './network.ts';

/** The parts of jax-js's interface that are used here; its own types are not installed with this project. */
export interface JaxArray {
  /** The same array, counted once more: whatever is passed to a function is used up. */
  readonly ref: JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  add(other: JaxArray | number): JaxArray;
  mul(other: JaxArray | number): JaxArray;
  div(other: JaxArray | number): JaxArray;
  neg(): JaxArray;
  sum(): JaxArray;
  blockUntilReady(): Promise<JaxArray>;
  data(): Promise<Float32Array>;
  dispose(): void;
}
type Tree = Record<string, JaxArray>;
export interface Jax {
  init(device: string): Promise<readonly string[]>;
  defaultDevice(device: string): string;
  readonly numpy: {
    array(data: Float32Array): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
    mean(x: JaxArray, axis: number, options: { readonly keepdims: boolean }): JaxArray;
    sqrt(x: JaxArray): JaxArray;
    transpose(x: JaxArray, order: readonly number[]): JaxArray;
    split(x: JaxArray, parts: number, axis: number): [JaxArray, JaxArray];
    concatenate(parts: readonly JaxArray[], axis: number): JaxArray;
  };
  readonly nn: {
    gelu(x: JaxArray, options: { readonly approximate: boolean }): JaxArray;
    silu(x: JaxArray): JaxArray;
    standardize(x: JaxArray, axis: number, options: { readonly epsilon: number }): JaxArray;
    logSoftmax(x: JaxArray, axis: number): JaxArray;
    softmax(x: JaxArray, axis: number): JaxArray;
  };
  readonly tree: { ref(tree: Tree): Tree; dispose(tree: Tree): void };
  grad(f: (shifts: Tree, weights: Tree) => JaxArray): (shifts: Tree, weights: Tree) => Tree;
  jit(f: (shifts: Tree, weights: Tree) => Tree): (shifts: Tree, weights: Tree) => Tree;
}

/** What both networks need; `weights` uses each parameter once, so that none outlives the call. */
function parts(jax: Jax, weights: Tree, [batch, length]: readonly [number, number], { sizes }: Description) {
  const { numpy: np, nn } = jax;
  const { heads, headSize } = sizes;
  const w = (name: string): JaxArray => weights[name]!;
  return {
    w,
    linear: (x: JaxArray, name: string): JaxArray => {
      const y = np.matmul(x, w(`${name}.weight`));
      return weights[`${name}.bias`] ? y.add(w(`${name}.bias`)) : y;
    },
    layerNorm: (x: JaxArray, name: string, epsilon: number): JaxArray =>
      nn
        .standardize(x, -1, { epsilon })
        .mul(w(`${name}.weight`))
        .add(w(`${name}.bias`)),
    rmsNorm: (x: JaxArray, name: string, epsilon: number): JaxArray =>
      x.ref.div(np.sqrt(np.mean(x.ref.mul(x), -1, { keepdims: true }).add(epsilon))).mul(w(`${name}.weight`)),
    byHead: (x: JaxArray): JaxArray => x.reshape([batch, length, heads, headSize]),
    /** In products: its own attention is an einsum, which needs Node 22's iterators. */
    attention: (q: JaxArray, k: JaxArray, v: JaxArray): JaxArray => {
      const scores = np
        .matmul(np.transpose(q, [0, 2, 1, 3]), np.transpose(k, [0, 2, 3, 1]))
        .mul(1 / Math.sqrt(headSize));
      const pattern = nn.softmax(weights.mask ? scores.add(w('mask').ref) : scores, -1);
      const mixed = np.matmul(pattern, np.transpose(v, [0, 2, 1, 3]));
      return np.transpose(mixed, [0, 2, 1, 3]).reshape([batch, length, heads * headSize]);
    },
    /** x cos + (-second half, first half) sin. */
    rotated: (x: JaxArray): JaxArray => {
      const [a, b] = np.split(x.ref, 2, -1);
      return x.mul(w('cos').ref).add(np.concatenate([b.neg(), a], -1).mul(w('sin').ref));
    },
  };
}

function bertHidden(
  jax: Jax,
  description: Description,
  size: readonly [number, number],
  shifts: Tree,
  weights: Tree,
) {
  const { w, linear, layerNorm, byHead, attention } = parts(jax, weights, size, description);
  const { eps } = description.embedding.norm!;
  let x = layerNorm(w('embedded'), 'bert.embeddings.LayerNorm', eps);
  for (let layer = 0; layer < description.sizes.layers; layer++) {
    const at = `bert.encoder.layer.${layer}`;
    const [q, k, v] = ['query', 'key', 'value'].map((part) =>
      byHead(linear(x.ref, `${at}.attention.self.${part}`)),
    ) as [JaxArray, JaxArray, JaxArray];
    const z = attention(q, k, v);
    const middle = layerNorm(
      linear(z, `${at}.attention.output.dense`).add(x),
      `${at}.attention.output.LayerNorm`,
      eps,
    );
    const post = jax.nn
      .gelu(linear(middle.ref, `${at}.intermediate.dense`), { approximate: false })
      .add(shifts[layer]!);
    x = layerNorm(linear(post, `${at}.output.dense`).add(middle), `${at}.output.LayerNorm`, eps);
  }
  const rows = jax.numpy.matmul(w('picked'), x.reshape([size[0] * size[1], description.sizes.hidden]));
  const dense = jax.nn.gelu(linear(rows, 'cls.predictions.transform.dense'), { approximate: false });
  return jax.numpy
    .matmul(layerNorm(dense, 'cls.predictions.transform.LayerNorm', eps), w('decoder'))
    .add(w('cls.predictions.bias'));
}

function llamaHidden(
  jax: Jax,
  description: Description,
  size: readonly [number, number],
  shifts: Tree,
  weights: Tree,
) {
  const { w, linear, rmsNorm, byHead, attention, rotated } = parts(jax, weights, size, description);
  const { eps } = description.head.norm!;
  let x = w('embedded');
  for (let layer = 0; layer < description.sizes.layers; layer++) {
    const at = `model.layers.${layer}`;
    const normal = rmsNorm(x.ref, `${at}.input_layernorm`, eps);
    const project = (part: string): JaxArray => byHead(linear(normal.ref, `${at}.self_attn.${part}_proj`));
    const [q, k, v] = [rotated(project('q')), rotated(project('k')), project('v')];
    normal.dispose();
    const z = attention(q, k, v);
    const middle = x.add(linear(z, `${at}.self_attn.o_proj`));
    const inner = rmsNorm(middle.ref, `${at}.post_attention_layernorm`, eps);
    const gate = jax.nn.silu(linear(inner.ref, `${at}.mlp.gate_proj`));
    const post = gate.mul(linear(inner, `${at}.mlp.up_proj`)).add(shifts[layer]!);
    x = middle.add(linear(post, `${at}.mlp.down_proj`));
  }
  for (const table of ['cos', 'sin', 'mask']) w(table).dispose();
  const rows = jax.numpy.matmul(w('picked'), x.reshape([size[0] * size[1], description.sizes.hidden]));
  return jax.numpy.matmul(rmsNorm(rows, 'model.norm', eps), w('decoder'));
}

/** Gradients of the sum of log-probabilities, by layer [batch, length, width], and how to let go of the parameters. */
export function jaxGradients(
  jax: Jax,
  { description }: ModelConfig,
  host: ReadonlyMap<string, HostWeight>,
  ids: readonly (readonly number[])[],
  position: readonly number[],
  target: readonly number[],
): { readonly run: () => Tree; readonly dispose: () => void } {
  const [batch, length] = [ids.length, ids[0]!.length];
  const { hidden: H, layers, width, vocabulary } = description.sizes;
  const upload = (data: Float32Array, shape: readonly number[]): JaxArray =>
    jax.numpy.array(data).reshape(shape);
  const get = (name: string): Float32Array => host.get(name)!.data;
  const oneHot = (rows: number, columns: number, at: (row: number) => number): JaxArray => {
    const data = new Float32Array(rows * columns);
    for (let row = 0; row < rows; row++) data[row * columns + at(row)] = 1;
    return upload(data, [rows, columns]);
  };
  const bert = !description.causal;
  const words = get(bert ? 'bert.embeddings.word_embeddings.weight' : 'model.embed_tokens.weight');
  const embedded = new Float32Array(batch * length * H);
  ids.flat().forEach((id, token) => {
    for (let i = 0; i < H; i++) embedded[token * H + i] = words[id * H + i]!;
    if (!bert) return;
    const [places, types] = ['position', 'token_type'].map((part) =>
      get(`bert.embeddings.${part}_embeddings.weight`),
    );
    for (let i = 0; i < H; i++) embedded[token * H + i]! += places![(token % length) * H + i]! + types![i]!;
  });
  const weights: Tree = {
    embedded: upload(embedded, [batch, length, H]),
    picked: oneHot(batch, batch * length, (row) => row * length + position[row]!),
    target: oneHot(batch, vocabulary, (row) => target[row]!),
  };
  for (const [name, { shape, data }] of host) {
    if (/embed/.test(name) && !/LayerNorm/.test(name)) continue;
    if (name === 'lm_head.weight') continue;
    // Checkpoints store [out, in]; as a product's right side it wants [in, out].
    weights[name] = shape.length === 2 ? transposed(data, shape) : upload(data, shape);
  }
  const decoder = isTied(description) ? words : get('lm_head.weight');
  weights.decoder = transposed(decoder, [vocabulary, H]);
  if (!bert) {
    const angles = description.layers[0]!.attention.rotary!;
    const half = angles.length;
    const table = (of: (angle: number) => number): JaxArray =>
      upload(
        Float32Array.from({ length: length * 2 * half }, (_, i) =>
          of(Math.floor(i / (2 * half)) * angles[i % half]!),
        ),
        [1, length, 1, 2 * half],
      );
    weights.cos = table(Math.cos);
    weights.sin = table(Math.sin);
    weights.mask = upload(
      Float32Array.from({ length: length * length }, (_, i) =>
        i % length > Math.floor(i / length) ? -1e30 : 0,
      ),
      [1, 1, length, length],
    );
  }
  const shifts: Tree = Object.fromEntries(
    Array.from({ length: layers }, (_, layer) => [
      layer,
      upload(new Float32Array(batch * length * width), [batch, length, width]),
    ]),
  );
  const size = [batch, length] as const;
  const gradients = jax.jit(
    jax.grad((at, all) => {
      const logits = bert
        ? bertHidden(jax, description, size, at, all)
        : llamaHidden(jax, description, size, at, all);
      return jax.nn.logSoftmax(logits, -1).mul(all.target!).sum();
    }),
  );
  return {
    run: () => gradients(jax.tree.ref(shifts), jax.tree.ref(weights)),
    dispose: () => {
      jax.tree.dispose(shifts);
      jax.tree.dispose(weights);
    },
  };

  function transposed(data: Float32Array, shape: readonly number[]): JaxArray {
    const [out, input] = shape as [number, number];
    const flat = new Float32Array(data.length);
    for (let o = 0; o < out; o++) for (let i = 0; i < input; i++) flat[i * out + o] = data[o * input + i]!;
    return upload(flat, [input, out]);
  }
}
