/**
 * Kills at changes of the disk: two in turn for each kind of work here, at every one by `npm run kills`.
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { claims } from '../probing/rows.ts';
import { endsAlike, type Work } from './alike.ts';

const root = mkdtempSync(join(tmpdir(), 'neurgrad-kills-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const MODEL = resolve('examples/models/facts-bert');
const neurgrad = (...args: string[]): string[] => [resolve('dist/cli/main.js'), ...args];

const data = join(root, 'data');
mkdirSync(join(data, 'fact', 'fever'), { recursive: true });
for (const [split, rows] of [
  ['train', claims(40)] as const,
  ['valid', claims(8, 40)],
  ['test', claims(8, 40)],
])
  writeFileSync(join(data, 'fact', 'fever', `${split}.json`), JSON.stringify(rows));

const plan = join(root, 'plan.json');
const prompts = join(root, 'prompts.jsonl');
writeFileSync(
  prompts,
  ['France', 'Italy']
    .map((name) => `{"prompt": "The capital of ${name} is [MASK].", "answer": "paris"}\n`)
    .join(''),
);
writeFileSync(
  plan,
  JSON.stringify({
    models: [MODEL],
    prompts: { path: prompts, count: 2, answeredRight: false },
    neurons: { perPrompt: 3 },
    grid: { from: -2, to: 2, step: 1 },
    figure: { prompts: 1, neurons: 2, grid: { from: -2, to: 2, step: 1 } },
    integrated: { prompts: 1, steps: 2 },
  }),
);

const prompt = ['--model', MODEL, '--prompt', 'The capital of France is [MASK].'];
const probe = ['probe', 'run', '--model', MODEL, '--data', data, '--tasks', 'FEVER', '--shots', '0'];
const works: readonly Work[] = [
  { name: 'module', program: [resolve('test/kills/module.mjs')] },
  { name: 'synth', program: [resolve('test/kills/synth.mjs'), resolve('examples/models/stories260k')] },
  { name: 'data build', program: neurgrad('data', 'build', data, '--tasks', 'FEVER', '--out', 'clean') },
  { name: 'gradients', program: neurgrad('gradients', ...prompt, '--out', 'all.safetensors') },
  { name: 'gradients as text', program: neurgrad('gradients', ...prompt, '--out', 'all.csv') },
  { name: 'study', program: neurgrad('study', '--plan', plan, '--out', 'study') },
  {
    name: 'probe',
    program: neurgrad(
      ...probe,
      '--rows',
      '8',
      '--evaluation-rows',
      '2',
      '--permutations',
      '1',
      '--out',
      'run',
    ),
  },
  {
    name: 'training',
    program: [
      resolve('dist/examples/train-facts-bert/main.js'),
      ...['--facts', '4', '--prompts', '1', '--steps', '1', '--out', 'training'],
    ],
  },
];

const thorough = process.env.KILLS === 'all';
// What test/engine/disk.test.ts kills, and what is written as another is.
const chosen = thorough
  ? works
  : works.filter(({ name }) => name !== 'module' && name !== 'gradients as text');

test.each(chosen)('$name, killed and started again, ends with the same bytes', async (work) => {
  const kills = await endsAlike(work, root, thorough ? 1 : 0);
  if (thorough) console.log(`${work.name}: killed ${kills} times`);
  expect(kills).toBeGreaterThan(thorough ? 5 : 0);
});
