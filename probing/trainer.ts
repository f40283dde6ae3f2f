/**
 * Training for many permutations of the labels at once. What a prompt says depends on its label alone, so it is counted once a
 * label; what is left is adding it to the counters of each permutation, hundreds of times a prompt. Those sums are kept in
 * bytes, four of them added as one word, until a byte could overflow. `train` is the same without that.
 */

import { countActivation } from './activation.ts';
import { type Counts, checkVariant, emptyCounts, type Variant } from './counts.ts';
import { KINDS, type Training } from './evaluation.ts';
import { neuronCount } from './marks.ts';

/** Counts of 0 to 255, a byte a neuron, seen as words. */
class ByteCounts {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(neurons: number) {
    this.#words = new Int32Array(Math.ceil(neurons / 4));
    this.#bytes = new Uint8Array(this.#words.buffer, 0, neurons);
  }

  set(counts: Int32Array): void {
    this.#bytes.set(counts);
  }

  add(more: ByteCounts): void {
    const [sum, words] = [this.#words, more.#words];
    for (let w = 0; w < sum.length; w++) sum[w]! += words[w]!;
  }

  /** Moves what is counted here to counters that do not overflow. */
  moveTo(counts: Int32Array): void {
    for (let n = 0; n < counts.length; n++) counts[n]! += this.#bytes[n]!;
    this.#words.fill(0);
  }
}

const SIDES = ['plus', 'minus'] as const satisfies readonly (keyof Counts)[];
type Sides = Readonly<Record<(typeof SIDES)[number], ByteCounts>>;

const byteCounts = (neurons: number): Sides => ({
  plus: new ByteCounts(neurons),
  minus: new ByteCounts(neurons),
});

/** Adds prompts to counters; those hold all of them after {@link flush}. */
export class Trainer {
  readonly #training: Training;
  readonly #variant: Variant;
  readonly #candidates: number;
  readonly #sums: readonly (readonly Sides[])[];
  /** Of each label, what the present prompt says. */
  readonly #once: readonly Sides[];
  /** Prompts after which a byte could overflow: none counts for more than the candidates. */
  readonly #room: number;
  #waiting = 0;

  constructor(training: Training, candidates: number, variant: Variant) {
    checkVariant('Trainer', variant);
    const neurons = training.activation.square.length;
    this.#training = training;
    this.#variant = variant;
    this.#candidates = candidates;
    this.#sums = KINDS.map(({ name }) => training[name].map(() => byteCounts(neurons)));
    this.#once = Array.from({ length: candidates }, () => byteCounts(neurons));
    this.#room = Math.max(1, Math.floor(255 / candidates));
  }

  /** Adds one prompt. @param golds its label, and its label under each permutation. */
  add(gradients: Float32Array, activation: Float32Array, golds: readonly number[]): void {
    const neurons = neuronCount(gradients, this.#candidates);
    for (const [k, kind] of KINDS.entries()) {
      for (const gold of new Set(golds)) {
        const counts = emptyCounts(neurons);
        kind.count(counts, gradients, this.#candidates, gold, this.#variant);
        for (const side of SIDES) this.#once[gold]![side].set(counts[side]);
      }
      const sums = this.#sums[k]!;
      for (const [permutation, gold] of golds.entries())
        for (const side of SIDES) sums[permutation]![side].add(this.#once[gold]![side]);
    }
    countActivation(this.#training.activation, activation, golds[0]!);
    this.#training.prompts++;
    if (++this.#waiting === this.#room) this.flush();
  }

  /** Brings the counters up to date. */
  flush(): void {
    for (const [k, { name }] of KINDS.entries())
      for (const [permutation, counts] of this.#training[name].entries())
        for (const side of SIDES) this.#sums[k]![permutation]![side].moveTo(counts[side]);
    this.#waiting = 0;
  }
}
