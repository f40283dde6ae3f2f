/**
 * The property that `engine: 'curve'` rests on, over all neurons: `node dist/bench/curves.js --out FOLDER`.
 *
 * For each prompt of a model every neuron (with `--neurons N` N drawn ones) is run at all shifts of ±10 (with `--wide N` N drawn ones; the others at those of ±2) by differences,
 * once; its curve over ±2 and over ±10 is then grown from these points (a row has the same bits alone and in any batch) and held against all of them. Some neurons a prompt are run by full forwards
 * too. Each prompt ends as one file, so that a run goes on where it was left; all models' first prompts come before any second one. Where
 * `NEURGRAD_REAL_MODEL` names a model, 25 drawn neurons of two prompts are looked at of it, all of them by full forwards too.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeFolder, writeWhole } from '../engine/disk.ts';
import { loadModel } from '../models/index.ts';
import type { LanguageModel } from '../models/model.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import { outwardSign } from '../neurgrad/conventions.ts';
import { GrowingCurve, Ladder } from '../neurgrad/curve/grow.ts';
import type { ChangedTarget } from '../neurgrad/difference/sweep.ts';
import { neuronGradients } from '../neurgrad/gradients.ts';
import { paperGrid, shiftGrid } from '../neurgrad/grid.ts';
import { neuronAt, siteHook } from '../neurgrad/neuron.ts';
import { openPrompts } from '../neurgrad/openedPrompts.ts';
import { openPoints } from '../neurgrad/points.ts';
import { encodePrompt } from '../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../neurgrad/random.ts';
import { fitCurve, LINEAR_R, RANGE_SLACK } from '../neurgrad/statistics.ts';

const CAPITALS =
  'France Japan Italy Spain Greece Egypt Germany Russia Poland Norway Peru Cuba Iran Iraq Chile Austria'.split(
    ' ',
  );
const PROMPTS: Readonly<Record<string, readonly string[]>> = {
  'facts-bert': [
    ...CAPITALS.map((country) => `The capital of ${country} is [MASK].`),
    'Berlin is the capital of [MASK].',
    'The language of Spain is [MASK].',
    '[MASK] is in Italy.',
    'The currency of Japan is the [MASK].',
  ],
  stories260k: [
    'Once upon a time',
    'The little dog was very',
    'Lily and Tom went to the park',
    'One day, a girl named',
    'The sun was',
    'He said that he',
    'She saw a big red',
    'The cat sat on the',
    'They played with the ball and',
    'Mom said, "Do not',
    'It was a cold day and',
    'Tom wanted to eat the',
    'The bird could not',
    'In the forest there was a',
    'Sue had a new',
    'The boy ran to his',
    'At night, the moon',
    'Ben found a small box. He',
    'The fish was happy because it',
    'They all lived',
  ],
  real: ['The capital of France is', 'The opposite of hot is'],
};
/** Neurons a prompt of a model whose own are too many to be looked at all. */
const DRAWN: Readonly<Record<string, number>> = { real: 25 };

const REAL = process.env.NEURGRAD_REAL_MODEL;

/** What is seen over one range of the curves of one prompt. */
interface Seen {
  neurons: number;
  forwards: number;
  /** Curves of which all shifts were run. */
  all: number;
  /** Largest error over the bound stated, next to the noise of nothing. */
  worst: number;
  beyond: number;
  r: number;
  verdicts: number;
}

interface Part {
  readonly ranges: Readonly<Record<string, Seen>>;
  readonly naive: { readonly points: number; readonly beyond: number; readonly worst: number };
}

