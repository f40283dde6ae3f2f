/** Small GGUF files whose tensors are random blocks in any format, for tests of what becomes of them. */

import { memorySource } from '../../models/byteSource.ts';
import { BLOCKS, type BlockFormat } from '../../models/gguf/blocks.ts';
import { ggufFolder } from '../../models/gguf/folder.ts';

const TYPES: Readonly<Record<BlockFormat, number>> = {
  ...{ F32: 0, F16: 1, BF16: 30, Q8_0: 8, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7 },
  ...{ Q2_K: 10, Q3_K: 11, Q4_K: 12, Q5_K: 13, Q6_K: 14 },
};

/** Bytes of a block at which half-precision scales begin. */
const SCALES: Partial<Record<BlockFormat, readonly number[]>> = {
  ...{ F16: [0], BF16: [0], Q8_0: [0], Q4_0: [0], Q4_1: [0, 2], Q5_0: [0], Q5_1: [0, 2] },
  ...{ Q2_K: [80, 82], Q3_K: [108], Q4_K: [0, 2], Q5_K: [0, 2], Q6_K: [208] },
};

function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
}

/** `count` numbers in blocks of all codes, with scales that are small, of both signs, and now and then subnormal or zero. */
export function randomBlocks(format: BlockFormat, count: number, seed: number): Uint8Array {
  const next = generator(seed);
  const { elements, bytes } = BLOCKS[format];
  const blocks = count / elements;
  const out = new Uint8Array(blocks * bytes);
  const view = new DataView(out.buffer);
  if (format === 'F32') for (let i = 0; i < count; i++) view.setFloat32(4 * i, next() / 2 ** 23 - 1, true);
  else for (let i = 0; i < out.length; i++) out[i] = next();
  for (let block = 0; block < blocks; block++)
    for (const at of SCALES[format] ?? []) {
      const sign = (next() & 1) << 15;
      const normal = ((4 + (next() % 6)) << 10) | (next() & 1023);
      const bits = block % 7 === 3 ? next() & 1023 : normal;
      view.setUint16(block * bytes + at, format === 'BF16' ? 0x3c00 | (next() & 255) : sign | bits, true);
    }
  return out;
}

type Value = string | number | boolean | readonly string[];

class Writer {
  readonly bytes: number[] = [];
  whole(value: number, size: 4 | 8): void {
    for (let i = 0; i < size; i++) this.bytes.push(Math.floor(value / 256 ** i) % 256);
  }
  text(value: string): void {
    const letters = new TextEncoder().encode(value);
    this.whole(letters.length, 8);
    this.bytes.push(...letters);
  }
  value(value: Value): void {
    if (typeof value === 'string') {
      this.whole(8, 4);
      this.text(value);
    } else if (typeof value === 'boolean') {
      this.whole(7, 4);
      this.bytes.push(Number(value));
    } else if (typeof value === 'number') {
      const whole = Number.isInteger(value);
      this.whole(whole ? 4 : 6, 4);
      this.bytes.push(...new Uint8Array((whole ? Uint32Array.of(value) : Float32Array.of(value)).buffer));
    } else {
      this.whole(9, 4);
      this.whole(8, 4);
      this.whole(value.length, 8);
      for (const each of value) this.text(each);
    }
  }
}

/** A tensor of a file, its last axis contiguous. */
export interface BlockTensor {
  readonly name: string;
  readonly format: BlockFormat;
  readonly shape: readonly number[];
}

export function ggufBytes(
  metadata: Readonly<Record<string, Value>>,
  tensors: readonly BlockTensor[],
): Uint8Array {
  const out = new Writer();
  out.bytes.push(...new TextEncoder().encode('GGUF'));
  out.whole(3, 4);
  out.whole(tensors.length, 8);
  out.whole(Object.keys(metadata).length, 8);
  for (const [key, value] of Object.entries(metadata)) {
    out.text(key);
    out.value(value);
  }
  const data = tensors.map(({ format, shape }, i) =>
    randomBlocks(
      format,
      shape.reduce((a, b) => a * b, 1),
      i + 1,
    ),
  );
  let at = 0;
  for (const [i, { name, format, shape }] of tensors.entries()) {
    out.text(name);
    out.whole(shape.length, 4);
    for (const length of shape.toReversed()) out.whole(length, 8);
    out.whole(TYPES[format], 4);
    out.whole(at, 8);
    at += Math.ceil(data[i]!.length / 32) * 32;
  }
  const begin = Math.ceil(out.bytes.length / 32) * 32;
  const file = new Uint8Array(begin + at);
  file.set(out.bytes);
  at = begin;
  for (const each of data) {
    file.set(each, at);
    at += Math.ceil(each.length / 32) * 32;
  }
  return file;
}

