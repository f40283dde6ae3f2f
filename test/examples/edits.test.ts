/** The programs that learn by edits: their losses are PyTorch's (edits.py), step by step. Needs the built package. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const reference = JSON.parse(readFileSync('test/examples/edits.json', 'utf8')) as Record<
  'steering' | 'lora',
  number[]
>;

test.each(['steering', 'lora'] as const)("examples/%s.ts has PyTorch's losses", (name) => {
  const out = execFileSync(process.execPath, [`dist/examples/${name}.js`], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const losses = [...out.matchAll(/^step (\d+): (\d\.\d{6}) nats a token$/gm)].map(([, step, loss]) => {
    return [Number(step), Number(loss)] as const;
  });
  expect(losses.map(([step]) => step)).toEqual(reference[name].map((_, step) => step));
  for (const [step, loss] of losses) expect(Math.abs(loss - reference[name][step]!)).toBeLessThan(3e-5);
  expect(reference[name].at(-1)!).toBeLessThan(0.6 * reference[name][0]!);
});
