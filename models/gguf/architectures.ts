/**
 * What each `general.architecture` of a GGUF file is as a Hugging Face folder: its `config.json`, the names of its tensors, and
 * what llama.cpp's converter did to their numbers, which is undone.
 *
 * Sources: gguf-py's `constants.py` and `tensor_mapping.py`, and `convert_hf_to_gguf.py`, all of llama.cpp. What a file does not say
 * is what llama.cpp takes for it.
 */

import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';
import type { GgufHeader, GgufValue } from './header.ts';

/** Where row `row` of a tensor, as Hugging Face has it, lies in the file. */
export type RowOf = (row: number) => number;

/** What was done to a tensor on its way into the file. */
export interface Stored {
  /** Its name in a Hugging Face checkpoint. */
  readonly name: string;
  /** Its rows are in another order. */
  readonly rowOf?: RowOf;
  /** A matrix that is [in, out] there. */
  readonly transposed?: boolean;
  /** 1 was added to its numbers. */
  readonly plusOne?: boolean;
}

/** Reads metadata by keys after the architecture's name. */
export class Metadata {
  readonly file: string;
  readonly architecture: string;
  readonly header: GgufHeader;

  /** @param file for errors. @throws UserError `gguf` where no architecture is named. */
  constructor(file: string, header: GgufHeader) {
    this.file = file;
    this.header = header;
    this.architecture = this.text('general.architecture') ?? '';
    if (!this.architecture) throw this.fail('does not say its general.architecture');
  }

  fail(what: string): UserError {
    return new UserError('gguf', `${this.file}: ${what}`);
  }

  text(key: string): string | undefined {
    const value = this.header.metadata.get(key);
    if (value !== undefined && typeof value !== 'string')
      throw this.fail(`${key} is ${show(value)}, no text`);
    return value;
  }

  flag(key: string): boolean | undefined {
    const value = this.header.metadata.get(key);
    if (value !== undefined && typeof value !== 'boolean')
      throw this.fail(`${key} is ${show(value)}, neither true nor false`);
    return value;
  }

  /** A number of the architecture's. A list with a number for each layer is one only where all are the same. */
  optional(key: string): number | undefined {
    const whole = `${this.architecture}.${key}`;
    const value = this.header.metadata.get(whole);
    const one =
      Array.isArray(value) && new Set(value as readonly GgufValue[]).size === 1
        ? (value as readonly GgufValue[])[0]
        : value;
    if (one === undefined) return undefined;
    if (typeof one !== 'number' || !Number.isFinite(one))
      throw this.fail(
        `${whole} is ${Array.isArray(value) ? 'not the same in all layers, which is not computed here' : `${show(one)}, no number`}`,
      );
    return shortest(one);
  }

  number(key: string): number {
    const value = this.optional(key);
    if (value === undefined) throw this.fail(`does not say its ${this.architecture}.${key}`);
    return value;
  }

  /** Id of a special token, such as `eos`. */
  tokenId(name: string): number | undefined {
    const id = this.header.metadata.get(`tokenizer.ggml.${name}_token_id`);
    return typeof id === 'number' ? id : undefined;
  }

  has(tensor: string): boolean {
    return this.header.tensors.has(tensor);
  }
}

/** The shortest decimal that is the same float32: 1e-5, and not 9.999999747378752e-6. */
function shortest(value: number): number {
  if (Math.fround(value) !== value) return value;
  for (let digits = 1; digits < 10; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) return rounded;
  }
  return value;
}

interface Architecture {
  readonly config: (of: Metadata) => Record<string, unknown>;
  /** Names outside of layers. */
  readonly outer: Readonly<Record<string, string>>;
  /** What layers' names begin with, the number follows; and names within one, of modules. */
  readonly layers: string;
  readonly inner: Readonly<Record<string, string>>;
  /** What was done to a module's weight or bias within a layer (`attn_q.weight`), or to one outside. */
  readonly changed?: (part: string, of: Metadata) => Omit<Stored, 'name'>;
}

const headSize = (of: Metadata): number =>
  of.optional('attention.key_length') ?? of.number('embedding_length') / of.number('attention.head_count');

/** `linear` and what is not computed as it is called; null: none. */
function ropeScaling(of: Metadata): Record<string, unknown> | null {
  const type = of.text(`${of.architecture}.rope.scaling.type`);
  if (of.has('rope_factors_long.weight')) return { rope_type: 'longrope' };
  if (type === undefined || type === 'none') return null;
  return {
    rope_type: type,
    factor: of.number('rope.scaling.factor'),
    original_max_position_embeddings: of.optional('rope.scaling.original_context_length'),
  };
}

const decoderConfig = (type: string, of: Metadata): Record<string, unknown> => ({
  model_type: type,
  hidden_size: of.number('embedding_length'),
  intermediate_size: of.number('feed_forward_length'),
  num_hidden_layers: of.number('block_count'),
  num_attention_heads: of.number('attention.head_count'),
  num_key_value_heads: of.optional('attention.head_count_kv') ?? of.number('attention.head_count'),
  head_dim: headSize(of),
  max_position_embeddings: of.number('context_length'),
  rms_norm_eps: of.number('attention.layer_norm_rms_epsilon'),
  rope_theta: of.optional('rope.freq_base') ?? 10000,
  rope_scaling: ropeScaling(of),
  attention_bias: of.has('blk.0.attn_q.bias'),
});