export const folderOfGguf = (bytes: Uint8Array, name = 'random.gguf') =>
  ggufFolder(async () => memorySource(name, bytes));

const VOCABULARY = 70;
const words = {
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'gpt-2',
  'tokenizer.ggml.tokens': Array.from({ length: VOCABULARY }, (_, i) => `<${i}>`),
  'tokenizer.ggml.eos_token_id': 0,
} as const;

/** A Llama of 256 wide with grouped queries, its matrices in the formats named, in turn; the head is the embedding. */
export function llamaFile(
  formats: readonly BlockFormat[],
  embedding: BlockFormat,
  layers = 2,
  hidden = 256,
): Uint8Array {
  const [heads, kv, inner] = [4, 2, 2 * hidden];
  const size = hidden / heads;
  let at = 0;
  const next = (): BlockFormat => formats[at++ % formats.length]!;
  const matrix = (name: string, rows: number, columns: number): BlockTensor => ({
    name: `${name}.weight`,
    format: next(),
    shape: [rows, columns],
  });
  const norm = (name: string): BlockTensor => ({ name: `${name}.weight`, format: 'F32', shape: [hidden] });
  return ggufBytes(
    {
      'general.architecture': 'llama',
      'llama.block_count': layers,
      'llama.context_length': 64,
      'llama.embedding_length': hidden,
      'llama.feed_forward_length': inner,
      'llama.attention.head_count': heads,
      'llama.attention.head_count_kv': kv,
      'llama.attention.layer_norm_rms_epsilon': 1e-5,
      ...words,
    },
    [
      { name: 'token_embd.weight', format: embedding, shape: [VOCABULARY, hidden] },
      norm('output_norm'),
      ...Array.from({ length: layers }, (_, i) => [
        norm(`blk.${i}.attn_norm`),
        matrix(`blk.${i}.attn_q`, hidden, hidden),
        matrix(`blk.${i}.attn_k`, kv * size, hidden),
        matrix(`blk.${i}.attn_v`, kv * size, hidden),
        matrix(`blk.${i}.attn_output`, hidden, hidden),
        norm(`blk.${i}.ffn_norm`),
        matrix(`blk.${i}.ffn_gate`, inner, hidden),
        matrix(`blk.${i}.ffn_up`, inner, hidden),
        matrix(`blk.${i}.ffn_down`, hidden, inner),
      ]).flat(),
    ],
  );
}

/** A GPT-2, whose matrices Hugging Face has the other way round. */
export function gpt2File(format: BlockFormat, hidden = 64): Uint8Array {
  const part = (name: string, rows: number, columns: number): BlockTensor[] => [
    { name: `blk.0.${name}.weight`, format, shape: [rows, columns] },
    { name: `blk.0.${name}.bias`, format: 'F32', shape: [rows] },
  ];
  const norm = (name: string): BlockTensor[] =>
    ['weight', 'bias'].map((end) => ({ name: `${name}.${end}`, format: 'F32', shape: [hidden] }));
  return ggufBytes(
    {
      'general.architecture': 'gpt2',
      'gpt2.block_count': 1,
      'gpt2.context_length': 32,
      'gpt2.embedding_length': hidden,
      'gpt2.feed_forward_length': 4 * hidden,
      'gpt2.attention.head_count': 2,
      'gpt2.attention.layer_norm_epsilon': 1e-5,
      ...words,
    },
    [
      { name: 'token_embd.weight', format, shape: [VOCABULARY, hidden] },
      { name: 'position_embd.weight', format: 'F32', shape: [32, hidden] },
      ...norm('output_norm'),
      ...norm('blk.0.attn_norm'),
      ...norm('blk.0.ffn_norm'),
      ...part('attn_qkv', 3 * hidden, hidden),
      ...part('attn_output', hidden, hidden),
      ...part('ffn_up', 4 * hidden, hidden),
      ...part('ffn_down', hidden, 4 * hidden),
    ],
  );
}
