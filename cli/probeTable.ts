/** What a probing run's files hold, and its Table 3 for a terminal, Markdown and the page. */

import {
  type Interval,
  PAPER,
  PAPER_MACRO,
  type ProberAbout,
  type ProbeSettings,
  SPLITS,
  type TaskRecord,
  type TaskReport,
} from '../probing/index.ts';
import type { Placement } from './session.ts';
import { figure, table } from './table.ts';

export interface ProbeManifest {
  readonly format: 'neurgrad probe 1';
  readonly neurgrad: string;
  /** ISO 8601, UTC. */
  readonly created: string;
  readonly adapter: string;
  readonly weights: Placement;
  readonly settings: ProbeSettings;
  readonly model: ProberAbout['model'];
  readonly tokenizer: string;
  readonly data: { readonly folder: string; readonly sha256: Readonly<Record<string, string>> };
  readonly tasks: readonly TaskRecord[];
  readonly skipped: readonly { readonly task: string; readonly reason: string }[];
}

/** Accuracy and its interval. */
export interface Macro {
  readonly accuracy: number;
  readonly interval: Interval;
}

export interface ProbeSummary extends Omit<ProbeManifest, 'tasks' | 'format'> {
  readonly tasks: readonly TaskReport[];
  /** Tasks whose parts are not complete. */
  readonly incomplete: readonly { readonly task: string; readonly missingUnits: number }[];
  readonly macro: Readonly<Record<'lmProb' | 'polar' | 'magn' | 'act', Macro>> & { readonly rand: number };
  /** Means of the paper's Table 3 over the same tasks, and over all 22. */
  readonly paper: {
    readonly same: Readonly<Record<'rand' | 'lmProb' | 'polar' | 'magn', number>>;
    readonly all: typeof PAPER_MACRO;
  };
}

export const share = (value: number): string => value.toFixed(4);
export const between = ([low, high]: Interval): string => `${low.toFixed(3)}–${high.toFixed(3)}`;

/** Table 3 as rows of text; `macro average` last. */
export function table3(summary: ProbeSummary): { head: string[]; rows: string[][] } {
  const rows = summary.tasks.map((task) => {
    const paper = PAPER[task.task]!;
    const prober = (name: 'polar' | 'magn'): string[] => {
      const { accuracy, interval, size, null: chance } = task[name];
      return [
        share(accuracy),
        between(interval),
        chance ? between(chance.interval) : '–',
        String(size),
        share(paper[name]),
        String(name === 'polar' ? paper.polarSize : paper.magnSize),
      ];
    };
    return [
      task.task,
      share(task.rand),
      share(task.lmProb.accuracy),
      share(paper.lmProb),
      ...prober('polar'),
      ...prober('magn'),
      share(task.act.accuracy),
    ];
  });
  const { macro, paper } = summary;
  const mean = (name: 'polar' | 'magn'): string[] => [
    share(macro[name].accuracy),
    between(macro[name].interval),
    '',
    '',
    share(paper.same[name]),
    '',
  ];
  rows.push([
    'macro average',
    share(macro.rand),
    share(macro.lmProb.accuracy),
    share(paper.same.lmProb),
    ...mean('polar'),
    ...mean('magn'),
    share(macro.act.accuracy),
  ]);
  const prober = (name: string): string[] => [name, '95%', 'null 95%', '|N_s|', 'paper', 'its |N_s|'];
  return {
    head: ['task', 'Rand', 'LM-Prob', 'paper', ...prober('Polar'), ...prober('Magn'), 'Act'],
    rows,
  };
}

/** What the numbers are of, in one line. */
export function describeRun({ settings, model }: Pick<ProbeSummary, 'settings' | 'model'>): string {
  const { site, of, direction, sign, variant, splits, labelTokens, shots, seed } = settings;
  return [
    model.name,
    ...(model.dtype === 'f32' ? [] : [`${model.dtype} weights`]),
    `splits ${splits}`,
    `variant ${variant}`,
    `label tokens ${labelTokens}`,
    `${shots} demonstration${shots === 1 ? '' : 's'} a label`,
    `site ${site}`,
    `of ${of}`,
    `direction ${direction}`,
    `sign ${sign}`,
    `seed ${seed}`,
  ].join(', ');
}

/** Table 3 as Markdown. */
export function markdown(summary: ProbeSummary): string {
  const { head, rows } = table3(summary);
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    line(head),
    line(head.map((_, i) => (i === 0 ? '---' : '---:'))),
    ...rows.map(line),
    '',
    `${describeRun(summary)}. Paper: Llama2-7B. Null: the whole procedure on permuted labels.`,
    '',
  ].join('\n');
}

/** A task's result in one line. */
export function describeTask({ task, rand, lmProb, polar, magn }: TaskReport): string {
  const prober = ({ accuracy, size }: TaskReport['polar']): string => `${share(accuracy)} (${size} neurons)`;
  return `${task}: Rand ${share(rand)}, LM-Prob ${share(lmProb.accuracy)}, Polar ${prober(polar)}, Magn ${prober(magn)}`;
}

/** The run for a terminal. */
export function describeSummary(summary: ProbeSummary): string {
  const { head, rows } = table3(summary);
  // A terminal is narrow: the |N_s| of the paper and Act are in tables/table3.md.
  const columns = head.flatMap((name, i) => (name === 'its |N_s|' || name === 'Act' ? [] : [i]));
  const cut = (cells: readonly string[]): string[] => columns.map((i) => cells[i]!);
  const prompts = summary.tasks.map(
    ({ task, prompts: count }) => `${task} ${SPLITS.map((split) => count[split]).join('/')}`,
  );
  return [
    table(cut(head), rows.map(cut)),
    `prompts train/valid/test: ${prompts.join(', ')}`,
    `paper, all 22 tasks of Llama2-7B: Rand ${figure(PAPER_MACRO.rand)}, LM-Prob ${figure(PAPER_MACRO.lmProb)}, Polar ${figure(PAPER_MACRO.polar)}, Magn ${figure(PAPER_MACRO.magn)}`,
    describeRun(summary),
  ].join('\n');
}
