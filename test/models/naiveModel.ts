/**
 * The naive twin of all models: a description's words in float64 loops, one text at a time, every hook point kept.
 */

import { ACTIVATIONS, type ActivationName } from '../../kernels/activation.ts';
import {
  type AttentionSpec,
  decode,
  finish,
  type LinearSpec,
  layer,
  type NormSpec,
  type Words,
} from '../../models/block.ts';
import type { Description, Parameter } from '../../models/description.ts';

export interface Table {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

/** Numbers of each token; of heads joined. */
export type Rows = readonly Float64Array[];

/** A parameter's numbers, in its own shape, out of the tensor that holds them. */
export function parameterOf({ shape, stored }: Parameter, { data }: Table): Table {
  if (!stored) return { shape, data };
  const width = shape[1] ?? 1;
  const rows = stored.rows.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
  const at = (row: number, i: number) => (stored.transposed ? i * stored.of + row : row * width + i);
  return {
    shape,
    data: Float64Array.from({ length: rows.length * width }, (_, i) =>
      Number(data[at(rows[Math.floor(i / width)]!, i % width)]),
    ),
  };
}

export interface NaiveInput {
  readonly ids: readonly number[];
  /** Rows of the table of positions, or positions to rotate by. */
  readonly positions: readonly number[];
  /** 0: a key that nobody sees. */
  readonly mask?: readonly number[];
  readonly types?: readonly number[];
  /** Tokens whose logits are wanted; default all. */
  readonly read?: readonly number[];
  /** What flows on from a hook point. */
  readonly edit?: (hook: string, x: Rows) => Rows;
}

export interface NaiveRun {
  readonly logits: Rows;
  readonly hooks: ReadonlyMap<string, Rows>;
}

/** A whole text through a model. */
export function runNaive(
  { embedding, layers, head, causal, sizes }: Description,
  weights: ReadonlyMap<string, Table>,
  input: NaiveInput,
): NaiveRun {
  const hooks = new Map<string, Rows>();
  const words = (prefix: string) => new NaiveWords(weights, hooks, prefix, causal, input);
  const start = words('');
  const look = (name: string, rows: readonly number[]): Rows => {
    const { data } = weights.get(name)!;
    return rows.map((row) =>
      Float64Array.from({ length: sizes.hidden }, (_, i) => Number(data[row * sizes.hidden + i])),
    );
  };
  const { word, scale = 1, type, position, norm } = embedding;
  let x = start.at(
    'hook_embed',
    look(word, input.ids).map((row) => row.map((n) => n * scale)),
  );
  if (type)
    x = start.add(
      x,
      start.at('hook_token_type_embed', look(type.weight, input.types ?? input.ids.map(() => 0))),
    );
  if (position) x = start.add(x, start.at('hook_pos_embed', look(position.weight, input.positions)));
  if (norm) x = start.at(norm.hook, start.norm(x, norm));
  for (const [number, spec] of layers.entries()) x = layer(words(`blocks.${number}.`), spec, x);
  const read = input.read?.map((at) => x[at]!) ?? x;
  return { logits: decode(start, head, finish(start, head, read)), hooks };
}

class NaiveWords implements Words<Rows> {
  readonly #weights: ReadonlyMap<string, Table>;
  readonly #hooks: Map<string, Rows>;
  readonly #prefix: string;
  readonly #causal: boolean;
  readonly #input: NaiveInput;
  #heads = 1;

  constructor(
    weights: ReadonlyMap<string, Table>,
    hooks: Map<string, Rows>,
    prefix: string,
    causal: boolean,
    input: NaiveInput,
  ) {
    this.#weights = weights;
    this.#hooks = hooks;
    this.#prefix = prefix;
    this.#causal = causal;
    this.#input = input;
  }

  at(hook: string, x: Rows): Rows {
    const name = this.#prefix + hook;
    const y = this.#input.edit?.(name, x) ?? x;
    this.#hooks.set(name, y);
    return y;
  }

  linear(x: Rows, { weight, bias, out, in: size }: LinearSpec): Rows {
    const w = this.#weights.get(weight)!.data;
    const b = bias === undefined ? null : this.#weights.get(bias)!.data;
    return x.map((row) =>
      Float64Array.from({ length: out }, (_, o) => {
        let sum = Number(b?.[o] ?? 0);
        for (let i = 0; i < size; i++) sum += Number(w[o * size + i]) * row[i]!;
        return sum;
      }),
    );
  }