async function lookAt(
  model: LanguageModel,
  tokenizer: Tokenizer,
  text: string,
  number: number,
  { full, wide, all }: { readonly full: number; readonly wide: number; readonly all: number | undefined },
): Promise<Part> {
  const probe = encodePrompt(model, tokenizer, text);
  const at = probe.position;
  const { target, gradient, activation, width, layers } = await neuronGradients(model, probe);
  const asked = [{ probe, at, parts: [{ probe, at, target }] }];
  const names = [siteHook(0, model.paperSite)];
  using opened = await openPrompts(model, asked, names, 'prob', 'differences');
  const plain = opened.hooks[0]!.target;
  const near = shiftGrid(-2, 2, 0.2);
  const gridOf = (flat: number): readonly number[] => (far.has(flat) ? paperGrid() : near);
  const still: ChangedTarget = {
    values: plain,
    changes: { prob: 0, logprob: 0, logit: 0 },
    noise: { prob: 0, logprob: 0, logit: 0 },
  };
  const ranges = Object.fromEntries(
    [2, 10].map((range): [string, Seen] => [
      `±${range}`,
      { neurons: 0, forwards: 0, all: 0, worst: 0, beyond: 0, r: 0, verdicts: 0 },
    ]),
  );
  const random = seededRandom(number);
  const neurons =
    all === undefined
      ? Array.from({ length: layers * width }, (_, flat) => flat)
      : drawWithoutReplacement(all, layers * width, random).sort((a, b) => a - b);
  const some = (count: number): Set<number> =>
    new Set(
      count < neurons.length
        ? drawWithoutReplacement(count, neurons.length, random).map((i) => neurons[i]!)
        : neurons,
    );
  const [drawn, far] = [some(full), some(wide)];
  const naive = { points: 0, beyond: 0, worst: 0 };
  using source = await openPoints(model, 'differences', opened, { naive: 64 });
  using forwards = await openPoints(model, 'naive', opened, { naive: 64 });
  for (let start = 0; start < neurons.length; start += 64) {
    const some = neurons.slice(start, start + 64);
    const axes = some.map((flat) => outwardSign(activation[flat]!));
    const points = some.flatMap((flat, i) =>
      gridOf(flat)
        .filter((s) => s !== 0)
        .map((s) => ({ neuron: neuronAt(flat, width, model.paperSite), shift: axes[i]! * s })),
    );
    const found = await source.run(points);
    let first = 0;
    for (const [i, flat] of some.entries()) {
      const shifts = gridOf(flat);
      const zero = shifts.indexOf(0);
      const own = found.slice(first, first + shifts.length - 1);
      first += shifts.length - 1;
      const all = [...own.slice(0, zero), still, ...own.slice(zero)];
      for (const range of far.has(flat) ? [2, 10] : [2]) {
        const inside = [...shifts.keys()].filter((k) => Math.abs(shifts[k]!) <= range + RANGE_SLACK);
        const grid = inside.map((k) => shifts[k]!);
        const want = inside.map((k) => all[k]!);
        const curve = new GrowingCurve(new Ladder(grid, 2), {
          plain,
          of: 'prob',
          slope: axes[i]! * gradient[flat]!,
        });
        while (!curve.done) for (const k of curve.next()) curve.add(want[k]!);
        const { points: got, ran, bound, response } = curve.result();
        const seen = ranges[`±${range}`]!;
        seen.neurons++;
        seen.forwards += ran;
        if (response === null) seen.all++;
        const error = Math.max(
          ...got.map(({ changes }, k) => Math.abs(changes.prob - want[k]!.changes.prob)),
        );
        const share = error === 0 ? 0 : error / bound;
        seen.worst = Math.max(seen.worst, share);
        if (!(share <= 1)) seen.beyond++;
        const fit = (list: readonly ChangedTarget[]) =>
          fitCurve(
            grid,
            list.map(({ changes }) => changes.prob),
            {},
            list.map(({ noise }) => noise.prob),
          );
        const [one, other] = [fit(got), fit(want)];
        seen.r = Math.max(seen.r, Math.abs(one.r - other.r));
        if (one.linear !== other.linear && Math.abs(Math.abs(other.r) - LINEAR_R) >= 1e-4) seen.verdicts++;
        if (range !== 2 || !drawn.has(flat)) continue;
        const slow = await forwards.run(
          grid
            .filter((s) => s !== 0)
            .map((s) => ({ neuron: neuronAt(flat, width, model.paperSite), shift: axes[i]! * s })),
        );
        for (const [k, point] of slow.entries()) {
          const its = got[k < grid.indexOf(0) ? k : k + 1]!;
          const allowed = bound + its.noise.prob + point.noise.prob;
          const off = Math.abs(its.changes.prob - point.changes.prob) / allowed;
          naive.points++;
          naive.worst = Math.max(naive.worst, off);
          if (!(off <= 1)) naive.beyond++;
        }
      }
    }
  }
  return { ranges, naive };
}

/** The parts of several prompts as one. */
function together(parts: readonly Part[]): Record<string, string | number>[] {
  const most = (values: readonly number[]): number => Math.max(...values);
  const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const of = <T>(pick: (part: Part) => T): T[] => parts.map(pick);
  return [
    ...Object.keys(parts[0]!.ranges).map((range) => {
      const each = (name: keyof Seen): number[] => of((part) => part.ranges[range]![name]);
      const neurons = total(each('neurons'));
      return {
        against: `differences, ${range}`,
        neurons,
        'mean forwards': total(each('forwards')) / neurons,
        'all shifts run': total(each('all')),
        'worst, in bounds': most(each('worst')),
        beyond: total(each('beyond')),
        'r off by': most(each('r')),
        'other verdicts': total(each('verdicts')),
      };
    }),
    {
      against: 'full forwards, ±2',
      points: total(of((part) => part.naive.points)),
      'worst, in bounds and noise': most(of((part) => part.naive.worst)),
      beyond: total(of((part) => part.naive.beyond)),
    },
  ];
}

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    model: { type: 'string', multiple: true },
    prompts: { type: 'string', default: '20' },
    naive: { type: 'string', default: '10' },
    wide: { type: 'string', default: 'Infinity' },
    neurons: { type: 'string' },
  },
});
if (values.out === undefined) throw new Error('--out FOLDER: where its parts go');
makeFolder(values.out);
const names = values.model ?? Object.keys(PROMPTS).filter((name) => name !== 'real' || REAL !== undefined);
const opened = new Map<string, Awaited<ReturnType<typeof loadModel>>>();
const parts = new Map<string, Part[]>(names.map((name) => [name, []]));
for (let number = 0; number < Number(values.prompts); number++)
  for (const name of names) {
    const text = PROMPTS[name]![number];
    if (text === undefined) continue;
    const path = join(values.out, `${name}-${number}.json`);
    if (!existsSync(path)) {
      if (!opened.has(name))
        opened.set(name, await loadModel(name === 'real' ? REAL! : `examples/models/${name}`));
      const { model, tokenizer } = opened.get(name)!;
      const part = await lookAt(model, tokenizer, text, number, {
        full: name === 'real' ? Infinity : Number(values.naive),
        wide: Number(values.wide),
        all: values.neurons === undefined ? DRAWN[name] : Number(values.neurons),
      });
      writeWhole(path, `${JSON.stringify(part)}\n`);
    }
    parts.get(name)!.push(JSON.parse(readFileSync(path, 'utf8')) as Part);
    process.stderr.write(`${name}: ${number + 1} prompts\n`);
  }
for (const { model } of opened.values()) model.device.destroy();
let beyond = 0;
for (const name of names) {
  const rows = together(parts.get(name)!);
  beyond += rows.reduce((sum, row) => sum + Number(row.beyond) + Number(row['other verdicts'] ?? 0), 0);
  console.log(`${name}, ${parts.get(name)!.length} prompts`);
  console.table(rows);
}
if (beyond > 0) process.exitCode = 1;
