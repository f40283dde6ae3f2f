/**
 * BERT and Llama in float64 on the host, a few plain loops: what differences of probabilities are measured against.
 * One neuron may be shifted at one position. Independent of the engine: it shares the weights with it, nothing else.
 */

import { normalDistribution } from '../../kernels/activation.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Transformer } from '../../models/transformer.ts';
import type { Neuron } from '../../neurgrad/neuron.ts';
import type { Probe } from '../../neurgrad/predict.ts';

type Rows = Float64Array[];
export interface Shift {
  readonly neuron: Neuron;
  readonly at: number;
  readonly by: number;
}

/** Probabilities [vocabulary] at the probe position. */
export type Reference = (probe: Probe, shift?: Shift) => Float64Array;

const dot = (w: ArrayLike<number>, from: number, x: Float64Array): number => {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += w[from + i]! * x[i]!;
  return sum;
};
const logistic = (x: number): number => 1 / (1 + Math.exp(-x));

/** Reads all weights once. */
export async function referenceOf(model: LanguageModel): Promise<Reference> {
  const weights = new Map<string, Float32Array>();
  for (const [name, tensor] of model.parameters) weights.set(name, await tensor.read());
  const { layers, heads, headSize, keyValueHeads, hidden } = model.sizes;
  const bert = !model.causal;
  const json = (model as Transformer).config.json as Readonly<Record<string, number | boolean | undefined>>;
  const tied = json.tie_word_embeddings ?? bert;
  const epsilon = Number(bert ? (json.layer_norm_eps ?? 1e-12) : (json.rms_norm_eps ?? 1e-6));
  const theta = Number(json.rope_theta ?? 10000);
  const w = (name: string): Float32Array => weights.get(name)!;

  const dense = (x: Rows, name: string): Rows => {
    const matrix = w(`${name}.weight`);
    const bias = weights.get(`${name}.bias`);
    return x.map((row) =>
      Float64Array.from(
        { length: matrix.length / row.length },
        (_, o) => dot(matrix, o * row.length, row) + (bias?.[o] ?? 0),
      ),
    );
  };
  const norm = (x: Rows, name: string): Rows =>
    x.map((row) => {
      const mean = bert ? row.reduce((a, b) => a + b, 0) / row.length : 0;
      const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length;
      const scale = 1 / Math.sqrt(variance + epsilon);
      const [weight, bias] = [w(`${name}.weight`), weights.get(`${name}.bias`)];
      return row.map((v, i) => (v - mean) * scale * weight[i]! + (bias?.[i] ?? 0));
    });
  const sum = (a: Rows, b: Rows): Rows => a.map((row, t) => row.map((v, i) => v + b[t]![i]!));
  const gelu = (x: number): number => x * normalDistribution(x);
  const rotate = (x: Rows, count: number): Rows =>
    x.map((row, position) => {
      const y = row.slice();
      const half = headSize / 2;
      for (let h = 0; h < count; h++)
        for (let i = 0; i < half; i++) {
          const angle = position * theta ** ((-2 * i) / headSize);
          const [c, s] = [Math.cos(angle), Math.sin(angle)];
          const low = h * headSize + i;
          y[low] = row[low]! * c - row[low + half]! * s;
          y[low + half] = row[low + half]! * c + row[low]! * s;
        }
      return y;
    });
  const attend = (q: Rows, k: Rows, v: Rows): Rows =>
    q.map((row, i) => {
      const out = new Float64Array(heads * headSize);
      for (let h = 0; h < heads; h++) {
        const key = Math.floor((h * keyValueHeads) / heads) * headSize;
        const seen = bert ? k : k.slice(0, i + 1);
        const scores = seen.map((other) => {
          let score = 0;
          for (let c = 0; c < headSize; c++) score += row[h * headSize + c]! * other[key + c]!;
          return score / Math.sqrt(headSize);
        });
        const top = Math.max(...scores);
        const raised = scores.map((score) => Math.exp(score - top));
        const total = raised.reduce((a, b) => a + b, 0);
        raised.forEach((e, j) => {
          for (let c = 0; c < headSize; c++) out[h * headSize + c]! += (e / total) * v[j]![key + c]!;
        });
      }
      return out;
    });
  const moved = (x: Rows, layer: number, site: Neuron['site'], shift: Shift | undefined): Rows => {
    if (shift?.neuron.layer === layer && shift.neuron.site === site)
      x[shift.at]![shift.neuron.index]! += shift.by;
    return x;
  };
  const map = (x: Rows, f: (v: number) => number): Rows => x.map((row) => row.map(f));
  const rows = (name: string, ids: readonly number[]): Rows =>
    ids.map((id) => Float64Array.from(w(name).subarray(id * hidden, (id + 1) * hidden)));

  return (probe, shift) => {
    let x: Rows;
    if (bert) {
      const words = rows('bert.embeddings.word_embeddings.weight', probe.ids);
      const types = rows(
        'bert.embeddings.token_type_embeddings.weight',
        probe.tokenTypeIds ?? probe.ids.map(() => 0),
      );
      const places = rows('bert.embeddings.position_embeddings.weight', [...probe.ids.keys()]);
      x = norm(sum(sum(words, types), places), 'bert.embeddings.LayerNorm');
      for (let l = 0; l < layers; l++) {
        const at = `bert.encoder.layer.${l}`;
        const self = `${at}.attention.self`;
        const z = attend(dense(x, `${self}.query`), dense(x, `${self}.key`), dense(x, `${self}.value`));
        const middle = norm(
          sum(x, dense(z, `${at}.attention.output.dense`)),
          `${at}.attention.output.LayerNorm`,
        );
        const pre = moved(dense(middle, `${at}.intermediate.dense`), l, 'pre', shift);
        const post = moved(map(pre, gelu), l, 'post', shift);
        x = norm(sum(middle, dense(post, `${at}.output.dense`)), `${at}.output.LayerNorm`);
      }
      x = norm(
        map(dense([x[probe.position]!], 'cls.predictions.transform.dense'), gelu),
        'cls.predictions.transform.LayerNorm',
      );
    } else {
      x = rows('model.embed_tokens.weight', probe.ids);
      for (let l = 0; l < layers; l++) {
        const at = `model.layers.${l}`;
        const self = `${at}.self_attn`;
        const normal = norm(x, `${at}.input_layernorm`);
        const z = attend(
          rotate(dense(normal, `${self}.q_proj`), heads),
          rotate(dense(normal, `${self}.k_proj`), keyValueHeads),
          dense(normal, `${self}.v_proj`),
        );
        x = sum(x, dense(z, `${self}.o_proj`));
        const again = norm(x, `${at}.post_attention_layernorm`);
        const gate = moved(dense(again, `${at}.mlp.gate_proj`), l, 'pre', shift);
        const up = moved(dense(again, `${at}.mlp.up_proj`), l, 'pre_linear', shift);
        const act = moved(
          map(gate, (v) => v * logistic(v)),
          l,
          'act',
          shift,
        );
        const post = moved(
          act.map((row, t) => row.map((v, i) => v * up[t]![i]!)),
          l,
          'post',
          shift,
        );
        x = sum(x, dense(post, `${at}.mlp.down_proj`));
      }
      x = norm([x[probe.position]!], 'model.norm');
    }
    const decoder = bert
      ? tied
        ? w('bert.embeddings.word_embeddings.weight')
        : w('cls.predictions.decoder.weight')
      : w(tied ? 'model.embed_tokens.weight' : 'lm_head.weight');
    const bias = bert ? w('cls.predictions.bias') : undefined;
    const logits = Float64Array.from(
      { length: decoder.length / hidden },
      (_, o) => dot(decoder, o * hidden, x[0]!) + (bias?.[o] ?? 0),
    );
    const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const raised = logits.map((v) => Math.exp(v - top));
    const total = raised.reduce((a, b) => a + b, 0);
    return raised.map((v) => v / total);
  };
}

/** log p / (1 - p) of the target; its digits are those of 1 - p. */
export function logOdds(p: Float64Array, target: number): number {
  return Math.log(p[target]!) - Math.log(p.reduce((sum, value, v) => (v === target ? sum : sum + value), 0));
}

/** What p_t changes by from p to q, from logarithms: subtracted, small changes would drown in p's own rounding. */
export function exactChange(p: Float64Array, q: Float64Array, target: number): number {
  const log = (v: number): number => Math.log(q[v]! / p[v]!);
  const f = p.reduce(
    (sum, value, v) => (value === 0 ? sum : sum + value * Math.expm1(log(v) - log(target))),
    0,
  );
  return (-p[target]! * f) / (1 + f);
}

/** d log odds / d activation with the neuron shifted by `from`: central differences at two widths, extrapolated. */
export function oddsGradient(reference: Reference, probe: Probe, shift: Shift, target: number): number {
  const central = (h: number): number => {
    const at = (by: number): number => logOdds(reference(probe, { ...shift, by: shift.by + by }), target);
    return (at(h) - at(-h)) / (2 * h);
  };
  return (4 * central(5e-4) - central(1e-3)) / 3;
}
