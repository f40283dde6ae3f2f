/**
 * What a suite measures, one row a shape, and how it is told: a table for people, Markdown for docs, JSON for machines.
 */

import { geometricMean } from './timing.ts';

export interface Row {
  readonly suite: string;
  readonly shape: string;
  /** What `ours` and the peers are: milliseconds unless a unit such as `us/dispatch` is named. Smaller is better for `ms`. */
  readonly unit: string;
  /** Null: not measured, and `checked` says why. */
  readonly ours: number | null;
  /** Half the interquartile range of `ours` over its median; null of one sample. */
  readonly spread: number | null;
  /** More figures of the same row: GFLOP/s, a share of the ceiling. */
  readonly figures: Readonly<Record<string, number>>;
  readonly peers: Readonly<Record<string, number>>;
  /** What the suite compares, larger is better (or as `ratioOf` says); null where there is nothing to compare with. */
  readonly ratio: number | null;
  /** What `ratio` divides, e.g. `best peer / ours`. */
  readonly ratioOf: string;
  /** How the result was checked after timing, e.g. `max error 3e-7 of float64`. */
  readonly checked: string;
  /** What is wrong: the run ends with exit code 1. */
  readonly fault?: string;
}

/** A row for what this machine cannot measure, so that its absence is seen. */
export const notMeasured = (suite: string, shape: string, unit: string, why: string): Row => ({
  suite,
  shape,
  unit,
  ours: null,
  spread: null,
  figures: {},
  peers: {},
  ratio: null,
  ratioOf: '',
  checked: `not measured: ${why}`,
});

export interface Report {
  readonly date: string;
  readonly adapter: string;
  readonly machine: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly Row[];
}

const digits = (value: number): string =>
  value >= 1000
    ? value.toFixed(0)
    : value >= 10
      ? value.toFixed(1)
      : value >= 1
        ? value.toFixed(2)
        : value.toPrecision(2);

export interface Grid {
  readonly head: string[];
  readonly body: string[][];
}

/** A table of one suite's rows; the geometric mean of their ratios comes last. */
export function grid(rows: readonly Row[]): Grid {
  const names = (of: (row: Row) => object): string[] => [
    ...new Set(rows.flatMap((row) => Object.keys(of(row)))),
  ];
  const figures = names((row) => row.figures);
  const peers = names((row) => row.peers);
  const compares = rows.some((row) => row.ratio !== null);
  const cell = (value: number | undefined): string => (value === undefined ? '–' : digits(value));
  const head = [
    'shape',
    `ours (${rows[0]!.unit})`,
    '±',
    ...figures,
    ...peers,
    ...(compares ? [rows.find((row) => row.ratio !== null)!.ratioOf] : []),
    'checked',
  ];
  const body = rows.map((row) => [
    row.shape,
    ...(row.ours === null
      ? ['–', '–']
      : [digits(row.ours), row.spread === null ? '–' : `${(row.spread * 100).toFixed(0)}%`]),
    ...figures.map((name) => cell(row.figures[name])),
    ...peers.map((name) => cell(row.peers[name])),
    ...(compares ? [row.ratio === null ? '–' : row.ratio.toFixed(2)] : []),
    row.checked,
  ]);
  const ratios = rows.flatMap((row) => (row.ratio === null ? [] : [row.ratio]));
  if (ratios.length > 1) {
    const last = head.map(() => '');
    last[0] = 'geometric mean';
    last[head.length - 2] = geometricMean(ratios).toFixed(2);
    body.push(last);
  }
  return { head, body };
}

/** Rows by suite, in order. */
export function bySuite(rows: readonly Row[]): Map<string, Row[]> {
  const suites = new Map<string, Row[]>();
  for (const row of rows) suites.set(row.suite, [...(suites.get(row.suite) ?? []), row]);
  return suites;
}

/** The report as a page of docs. */
export function toMarkdown(report: Report, command: string): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const parts = [...bySuite(report.rows)].map(([suite, part]) => {
    const { head, body } = grid(part);
    return [
      `## ${suite}`,
      '',
      line(head),
      line(head.map((_, i) => (i === 0 ? '---' : '---:'))),
      ...body.map(line),
    ].join('\n');
  });
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`);
  return [
    '# Benchmarks',
    '',
    `Written by \`${command}\` on ${report.date.slice(0, 10)}. Adapter: ${report.adapter}. Machine: ${report.machine}. ${versions.join(', ')}.`,
    '',
    'Contenders take turns within one run; times are medians in the unit of the column, `±` is half the interquartile range.',
    'On a software adapter they are processor time over the number of cores, which other programs do not disturb.',
    'Inputs are random, never zeros, and every result is checked against float64.',
    '',
    '`--peers` measures jax-js, TensorFlow.js (WebGPU) and ONNX Runtime (its WebGPU and its CPU provider) beside the engine:',
    'install them with `npm install --ignore-scripts` in `bench/`. Ratios are to the fastest peer on the same adapter; the CPU',
    'provider, hand-written assembly, is a yardstick and no rival. `--help` lists the rest.',
    '',
    parts.join('\n\n'),
    '',
  ].join('\n');
}