const DECODER_OUTER = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};
const DECODER_INNER = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};
/** With norms after the halves, too, or alone. */
const POST_NORMS = {
  post_attention_norm: 'post_attention_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
};

/** A decoder of Llama's kind under its names. */
const decoder = (
  type: string,
  config: (of: Metadata) => Record<string, unknown> = () => ({}),
  changed?: Architecture['changed'],
): Architecture => ({
  config: (of) => ({ ...decoderConfig(type, of), ...config(of) }),
  outer: DECODER_OUTER,
  layers: 'model.layers',
  inner: DECODER_INNER,
  ...(changed && { changed }),
});

/** Each head's rows were interleaved: (0, half), (1, half + 1), ... */
const interleaved =
  (size: number): RowOf =>
  (row) => {
    const [head, at] = [Math.floor(row / size), row % size];
    const half = size / 2;
    return head * size + 2 * (at % half) + Math.floor(at / half);
  };

/** Qwen's upper layers may have a window; which, no file says. */
function withoutWindow(of: Metadata): Record<string, unknown> {
  if (of.optional('attention.sliding_window'))
    throw of.fail('has a window without saying in which layers; take its safetensors');
  return { use_sliding_window: false };
}

/** Which of Gemma 3's layers have the window: every one but each sixth, or as a list says. */
function slidingOf(of: Metadata): Record<string, unknown> {
  const list = of.header.metadata.get(`${of.architecture}.attention.sliding_window_pattern`);
  if (!Array.isArray(list))
    return { sliding_window_pattern: of.optional('attention.sliding_window_pattern') ?? 6 };
  return {
    layer_types: (list as readonly GgufValue[]).map((slides) =>
      slides ? 'sliding_attention' : 'full_attention',
    ),
  };
}

const plusOne = (part: string): Omit<Stored, 'name'> => (/norm\.weight$/.test(part) ? { plusOne: true } : {});

/** The scale of Gemma's scores, 1 / sqrt of this: its files have none; those of 27B do not divide by a head's size. */
function gemmaScalar(of: Metadata, layersOf27B: number): number {
  const scale = of.optional('attention.scale');
  if (scale !== undefined) return Number((scale ** -2).toPrecision(6));
  return of.number('block_count') === layersOf27B
    ? of.number('embedding_length') / of.number('attention.head_count')
    : headSize(of);
}

