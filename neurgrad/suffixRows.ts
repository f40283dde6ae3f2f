/**
 * Rows that leave plain prompts after the feed-forward of some layer, with gradients there (docs/science.md#exact-shortcuts).
 *
 * Nothing up to that layer is computed again. Rows join as the pass reaches their layer, so weights are read once for
 * all. Masked models: all tokens of the rest, in the last layer only the one that is read. Causal ones at the prompt's last
 * token: one token a row behind the cached keys and values, forward and backward; at an earlier token: all tokens. Rows of several
 * prompts ride one pass where they are one token each, or their prompts have one length ({@link rideTogether}).
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
import { type Prefix, rowTokens } from '../models/kvCache.ts';
import type { LanguageModel, Quantity } from '../models/model.ts';
import { objectiveValue } from '../models/run.ts';
import { Transformer } from '../models/transformer.ts';
import type { Measure } from './conventions.ts';
import { type PlainRun, plainRun } from './plainRun.ts';
import { measuredValues, objectiveOf, type Probe, type Tokens, targetOf } from './predict.ts';
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

/** How rows of a prompt's layer begin. */
export interface Beginnings<Numbers extends RunNumbers> {
  /** All that distinguishes rows [from, to) from others of their prompt and layer, as many of each a row. */
  numbers(prompt: number, layer: number, from: number, to: number): Numbers;
  /** Makes rows of their numbers, their marks with `requireGrad`. */
  begin(prompt: number, layer: number, numbers: RunTensors<Numbers>): Beginning;
}

/** Of one prompt. */
export interface SuffixRows {
  /** In the order of its layers, and of their rows. */
  readonly values: readonly Record<Quantity, number>[];
  /** Standard deviations of the rows' logits. */
  readonly spreads: readonly number[];
  /** Of each layer that has rows, in their order, of {@link differentiated}; the caller's to dispose of. */
  readonly gradients: ReadonlyMap<number, Tensor>;
}

/** A prompt, where its neurons are, and its tokens. */
export interface SuffixPrompt extends Tokens {
  readonly probe: Probe;
  readonly at: number;
}

export interface SuffixOptions {
  /** A prompt's, each with its target known. */
  readonly tokens: readonly (Tokens & { readonly target: number })[];
  readonly of: Measure;
  readonly rowsPerPass?: number | undefined;
  /** Default true: waves of one shape are recorded once and replayed. False: each anew, to the same bits. */
  readonly replay?: boolean;
  readonly onProgress?: ((done: number, all: number) => void) | undefined;
}

/** What the target of a causal model does not see is left out. */
const seenBy = ({ causal }: SuffixModel, probe: Probe): Probe =>
  causal ? { ...probe, ids: probe.ids.slice(0, probe.position + 1) } : probe;

/** Prompts whose rows can ride one pass, by their numbers. */
export function rideTogether(model: SuffixModel, prompts: readonly SuffixPrompt[]): number[][] {
  const groups = new Map<string, number[]>();
  for (const [i, { probe, at }] of prompts.entries()) {
    const { ids, position } = seenBy(model, probe);
    const alone = model.causal && at === position;
    const kind = alone ? 'last' : `${ids.length}`;
    groups.set(kind, [...(groups.get(kind) ?? []), i]);
  }
  return [...groups.values()].flatMap((group) => {
    const longest = Math.max(...group.map((i) => prompts[i]!.probe.ids.length));
    const size = rowsThatFit(model.description, { tokens: longest, keys: longest, tape: true, ...HELD });
    return Array.from({ length: Math.ceil(group.length / size) }, (_, g) =>
      group.slice(g * size, (g + 1) * size),
    );
  });
}

/** Plain runs of prompts, and the rest of the model for rows that leave them. */
export class Suffix implements Disposable {
  readonly model: SuffixModel;
  /** A prompt's: captures, at the neurons' position alone where the model allows it, and gradients. */
  readonly plain: readonly PlainRun[];
  readonly #prompts: readonly SuffixPrompt[];

  private constructor(model: SuffixModel, prompts: readonly SuffixPrompt[], plain: readonly PlainRun[]) {
    this.model = model;
    this.#prompts = prompts;
    this.plain = plain;
  }

  /** `capture` and `gradients` are feed-forward hooks wanted of the plain runs besides. @param prompts that {@link rideTogether}. */
  static open(
    model: SuffixModel,
    prompts: readonly SuffixPrompt[],
    options: {
      readonly of: Measure;
      readonly capture: readonly string[];
      readonly gradients: readonly string[];
    },
  ): Suffix {
    const seen = prompts.map((prompt) => ({ ...prompt, probe: seenBy(model, prompt.probe) }));
    const kept = Array.from({ length: model.sizes.layers }, (_, layer) => joinedBy(model, layer)).flat();
    const plain: PlainRun[] = [];
    try {
      for (const { probe, at, ...tokens } of seen) {
        const of = { ...objectiveOf(options.of, [tokens]), position: [probe.position] };
        const capture = [...options.capture, ...kept];
        plain.push(plainRun(model, probe, at, { capture, grad: { at: options.gradients, of } }));
      }
    } catch (error) {
      for (const run of plain) run.dispose();
      throw error;
    }
    return new Suffix(model, seen, plain);
  }

