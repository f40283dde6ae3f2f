/**
 * BERT-base and a Llama of its size with random weights: the networks that every contender runs, and BERT's float64 reference.
 *
 * Weights are drawn so that activations stay of unit size through twelve layers; names are Hugging Face's.
 */

import { type Device, packPanels, tensor } from '../engine/index.ts';
import { changed, type ModelConfig, parseConfig } from '../models/config.ts';
import { parametersOf } from '../models/description.ts';
import { Transformer } from '../models/transformer.ts';
import { isMultiplied } from '../models/weights.ts';
import { randomNumbers } from './reference.ts';

export const BERT_BASE = parseConfig({
  model_type: 'bert',
  num_hidden_layers: 12,
  hidden_size: 768,
  intermediate_size: 3072,
  num_attention_heads: 12,
  vocab_size: 30522,
  max_position_embeddings: 512,
});

/** As deep and wide as BERT-base. */
export const LLAMA_12 = parseConfig({
  model_type: 'llama',
  num_hidden_layers: 12,
  hidden_size: 768,
  intermediate_size: 2048,
  num_attention_heads: 12,
  vocab_size: 32000,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
});

/** Its decoder the embedding. */
export const LLAMA_12_TIED = changed(LLAMA_12, { tie_word_embeddings: true });

export interface HostWeight {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Norm weights near 1, biases small, matrices of variance 1 / fan-in. */
export function randomWeights({ description }: ModelConfig): Map<string, HostWeight> {
  const weights = new Map<string, HostWeight>();
  let seed = 100;
  for (const { name, shape, kind } of parametersOf(description)) {
    const size = shape.reduce((a, b) => a * b, 1);
    const scale = shape.length === 1 ? 0.1 : 1 / Math.sqrt(shape[1]!);
    const data = randomNumbers(size, seed++, scale);
    if (kind === 'norm') for (let i = 0; i < size; i++) data[i]! += 1;
    weights.set(name, { shape, data });
  }
  return weights;
}

/** The model on `device` with these weights. */
export function onDevice(
  device: Device,
  config: ModelConfig,
  host: ReadonlyMap<string, HostWeight>,
): Transformer {
  const weights = new Map(
    [...host].map(([name, { shape, data }]) => [name, tensor(device, data, shape, 'weights')] as const),
  );
  for (const parameter of parametersOf(config.description))
    if (isMultiplied(parameter, config.description)) packPanels(weights.get(parameter.name)!);
  return new Transformer(device, config, weights);
}

/** x w^T + b in float64: x [rows, k], w [n, k]; four rows at a time share each load of w. */
function dense(x: Float64Array, rows: number, w: Float32Array, b: Float32Array): Float64Array {
  const n = b.length;
  const k = w.length / n;
  const y = new Float64Array(rows * n);
  for (let i = 0; i < rows; i += 4) {
    const [r0, r1, r2, r3] = [0, 1, 2, 3].map((d) => Math.min(i + d, rows - 1) * k) as [
      number,
      number,
      number,
      number,
    ];
    for (let j = 0; j < n; j++) {
      let [s0, s1, s2, s3] = [b[j]!, b[j]!, b[j]!, b[j]!];
      for (let t = 0, at = j * k; t < k; t++, at++) {
        const v = w[at]!;
        s0 += x[r0 + t]! * v;
        s1 += x[r1 + t]! * v;
        s2 += x[r2 + t]! * v;
        s3 += x[r3 + t]! * v;
      }
      [s0, s1, s2, s3].forEach((s, d) => {
        if (i + d < rows) y[(i + d) * n + j] = s;
      });
    }
  }
  return y;
}

/** erf by its series (small z) or the continued fraction of erfc: exact to float64's last digits. */
function erf(x: number): number {
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z < 2.5) {
    let [term, sum] = [z, z];
    for (let i = 1; Math.abs(term) > 1e-17; i++) {
      term *= (-z * z) / i;
      sum += term / (2 * i + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = z;
  for (let i = 60; i > 0; i--) fraction = z + i / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction);
}

const gelu = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));

