/** Polar and Magn against the golden values, against a direct reading of docs/probing.md#what-is-computed, and on data with a planted neuron. */

import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../neurgrad/random.ts';
import { emptyCounts, type Variant } from '../../probing/counts.ts';
import { magn } from '../../probing/magn.ts';
import { MARK, markGradients, packMarks, unpackMarks } from '../../probing/marks.ts';
import { polar } from '../../probing/polar.ts';
import {
  accuracies,
  fitProber,
  type Prober,
  type ProberKind,
  predictSizes,
  proberSizes,
  proberVotes,
  selectSize,
} from '../../probing/prober.ts';
import { type GoldenFile, goldenFiles, readGolden } from '../models/goldenFiles.ts';

const KINDS = [polar, magn];

interface Split {
  readonly gradients: Float32Array[];
  readonly gold: number[];
  readonly candidates: number;
}

function goldenSplit(file: GoldenFile, name: string): Split {
  const { shape, data } = file.of(`${name}.g`);
  const [prompts, candidates, neurons] = shape as [number, number, number];
  const size = candidates * neurons;
  const gradients = Array.from({ length: prompts }, (_, p) =>
    Float32Array.from(data.subarray(p * size, (p + 1) * size)),
  );
  return { gradients, gold: [...file.of(`${name}.gold`).data], candidates };
}

function fitOn(kind: ProberKind, split: Split, variant: Variant = 'paper'): Prober {
  const counts = emptyCounts(split.gradients[0]!.length / split.candidates);
  split.gradients.forEach((g, p) => {
    kind.count(counts, g, split.candidates, split.gold[p]!, variant);
  });
  return fitProber(kind, variant, counts);
}

function predict(prober: Prober, split: Split, sizes: readonly number[]): Int32Array[] {
  return split.gradients.map((g) =>
    predictSizes(prober, markGradients(g, split.candidates), split.candidates, sizes),
  );
}

const list = (values: ArrayLike<number>): number[] => Array.from(values, (value) => value + 0);

describe.each(goldenFiles('probing-'))('%s', (name) => {
  it.each(KINDS)('$name meets every integer', async (kind) => {
    const golden = await readGolden(name);
    const want = (what: string) => list(golden.of(`${kind.name}.${what}`).data);
    const [train, dev, test] = ['train', 'dev', 'test'].map((part) => goldenSplit(golden, part)) as [
      Split,
      Split,
      Split,
    ];
    const prober = fitOn(kind, train);
    expect(list(prober.polarity)).toEqual(want('polarity'));
    expect(list(prober.score)).toEqual(want('agreement'));
    expect(list(prober.ranking)).toEqual(want('rank'));
    const sizes = proberSizes(prober.polarity.length);
    expect(sizes).toEqual(want('sizes'));
    const devAccuracy = accuracies(predict(prober, dev, sizes), dev.gold, sizes.length);
    const predictions = predict(prober, test, sizes);
    expect(devAccuracy).toEqual(want('dev_accuracy'));
    expect(accuracies(predictions, test.gold, sizes.length)).toEqual(want('test_accuracy'));
    const chosen = sizes[selectSize(devAccuracy)]!;
    expect([chosen]).toEqual(want('chosen'));
    expect(sizes.flatMap((_, s) => predictions.map((row) => row[s]!))).toEqual(want('predictions'));
    const votes = test.gradients.map((g) =>
      proberVotes(prober, markGradients(g, test.candidates), test.candidates, chosen),
    );
    expect(votes.flatMap(list)).toEqual(want('votes'));
  });
});

/** Gradients with many zeros and ties. */
function randomSplit(prompts: number, candidates: number, neurons: number, seed: number): Split {
  const random = seededRandom(seed);
  const draw = (): number => Math.floor(random() * 7) - 3;
  return {
    gradients: Array.from({ length: prompts }, () =>
      Float32Array.from({ length: candidates * neurons }, draw),
    ),
    gold: Array.from({ length: prompts }, () => Math.floor(random() * candidates)),
    candidates,
  };
}

