/** The tables of `npm run isa`. */

import { table } from '../../cli/table.ts';
import type { FamilyReport, Kernel, PhaseReport } from './analyse.ts';

const fixed = (value: number, digits: number): string => String(Number(value.toFixed(digits)));
const percent = (part: number, all: number): string =>
  all > 0 ? `${((100 * part) / all).toFixed(0)}%` : '–';

/** Microseconds on the first GPU over all phases, by kernel. */
function expense(reports: readonly FamilyReport[]): Map<string, number> {
  const us = new Map<string, number>();
  for (const { kernels } of reports[0]?.phases ?? [])
    for (const kernel of kernels) us.set(kernel.label, (us.get(kernel.label) ?? 0) + kernel.us);
  return us;
}

/** What a compiler made of a kernel: multiply-adds among the hottest loop's instructions (among the vector ones), registers. */
function cell(kernel: Kernel | undefined): string {
  if (!kernel) return '–';
  const { hot, spills, registers } = kernel;
  const share =
    hot && hot.fmaOps > 0 ? `${percent(hot.fma, hot.issued)} (${percent(hot.fma, hot.valu)})` : '–';
  return `${share} ${registers}${spills > 0 ? ` spills ${spills}` : ''}`;
}

function wavefronts({ traffic, hot }: Kernel): string {
  if (!traffic || !hot?.shared) return '–';
  const { reads, stores } = traffic;
  return `${(reads.served + stores.served).toFixed(2)} (${(reads.merged + stores.merged).toFixed(2)})`;
}

/** The kernels that cost most; null where none multiplies and adds. */
function kernels(reports: readonly FamilyReport[], top: number): string | null {
  const us = expense(reports);
  const first = reports[0]!.kernels;
  const rows = first
    .filter(({ order, hot }) => order !== 'units' && (hot?.fmaOps ?? 0) > 0)
    .sort((a, b) => (us.get(b.label) ?? -1) - (us.get(a.label) ?? -1) || (a.label < b.label ? -1 : 1))
    .slice(0, top);
  if (rows.length === 0) return null;
  const head = [
    'hottest loop of',
    'instructions / multiply-adds',
    ...reports.map(({ family }) => family),
    'wavefronts',
  ];
  return table(
    head,
    rows.map((kernel) => [
      kernel.label,
      `${kernel.hot!.issued} / ${fixed(kernel.hot!.fmaOps, 1)}`,
      ...reports.map((report) => cell(report.kernels.find(({ label }) => label === kernel.label))),
      wavefronts(kernel),
    ]),
  );
}

/** Kernels for matrix units: instructions of the hottest loop for each product of matrices, by family. */
function units(reports: readonly FamilyReport[]): string {
  const labels = new Set(
    reports.flatMap((r) => r.kernels.filter(({ order }) => order === 'units').map((k) => k.label)),
  );
  const told = (kernel: Kernel | undefined): string => {
    if (!kernel?.hot?.matrixOps) return '–';
    const { hot, registers, spills } = kernel;
    const each = (hot.issued / hot.matrixOps).toFixed(1);
    return `${each} (${hot.issued} / ${hot.matrixOps}) ${registers}${spills > 0 ? ` spills ${spills}` : ''}`;
  };
  return table(
    ['matrix units', ...reports.map(({ family }) => family)],
    [...labels].map((label) => [
      label,
      ...reports.map(({ kernels }) => told(kernels.find((k) => k.label === label))),
    ]),
  );
}

const milliseconds = (us: number): string =>
  us >= 1e5 ? (us / 1000).toFixed(0) : (us / 1000).toPrecision(2).replace('NaN', '–');

/** Microseconds of a phase by GPU, over all families. */
const timesOf = (reports: readonly FamilyReport[], name: string): PhaseReport['us'] =>
  Object.assign({}, ...reports.flatMap((r) => r.phases.filter((p) => p.name === name).map(({ us }) => us)));

/** What the model says of a phase. */
export interface Prediction extends Pick<PhaseReport, 'name' | 'dispatches'> {
  /** By GPU. */
  readonly milliseconds: Readonly<Record<string, number>>;
}

export const predictions = (reports: readonly FamilyReport[]): Prediction[] =>
  reports[0]!.phases.map(({ name, dispatches }) => ({
    name,
    dispatches,
    milliseconds: Object.fromEntries(
      Object.entries(timesOf(reports, name)).map(([gpu, us]) => [gpu, Number((us / 1000).toPrecision(3))]),
    ),
  }));

