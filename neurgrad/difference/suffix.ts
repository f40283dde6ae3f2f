/**
 * The rest of a model after the shifted neurons, on differences alone (SPEC 9.2 to 9.4): one layer, the way into it and
 * the head, for BERT and for Llama. Linear maps are the ordinary products without bias; all else is a closed form.
 */

import {
  add,
  concat,
  gatherRows,
  integers,
  linear,
  mul,
  reshape,
  rotary,
  scope,
  type Tensor,
  zeros,
} from '../../engine/index.ts';
import type { Bert } from '../../models/bert.ts';
import type { Llama } from '../../models/llama.ts';
import type { Bundle, LayerBase } from './bundle.ts';
import {
  type AttentionBase,
  activationDifference,
  addOwnChange,
  attentionDifference,
  gatedDifference,
  NONE,
  normDifference,
  projectedAttentionDifference,
} from './ops.ts';

/** Changed values on their way into a layer and out of it. */
export interface LayerTokens {
  /** Records of the changed inputs (`base` counts), [N, record]. */
  readonly input: Tensor;
  /** Rows of the input whose queries are wanted, null for all, none for an empty list. */
  readonly queries: readonly number[] | null;
  /** Records of the outputs, [M, record]. */
  readonly output: Tensor;
  /** Positions in their prompts of the inputs, and of those with queries. */
  readonly inputPositions: Tensor;
  readonly queryPositions: Tensor | null;
  /** In the last layer: rows of the base and of `queries` of each output, NONE for none. */
  readonly reading: { readonly base: readonly number[]; readonly queries: readonly number[] } | null;
}

export interface Suffix {
  /** Changes dx [N, H] of a layer's input to changes [M, H] of the sum after its feed-forward. */
  layer(layer: number, dx: Tensor, tokens: LayerTokens): Tensor;
  /** From that sum to the next layer's input. */
  leave(layer: number, sum: Tensor, token: Tensor): Tensor;
  /** Changes of the logits, [rows, vocabulary], from changes at the read positions. */
  logits(dx: Tensor, token: Tensor): Tensor;
  /** Where nothing but the final norm and the decoder follow the last layer: changes of the residual are lines there. */
  readonly lines: FinalLines | null;
}

/** A pre-norm model after its last layer (SPEC 9.5): logits U (g x) / rms(x). */
export interface FinalLines {
  readonly eps: number;
  /** U (g w) of directions w [lines, H]. */
  decode(directions: Tensor): Tensor;
}

export function openSuffix(bundle: Bundle): Suffix {
  return bundle.model.architecture === 'bert'
    ? bertSuffix(bundle.model, bundle)
    : llamaSuffix(bundle.model, bundle);
}

/** Change of the mixed values [M, heads * D], from changes x of what q, k and v are linear maps of. */
function attend(
  bundle: Bundle,
  base: AttentionBase,
  x: Tensor,
  tokens: LayerTokens,
  weights: { readonly q: Tensor; readonly k: Tensor; readonly v: Tensor },
): Tensor {
  const { heads, keyValueHeads, headSize } = bundle.model.sizes;
  const turn = (y: Tensor, count: number, positions: Tensor): Tensor =>
    bundle.rotary
      ? reshape(rotary(reshape(y, [y.dim(0), count, headSize]), positions, bundle.rotary), y.shape)
      : y;
  const { queries } = tokens;
  const asking = queries === null ? x : queries.length > 0 ? gatherRows(x, queries) : null;
  const dq = asking && turn(linear(asking, weights.q), heads, tokens.queryPositions!);
  const shape = { heads, keyValueHeads, headSize, keys: bundle.keys };
  if (tokens.reading && canProject(bundle, weights)) {
    const query = addQueries(gatherRows(base.q, tokens.reading.base), dq, tokens.reading.queries);
    return projectedAttentionDifference(shape, base, tokens.output, query, dq, x, weights);
  }
  const dk = turn(linear(x, weights.k), keyValueHeads, tokens.inputPositions);
  const dv = linear(x, weights.v);
  return attentionDifference(shape, base, tokens.output, dq, dk, dv);
}

/** Without rotation or shared key heads, and with weights that split by head as they lie. */
function canProject(bundle: Bundle, weights: { readonly k: Tensor; readonly v: Tensor }): boolean {
  const { heads, keyValueHeads } = bundle.model.sizes;
  return (
    bundle.rotary === null &&
    heads === keyValueHeads &&
    [weights.k, weights.v].every((w) => w.dtype === 'f32' && w.storage.segments.length === 1)
  );
}

