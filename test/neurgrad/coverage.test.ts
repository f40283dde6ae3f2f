/**
 * Whether 95% intervals cover what they say where it is hard: effects of neurons, of which a few prompts hold most of the
 * squares. The population is real (population.mjs); samples of its prompts are drawn with replacement, as often as they must be
 * for a share of coverage to be known to half a percent, and the truth is the population's own value.
 */

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Estimate } from '../../neurgrad/intervals.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { agreement, pearsonDifference } from '../../neurgrad/study/agreement.ts';
import {
  differenceTerms,
  meanAbsoluteR,
  meanTerms,
  PEARSON,
  PEARSON_DIFFERENCE,
  pearsonTerms,
  pooledSums,
  promptSums,
  SHARE,
  type Statistic,
  share,
  shareTerms,
  type Terms,
} from '../../neurgrad/study/pooled.ts';

interface Population {
  readonly slope: number[][];
  readonly gradient: number[][];
  readonly ig: number[][];
  readonly r: number[][];
  readonly outward: string[];
  readonly linear: string[];
}

const { slope, gradient, ig, r, outward, linear }: Population = JSON.parse(
  gunzipSync(readFileSync('test/neurgrad/population.json.gz')).toString(),
);
const neurgrad = gradient.map((row, p) => row.map((g, i) => (outward[p]![i] === '1' ? g : -g)));
const isLinear = linear.map((row) => [...row].map((flag) => flag === '1'));

const STATISTICS: Readonly<Record<string, readonly [Statistic, Terms]>> = {
  'Pearson of G_C': [PEARSON, pearsonTerms(gradient, slope)],
  'Pearson of NeurGrad': [PEARSON, pearsonTerms(neurgrad, slope)],
  'Pearson of IG': [PEARSON, pearsonTerms(ig, slope)],
  'NeurGrad − IG': [PEARSON_DIFFERENCE, differenceTerms(neurgrad, ig, slope)],
  'share linear': [SHARE, shareTerms(isLinear)],
  'mean |r|': [SHARE, meanTerms(r.map((row) => row.map(Math.abs)))],
};

const DRAWS = 2000;
const SEED = 2025;

describe('95% intervals', () => {
  it('have a population of 600 prompts and 100 neurons each, a few of which weigh most', () => {
    expect(slope.map((row) => row.length)).toEqual(new Array(600).fill(100));
    const squares = slope
      .map((row) => row.reduce((sum, value) => sum + value * value, 0))
      .sort((a, b) => b - a);
    const all = squares.reduce((a, b) => a + b);
    expect(squares.slice(0, 30).reduce((a, b) => a + b)).toBeGreaterThan(all / 2);
  });
  describe.each(Object.entries(STATISTICS))('of %s', (name, [statistic, terms]) => {
    const sums = promptSums(terms);
    const truth = pooledSums(statistic, [sums]).value;
    it.each([20, 60, 200])('cover it in 92 to 97% of draws of %i prompts', (prompts) => {
      const random = seededRandom(SEED + prompts);
      let covered = 0;
      for (let draw = 0; draw < DRAWS; draw++) {
        const sample = Array.from({ length: prompts }, () => sums[Math.floor(random() * sums.length)]!);
        const { interval } = pooledSums(statistic, [sample]);
        if (interval!.low <= truth && truth <= interval!.high) covered++;
      }
      const coverage = (100 * covered) / DRAWS;
      expect(coverage, name).toBeGreaterThanOrEqual(92);
      expect(coverage, name).toBeLessThanOrEqual(97);
    });
  });
  it('are those that a study prints', () => {
    const some = Array.from({ length: 60 }, (_, i) => (i * 37) % 600);
    const of = <Row>(rows: readonly Row[]): Row[] => some.map((p) => rows[p]!);
    const printed: Readonly<Record<keyof typeof STATISTICS, Estimate>> = {
      'Pearson of G_C': agreement(of(gradient), of(slope), 'perPrompt').pearson,
      'Pearson of NeurGrad': agreement(of(neurgrad), of(slope), 'perPrompt').pearson,
      'Pearson of IG': agreement(of(ig), of(slope), 'perPrompt').pearson,
      'NeurGrad − IG': pearsonDifference(of(neurgrad), of(ig), of(slope), 'perPrompt'),
      'share linear': share(of(isLinear), 'perPrompt'),
      'mean |r|': meanAbsoluteR(of(r), 20, 'perPrompt'),
    };
    for (const [name, [statistic, terms]] of Object.entries(STATISTICS)) {
      const { value, interval } = pooledSums(statistic, [of(promptSums(terms))]);
      expect(printed[name]!.value, name).toBeCloseTo(value, 10);
      expect(printed[name]!.interval!.low, name).toBeCloseTo(interval!.low, 8);
      expect(printed[name]!.interval!.high, name).toBeCloseTo(interval!.high, 8);
    }
  });
});