  /** A prompt's target, where none was asked for the argmax of its plain run, its values there, and the standard deviation of the logits. */
  async target(
    prompt: number,
  ): Promise<{ target: number; values: Record<Quantity, number>; spread: number }> {
    const { target: asked, other } = this.#prompts[prompt]!;
    const logits = await this.plain[prompt]!.run.logits.read();
    const target = targetOf(logits, asked);
    return { target, values: measuredValues(logits, { target, other }), spread: spreadOf(logits) };
  }

  /** A captured value of a prompt at its neurons' position, [1, n], in the open scope. */
  at(prompt: number, name: string): Tensor {
    return rowOf(this.plain[prompt]!.run.captures.get(name)!, this.#prompts[prompt]!.at);
  }

  /**
   * What a change of the neurons of a prompt's layer is added to, at their position, [1, H]: the product of its output weights where a norm
   * follows that, else the sum after the feed-forward.
   */
  joint(prompt: number, layer: number): Tensor {
    return this.at(prompt, jointsOf(this.model.description, layer).mark);
  }

  /**
   * Runs rows, `counts[prompt][layer]` of each prompt's layer, and takes the gradient of the target's value at their marks.
   */
  async run<Numbers extends RunNumbers>(
    counts: readonly (readonly number[])[],
    beginnings: Beginnings<Numbers>,
    options: SuffixOptions,
  ): Promise<SuffixRows[]> {
    const places = placesOf(counts);
    const all = places.reduce((sum, { to }) => sum + to, 0);
    const size = options.rowsPerPass ?? this.#rowsThatFit();
    const found = this.#prompts.map(() => ({
      values: [] as Record<Quantity, number>[],
      spreads: [] as number[],
      parts: new Map<number, Tensor[]>(),
    }));
    let done = 0;
    const waves = Array.from({ length: Math.ceil(all / size) }, (_, w) =>
      cut(places, w * size, Math.min(all, (w + 1) * size)),
    );
    const shapes = waves.map((wave) =>
      wave.map(({ prompt, layer, from, to }) => `${prompt}.${layer}x${to - from}`).join(),
    );
    using repeated = new Repeated<Numbers, Wave>(
      this.model.device,
      ({ logits, gradients }) => ({
        logits: logits.detach(),
        gradients: gradients.map((g) => slice(g, [], [])),
      }),
      options.replay,
    );
    try {
      for (const [w, wave] of waves.entries()) {
        const { logits, gradients } = repeated.run(
          shapes.slice(w, w + WORTH),
          joinedNumbers(
            wave.map(({ prompt, layer, from, to }) => beginnings.numbers(prompt, layer, from, to)),
          ),
          (numbers) => this.#wave(wave, beginnings, numbers, options),
        );
        for (const [i, { prompt, layer }] of wave.entries()) {
          const { parts } = found[prompt]!;
          parts.set(layer, [...(parts.get(layer) ?? []), gradients[i]!]);
        }
        try {
          const read = await logits.read();
          const { vocabulary } = this.model.sizes;
          let row = 0;
          for (const { prompt, from, to } of wave)
            for (let k = from; k < to; k++, row++) {
              const own = read.subarray(row * vocabulary, (row + 1) * vocabulary);
              found[prompt]!.values.push(measuredValues(own, options.tokens[prompt]!));
              found[prompt]!.spreads.push(spreadOf(own));
            }
          done += row;
        } finally {
          logits.dispose();
        }
        options.onProgress?.(done, all);
      }
      return found.map(({ values, spreads, parts }) => ({
        values,
        spreads,
        gradients: new Map([...parts].map(([layer, some]) => [layer, joined(some)])),
      }));
    } finally {
      for (const { parts } of found) for (const some of parts.values()) for (const t of some) t.dispose();
    }
  }

  #wave<Numbers extends RunNumbers>(
    wave: readonly Place[],
    { begin }: Beginnings<Numbers>,
    numbers: RunTensors<Numbers>,
    { tokens, of }: SuffixOptions,
  ): Wave {
    const { sizes, hooks } = this.model;
    const taps = new Taps(hooks, 1, 1, {});
    return scope(() => {
      const marks: Tensor[] = [];
      /** Prompts of the rows so far. */
      const prompts: number[] = [];
      let x: Tensor | null = null;
      for (let layer = wave[0]!.layer; layer < sizes.layers; layer++) {
        const before: Tensor | null = x;
        x = scope((): Tensor => {
          const rows = before ? [this.#layer(layer, before, prompts, taps)] : [];
          for (const place of wave) {
            if (place.layer !== layer) continue;
            const { prompt } = place;
            const count = place.to - place.from;
            const { joint, mark } = begin(prompt, layer, part(numbers, prompts.length, count));
            prompts.push(...new Array<number>(count).fill(prompt));
            marks.push(outlive(mark));
            rows.push(this.#enter(prompt, layer, joint, taps));
          }
          return rows.length === 1 ? rows[0]! : concat(rows, 0);
        });
        before?.dispose();
      }
      const count = x!.dim(0);
      const last = reshape(this.#read(x!, prompts), [count, sizes.hidden]);
      const logits = this.model.decode(this.model.head(last, taps, last.shape), taps);
      const value = objectiveValue(
        objectiveOf(
          of,
          prompts.map((prompt) => tokens[prompt]!),
        ),
        logits,
      );
      const gradients = grad(value, marks, { unconnected: 'zero' });
      for (const mark of marks) mark.dispose();
      return { logits: logits.detach(), gradients };
    });
  }

  #layer(layer: number, x: Tensor, prompts: readonly number[], taps: Taps): Tensor {
    const { model } = this;
    const rows = x.dim(0);
    if (this.plain[0]!.prefix) {
      const groups: { prefix: Prefix; prompt: number; count: number }[] = [];
      for (const prompt of prompts) {
        const last = groups.at(-1);
        if (last?.prompt === prompt) last.count++;
        else groups.push({ prefix: this.plain[prompt]!.prefix!, prompt, count: 1 });
      }
      const counts = groups.map(({ count }) => count);
      return model.layer(layer, x, rowTokens(model.device, groups, counts), taps);
    }
    const { length } = this.#prompts[0]!.probe.ids;
    const ids = new Array<number>(rows * length).fill(0);
    const read = this.#readsOne(layer) ? this.#readRows(prompts, length) : undefined;
    return model.layer(layer, x, model.tokens({ rows, length, ids, read }), taps);
  }

  /** Where the token of each row that is read lies. */
  #readRows(prompts: readonly number[], length: number): number[] {
    return prompts.map((prompt, row) => row * length + this.#prompts[prompt]!.probe.position);
  }

  /** Whether a layer is wanted of the token alone that is read. */
  #readsOne(layer: number): boolean {
    return !this.model.causal && layer === this.model.sizes.layers - 1;
  }

  /** Joints [rows, H] at the neurons' position among the plain prompt's other tokens, as the next layer reads them. */
  #enter(prompt: number, layer: number, joint: Tensor, taps: Taps): Tensor {
    const { model } = this;
    const [rows, hidden] = joint.shape as [number, number];
    const x = model.leave(layer, reshape(this.#sum(prompt, layer, joint, taps), [rows, 1, hidden]), taps);
    const { at, probe } = this.#prompts[prompt]!;
    const { position } = probe;
    const plain = this.plain[prompt]!;
    const last = this.#readsOne(layer);
    if (plain.prefix || (last && at === position)) return x;
    // The plain run's values are constants of the rows.
    const around = plain.run.captures.get(jointsOf(model.description, layer).next)!.detach();
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
  #sum(prompt: number, layer: number, joint: Tensor, taps: Taps): Tensor {
    const entered = enteredHook(this.model, layer);
    if (entered === null) return joint;
    const change = sub(this.model.enter(layer, joint, taps), this.at(prompt, entered));
    return add(this.at(prompt, sumHook(layer)), change);
  }

  /** The tokens read, [rows, 1, H]. */
  #read(x: Tensor, prompts: readonly number[]): Tensor {
    const [rows, tokens, hidden] = x.shape as [number, number, number];
    if (tokens === 1) return x;
    return gatherRows(reshape(x, [rows * tokens, hidden]), this.#readRows(prompts, tokens));
  }

  #rowsThatFit(): number {
    const length = Math.max(...this.#prompts.map(({ probe }) => probe.ids.length));
    return rowsThatFit(this.model.description, {
      tokens: this.plain[0]!.prefix ? 1 : length,
      keys: length,
      tape: true,
      bytes: TAPE_BYTES,
      most: MOST_ROWS,
    });
  }

  dispose(): void {
    for (const run of this.plain) run.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Memory that plain runs held together may take, about, and their number at most. */
const HELD = { bytes: 256 * 2 ** 20, most: 32 } as const;
/** Memory that the tape of one wave may take, about. */
const TAPE_BYTES = 512 * 2 ** 20;
const MOST_ROWS = 256;

/** Rows [from, to) of a prompt's layer. */
interface Place {
  readonly prompt: number;
  readonly layer: number;
  readonly from: number;
  readonly to: number;
}

/** All rows: by layer, and of a layer by prompt. */
const placesOf = (counts: readonly (readonly number[])[]): Place[] =>
  (counts[0] ?? []).flatMap((_, layer) =>
    counts.flatMap((own, prompt) => (own[layer]! > 0 ? [{ prompt, layer, from: 0, to: own[layer]! }] : [])),
  );

/** What a wave gives: logits [rows, V], and the gradients of its places' marks. */
interface Wave {
  readonly logits: Tensor;
  readonly gradients: readonly Tensor[];
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

/** Rows [start, end) of all. */
function cut(places: readonly Place[], start: number, end: number): Place[] {
  const parts: Place[] = [];
  let first = 0;
  for (const place of places) {
    const count = place.to;
    const from = Math.max(0, start - first);
    const to = Math.min(count, end - first);
    if (from < to) parts.push({ ...place, from, to });
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