function norm(
  x: Float64Array,
  width: number,
  weight: Float32Array,
  bias: Float32Array,
  eps: number,
): Float64Array {
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += width) {
    const row = x.subarray(at, at + width);
    const mean = row.reduce((a, b) => a + b, 0) / width;
    const rstd = 1 / Math.sqrt(row.reduce((a, b) => a + (b - mean) ** 2, 0) / width + eps);
    for (let i = 0; i < width; i++) y[at + i] = (row[i]! - mean) * rstd * weight[i]! + bias[i]!;
  }
  return y;
}

export interface ReferenceOptions {
  /** Added to every neuron (post-GELU) of a layer at all tokens: [tokens, width]. */
  readonly shift?: { readonly layer: number; readonly by: Float64Array };
}

/** Logits [V] of one row of token ids at `position`, in float64. */
export function bertReference(
  { description }: ModelConfig,
  weights: ReadonlyMap<string, HostWeight>,
  ids: readonly number[],
  position: number,
  options: ReferenceOptions = {},
): Float64Array {
  const { hidden: H, heads, headSize: D, layers } = description.sizes;
  const { eps } = description.embedding.norm!;
  const S = ids.length;
  const get = (name: string): Float32Array => weights.get(name)!.data;
  const linear = (x: Float64Array, name: string): Float64Array =>
    dense(
      x,
      x.length / (get(`${name}.weight`).length / get(`${name}.bias`).length),
      get(`${name}.weight`),
      get(`${name}.bias`),
    );
  const layerNorm = (x: Float64Array, name: string): Float64Array =>
    norm(x, H, get(`${name}.weight`), get(`${name}.bias`), eps);
  const [words, places, types] = ['word', 'position', 'token_type'].map((part) =>
    get(`bert.embeddings.${part}_embeddings.weight`),
  ) as [Float32Array, Float32Array, Float32Array];
  let x = new Float64Array(S * H);
  ids.forEach((id, s) => {
    for (let i = 0; i < H; i++) x[s * H + i] = words[id * H + i]! + places[s * H + i]! + types[i]!;
  });
  x = layerNorm(x, 'bert.embeddings.LayerNorm') as Float64Array<ArrayBuffer>;
  for (let layer = 0; layer < layers; layer++) {
    const at = `bert.encoder.layer.${layer}`;
    const [q, k, v] = ['query', 'key', 'value'].map((part) => linear(x, `${at}.attention.self.${part}`)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const z = new Float64Array(S * H);
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < S; i++) {
        const scores = Float64Array.from({ length: S }, (_, j) => {
          let sum = 0;
          for (let d = 0; d < D; d++) sum += q[i * H + h * D + d]! * k[j * H + h * D + d]!;
          return sum / Math.sqrt(D);
        });
        const top = Math.max(...scores);
        const shares = scores.map((s) => Math.exp(s - top));
        const total = shares.reduce((a, b) => a + b, 0);
        for (let j = 0; j < S; j++)
          for (let d = 0; d < D; d++) z[i * H + h * D + d]! += (shares[j]! / total) * v[j * H + h * D + d]!;
      }
    const attended = linear(z, `${at}.attention.output.dense`).map((value, i) => value + x[i]!);
    const middle = layerNorm(attended, `${at}.attention.output.LayerNorm`);
    let post = linear(middle, `${at}.intermediate.dense`).map(gelu);
    if (options.shift?.layer === layer) post = post.map((value, i) => value + options.shift!.by[i]!);
    const out = linear(post, `${at}.output.dense`).map((value, i) => value + middle[i]!);
    x = layerNorm(out, `${at}.output.LayerNorm`) as Float64Array<ArrayBuffer>;
  }
  const final = linear(x.slice(position * H, (position + 1) * H), 'cls.predictions.transform.dense').map(
    gelu,
  );
  const normal = layerNorm(final, 'cls.predictions.transform.LayerNorm');
  return dense(normal, 1, words, get('cls.predictions.bias'));
}
