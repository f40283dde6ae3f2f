/**
 * A GGUF file's metadata by name, and what families make their `config.json` of. What a file does not say is what llama.cpp takes
 * for it.
 *
 * Source: gguf-py's `constants.py` for the names.
 */

import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';
import type { GgufHeader, GgufValue } from './header.ts';

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

  /** A list, where the value is one. */
  list(key: string): readonly GgufValue[] | undefined {
    const value = this.header.metadata.get(key);
    return Array.isArray(value) ? value : undefined;
  }

  number(key: string): number {
    const value = this.optional(key);
    if (value === undefined) throw this.fail(`does not say its ${this.architecture}.${key}`);
    return value;
  }

  /** Of a query or key. */
  get headSize(): number {
    return (
      this.optional('attention.key_length') ??
      this.number('embedding_length') / this.number('attention.head_count')
    );
  }

  /** `rope_scaling` of config.json: `linear`, or what is not computed as it is called; null: none. */
  get ropeScaling(): Record<string, unknown> | null {
    const type = this.text(`${this.architecture}.rope.scaling.type`);
    if (this.has('rope_factors_long.weight')) return { rope_type: 'longrope' };
    if (type === undefined || type === 'none') return null;
    return {
      rope_type: type,
      factor: this.number('rope.scaling.factor'),
      original_max_position_embeddings: this.optional('rope.scaling.original_context_length'),
    };
  }

  /** Sizes by the names that most families' config.json has for them. */
  get sizes(): Record<string, unknown> {
    return {
      hidden_size: this.number('embedding_length'),
      intermediate_size: this.number('feed_forward_length'),
      num_hidden_layers: this.number('block_count'),
      num_attention_heads: this.number('attention.head_count'),
      max_position_embeddings: this.number('context_length'),
      rope_scaling: this.ropeScaling,
    };
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