describe('the release variant', () => {
  const neurons = 33;
  const train = randomSplit(40, 4, neurons, 1);
  const query = randomSplit(20, 4, neurons, 2);
  const at = (g: Float32Array, c: number, n: number): number => g[c * neurons + n]!;
  const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);
  const range = [0, 1, 2, 3];

  const statistic = {
    polar: (n: number) =>
      sum(
        train.gradients.map((g, p) =>
          sum(range.map((c) => (c === train.gold[p] ? 1 : -1) * Math.sign(at(g, c, n)))),
        ),
      ),
    magn: (n: number) =>
      sum(
        train.gradients.map((g, p) =>
          sum(range.map((c) => Math.sign(at(g, train.gold[p]!, n) - at(g, c, n)))),
        ),
      ),
  };
  const votes = {
    polar: (g: Float32Array, chosen: number[]) =>
      range.map((c) => sum(chosen.map((n) => Math.sign(statistic.polar(n)) * Math.sign(at(g, c, n))))),
    magn: (g: Float32Array, chosen: number[]) =>
      range.map((c) =>
        sum(
          chosen.map((n) => {
            const x = range.map((other) => Math.sign(statistic.magn(n)) * at(g, other, n));
            return x[c] === Math.max(...x) ? 1 : 0;
          }),
        ),
      ),
  };

  it.each(KINDS)('$name is what its formula says', (kind) => {
    const prober = fitOn(kind, train, 'release');
    const all = Array.from({ length: neurons }, (_, n) => n);
    const strength = (n: number): number => Math.abs(statistic[kind.name](n));
    expect(list(prober.polarity)).toEqual(all.map((n) => Math.sign(statistic[kind.name](n)) + 0));
    expect(list(prober.score)).toEqual(all.map(strength));
    const ranking = [...all].sort((a, b) => strength(b) - strength(a) || a - b);
    expect(list(prober.ranking)).toEqual(ranking);
    for (const size of [1, 4, 32]) {
      const predicted = predict(prober, query, [size]).map((row) => row[0]);
      const want = query.gradients.map((g) => {
        const v = votes[kind.name](g, ranking.slice(0, size));
        return v.indexOf(Math.max(...v));
      });
      expect(predicted).toEqual(want);
    }
  });
});

/** A split whose neuron 17 alone knows the answer: + (or the largest) for the right candidate, - for the others. */
function planted(prompts: number, seed: number): Split {
  const random = seededRandom(seed);
  const [candidates, neurons] = [4, 64];
  const gold = Array.from({ length: prompts }, (_, p) => p % candidates);
  const gradients = gold.map((y) =>
    Float32Array.from({ length: candidates * neurons }, (_, at) => {
      if (at % neurons !== 17) return random() - 0.5;
      return Math.floor(at / neurons) === y ? 1 : -1 - random();
    }),
  );
  return { gradients, gold, candidates };
}

describe('a planted neuron', () => {
  const [train, dev, test] = [planted(80, 1), planted(40, 2), planted(40, 3)];

  it.each(
    KINDS.flatMap((kind) =>
      (['paper', 'release'] as const).map((variant) => ({ kind, name: kind.name, variant })),
    ),
  )('is all that $name, $variant, needs', ({ kind, variant }) => {
    const prober = fitOn(kind, train, variant);
    const sizes = proberSizes(64);
    const devAccuracy = accuracies(predict(prober, dev, sizes), dev.gold, sizes.length);
    expect(sizes[selectSize(devAccuracy)]).toBe(1);
    expect(prober.ranking[0]).toBe(17);
    expect(accuracies(predict(prober, test, [1]), test.gold, 1)).toEqual([1]);
  });
});

describe('marks', () => {
  it('come back from their packed form', () => {
    const { gradients } = randomSplit(1, 3, 7, 5);
    const marks = markGradients(gradients[0]!, 3);
    expect(unpackMarks(packMarks(marks), marks.length)).toEqual(marks);
  });

  it('tell ties, zeros and negative zero', () => {
    const marks = markGradients(Float32Array.from([1, 0, -0, 1, -2, 0]), 2);
    const { above0, below0, largest, smallest } = MARK;
    expect([...marks]).toEqual([
      above0 | largest | smallest,
      largest,
      largest | smallest,
      above0 | largest | smallest,
      below0 | smallest,
      largest | smallest,
    ]);
  });

  it('refuse what is not a number', () => {
    expect(() => markGradients(Float32Array.from([1, Number.NaN, 0, 0]), 2)).toThrow('neuron 1');
  });
});