function phases(reports: readonly FamilyReport[]): string {
  const [first] = reports;
  const gpus = [...new Set(reports.flatMap((report) => Object.keys(report.phases[0]?.us ?? {})))];
  return table(
    [
      'phase',
      'dispatches',
      'submits',
      'copies',
      '< 512 waves',
      ...gpus.map((gpu) => `${gpu} (ms)`),
      `mostly`,
    ],
    first!.phases.map((p) => {
      const us = timesOf(reports, p.name);
      const [most] = Object.entries(p.limits).sort(([, a], [, b]) => b - a);
      const all = Object.values(p.limits).reduce((a, b) => a + b, 0);
      return [
        p.name,
        ...[p.dispatches, p.submits, p.copies, p.narrow].map(String),
        ...gpus.map((gpu) => milliseconds(us[gpu] ?? Number.NaN)),
        most ? `${most[0]} ${percent(most[1], all)}` : '–',
      ];
    }),
  );
}

/** Products that sum K in one chain where others fold chunks: all have one order. */
function outOfOrder(kernels: readonly Kernel[]): readonly Kernel[] {
  const folds = kernels.some(({ order }) => order === 'sealed' || order === 'handed on');
  return folds ? kernels.filter(({ order }) => order === 'one chain') : [];
}

/** One line a family, and one for each fault. */
function chunks({ family, kernels }: FamilyReport): string[] {
  const of = (order: Kernel['order']): readonly Kernel[] =>
    kernels.filter((kernel) => kernel.order === order);
  const [sealed, handed] = [of('sealed'), of('handed on')];
  const kept = sealed.filter(({ fault }) => !fault);
  return [
    sealed.length + handed.length > 0
      ? `${family}: ${kept.length} of ${sealed.length} kernels that seal chunks add every sum sealed, ${handed.length} hand them to another lane`
      : `${family}: no kernel folds chunks yet`,
    ...kernels.filter(({ fault }) => fault).map(({ label, fault }) => `  ${label} ${fault}`),
    ...outOfOrder(kernels).map(({ label }) => `  ${label} sums K in one chain`),
  ];
}

const MOST = 6;
const some = (names: readonly string[]): string =>
  names.length > MOST ? `${names.slice(0, MOST).join(', ')}, …` : names.join(', ');

function spills({ family, kernels }: FamilyReport): string {
  const spilling = kernels.filter((kernel) => kernel.spills > 0).sort((a, b) => b.spills - a.spills);
  if (spilling.length === 0) return `${family}: none of ${kernels.length} kernels spills registers`;
  const names = spilling.map((kernel) => `${kernel.label} (${kernel.spills})`);
  return `${family}: ${spilling.length} of ${kernels.length} kernels spill registers: ${some(names)}`;
}

/** Whether every kernel was compiled, with its chunks. */
export const passes = (reports: readonly FamilyReport[]): boolean =>
  reports.every(
    ({ kernels, errors }) =>
      errors.length === 0 && kernels.every(({ fault }) => fault === null) && outOfOrder(kernels).length === 0,
  );

export function toText(reports: readonly FamilyReport[], top: number, detail: boolean): string {
  const [first] = reports;
  const parts = [
    `Compiled, not run: every time is a model's (bench/compile/README.md).\n`,
    'chunks',
    ...reports.flatMap(chunks),
    '\nspills',
    ...reports.map(spills),
    ...reports
      .filter(({ untranslated }) => untranslated.length > 0)
      .map(({ family, untranslated }) => `${family}: without ${some(untranslated)}`),
    ...reports.flatMap(({ family, errors }) => errors.map((error) => `${family}: refused ${error}`)),
  ];
  const hottest = kernels(reports, top);
  if (hottest)
    parts.push(
      `\n${hottest}`,
      'share of multiply-adds among all instructions (among the vector ones) and registers of a lane; wavefronts of workgroup memory a cycle of multiply-adds (where lanes share words)',
    );
  if (reports.some((r) => r.kernels.some(({ order }) => order === 'units')))
    parts.push(
      `\n${units(reports)}`,
      'instructions of the hottest loop for each product of matrices, and registers of a lane',
    );
  if (first!.phases.length > 0) parts.push(`\n${phases(reports)}`);
  if (detail)
    for (const phase of first!.phases)
      parts.push(
        `\n${table(
          [phase.name, 'times', `us`],
          phase.kernels.slice(0, top).map(({ label, times, us }) => [label, String(times), fixed(us, 1)]),
        )}`,
      );
  return parts.join('\n');
}
