/** The golden sets of experiments: `NEURGRAD_GOLDEN_PATCHING`, default test/golden-patching, several as in PATH. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { expect } from 'vitest';
import type { Metric } from '../../../neurgrad/experiments/index.ts';
import type { Probe } from '../../../neurgrad/index.ts';

const FOLDERS = (process.env.NEURGRAD_GOLDEN_PATCHING ?? 'test/golden-patching').split(delimiter);

// biome-ignore lint/suspicious/noExplicitAny: tables of the file, whose README has their shapes
type Tables = any;

/** A case: two prompts of a bundled model, and tables. */
export interface PatchingCase {
  readonly name: string;
  readonly model: string;
  readonly clean: Probe;
  readonly corrupt: Probe;
  readonly answer: number;
  readonly other: number;
  readonly reference: readonly Probe[];
  readonly tables: Tables;
}

/** All of them. */
export const CASES: readonly PatchingCase[] = FOLDERS.flatMap((folder) =>
  readdirSync(folder)
    .map((name) => join(folder, name, 'patching.json'))
    .filter(existsSync)
    .flatMap((file) => {
      const { model, cases } = JSON.parse(readFileSync(file, 'utf8'));
      return cases.map((tables: Tables): PatchingCase => {
        const probe = ({ ids }: { ids: number[] }): Probe => ({ ids, position: tables.position });
        return {
          name: `${model} ${tables.name}`,
          model,
          clean: probe(tables.clean),
          corrupt: probe(tables.corrupt),
          answer: tables.answer,
          other: tables.other,
          reference: tables.reference.map(probe),
          tables,
        };
      });
    }),
);

/** The worst distance of each kind of table so far, as a share of its tolerance. */
export const WORST = new Map<string, number>();

/** Numbers of nested lists. */
export const flat = (numbers: unknown): number[] => [numbers].flat(Number.POSITIVE_INFINITY) as number[];

/** A table within a tolerance relative to its largest value. */
export function expectTable(what: string, got: unknown, want: unknown, tolerance: number): void {
  const [mine, theirs] = [flat(got), flat(want)];
  expect(mine.length, what).toBe(theirs.length);
  const scale = Math.max(...theirs.map(Math.abs), 1e-12);
  const worst = Math.max(...mine.map((v, i) => Math.abs(v - theirs[i]!))) / scale;
  const kind = what.split(' ')[0]!;
  WORST.set(kind, Math.max(WORST.get(kind) ?? 0, worst / tolerance));
  expect(worst, `${what}: relative distance`).toBeLessThan(tolerance);
}

/** Of patched metrics, path patching, ablation, steering and the lens; of gradients and attributions. */
export const [RUNS, GRADIENTS] = [3e-5, 1e-4];
/** The metrics that the tables have. */
export const TABLE_METRICS = ['logit_diff', 'logprob'] as const satisfies readonly Metric[];
