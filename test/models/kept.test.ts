/** What is said of rounded weights in one line is what docs/dtypes.md measured, the worst over its models. */

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { keptNote } from '../../models/kept.ts';

const rows = readFileSync('docs/dtypes.md', 'utf8')
  .split('\n')
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .filter((cells) => cells.length === 10);

test.each(['f16', 'bf16', 'int8', 'int4'] as const)('%s', (kept) => {
  const measured = rows.filter(([, dtype]) => dtype === kept);
  expect(measured.length).toBeGreaterThanOrEqual(3);
  const p = Math.max(...measured.map((cells) => Number(cells[5])));
  const r = Math.min(...measured.map((cells) => Number(cells[7])));

  const note = keptNote([{ parameter: { kind: 'matrix' }, stored: 'F32', kept }]);
  const [, saidP, saidR] = /a p by up to (\S+), and NeurGrad to a Pearson r of (\S+) /.exec(note!)!;
  expect(Number(saidP)).toBeGreaterThanOrEqual(p);
  expect(Number(saidP)).toBeLessThan(1.3 * p);
  expect(Number(saidR)).toBeLessThanOrEqual(r);
  expect(1 - Number(saidR)).toBeLessThan(1.3 * (1 - r) + 0.01);
});

test('numbers that are kept are not spoken of', () => {
  expect(keptNote([{ parameter: { kind: 'matrix' }, stored: 'F32', kept: 'f32' }])).toBeUndefined();
  expect(keptNote([{ parameter: { kind: 'matrix' }, stored: 'F16', kept: 'f16' }])).toBeUndefined();
});
