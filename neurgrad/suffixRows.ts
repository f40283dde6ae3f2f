/**
 * Rows that leave the plain prompt after the feed-forward of some layer, with gradients there (SPEC 9.2 to 9.4, 9.6, 9.8).
 *
 * Nothing up to that layer is computed again. Rows join as the pass reaches their layer, so weights are read once for
 * all. Masked models: all tokens of the rest, in the last layer only the one that is read. Causal ones at the prompt's last
 * token: one token a row behind the cached keys and values, forward and backward; at an earlier token: all tokens.
 */

import {
  add,
  broadcastTo,
  concat,
  gatherRows,
  grad,
  noGrad,
  reshape,
  scope,
  slice,
  sub,
  type Tensor,
} from '../engine/index.ts';
import { disown } from '../engine/scope.ts';
import { rowsThatFit } from '../models/cost.ts';
import { jointsOf } from '../models/description.ts';
import { outlive, Taps } from '../models/hooks.ts';
import { rowTokens } from '../models/kvCache.ts';
import type { LanguageModel, Quantity } from '../models/model.ts';
import { objectiveValue } from '../models/run.ts';
import { Transformer } from '../models/transformer.ts';
import { type PlainRun, plainRun } from './plainRun.ts';
import { differentiated, type Probe, targetValues } from './predict.ts';
import { Repeated, type RunNumbers, type RunTensors, WORTH } from './repeated.ts';
import { spreadOf } from './rounding.ts';

/** A model whose layers can be run one by one. */
export type SuffixModel = Transformer;

/** Whether rows can begin at position `at` of a prompt: the model is whole, on one device, and the target sees `at`. */
export function beginsRows(model: LanguageModel, probe: Probe, at: number): model is SuffixModel {
  return model instanceof Transformer && (!model.causal || at <= probe.position);
}

/** What a layer's rows begin with, and what their gradient is wanted of (marked for it). */
export interface Beginning {
  /** [rows, H]: the value at the layer's joint ({@link Suffix.joint}) at the neurons' position. */
  readonly joint: Tensor;
  /** [rows, ...]; `joint` itself, or what it was made of. */
  readonly mark: Tensor;
}

/** How rows of a layer begin. */
export interface Beginnings<Numbers extends RunNumbers> {
  /** All that distinguishes rows [from, to) from others of their layer, as many of each a row. */
  numbers(layer: number, from: number, to: number): Numbers;
  /** Makes rows of their numbers, their marks with `requireGrad`. */
  begin(layer: number, numbers: RunTensors<Numbers>): Beginning;
}

export interface SuffixRows {
  /** In the order of the rows. */
  readonly values: readonly Record<Quantity, number>[];
  /** Standard deviations of the rows' logits. */
  readonly spreads: readonly number[];
  /** Of each layer that has rows, in their order, of {@link differentiated}; the caller's to dispose of. */
  readonly gradients: ReadonlyMap<number, Tensor>;
}

export interface SuffixOptions {
  readonly target: number;
  readonly of: Quantity;
  readonly rowsPerPass?: number | undefined;
  /** Default true: waves of one shape are recorded once and replayed. False: each anew, to the same bits. */
  readonly replay?: boolean;
  readonly onProgress?: ((done: number, all: number) => void) | undefined;
}

/** The plain run of a prompt, and the rest of the model for rows that leave it. */
export class Suffix implements Disposable {
  readonly model: SuffixModel;
  /** Captures, at the neurons' position alone where the model allows it, and gradients. */
  readonly plain: PlainRun;
  readonly #probe: Probe;
  readonly #at: number;

  private constructor(model: SuffixModel, probe: Probe, at: number, plain: PlainRun) {
    this.model = model;
    this.#probe = probe;
    this.#at = at;
    this.plain = plain;
  }

  /** `capture` and `gradients` are feed-forward hooks wanted of the plain run besides. */
  static open(
    model: SuffixModel,
    probe: Probe,
    at: number,
    options: Pick<SuffixOptions, 'target' | 'of'> & {
      readonly capture: readonly string[];
      readonly gradients: readonly string[];
    },
  ): Suffix {
    // What the target does not see is left out.
    const ids = model.causal ? probe.ids.slice(0, probe.position + 1) : probe.ids;
    const seen: Probe = { ...probe, ids };
    const kept = Array.from({ length: model.sizes.layers }, (_, layer) => joinedBy(model, layer)).flat();
    const plain = plainRun(model, seen, at, {
      capture: [...options.capture, ...kept],
      grad: {
        at: options.gradients,
        of: { of: differentiated(options.of), target: [options.target], position: [probe.position] },
      },
    });
    return new Suffix(model, seen, at, plain);
  }

  /** The target's values in the plain run, and the standard deviation of its logits. */
  async target(target: number): Promise<{ values: Record<Quantity, number>; spread: number }> {
    const logits = await this.plain.run.logits.read();
    return { values: targetValues(logits, target), spread: spreadOf(logits) };
  }

