/**
 * NeurGrad of 200 prompts on the bundled facts-bert: by one `gradients --prompts`, by a process for each, and, within one process, together
 * and one by one. Processor time of whole processes, start and load included; those of a process each are a few, times 200.
 * After timing, the numbers of some prompts together must be those of each alone, bit for bit.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundledModel, packageRoot } from '../../cli/package.ts';
import { loadModel } from '../../models/index.ts';
import { encodePrompt, neuronGradients } from '../../neurgrad/index.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { readOpenQuestions } from '../../neurgrad/study/prompts.ts';
import { demand } from '../reference.ts';
import { interleave, median, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

const COUNT = 200;

/** Processor seconds, of all threads, that a command takes from start to end. */
function processorSeconds(...args: readonly string[]): number {
  const program = 'TIMEFORMAT="%U %S"; exec 3>&2; { time "$0" "$@" >/dev/null 2>&3; } 2>&1';
  const { status, stdout, stderr } = spawnSync(
    'bash',
    ['-c', program, process.execPath, join(packageRoot, 'dist', 'cli', 'main.js'), ...args],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`gradients failed: ${stderr}`);
  return stdout
    .trim()
    .split(/\s+/)
    .reduce((sum, seconds) => sum + Number(seconds), 0);
}

export const promptsSuite: Suite = async ({ device, rounds, clock, small, only, progress }) => {
  const count = small ? 40 : COUNT;
  const name = `${count} prompts, facts-bert`;
  if (!name.includes(only)) return [];
  const { model, tokenizer } = await loadModel(bundledModel, { device });
  const questions = readOpenQuestions(bundledModel, '[MASK]');
  const drawn = drawWithoutReplacement(count, questions.count, seededRandom(1)).map((i) => questions.at(i));
  const texts = drawn.map(({ prompt }) => prompt);
  const folder = mkdtempSync(join(tmpdir(), 'neurgrad-bench-'));
  try {
    const file = join(folder, 'prompts.jsonl');
    writeFileSync(file, texts.map((prompt) => JSON.stringify({ prompt })).join('\n'));
    const common = ['gradients', '--model', bundledModel, '--neurons', 'top:10', '--format', 'jsonl'];
    progress(`${name}: whole processes`);
    const some = texts.slice(0, small ? 2 : 6);
    // The first has the file cache to fill.
    processorSeconds(...common, '--prompt', texts[0]!);
    const alone = some.map((prompt) => processorSeconds(...common, '--prompt', prompt));
    const together = processorSeconds(...common, '--prompts', file);

    progress(`${name}: within one process`);
    const prompts = texts.map((text) => encodePrompt(model, tokenizer, text));
    const times = await interleave(
      {
        together: async () => void (await neuronGradients(model, prompts)),
        oneByOne: async () => {
          for (const prompt of prompts) await neuronGradients(model, prompt);
        },
      },
      Math.min(rounds, 3),
      clock,
    );
    const many = await neuronGradients(model, prompts.slice(0, 8));
    let different = 0;
    for (const [i, found] of many.entries()) {
      const own = await neuronGradients(model, prompts[i]!);
      for (const [n, value] of own.gradient.entries()) if (found.gradient[n] !== value) different++;
    }
    return [
      {
        suite: 'prompts',
        shape: `${name}: one command against a process each`,
        unit: 's of the processor',
        ours: together,
        spread: null,
        figures: { 'a process each (s)': median(alone) * count },
        peers: {},
        ratio: (median(alone) * count) / together,
        ratioOf: 'a process each / ours',
        checked: demand(`${name}, numbers that differ`, different, 0),
      },
      {
        suite: 'prompts',
        shape: `${name}: together against one by one`,
        unit: 'ms a prompt',
        ours: times.together.median / count,
        spread: times.together.spread,
        figures: { 'one by one (ms)': times.oneByOne.median / count },
        peers: {},
        ratio: ratioOf(times.oneByOne, times.together),
        ratioOf: 'one by one / ours',
        checked: demand(`${name}, numbers that differ`, different, 0),
      },
    ];
  } finally {
    model.dispose();
    rmSync(folder, { recursive: true });
  }
};
