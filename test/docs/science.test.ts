/** Sections of the docs that sources cite are there, and what docs/science.md says of a slope over the paper's grid is so. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { shiftGrid } from '../../neurgrad/grid.ts';
import { fitCurve } from '../../neurgrad/statistics.ts';

const ROOMS = ['kernels', 'engine', 'models', 'neurgrad', 'probing', 'cli', 'bench', 'examples', 'test'];
const sources = ROOMS.flatMap((room) =>
  readdirSync(room, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(ts|mjs|py)$/.test(file) && !/(^|\/)(node_modules|dist)\//.test(file))
    .map((file) => join(room, file)),
);

/** As GitHub names a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
const anchors = new Map<string, ReadonlySet<string>>();
function anchorsOf(page: string): ReadonlySet<string> {
  const known = anchors.get(page);
  if (known) return known;
  const headings = readFileSync(page, 'utf8').matchAll(/^#+ (.+)$/gm);
  const found = new Set(Array.from(headings, ([, heading]) => anchorOf(heading!)));
  anchors.set(page, found);
  return found;
}

it('sources cite pages and sections that there are', () => {
  const wrong: string[] = [];
  let cited = 0;
  for (const file of sources)
    for (const [all, page, section] of readFileSync(file, 'utf8').matchAll(
      /(?<!\/)\b(docs\/[\w-]+\.md)(?:#([\w-]+))?/g,
    )) {
      if (!existsSync(page!)) {
        if (!file.startsWith('test/')) wrong.push(`${file}: ${all}`);
        continue;
      }
      if (section === undefined) continue;
      cited++;
      if (!anchorsOf(page!).has(section)) wrong.push(`${file}: ${all}`);
    }
  expect(wrong).toEqual([]);
  expect(cited).toBeGreaterThan(30);
});

it('the slope over ±2 is the derivative and 0.44 of the third: curvature cancels', () => {
  const shifts = shiftGrid(-2, 2, 0.2);
  const cubic = (first: number, second: number, third: number): number =>
    fitCurve(
      shifts,
      shifts.map((s) => first * s + (second * s * s) / 2 + (third * s ** 3) / 6),
      { range: 2 },
    ).slope;
  expect(cubic(0.3, 0, 0)).toBeCloseTo(0.3, 12);
  expect(cubic(0.3, 5, 0)).toBeCloseTo(0.3, 12);
  expect(cubic(0, 0, 1)).toBeCloseTo(2.632 / 6, 4);
});
