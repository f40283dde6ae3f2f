/**
 * Which shifts of a curve must be run, and when they are enough: interpolation in Newton's form, point by point.
 *
 * Points come in Leja's order (Reichel 1990, "Newton interpolation at Leja points"): first 0, which is known, with the slope there from one
 * backward; each next one where the product of distances to the earlier ones is largest. They are asked shifts, so that none is run
 * for nothing. Before each, the interpolants say what they expect: of three quantities (p, log p, log odds), each in the shift itself
 * and in two angles (response.ts). An error seen there, where it is about largest, is a *surprise*. A curve is known once
 *
 * - the last two surprises of the best interpolant are below a quarter of the tolerance, and the one before them below three tolerances: two
 *   may be small by luck, and
 * - so is its difference, at every asked shift, from the best interpolant along another axis.
 *
 * The bound that is stated is twice the tolerance. A curve that half of the asked shifts do not make known, and one with a value
 * that is none, is run at all of them. Nothing can see a bump between two points that are run; curves of models are analytic, and have none
 * that their other points do not feel.
 */

import type { Quantity } from '../../models/model.ts';
import type { ChangedTarget } from '../difference/sweep.ts';
import { RANGE_SLACK } from '../statistics.ts';
import {
  along,
  changeOf,
  oddsChange,
  type PlainTarget,
  type Response,
  type Smooth,
  slopeOf,
} from './response.ts';

/** Share of the tolerance that surprises and disagreement stay below; so many surprises; and what the one before them counts. */
const RULE = { share: 0.25, surprises: 2, before: 1 / 12 } as const;
/** Share of the asked shifts from which on running all is as good. */
const GIVE_UP = 0.5;
/** What is stated as the error's bound, in tolerances. */
const STATED = 2;
/** Shifts over which a residual turns, by order of magnitude, within the paper's range of 10: the best of 1 to 50 on both bundled models. */
const REACHES = [null, 10, 5] as const;
/** Tolerance that r is known to a ten thousandth with, as a share of the largest change that it is fitted to. */
const OF_EXTENT = 1e-4;

/** Default tolerance, as a share of p; of logarithms and logits absolute. */
export const CURVE_TOLERANCE = 1e-6;

/** An axis that curves are polynomials along. */
interface Axis extends Pick<Response, 'reach' | 'stretch'> {
  /** Of all asked shifts. */
  readonly x: Float64Array;
  /** dx/ds at 0. */
  readonly slope: number;
  /** Newton's basis at all asked shifts, term by term; with 0 once, or twice. */
  readonly once: Float64Array[];
  readonly twice: Float64Array[];
}

/** Leja's order of asked shifts and the bases that follow from it: the same for all curves over these shifts. */
export class Ladder {
  /** Ascending, with 0. */
  readonly shifts: readonly number[];
  readonly zero: number;
  /** Up to which |s| slope and r are fitted. */
  readonly range: number;
  /** Places of all shifts but 0, in the order in which they are run. */
  readonly order: readonly number[];
  /** Points without which no curve is known. */
  readonly least: number;
  readonly axes: readonly Axis[];

  constructor(shifts: readonly number[], range: number) {
    this.shifts = shifts;
    this.zero = shifts.indexOf(0);
    this.range = range;
    const { order, least } = lejaOrder(shifts, this.zero, range);
    this.order = order;
    this.least = least;
    const end = Math.max(...shifts.map(Math.abs));
    this.axes = REACHES.map((reach): Axis => {
      const stretch = 2 / along({ reach, stretch: 1 }, end);
      const x = Float64Array.from(shifts, (s) => along({ reach, stretch }, s));
      const slope = reach === null ? stretch : stretch / reach;
      return { reach, stretch, x, slope, once: [x], twice: [x.map((value) => value * value)] };
    });
  }

  /** The basis' term for the k-th point run. */
  term(axis: Axis, sloped: boolean, k: number): Float64Array {
    const terms = sloped ? axis.twice : axis.once;
    while (terms.length <= k) {
      const at = axis.x[this.order[terms.length - 1]!]!;
      terms.push(terms.at(-1)!.map((value, i) => value * (axis.x[i]! - at)));
    }
    return terms[k]!;
  }
}

/**
 * Both ends, the ends of the range that is fitted, a witness, then by Leja along an axis that is denser about 0. The witness is
 * the best of the shifts whose places have no divisor in common with those before: what oscillates with the asked shifts cannot be 0 at all.
 */
function lejaOrder(
  shifts: readonly number[],
  zero: number,
  range: number,
): { order: number[]; least: number } {
  const x = shifts.map((s) => Math.asinh(s / 10));
  const width = Math.max(...x.map(Math.abs)) / 2;
  const left = new Set(shifts.keys());
  left.delete(zero);
  const product = x.map((value) => Math.abs(value) / width);
  const order: number[] = [];
  const take = (place: number): void => {
    if (!left.delete(place)) return;
    order.push(place);
    for (const i of left) product[i]! *= Math.abs(x[i]! - x[place]!) / width;
  };
  const largest = (places: readonly number[]): number =>
    places.reduce((best, i) => (product[i]! > product[best]! ? i : best), places[0]!);
  const inside = [...left].filter((i) => Math.abs(shifts[i]!) <= range + RANGE_SLACK);
  for (const end of [shifts.length - 1, 0, inside.at(-1)!, inside[0]!]) take(end);
  const common = order.reduce((divisor, i) => greatestCommonDivisor(divisor, Math.abs(i - zero)), 0);
  const odd = [...left].filter((i) => greatestCommonDivisor(common, Math.abs(i - zero)) === 1);
  if (odd.length > 0) take(largest(odd));
  const least = order.length;
  while (left.size > 0) take(largest([...left]));
  return { order, least };
}