  norm(x: Rows, { kind, weight, bias, size, eps }: NormSpec): Rows {
    const w = this.#weights.get(weight)!.data;
    const b = bias === undefined ? null : this.#weights.get(bias)!.data;
    return x.map((row) => {
      const y = new Float64Array(row.length);
      for (let from = 0; from < row.length; from += size) {
        const part = row.subarray(from, from + size);
        const mean = kind === 'layer' ? part.reduce((sum, n) => sum + n, 0) / size : 0;
        const scale = 1 / Math.sqrt(part.reduce((sum, n) => sum + (n - mean) ** 2, 0) / size + eps);
        for (let i = 0; i < size; i++)
          y[from + i] =
            (part[i]! - mean) * scale * (Number(w[i]) + (kind === 'rms1' ? 1 : 0)) + Number(b?.[i] ?? 0);
      }
      return y;
    });
  }

  activate(x: Rows, activation: ActivationName): Rows {
    return x.map((row) => row.map(ACTIVATIONS[activation].value));
  }

  gated(gate: Rows, up: Rows, activation: ActivationName): Rows {
    const act = this.at('mlp.hook_act', this.activate(gate, activation));
    return act.map((row, s) => row.map((n, i) => n * up[s]![i]!));
  }

  add(x: Rows, y: Rows): Rows {
    return x.map((row, s) => row.map((n, i) => n + y[s]![i]!));
  }

  split(x: Rows, count: number): Rows {
    this.#heads = count;
    return x;
  }

  rotate(x: Rows, angles: Float64Array): Rows {
    const size = x[0]!.length / this.#heads;
    const half = angles.length;
    return x.map((row, s) => {
      const y = row.slice();
      for (let at = 0; at < row.length; at += size)
        for (let i = 0; i < half; i++) {
          const angle = this.#input.positions[s]! * angles[i]!;
          const [a, b] = [row[at + i]!, row[at + half + i]!];
          y[at + i] = a * Math.cos(angle) - b * Math.sin(angle);
          y[at + half + i] = b * Math.cos(angle) + a * Math.sin(angle);
        }
      return y;
    });
  }

  attend(q: Rows, k: Rows, v: Rows, spec: AttentionSpec): Rows {
    const { heads, keyHeads, size, scale = 1 / Math.sqrt(size), window, cap } = spec;
    const patterns = q.map((row, s) => {
      const all: number[] = [];
      for (let h = 0; h < heads; h++) {
        const key = Math.floor((h * keyHeads) / heads) * size;
        const scores = k.map((to, t) => {
          const unseen =
            this.#input.mask?.[t] === 0 ||
            (this.#causal && t > s) ||
            (window !== undefined && (t < s - window.before || t > s + window.after));
          if (unseen) return Number.NEGATIVE_INFINITY;
          let dot = 0;
          for (let i = 0; i < size; i++) dot += row[h * size + i]! * to[key + i]!;
          return cap === undefined ? dot * scale : cap * Math.tanh((dot * scale) / cap);
        });
        const most = Math.max(...scores);
        const powers = scores.map((score) => (score === most ? 1 : Math.exp(score - most)));
        const sum = powers.reduce((a, b) => a + b, 0);
        all.push(...powers.map((power) => (most === Number.NEGATIVE_INFINITY ? 0 : power / sum)));
      }
      return Float64Array.from(all);
    });
    this.at('attn.hook_pattern', patterns);
    return patterns.map((row) =>
      Float64Array.from({ length: heads * size }, (_, o) => {
        const h = Math.floor(o / size);
        const from = Math.floor((h * keyHeads) / heads) * size + (o % size);
        return v.reduce((sum, of, t) => sum + row[h * v.length + t]! * of[from]!, 0);
      }),
    );
  }

  cap(x: Rows, cap: number): Rows {
    return x.map((row) => row.map((n) => cap * Math.tanh(n / cap)));
  }

  asked(x: Rows): Rows {
    return x;
  }

  queries(x: Rows): Rows {
    return x;
  }
}
