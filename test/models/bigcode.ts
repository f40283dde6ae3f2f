/** GPT-BigCode (StarCoder, Li et al. 2023): GPT-2's layer with one key/value head, queries, keys and values in one matrix. */

import * as v from 'valibot';
import { UserError } from '../../engine/index.ts';
import { type Family, family, type LinearSpec, type NormSpec } from '../../models/index.ts';

const whole = v.pipe(v.number('must be a number'), v.integer('must be whole'), v.minValue(1, 'is too small'));
const flag = (absent: boolean) => v.optional(v.boolean('must be true or false'), absent);

export const bigcode: Family = family({
  type: 'gpt_bigcode',
  architecture: 'GPTBigCodeForCausalLM',
  checkpoint: { prefix: 'transformer.', copies: { 'lm_head.weight': 'transformer.wte.weight' } },
  presets: {},
  // What changes the numbers is read or refused; the defaults are those of transformers' class.
  schema: v.object({
    vocab_size: whole,
    n_embd: whole,
    n_layer: whole,
    n_head: whole,
    n_positions: v.optional(whole, 1024),
    n_inner: v.nullish(whole),
    activation_function: v.optional(v.picklist(['gelu_pytorch_tanh', 'gelu_new'], 'must be tanh GELU')),
    layer_norm_epsilon: v.optional(v.number('must be a number'), 1e-5),
    multi_query: flag(true),
    scale_attn_weights: flag(true),
    tie_word_embeddings: flag(true),
    add_cross_attention: v.nullish(v.literal(false, 'must be false')),
  }),
  describe(json, name) {
    const { n_embd: hidden, n_head: heads, n_layer: layers, vocab_size: vocabulary } = json;
    if (hidden % heads !== 0)
      throw new UserError('config', `${name}: n_embd ${hidden} is not divisible by n_head ${heads}`);
    const size = hidden / heads;
    const width = json.n_inner ?? 4 * hidden;
    const keyHeads = json.multi_query ? 1 : heads;
    const word = 'transformer.wte.weight';
    const linear = (module: string, out: number, size: number): LinearSpec => ({
      weight: `${module}.weight`,
      bias: `${module}.bias`,
      out,
      in: size,
    });
    const norm = (module: string, hook: string): NormSpec => ({
      kind: 'layer',
      weight: `${module}.weight`,
      bias: `${module}.bias`,
      size: hidden,
      eps: json.layer_norm_epsilon,
      hook: `${hook}.hook_normalized`,
    });
    // All of q, then k, then v; with as many key heads as heads, q, k and v of the first, then of the second.
    const rows = (part: 'q' | 'k' | 'v'): [first: number, count: number][] => {
      const i = ['q', 'k', 'v'].indexOf(part);
      if (keyHeads > 1) return Array.from({ length: heads }, (_, head) => [(3 * head + i) * size, size]);
      return part === 'q' ? [[0, hidden]] : [[hidden + (i - 1) * size, size]];
    };
    const project = (at: string, part: 'q' | 'k' | 'v'): LinearSpec => ({
      weight: `${at}.attn.c_attn.weight[${part}]`,
      bias: `${at}.attn.c_attn.bias[${part}]`,
      out: (part === 'q' ? heads : keyHeads) * size,
      in: hidden,
      stored: { rows: rows(part), of: hidden + 2 * keyHeads * size },
    });
    return {
      sizes: {
        layers,
        hidden,
        width,
        heads,
        keyValueHeads: keyHeads,
        headSize: size,
        vocabulary,
        positions: json.n_positions,
      },
      causal: true,
      embedding: { word, position: { weight: 'transformer.wpe.weight', rows: json.n_positions } },
      layers: Array.from({ length: layers }, (_, i) => {
        const at = `transformer.h.${i}`;
        return {
          attention: {
            q: project(at, 'q'),
            k: project(at, 'k'),
            v: project(at, 'v'),
            out: linear(`${at}.attn.c_proj`, hidden, hidden),
            heads,
            keyHeads,
            size,
            scale: json.scale_attn_weights ? 1 / Math.sqrt(size) : 1,
          },
          feedForward: {
            activation: 'gelu_tanh' as const,
            up: linear(`${at}.mlp.c_fc`, width, hidden),
            down: linear(`${at}.mlp.c_proj`, hidden, width),
          },
          norms: {
            attention: { before: norm(`${at}.ln_1`, 'ln1') },
            feedForward: { before: norm(`${at}.ln_2`, 'ln2') },
          },
        };
      }),
      head: {
        norm: norm('transformer.ln_f', 'ln_final'),
        decoder: { weight: json.tie_word_embeddings ? word : 'lm_head.weight', out: vocabulary, in: hidden },
      },
      modules: new Map(
        Array.from({ length: layers }, (_, i): [string, string][] => [
          [`transformer.h.${i}.attn`, `blocks.${i}.hook_attn_out`],
          [`transformer.h.${i}.mlp.act`, `blocks.${i}.mlp.hook_post`],
          [`transformer.h.${i}.mlp`, `blocks.${i}.hook_mlp_out`],
          [`transformer.h.${i}`, `blocks.${i}.hook_resid_post`],
        ]).flat(),
      ),
    };
  },
});