const greatestCommonDivisor = (a: number, b: number): number =>
  b === 0 ? a : greatestCommonDivisor(b, a % b);

/** One interpolant. */
interface Candidate {
  readonly of: Smooth;
  readonly axis: Axis;
  /** Whether the slope at 0 is a condition, and the slope along the axis. */
  readonly sloped: boolean;
  /** At all asked shifts. */
  readonly values: Float64Array;
  readonly coefficients: number[];
  readonly surprises: number[];
}

/** Interpolants that are judged by their errors of one quantity. */
interface Family {
  readonly judged: Quantity;
  readonly candidates: readonly Candidate[];
  known: Candidate | null;
}

/** A neuron's curve that is to be known. */
export interface CurveQuestion {
  readonly plain: PlainTarget;
  readonly of: Quantity;
  /** dv/ds at 0, of the quantity asked for. */
  readonly slope: number;
  /** Default {@link CURVE_TOLERANCE}. */
  readonly tolerance?: number | undefined;
}

/** A known curve at all asked shifts. */
export interface KnownCurve {
  /** Noise where a shift was not run is that of its neighbours. */
  readonly points: readonly ChangedTarget[];
  /** Points run. */
  readonly ran: number;
  /** Largest error that the quantity asked for has where no point was run, next to the noise; 0 where all were. */
  readonly bound: number;
  /** Null where all asked shifts were run, which says that no polynomial was found. */
  readonly response: Response | null;
}

/** A curve that grows point by point until it is known. */
export class GrowingCurve {
  readonly #ladder: Ladder;
  readonly #question: CurveQuestion;
  readonly #seen: (ChangedTarget | undefined)[];
  readonly #families: readonly Family[];
  #ran = 0;
  #extent = 0;
  #lost = false;

  constructor(ladder: Ladder, question: CurveQuestion) {
    this.#ladder = ladder;
    this.#question = question;
    this.#seen = ladder.shifts.map(() => undefined);
    const { plain, of } = question;
    this.#seen[ladder.zero] = still(plain);
    const own = of === 'logit' ? 'prob' : of;
    this.#families = [
      this.#family(own, ['prob', 'logprob', 'logodds']),
      ...(of === 'logit' ? [this.#family('logit', ['logit'])] : []),
    ];
  }

  #family(judged: Quantity, kinds: readonly Smooth[]): Family {
    const { axes, shifts } = this.#ladder;
    const { plain, of, slope } = this.#question;
    const candidates = axes.flatMap((axis) =>
      kinds.map((kind): Candidate => {
        const along = slopeOf(plain, of, slope, kind) / axis.slope;
        const sloped = Number.isFinite(along);
        const values = sloped ? axis.x.map((x) => along * x) : new Float64Array(shifts.length);
        return { of: kind, axis, sloped, values, coefficients: sloped ? [0, along] : [0], surprises: [] };
      }),
    );
    return { judged, candidates, known: null };
  }

  get done(): boolean {
    return this.#ran === this.#ladder.order.length || this.#families.every(({ known }) => known !== null);
  }

  /** Places of the shifts to run next: at least as many as can make the curve known, at most `most` more. */
  next(most = 1): readonly number[] {
    if (this.done) return [];
    const { order, least } = this.#ladder;
    const needed = this.#givenUp ? order.length : Math.max(least, this.#ran + most);
    return order.slice(this.#ran, needed);
  }

  get #givenUp(): boolean {
    return this.#lost || this.#ran > GIVE_UP * this.#ladder.order.length;
  }