/** q + dq; `rows` says which row of dq belongs to each query, NONE for none. */
function addQueries(q: Tensor, dq: Tensor | null, rows: readonly number[]): Tensor {
  if (!dq) return q;
  if (rows.every((row, i) => row === i)) return add(q, dq);
  const [count, width] = [dq.dim(0), dq.dim(1)];
  const still = concat([dq, zeros(dq.device, [1, width])], 0);
  return add(
    q,
    gatherRows(
      still,
      integers(
        q.device,
        rows.map((row) => (row === NONE ? count : row)),
      ),
    ),
  );
}

const attentionBase = (base: LayerBase): AttentionBase => ({
  q: base.q!,
  k: base.k!,
  v: base.v!,
  pattern: base.pattern!,
});

function bertSuffix(model: Bert, bundle: Bundle): Suffix {
  const weight = (name: string): Tensor => model.parameters.get(`${name}.weight`)!;
  const eps = model.sizes.layerNormEpsilon;
  const at = (layer: number): string => `bert.encoder.layer.${layer}`;
  return {
    lines: null,
    layer: (layer, dx, tokens) =>
      scope(() => {
        const base = bundle.layers[layer]!;
        const self = `${at(layer)}.attention.self`;
        const mixed = attend(bundle, attentionBase(base), dx, tokens, {
          q: weight(`${self}.query`),
          k: weight(`${self}.key`),
          v: weight(`${self}.value`),
        });
        const attended = linear(mixed, weight(`${at(layer)}.attention.output.dense`));
        const middle = addOwnChange(attended, tokens.output, dx);
        const normal = weight(`${at(layer)}.attention.output.LayerNorm`);
        const x = normDifference('layer', base.middle!, tokens.output, middle, normal, eps);
        const pre = linear(x, weight(`${at(layer)}.intermediate.dense`));
        const post = activationDifference('gelu', base.pre!, tokens.output, pre);
        return add(x, linear(post, weight(`${at(layer)}.output.dense`)));
      }),
    leave: (layer, sum, token) =>
      normDifference(
        'layer',
        bundle.layers[layer]!.after!,
        token,
        sum,
        weight(`${at(layer)}.output.LayerNorm`),
        eps,
      ),
    logits: (dx, token) =>
      scope(() => {
        const transform = 'cls.predictions.transform';
        const dense = activationDifference(
          'gelu',
          bundle.head.dense!,
          token,
          linear(dx, weight(`${transform}.dense`)),
        );
        const normal = normDifference(
          'layer',
          bundle.head.gelu!,
          token,
          dense,
          weight(`${transform}.LayerNorm`),
          eps,
        );
        return linear(
          normal,
          weight(model.sizes.tied ? 'bert.embeddings.word_embeddings' : 'cls.predictions.decoder'),
        );
      }),
  };
}

function llamaSuffix(model: Llama, bundle: Bundle): Suffix {
  const weight = (name: string): Tensor => model.parameters.get(`${name}.weight`)!;
  const eps = model.sizes.rmsNormEpsilon;
  const at = (layer: number): string => `model.layers.${layer}`;
  const norm = (base: Tensor, token: Tensor, d: Tensor, name: string): Tensor =>
    normDifference('rms', base, token, d, weight(name), eps);
  const decoder = weight(model.sizes.tied ? 'model.embed_tokens' : 'lm_head');
  return {
    lines: {
      eps,
      decode: (directions) => scope(() => linear(mul(directions, weight('model.norm')), decoder)),
    },
    layer: (layer, dx, tokens) =>
      scope(() => {
        const base = bundle.layers[layer]!;
        const self = `${at(layer)}.self_attn`;
        const x = norm(base.before!, tokens.input, dx, `${at(layer)}.input_layernorm`);
        const mixed = attend(bundle, attentionBase(base), x, tokens, {
          q: weight(`${self}.q_proj`),
          k: weight(`${self}.k_proj`),
          v: weight(`${self}.v_proj`),
        });
        const middle = addOwnChange(linear(mixed, weight(`${self}.o_proj`)), tokens.output, dx);
        const again = norm(base.middle!, tokens.output, middle, `${at(layer)}.post_attention_layernorm`);
        const post = gatedDifference(
          'silu',
          base.pre!,
          base.up!,
          tokens.output,
          linear(again, weight(`${at(layer)}.mlp.gate_proj`)),
          linear(again, weight(`${at(layer)}.mlp.up_proj`)),
        );
        return add(middle, linear(post, weight(`${at(layer)}.mlp.down_proj`)));
      }),
    leave: (_, sum) => sum.detach(),
    logits: (dx, token) => scope(() => linear(norm(bundle.head.final!, token, dx, 'model.norm'), decoder)),
  };
}
