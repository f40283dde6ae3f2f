/** What became better (+), worse (-) or merely other (~) since an earlier report, by kernel and by phase. */

import { table } from '../../cli/table.ts';
import type { FamilyReport, Kernel, PhaseReport } from './analyse.ts';

/** Name, value, and whether more of it is better (1), worse (-1) or neither (0). */
type Field<X> = readonly [name: string, value: (x: X) => number | null | undefined, sign: number];

const perMultiplyAdd = ({ hot }: Kernel, of: (hot: NonNullable<Kernel['hot']>) => number): number | null =>
  hot && hot.fmaOps > 0 ? of(hot) / hot.fmaOps : null;
const KERNEL: readonly Field<Kernel>[] = [
  ['registers', (k) => k.registers, -1],
  ['spills', (k) => k.spills, -1],
  ['bytes of workgroup memory', (k) => k.workgroupBytes, -1],
  ['threads', ({ workgroup: [x, y, z] }) => x * y * z, 0],
  ['instructions', (k) => k.whole.issued, 0],
  ['loop, instructions / multiply-add', (k) => perMultiplyAdd(k, ({ issued }) => issued), -1],
  ['loop, loads / multiply-add', (k) => perMultiplyAdd(k, ({ loads }) => loads), -1],
  ['loop, spilled / multiply-add', (k) => perMultiplyAdd(k, ({ scratch }) => scratch), -1],
  ['wavefronts', (k) => k.traffic && k.traffic.reads.served + k.traffic.stores.served, -1],
];
const phaseFields = (gpus: readonly string[]): Field<PhaseReport>[] => [
  ['dispatches', (p) => p.dispatches, -1],
  ['submits', (p) => p.submits, 0],
  ['barriers', (p) => p.barriers, -1],
  ['copies', (p) => p.copies, -1],
  ['below 512 waves', (p) => p.narrow, -1],
  ...gpus.map((gpu): Field<PhaseReport> => [`${gpu} (us)`, (p) => p.us[gpu], -1]),
];

/** Below this share a change is none. */
const SLACK = 1e-3;

function rows<X>(name: string, fields: readonly Field<X>[], before: X, after: X): string[][] {
  const text = (value: number | null | undefined): string =>
    value == null ? '–' : String(Number(value.toFixed(3)));
  return fields.flatMap(([field, value, sign]) => {
    const [from, to] = [value(before) ?? null, value(after) ?? null];
    if (from === to || (from !== null && to !== null && Math.abs(to - from) <= SLACK * Math.abs(from)))
      return [];
    const mark = sign === 0 || from === null || to === null ? '~' : to > from === sign > 0 ? '+' : '-';
    return [[name, mark, field, text(from), text(to)]];
  });
}

function compare<X>(
  key: (x: X) => string,
  fields: readonly Field<X>[],
  before: readonly X[],
  after: readonly X[],
): string {
  const found = new Map(after.map((x) => [key(x), x]));
  const changed = before.flatMap((x) => {
    const same = found.get(key(x));
    return same ? rows(key(x), fields, x, same) : [];
  });
  const only = (xs: readonly X[], ys: readonly X[]): string[] => {
    const names = new Set(ys.map(key));
    return xs.map(key).filter((name) => !names.has(name));
  };
  const lines =
    changed.length > 0 ? [table(['', '', 'what', 'before', 'after'], changed)] : ['no difference'];
  for (const [what, names] of [
    ['gone', only(before, after)],
    ['new', only(after, before)],
  ] as const)
    if (names.length > 0) lines.push(`${what}: ${names.join(', ')}`);
  return lines.join('\n');
}

export function changes(before: readonly FamilyReport[], after: readonly FamilyReport[]): string {
  return after
    .flatMap((report) => {
      const old = before.find(({ family }) => family === report.family);
      if (!old) return [];
      const gpus = Object.keys(report.phases[0]?.us ?? {});
      return [
        `${report.family}, kernels\n${compare((k: Kernel) => k.label, KERNEL, old.kernels, report.kernels)}`,
        ...(report.phases.length > 0
          ? [
              `${report.family}, phases\n${compare((p: PhaseReport) => p.name, phaseFields(gpus), old.phases, report.phases)}`,
            ]
          : []),
      ];
    })
    .join('\n\n');
}
