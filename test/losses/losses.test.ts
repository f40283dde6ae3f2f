/**
 * The device is lost in the middle of long work, at random calls to WebGPU, and the work ends with the very bytes of one that nobody
 * disturbed: twice in each kind of work here, a hundred times in all by `npm run losses`.
 */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { MOST_LOSSES } from '../../engine/reopening.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { snapshot, start, type Work } from '../kills/alike.ts';
import { MODEL, neurgrad, worksIn } from '../kills/works.ts';
import { drawLosses } from './draw.ts';

const STRIKE = resolve('test/losses/strike.mjs');
/** Losses in each kind of work, four of them in one run. */
const LOSSES = Number(process.env.LOSSES ?? 2);
const A_RUN = 4;
const SEED = Number(process.env.LOSSES_SEED ?? 1);

const root = mkdtempSync(join(tmpdir(), 'neurgrad-losses-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const prompt = ['--model', MODEL, '--prompt', 'The capital of France is [MASK].'];
const works: readonly Work[] = [
  ...worksIn(root).filter(({ name }) => name === 'study' || name === 'probe'),
  { name: 'atlas', program: neurgrad('atlas', ...prompt, '--range', '-1:1:1', '--out', 'atlas') },
  {
    name: 'training',
    program: [
      resolve('dist/examples/train-facts-bert/main.js'),
      ...['--facts', '4', '--prompts', '1', '--steps', '5', '--out', 'training'],
    ],
  },
];

/** What a calm run leaves, and its calls to WebGPU. */
async function calm(work: Work): Promise<{ files: Record<string, string>; calls: readonly string[] }> {
  const folder = join(root, work.name, 'calm');
  const list = join(root, `${work.name}.calls`);
  const { code, err } = await start(work, folder, { LOSSES_LIST: list }, STRIKE);
  expect(code, err).toBe(0);
  return { files: snapshot(folder), calls: readFileSync(list, 'utf8').trimEnd().split('\n') };
}

describe.each(works)('$name', (work) => {
  test('ends with the same bytes whenever its device is lost', async () => {
    const { files, calls } = await calm(work);
    expect(calls.length).toBeGreaterThan(500);
    const random = seededRandom(SEED);
    let told = 0;
    for (let done = 0; done < LOSSES; done += A_RUN) {
      const count = Math.min(A_RUN, LOSSES - done);
      const { places, name } = drawLosses(calls, count, random);
      const at = Object.entries(places).map(([call, when]) => `${call}:${when}`);
      const folder = join(root, work.name, String(done));
      const { code, err } = await start(work, folder, { LOSSES_AT: at.join() }, STRIKE);
      expect(code, `lost ${name}: ${err}`).toBe(0);
      expect(snapshot(folder), `lost ${name}`).toEqual(files);
      told += [...err.matchAll(/the GPU device was lost .*: it is opened again/g)].length;
      if (LOSSES > A_RUN)
        console.log(`${work.name}, ${done + count} of ${LOSSES}: lost ${name}: the same bytes`);
      rmSync(folder, { recursive: true });
    }
    console.log(`${work.name}: ${told} of ${LOSSES} losses were met in the midst of work`);
    // One after the last reading is no matter.
    expect(told).toBeGreaterThanOrEqual(LOSSES / 2);
  });
});

test('losses without end end the work, and what is finished is kept', async () => {
  const [work] = works as [Work];
  const folder = join(root, 'again and again');
  const lost = await start(work, folder, { LOSSES_EVERY: '700' }, STRIKE);
  expect(lost.code, lost.err).toBe(1);
  expect(lost.err).toMatch(
    new RegExp(`error: ${MOST_LOSSES} times in a row the GPU device was lost .*; what is finished is kept\n`),
  );
  expect(lost.err).not.toMatch(/fault of neurgrad/);
  const { code, err } = await start(work, folder, {}, STRIKE);
  expect(code, err).toBe(0);
  expect(snapshot(folder)).toEqual(snapshot(join(root, work.name, 'calm')));
});