const gemmaInner = { ...DECODER_INNER, ...POST_NORMS, ffn_norm: 'pre_feedforward_layernorm' };

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  // Mistral's files are called so, too, without the window that its later models do not have.
  llama: decoder(
    'llama',
    (of) => {
      if (of.optional('expert_count')) throw of.fail('has experts, which are not computed here');
      const window = of.optional('attention.sliding_window');
      return {
        mlp_bias: of.has('blk.0.ffn_gate.bias'),
        ...(window === undefined ? {} : { model_type: 'mistral', sliding_window: window }),
      };
    },
    (part, of) => (/^attn_[qk]\./.test(part) ? { rowOf: interleaved(headSize(of)) } : {}),
  ),
  qwen2: decoder('qwen2', withoutWindow),
  qwen3: decoder('qwen3', withoutWindow),
  gemma2: {
    ...decoder(
      'gemma2',
      (of) => ({
        hidden_activation: 'gelu_pytorch_tanh',
        attn_logit_softcapping: of.optional('attn_logit_softcapping') ?? 50,
        final_logit_softcapping: of.optional('final_logit_softcapping') ?? 30,
        sliding_window: of.number('attention.sliding_window'),
        query_pre_attn_scalar: gemmaScalar(of, 46),
      }),
      plusOne,
    ),
    inner: gemmaInner,
  },
  gemma3: {
    ...decoder(
      'gemma3_text',
      (of) => ({
        hidden_activation: 'gelu_pytorch_tanh',
        rope_theta: of.optional('rope.freq_base') ?? 1e6,
        rope_local_base_freq: of.optional('rope.freq_base_swa') ?? 10000,
        final_logit_softcapping: of.optional('final_logit_softcapping') ?? null,
        sliding_window: of.number('attention.sliding_window'),
        ...slidingOf(of),
        query_pre_attn_scalar: gemmaScalar(of, 62),
      }),
      plusOne,
    ),
    inner: gemmaInner,
  },
  phi3: {
    ...decoder('phi3', (of) => ({
      partial_rotary_factor: (of.optional('rope.dimension_count') ?? headSize(of)) / headSize(of),
      sliding_window: of.optional('attention.sliding_window') || null,
      original_max_position_embeddings:
        of.optional('rope.scaling.original_context_length') ?? of.number('context_length'),
      head_dim: undefined,
    })),
    inner: { ...DECODER_INNER, attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' },
  },
  olmo2: {
    ...decoder('olmo2', (of) => {
      if (of.optional('attention.sliding_window')) throw of.fail('is an OLMo 3, which is not computed here');
      return {};
    }),
    inner: { ...DECODER_INNER, ...POST_NORMS },
  },
  gpt2: {
    config: (of) => ({
      model_type: 'gpt2',
      n_embd: of.number('embedding_length'),
      n_inner: of.number('feed_forward_length'),
      n_layer: of.number('block_count'),
      n_head: of.number('attention.head_count'),
      n_positions: of.number('context_length'),
      layer_norm_epsilon: of.number('attention.layer_norm_epsilon'),
    }),
    outer: {
      token_embd: 'transformer.wte',
      position_embd: 'transformer.wpe',
      output_norm: 'transformer.ln_f',
      output: 'lm_head',
    },
    layers: 'transformer.h',
    inner: {
      attn_norm: 'ln_1',
      attn_qkv: 'attn.c_attn',
      attn_output: 'attn.c_proj',
      ffn_norm: 'ln_2',
      ffn_up: 'mlp.c_fc',
      ffn_down: 'mlp.c_proj',
    },
    changed: (part) => (/^(attn_(qkv|output)|ffn_(up|down))\.weight$/.test(part) ? { transposed: true } : {}),
  },
  gptneox: {
    config: (of) => ({
      model_type: 'gpt_neox',
      hidden_size: of.number('embedding_length'),
      intermediate_size: of.number('feed_forward_length'),
      num_hidden_layers: of.number('block_count'),
      num_attention_heads: of.number('attention.head_count'),
      max_position_embeddings: of.number('context_length'),
      layer_norm_eps: of.number('attention.layer_norm_epsilon'),
      rotary_pct: of.number('rope.dimension_count') / headSize(of),
      rotary_emb_base: of.optional('rope.freq_base') ?? 10000,
      rope_scaling: ropeScaling(of),
      use_parallel_residual: of.flag('gptneox.use_parallel_residual') ?? true,
    }),
    outer: { token_embd: 'gpt_neox.embed_in', output_norm: 'gpt_neox.final_layer_norm', output: 'embed_out' },
    layers: 'gpt_neox.layers',
    inner: {
      attn_norm: 'input_layernorm',
      attn_qkv: 'attention.query_key_value',
      attn_output: 'attention.dense',
      ffn_norm: 'post_attention_layernorm',
      ffn_up: 'mlp.dense_h_to_4h',
      ffn_down: 'mlp.dense_4h_to_h',
    },
    // All queries, then all keys, then all values, of what was one head's after the other's.
    changed(part, of) {
      if (!part.startsWith('attn_qkv.')) return {};
      const [size, heads] = [headSize(of), of.number('attention.head_count')];
      return {
        rowOf: (row) => {
          const [head, kind, at] = [Math.floor(row / (3 * size)), Math.floor(row / size) % 3, row % size];
          return (kind * heads + head) * size + at;
        },
      };
    },
  },
};

/** Tensors that are read for the config, if at all. */
const NO_WEIGHTS = /^(rope_freqs|rope_factors_(long|short))\.weight$/;

function architectureOf(of: Metadata): Architecture {
  const { architecture } = of;
  if (Object.hasOwn(ARCHITECTURES, architecture)) return ARCHITECTURES[architecture]!;
  if (/bert/.test(architecture))
    throw of.fail(
      `is a ${show(architecture)}, whose GGUF files have no head that predicts tokens; take its safetensors`,
    );
  throw of.fail(
    `its architecture ${show(architecture)} is not supported; supported: ${Object.keys(ARCHITECTURES).join(', ')}`,
  );
}

/** The config.json of a file, without what tensors alone say. @throws UserError `gguf` */
export function configOf(of: Metadata): Record<string, unknown> {
  const { header } = of;
  const vocabulary = header.tensors.get('token_embd.weight')?.shape[0];
  if (vocabulary === undefined) throw of.fail('has no token_embd.weight');
  const { model_type, ...config } = architectureOf(of).config(of);
  return { model_type, vocab_size: vocabulary, tie_word_embeddings: !of.has('output.weight'), ...config };
}

/** What each tensor of the file is in a Hugging Face checkpoint; null: nothing that is computed with. @throws UserError `gguf` */
export function storedOf(of: Metadata): Map<string, Stored | null> {
  const { outer, layers, inner, changed = () => ({}) } = architectureOf(of);
  return new Map(
    [...of.header.tensors.keys()].map((name): [string, Stored | null] => {
      if (NO_WEIGHTS.test(name)) return [name, null];
      const [, layer, module = '', ending = ''] = /^(?:blk\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? [];
      const [names, begin] = layer === undefined ? [outer, ''] : [inner, `${layers}.${layer}.`];
      // Under its own name: a checkpoint tells what has no place.
      if (!Object.hasOwn(names, module)) return [name, { name }];
      return [name, { name: `${begin}${names[module]}.${ending}`, ...changed(`${module}.${ending}`, of) }];
    }),
  );
}
