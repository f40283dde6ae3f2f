import { describe, expect, it } from 'vitest';
import { fileMapFolder } from '../../models/byteSource.ts';
import { parseConfig, readConfig } from '../../models/config.ts';
import { isTied } from '../../models/description.ts';

const sizes = {
  vocab_size: 100,
  hidden_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  intermediate_size: 96,
};
const bert = { model_type: 'bert', ...sizes };
const llama = { model_type: 'llama', ...sizes };

const rotaryOf = (json: object) => parseConfig(json).description.layers[0]!.attention.rotary;
const angles = (theta: number, size = 12) =>
  Float64Array.from({ length: size / 2 }, (_, i) => theta ** ((-2 * i) / size));

describe('parseConfig', () => {
  it('the defaults of transformers', () => {
    const common = { layers: 2, hidden: 48, width: 96, heads: 4, keyValueHeads: 4, headSize: 12 };
    const masked = parseConfig(bert);
    expect(masked.description.sizes).toEqual({ ...common, vocabulary: 100, positions: 512 });
    expect(masked.description.embedding.type!.rows).toBe(2);
    expect(masked.description.embedding.norm!.eps).toBe(1e-12);
    expect(isTied(masked.description)).toBe(true);
    const causal = parseConfig(llama);
    expect(causal.description.sizes).toEqual({ ...common, vocabulary: 100, positions: 2048 });
    expect(causal.description.head.norm!.eps).toBe(1e-6);
    expect(rotaryOf(llama)).toEqual(angles(10000));
    expect(isTied(causal.description)).toBe(false);
    expect(causal.endIds).toEqual([]);
  });

  it('what is there counts, null as absent', () => {
    const { description, endIds } = parseConfig({
      ...llama,
      num_key_value_heads: 2,
      head_dim: 16,
      rms_norm_eps: 0.01,
      rope_theta: 500000,
      rope_scaling: { rope_type: 'default' },
      tie_word_embeddings: true,
      eos_token_id: [2, 3],
      attention_bias: false,
      mlp_bias: null,
      quantization_config: null,
    });
    expect(description.sizes).toMatchObject({ keyValueHeads: 2, headSize: 16 });
    expect(description.head.norm!.eps).toBe(0.01);
    expect(description.layers[1]!.attention.rotary).toEqual(angles(500000, 16));
    expect(isTied(description)).toBe(true);
    expect(endIds).toEqual([2, 3]);
    const newer = {
      ...llama,
      rope_parameters: { rope_type: 'default', rope_theta: 7000 },
      rope_scaling: null,
    };
    expect(rotaryOf(newer)).toEqual(angles(7000));
    // What changes nothing under another name.
    const same = (json: object, other: object) =>
      expect(parseConfig(json).description).toEqual(parseConfig(other).description);
    same({ ...llama, hidden_act: 'swish' }, llama);
    same({ ...bert, hidden_act: 'gelu_python' }, bert);
    const plain = { type: 'default', factor: 1, partial_rotary_factor: 1, low_freq_factor: null };
    for (const rope of [
      { rope_theta: 500, rope_parameters: { ...plain, rope_theta: 500 }, partial_rotary_factor: 1 },
      { rope_scaling: { rope_theta: 500 } },
    ])
      expect(rotaryOf({ ...llama, ...rope })).toEqual(angles(500));
    const long = parseConfig({ ...llama, head_dim: 128, max_position_embeddings: 2 ** 20 });
    expect(long.description.sizes.positions).toBe(2 ** 20);
    expect(rotaryOf({ ...llama, rope_scaling: {} })).toEqual(angles(10000));
  });

  it.each<[string, unknown, RegExp]>([
    ['null', null, /model_type is missing; supported: bert .* llama/],
    ['an array', [], /model_type is missing/],
    ['another architecture', { model_type: 't5' }, /'t5' is not supported; supported: bert .*, llama/],
    ['a missing size', { ...bert, hidden_size: undefined }, /hidden_size is missing/],
    ['a string', { ...bert, hidden_size: '48' }, /hidden_size must be a whole number.*not "48"/],
    ['zero', { ...bert, num_hidden_layers: 0 }, /num_hidden_layers must be a whole number/],
    ['negative', { ...llama, vocab_size: -1 }, /vocab_size must be/],
    ['a fraction', { ...llama, intermediate_size: 1.5 }, /intermediate_size must be/],
    ['absurd', { ...llama, hidden_size: 1e9 }, /hidden_size must be a whole number from 1 to 65536/],
    [
      'heads do not divide',
      { ...bert, num_attention_heads: 5 },
      /hidden_size 48 is not divisible by num_att/,
    ],
    [
      'kv heads do not divide',
      { ...llama, num_key_value_heads: 3 },
      /num_attention_heads 4 is not divisible/,
    ],
    ['odd head size', { ...llama, num_attention_heads: 16 }, /head size 3 is odd/],
    ['an activation unknown', { ...llama, hidden_act: 'mish' }, /hidden_act must be gelu, .*, not "mish"/],
    [
      'relative positions',
      { ...bert, position_embedding_type: 'relative_key' },
      /position_embedding_type must/,
    ],
    ['a decoder', { ...bert, is_decoder: true }, /is_decoder must be false/],
    ['biases', { ...llama, attention_bias: 'yes' }, /attention_bias must be true or false/],
    [
      'RoPE scaling',
      { ...llama, rope_scaling: { rope_type: 'llama3', factor: 8 } },
      /RoPE scaling llama3 needs low_freq_factor, which is missing/,
    ],
    [
      'a scaling that is not computed',
      { ...llama, rope_scaling: { type: 'dynamic', factor: 2 } },
      /rope_scaling\.type must be default, linear or llama3; other scalings are not supported, not "dynamic"/,
    ],
    ['quantised', { ...llama, quantization_config: { bits: 4 } }, /quantization_config says 4 bits/],
    ['epsilon', { ...llama, rms_norm_eps: -1 }, /rms_norm_eps must not be negative/],
    ['theta', { ...llama, rope_theta: 0 }, /rope_theta must be at least 1/],
    [
      'nested theta',
      { ...llama, rope_parameters: { rope_theta: -5 } },
      /: rope_parameters\.rope_theta must be at least 1, not -5$/,
    ],
    [
      'no theta at all',
      { ...llama, rope_scaling: { rope_theta: 0 } },
      /rope_scaling\.rope_theta must be at least/,
    ],
    [
      'infinite theta',
      { ...llama, rope_theta: JSON.parse('1e400') },
      /: rope_theta must be a finite number, not Infinity$/,
    ],
    [
      'two thetas',
      { ...llama, rope_theta: 500, rope_parameters: { rope_theta: 1e4 } },
      /: rope_theta 500 and rope_parameters\.rope_theta 10000 differ; leave one of them out$/,
    ],
    [
      'RoPE scaling without a type',
      { ...llama, rope_scaling: { factor: 8 } },
      /: RoPE scaling has a factor 8 and no rope_type; write linear or llama3$/,
    ],
    [
      'RoPE scaling of a kind unknown',
      { ...llama, rope_parameters: { full_attention: { rope_theta: 500 } } },
      /rope_parameters\.full_attention must be left out \(not supported\)/,
    ],
    [
      'a table of positions beyond reason',
      { ...llama, head_dim: 128, max_position_embeddings: 2 ** 24 },
      /: max_position_embeddings 16777216 needs a table of 8 GiB .* at most 2097152 tokens$/,
    ],
    ['RoPE scaling as a list', { ...llama, rope_scaling: [] }, /rope_scaling must be an object or null/],
    [
      'RoPE scaling as a word',
      { ...llama, rope_scaling: 'linear' },
      /: rope_scaling must be an object or null, not "linear"$/,
    ],
    [
      'part of the head',
      { ...llama, partial_rotary_factor: 0.5 },
      /: partial_rotary_factor must be 1, not 0\.5$/,
    ],
    [
      'part of the head, nested',
      { ...llama, rope_parameters: { partial_rotary_factor: 0.25 } },
      /partial_rotary_factor/,
    ],
  ])('%s', (_, json, message) => {
    const attempt = () => parseConfig(json);
    expect(attempt).toThrow(message);
    expect(attempt).toThrow(expect.objectContaining({ name: 'UserError', code: 'config' }));
    expect(attempt).not.toThrow(/\n/);
  });

  it('files', async () => {
    const folder = (text: string) => fileMapFolder(new Map([['config.json', new Blob([text])]]), 'm');
    expect(await readConfig(folder(JSON.stringify(bert)))).toMatchObject({ family: { type: 'bert' } });
    await expect(readConfig(folder('{'))).rejects.toThrow(/^m: config\.json: is not JSON$/);
    await expect(readConfig(fileMapFolder(new Map(), 'm'))).rejects.toThrow(/^m: has no config\.json/);
  });
});
