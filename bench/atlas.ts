/**
 * Atlases of facts-bert for ten prompts, and random neurons of each against full forwards: `node dist/bench/atlas.js --out FOLDER`.
 *
 * Each prompt ends as one file, so that a run goes on where it was left. Times are of the processor, over all its cores.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeFolder, writeWhole } from '../engine/disk.ts';
import { loadModel } from '../models/index.ts';
import { atlas, atlasGrid } from '../neurgrad/atlas.ts';
import { responseAt } from '../neurgrad/curve/response.ts';
import { encodePrompt } from '../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../neurgrad/random.ts';
import { sweep } from '../neurgrad/sweep.ts';

const PROMPTS = [
  'The capital of France is [MASK].',
  'The capital of Japan is [MASK].',
  'The capital of Egypt is [MASK].',
  'The capital of Norway is [MASK].',
  'The capital of Chile is [MASK].',
  'Berlin is the capital of [MASK].',
  'The language of Spain is [MASK].',
  'Rome is located in [MASK].',
  '[MASK] is in Italy.',
  'The currency of Japan is the [MASK].',
];

interface Part {
  readonly neurons: number;
  readonly forwards: number;
  /** Of the processor, for the atlas alone. */
  readonly seconds: number;
  /** Points compared, largest error in bounds and noise, and how many lie beyond. */
  readonly points: number;
  readonly worst: number;
  readonly beyond: number;
  /** Largest difference of r. */
  readonly r: number;
}

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    prompts: { type: 'string', default: '10' },
    naive: { type: 'string', default: '20' },
  },
});
if (values.out === undefined) throw new Error('--out FOLDER: where its parts go');
makeFolder(values.out);
const { model, tokenizer } = await loadModel('examples/models/facts-bert');
const processor = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

async function lookAt(text: string, number: number): Promise<Part> {
  const probe = encodePrompt(model, tokenizer, text);
  const began = processor();
  const all = await atlas(model, probe);
  const seconds = processor() - began;
  const shifts = atlasGrid();
  const some = drawWithoutReplacement(Number(values.naive), all.length, seededRandom(number)).map(
    (i) => all[i]!,
  );
  const slow = await sweep(model, probe, { neurons: some, shifts, engine: 'naive' });
  const seen = { points: 0, worst: 0, beyond: 0, r: 0 };
  for (const [i, { response, bound, noise, r, flat }] of some.entries()) {
    const full = slow.neurons[i]!;
    if (!flat && !full.flat) seen.r = Math.max(seen.r, Math.abs(r - full.r));
    if (response === null) continue;
    for (const [k, s] of shifts.entries()) {
      const error = Math.abs(responseAt(response, s, 'prob') - full.changes[k]!);
      const share = error === 0 ? 0 : error / (bound + noise + full.valueNoise[k]!);
      seen.points++;
      seen.worst = Math.max(seen.worst, share);
      if (!(share <= 1)) seen.beyond++;
    }
  }
  return { neurons: all.length, forwards: all.reduce((sum, { ran }) => sum + ran, 0), seconds, ...seen };
}

// What is compiled once is no part of an atlas.
await atlas(model, encodePrompt(model, tokenizer, PROMPTS[0]!), { layers: [0] });
const parts: Part[] = [];
for (const [number, text] of PROMPTS.slice(0, Number(values.prompts)).entries()) {
  const path = join(values.out, `prompt-${number}.json`);
  if (!existsSync(path)) writeWhole(path, `${JSON.stringify(await lookAt(text, number))}\n`);
  parts.push(JSON.parse(readFileSync(path, 'utf8')) as Part);
  process.stderr.write(`${number + 1} prompts\n`);
}
model.device.destroy();
const total = (of: keyof Part): number => parts.reduce((sum, part) => sum + part[of], 0);
const most = (of: keyof Part): number => Math.max(...parts.map((part) => part[of]));
console.table({
  prompts: parts.length,
  neurons: total('neurons'),
  'mean forwards of 40': total('forwards') / total('neurons'),
  'processor, s': total('seconds'),
  'points against full forwards': total('points'),
  'worst, in bounds and noise': most('worst'),
  beyond: total('beyond'),
  'r off by': most('r'),
});
if (total('beyond') > 0) process.exitCode = 1;