  /** A captured value at the neurons' position, [1, n], in the open scope. */
  at(name: string): Tensor {
    return rowOf(this.plain.run.captures.get(name)!, this.#at);
  }

  /**
   * What a change of the neurons of a layer is added to, at their position, [1, H]: the product of its output weights where a norm
   * follows that, else the sum after the feed-forward.
   */
  joint(layer: number): Tensor {
    return this.at(jointsOf(this.model.description, layer).mark);
  }

  /**
   * Runs rows, `counts[layer]` of each layer, and takes the gradient of the target's value at their marks.
   */
  async run<Numbers extends RunNumbers>(
    counts: readonly number[],
    beginnings: Beginnings<Numbers>,
    options: SuffixOptions,
  ): Promise<SuffixRows> {
    const all = counts.reduce((a, b) => a + b, 0);
    const size = options.rowsPerPass ?? this.#rowsThatFit();
    const values: Record<Quantity, number>[] = [];
    const spreads: number[] = [];
    const parts = new Map<number, Tensor[]>();
    const waves = Array.from({ length: Math.ceil(all / size) }, (_, w) =>
      cut(counts, w * size, Math.min(all, (w + 1) * size)),
    );
    const shapes = waves.map((wave) => wave.map(({ layer, from, to }) => `${layer}x${to - from}`).join());
    using repeated = new Repeated<Numbers, Wave>(
      this.model.device,
      ({ logits, gradients }) => ({
        logits: logits.detach(),
        gradients: new Map([...gradients].map(([layer, g]) => [layer, slice(g, [], [])])),
      }),
      options.replay,
    );
    try {
      for (const [w, wave] of waves.entries()) {
        const { logits, gradients } = repeated.run(
          shapes.slice(w, w + WORTH),
          joinedNumbers(wave.map(({ layer, from, to }) => beginnings.numbers(layer, from, to))),
          (numbers) => this.#wave(wave, beginnings, numbers, options),
        );
        for (const [layer, gradient] of gradients) parts.set(layer, [...(parts.get(layer) ?? []), gradient]);
        try {
          const read = await logits.read();
          const { vocabulary } = this.model.sizes;
          for (let at = 0; at < read.length; at += vocabulary) {
            const row = read.subarray(at, at + vocabulary);
            values.push(targetValues(row, options.target));
            spreads.push(spreadOf(row));
          }
        } finally {
          logits.dispose();
        }
        options.onProgress?.(values.length, all);
      }
      const gradients = new Map([...parts].map(([layer, some]) => [layer, joined(some)]));
      return { values, spreads, gradients };
    } finally {
      for (const some of parts.values()) for (const t of some) t.dispose();
    }
  }

  #wave<Numbers extends RunNumbers>(
    wave: readonly Part[],
    { begin }: Beginnings<Numbers>,
    numbers: RunTensors<Numbers>,
    { target, of }: SuffixOptions,
  ): Wave {
    const { sizes, hooks } = this.model;
    const taps = new Taps(hooks, 1, 1, {});
    return scope(() => {
      const marks: Tensor[] = [];
      let entered = 0;
      let x: Tensor | null = null;
      for (let layer = wave[0]!.layer; layer < sizes.layers; layer++) {
        const before: Tensor | null = x;
        const joining = wave.find((part) => part.layer === layer);
        x = scope((): Tensor => {
          const rows = before ? [this.#layer(layer, before, taps)] : [];
          if (joining) {
            const count = joining.to - joining.from;
            const { joint, mark } = begin(layer, part(numbers, entered, count));
            entered += count;
            marks.push(outlive(mark));
            rows.push(this.#enter(layer, joint, taps));
          }
          return rows.length === 1 ? rows[0]! : concat(rows, 0);
        });
        before?.dispose();
      }
      const count = x!.dim(0);
      const last = reshape(this.#read(x!), [count, sizes.hidden]);
      const logits = this.model.decode(this.model.head(last, taps, last.shape), taps);
      const targets = new Array<number>(count).fill(target);
      const value = objectiveValue({ of: differentiated(of), target: targets }, logits);
      const found = grad(value, marks, { unconnected: 'zero' });
      for (const mark of marks) mark.dispose();
      return { logits: logits.detach(), gradients: new Map(wave.map(({ layer }, i) => [layer, found[i]!])) };
    });
  }

  #layer(layer: number, x: Tensor, taps: Taps): Tensor {
    const { model } = this;
    const rows = x.dim(0);
    const { prefix } = this.plain;
    if (prefix) return model.layer(layer, x, rowTokens(model.device, [{ prefix }], [rows]), taps);
    const { length } = this.#probe.ids;
    const ids = new Array<number>(rows * length).fill(0);
    const read = this.#readsOne(layer)
      ? Array.from({ length: rows }, (_, row) => row * length + this.#probe.position)
      : undefined;
    return model.layer(layer, x, model.tokens({ rows, length, ids, read }), taps);
  }

  /** Whether a layer is wanted of the token alone that is read. */
  #readsOne(layer: number): boolean {
    return !this.model.causal && layer === this.model.sizes.layers - 1;
  }

  /** Joints [rows, H] at the neurons' position among the plain prompt's other tokens, as the next layer reads them. */
  #enter(layer: number, joint: Tensor, taps: Taps): Tensor {
    const { model } = this;
    const [rows, hidden] = joint.shape as [number, number];
    const x = model.leave(layer, reshape(this.#sum(layer, joint, taps), [rows, 1, hidden]), taps);
    const at = this.#at;
    const { position } = this.#probe;
    const last = this.#readsOne(layer);
    if (this.plain.prefix || (last && at === position)) return x;
    // The plain run's values are constants of the rows.
    const around = this.plain.run.captures.get(jointsOf(model.description, layer).next)!.detach();
    const repeat = (from: number, to: number): Tensor =>
      broadcastTo(slice(around, [0, from], [1, to]), [rows, to - from, hidden]);
    // The last layer leaves the token read alone, which another one cannot change any more.
    if (last) return repeat(position, position + 1);
    const tokens = around.dim(1);
    return concat(
      [...(at > 0 ? [repeat(0, at)] : []), x, ...(at < tokens - 1 ? [repeat(at + 1, tokens)] : [])],
      1,
    );
  }

  /** Sums after the feed-forward, of their joints. */
  #sum(layer: number, joint: Tensor, taps: Taps): Tensor {
    const entered = enteredHook(this.model, layer);
    if (entered === null) return joint;
    const change = sub(this.model.enter(layer, joint, taps), this.at(entered));
    return add(this.at(sumHook(layer)), change);
  }

  /** The tokens read, [rows, 1, H]. */
  #read(x: Tensor): Tensor {
    const [rows, tokens, hidden] = x.shape as [number, number, number];
    if (tokens === 1) return x;
    const which = Array.from({ length: rows }, (_, row) => row * tokens + this.#probe.position);
    return gatherRows(reshape(x, [rows * tokens, hidden]), which);
  }

  #rowsThatFit(): number {
    const { length } = this.#probe.ids;
    return rowsThatFit(this.model.description, {
      tokens: this.plain.prefix ? 1 : length,
      keys: length,
      tape: true,
      bytes: TAPE_BYTES,
      most: MOST_ROWS,
    });
  }

  dispose(): void {
    this.plain.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Memory that the tape of one wave may take, about. */
const TAPE_BYTES = 512 * 2 ** 20;
const MOST_ROWS = 256;

/** Rows [from, to) of a layer. */
interface Part {
  readonly layer: number;
  readonly from: number;
  readonly to: number;
}

/** What a wave gives: logits [rows, V], and the gradients of its layers' marks. */
interface Wave {
  readonly logits: Tensor;
  readonly gradients: ReadonlyMap<number, Tensor>;
}

/** Numbers of rows one after the other. */
function joinedNumbers<Numbers extends RunNumbers>(parts: readonly Numbers[]): Numbers {
  const names = Object.keys(parts[0]!);
  const joined = names.map((name) => {
    const values = parts.flatMap((numbers) => [...numbers[name]!]);
    return [
      name,
      parts[0]![name] instanceof Uint32Array ? Uint32Array.from(values) : Float32Array.from(values),
    ];
  });
  return Object.fromEntries(joined) as Numbers;
}

/** Those of rows [from, from + count). */
function part<Numbers extends RunNumbers>(
  numbers: RunTensors<Numbers>,
  from: number,
  count: number,
): RunTensors<Numbers> {
  const some = Object.entries<Tensor>(numbers).map(([name, t]) => [
    name,
    t.size === count ? t : slice(t, [from], [from + count]),
  ]);
  return Object.fromEntries(some) as RunTensors<Numbers>;
}

/** Rows [start, end) of all, by layer. */
function cut(counts: readonly number[], start: number, end: number): Part[] {
  const parts: Part[] = [];
  let first = 0;
  for (const [layer, count] of counts.entries()) {
    const from = Math.max(0, start - first);
    const to = Math.min(count, end - first);
    if (from < to) parts.push({ layer, from, to });
    first += count;
  }
  return parts;
}

const sumHook = (layer: number): string => `blocks.${layer}.hook_resid_post`;

/** What a layer's product has become when it is added, where that is not itself. */
function enteredHook({ description }: SuffixModel, layer: number): string | null {
  const { after } = description.layers[layer]!.norms.feedForward;
  return after ? `blocks.${layer}.${after.hook}` : null;
}

/** Hooks of what rows of a layer are made of. */
function joinedBy(model: SuffixModel, layer: number): string[] {
  const { mark, next } = jointsOf(model.description, layer);
  const entered = enteredHook(model, layer);
  return [...new Set([mark, next, ...(entered ? [entered, sumHook(layer)] : [])])];
}

/** Row `at` of [1, tokens, n], or the only one: a constant. */
function rowOf(values: Tensor, at: number): Tensor {
  const [, tokens, n] = values.shape as [number, number, number];
  const from = tokens === 1 ? 0 : at;
  return reshape(slice(values.detach(), [0, from], [1, from + 1]), [1, n]);
}

/** All rows; the parts stay the caller's. */
function joined(parts: readonly Tensor[]): Tensor {
  const all = noGrad(() => scope(() => (parts.length === 1 ? parts[0]!.detach() : concat(parts, 0))));
  disown(all);
  return all;
}