  /** The point at the next place of the order. */
  add(point: ChangedTarget): void {
    const { order, least, shifts, range } = this.#ladder;
    const place = order[this.#ran]!;
    this.#seen[place] = point;
    const k = this.#ran++;
    const { of, plain } = this.#question;
    if (!Number.isFinite(point.changes[of]) || !Number.isFinite(point.noise[of])) this.#lost = true;
    if (Math.abs(shifts[place]!) <= range + RANGE_SLACK)
      this.#extent = Math.max(this.#extent, Math.abs(point.changes[of]));
    for (const family of this.#families) {
      const tolerance = this.#tolerance(family.judged, point.noise, point.values.prob);
      for (const candidate of family.candidates) {
        const { axis, sloped, values, coefficients, surprises } = candidate;
        const expected = changeOf(plain, candidate.of, values[place]!, family.judged);
        surprises.push(Math.abs(expected - point.changes[family.judged]) / tolerance);
        const value =
          candidate.of === 'logodds' ? oddsChange(plain, point.changes) : point.changes[candidate.of];
        const term = this.#ladder.term(axis, sloped, k);
        const coefficient = (value - values[place]!) / term[place]!;
        coefficients.push(coefficient);
        for (let i = 0; i < values.length; i++) values[i]! += coefficient * term[i]!;
      }
      if (this.#ran >= least && !this.#givenUp) family.known = this.#judge(family);
    }
  }

  #tolerance(of: Quantity, noise: Readonly<Record<Quantity, number>>, p: number): number {
    const share = this.#question.tolerance ?? CURVE_TOLERANCE;
    const size = of === 'prob' ? Math.max(this.#question.plain.prob, p) : 1;
    const wanted = of === this.#question.of ? OF_EXTENT * this.#extent : Number.POSITIVE_INFINITY;
    return Math.max(noise[of], Math.min(share * size, wanted), Number.MIN_VALUE);
  }

  /** The best interpolant, where it and another one know the curve. */
  #judge({ judged, candidates }: Family): Candidate | null {
    const best = leastSurprised(candidates);
    if (!best) return null;
    const other = leastSurprised(
      candidates.filter(({ axis }) => axis !== best.axis),
      Number.POSITIVE_INFINITY,
    );
    if (!other) return null;
    const { plain } = this.#question;
    const noise = this.#noises();
    for (const [i, seen] of this.#seen.entries()) {
      if (seen) continue;
      const own = changeOf(plain, best.of, best.values[i]!, judged);
      const its = changeOf(plain, other.of, other.values[i]!, judged);
      const p = plain.prob + (judged === 'prob' ? own : 0);
      if (!(Math.abs(own - its) <= RULE.share * this.#tolerance(judged, noise[i]!, p))) return null;
    }
    return best;
  }

  /** Noise at all asked shifts: between two that were run, what lies between theirs. */
  #noises(): Readonly<Record<Quantity, number>>[] {
    const { shifts } = this.#ladder;
    const run = [...this.#seen.keys()].filter((i) => this.#seen[i] !== undefined);
    let after = 0;
    return shifts.map((s, i) => {
      while (after < run.length - 1 && run[after]! < i) after++;
      const [low, high] = [run[Math.max(0, after - (run[after]! > i ? 1 : 0))]!, run[after]!];
      const [a, b] = [this.#seen[low]!.noise, this.#seen[high]!.noise];
      const t = low === high ? 0 : (s - shifts[low]!) / (shifts[high]! - shifts[low]!);
      const between = (of: Quantity): number => a[of] + t * (b[of] - a[of]);
      return { prob: between('prob'), logprob: between('logprob'), logit: between('logit') };
    });
  }

  /** What is known, once it is {@link done}. */
  result(): KnownCurve {
    const { shifts } = this.#ladder;
    const { plain, of } = this.#question;
    const [first, second] = this.#families.map(({ known }) => known);
    if (this.#ran === shifts.length - 1 || !first || second === null)
      return { points: this.#seen as ChangedTarget[], ran: this.#ran, bound: 0, response: null };
    const noises = this.#noises();
    let bound = 0;
    const points = this.#seen.map((seen, i): ChangedTarget => {
      if (seen) return seen;
      const from = (kind: Quantity): number => changeOf(plain, first.of, first.values[i]!, kind);
      const [prob, logprob] = [from('prob'), from('logprob')];
      // Of p alone a logit does not follow.
      const logit = second ? second.values[i]! : Number.NaN;
      const values = {
        prob: plain.prob + prob,
        logprob: plain.logprob + logprob,
        logit: plain.logit + logit,
      };
      bound = Math.max(bound, STATED * this.#tolerance(of, noises[i]!, values.prob));
      return { values, changes: { prob, logprob, logit }, noise: noises[i]! };
    });
    return { points, ran: this.#ran, bound, response: this.#responseOf(second ?? first) };
  }

  #responseOf({ of, axis, sloped, coefficients }: Candidate): Response {
    const { shifts, order } = this.#ladder;
    const run = order.slice(0, this.#ran).map((place) => axis.x[place]!);
    return {
      of,
      reach: axis.reach,
      stretch: axis.stretch,
      nodes: [0, ...(sloped ? [0] : []), ...run],
      coefficients,
      plain: this.#question.plain,
      from: shifts[0]!,
      to: shifts.at(-1)!,
    };
  }
}

const NOTHING: Readonly<Record<Quantity, number>> = { prob: 0, logprob: 0, logit: 0 };

/** The point at shift 0. */
const still = (plain: PlainTarget): ChangedTarget => ({ values: plain, changes: NOTHING, noise: NOTHING });

/** The interpolant whose last surprises were the smallest, if they were small enough. */
function leastSurprised(candidates: readonly Candidate[], enough: number = RULE.share): Candidate | null {
  let [best, least]: [Candidate | null, number] = [null, enough];
  for (const candidate of candidates) {
    const before = candidate.surprises.at(-1 - RULE.surprises) ?? 0;
    const last = Math.max(RULE.before * before, ...candidate.surprises.slice(-RULE.surprises));
    // NaN never.
    if (last < least) [best, least] = [candidate, last];
  }
  return best;
}
