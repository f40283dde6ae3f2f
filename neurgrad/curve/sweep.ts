/**
 * Curves of many neurons at once, in rounds: each round runs the points that all curves still growing ask for, so that
 * every forward is a full batch; each curve stops by itself, and another one takes its place.
 */

import type { Neuron } from '../neuron.ts';
import type { PointSource } from '../points.ts';
import { type CurveQuestion, GrowingCurve, type KnownCurve, type Ladder } from './grow.ts';

/** A neuron's curve that is to be known, and 1 or -1: its shifts are these times those asked for. */
export interface NeuronQuestion extends CurveQuestion {
  readonly neuron: Neuron;
  readonly along: 1 | -1;
  /** Of the source's, where it has several. */
  readonly question?: number;
}

/** Curves that grow at a time: a point of each fills the waves that a device runs. */
const GROWING = 2048;
/** Points of a round that are run at least, where curves are few: fewer leave a device idle. */
const ROUND = 16;
/** Points of one curve in a round at most: those that come last may not have been needed. */
const AHEAD = 4;

/** The curves in their order, and the points that were run for them. */
export async function growCurves(
  ladder: Ladder,
  questions: readonly NeuronQuestion[],
  source: PointSource,
  onProgress?: (done: number, all: number) => void,
): Promise<{ curves: KnownCurve[]; rows: number }> {
  const curves = new Array<KnownCurve>(questions.length);
  const points = ladder.order.length;
  // By layer: waves are of neighbouring layers.
  const waiting = [...questions.keys()].sort(
    (a, b) => questions[b]!.neuron.layer - questions[a]!.neuron.layer || b - a,
  );
  let growing: { n: number; curve: GrowingCurve }[] = [];
  let [rows, known] = [0, 0];
  while (waiting.length > 0 || growing.length > 0) {
    while (growing.length < GROWING && waiting.length > 0) {
      const n = waiting.pop()!;
      growing.push({ n, curve: new GrowingCurve(ladder, questions[n]!) });
    }
    const ahead = Math.max(1, Math.min(AHEAD, Math.floor(ROUND / growing.length)));
    const asked = growing.flatMap(({ n, curve }) => curve.next(ahead).map((place) => ({ n, curve, place })));
    const found = await source.run(
      asked.map(({ n, place }) => {
        const { neuron, along, question = 0 } = questions[n]!;
        return { question, neuron, shift: along * ladder.shifts[place]! };
      }),
    );
    for (const [i, { curve }] of asked.entries()) curve.add(found[i]!);
    rows += asked.length;
    growing = growing.filter(({ n, curve }) => {
      if (!curve.done) return true;
      curves[n] = curve.result();
      known++;
      return false;
    });
    onProgress?.(known * points, questions.length * points);
  }
  return { curves, rows };
}
