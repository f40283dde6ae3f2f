/** Kinds of work that write into the folder that they are started in, and go on with it when they are started again. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { claims } from '../probing/rows.ts';
import type { Work } from './alike.ts';

export const MODEL = resolve('examples/models/facts-bert');
export const neurgrad = (...args: string[]): string[] => [resolve('dist/cli/main.js'), ...args];

/** @param root where what they read is put. */
export function worksIn(root: string): readonly Work[] {
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
    [
      ['France', 'paris'],
      ['Italy', 'rome'],
    ]
      .map(([name, answer]) => `{"prompt": "The capital of ${name} is [MASK].", "answer": "${answer}"}\n`)
      .join(''),
  );
  writeFileSync(
    plan,
    JSON.stringify({
      models: [MODEL],
      prompts: { path: prompts, count: 2 },
      neurons: { perPrompt: 3 },
      grid: { from: -2, to: 2, step: 1 },
      figure: { prompts: 1, neurons: 2, grid: { from: -2, to: 2, step: 1 } },
      integrated: { prompts: 1, steps: 2 },
    }),
  );

  const prompt = ['--model', MODEL, '--prompt', 'The capital of France is [MASK].'];
  const probe = ['probe', 'run', '--model', MODEL, '--data', data, '--tasks', 'FEVER', '--shots', '0'];
  return [
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
        '--train-rows',
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
}
