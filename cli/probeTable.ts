/** What a probing run's files hold, and its Table 3 for a terminal, Markdown and the page. */

import { INTERVAL_PARTS, mean } from '../neurgrad/index.ts';
import {
  type Interval,
  PAPER,
  PAPER_MACRO,
  type ProberAbout,
  type ProbeSettings,
  type PropertyRow,
  permutationsFor,
  SPLITS,
  type TaskMeans,
  type TaskRecord,
  type TaskReport,
} from '../probing/index.ts';
import type { Placement } from './session.ts';
import { figure, table } from './table.ts';

export interface ProbeManifest {
  readonly format: 'neurgrad probe 3';
  readonly neurgrad: string;
  /** ISO 8601, UTC. */
  readonly created: string;
  readonly adapter: string;
  readonly weights: Placement;
  readonly settings: ProbeSettings;
  readonly model: ProberAbout['model'];
  readonly tokenizer: string;
  readonly data: {
    /** Empty where there are questions of one's own alone. */
    readonly folder: string;
    /** Files of one's own questions. */
    readonly own?: readonly string[];
    readonly sha256: Readonly<Record<string, string>>;
  };
  readonly tasks: readonly TaskRecord[];
  readonly skipped: readonly { readonly task: string; readonly reason: string }[];
}

/** What was measured of a task's skill neurons. */
export interface TaskProperties {
  readonly format: 'neurgrad probe properties 1';
  /** Digest of the run's manifest. */
  readonly run: string;
  readonly task: string;
  /** Neurons looked at, and the words that they were chosen by. */
  readonly neurons: number;
  readonly chosen: string;
  /** What of them was read, where it is not the gradients of the run. */
  readonly estimator?: string | undefined;
  readonly prompts: Readonly<Record<'train' | 'valid' | 'test', number>>;
  readonly permutations: number;
  readonly draws: number;
  /** Accuracy of guessing. */
  readonly rand: number;
  readonly rows: readonly PropertyRow[];
}

/** What other probers reach on a task. */
export interface TaskMethods {
  readonly format: 'neurgrad probe methods 1';
  /** Digest of the run's manifest. */
  readonly run: string;
  readonly task: string;
  /** Words that the neurons were chosen by, and how many they are. */
  readonly chosen: string;
  readonly looked: number;
  /** What stands for a neuron's effect. */
  readonly estimator: string;
  readonly permutations: number;
  readonly methods: readonly {
    readonly prober: string;
    readonly accuracy: number;
    readonly interval: Interval | null;
    readonly size: number;
    readonly sizes: readonly number[];
    /** Accuracy at each size. */
    readonly valid: readonly number[];
    readonly test: readonly number[];
    readonly predictions: readonly number[];
    /** The chosen ones, best first. */
    readonly neurons: readonly string[];
    readonly null: TaskReport['magn']['null'];
  }[];
}

export interface ProbeSummary extends Omit<ProbeManifest, 'tasks' | 'format'> {
  readonly tasks: readonly TaskReport[];
  /** Tasks whose parts are not complete. */
  readonly incomplete: readonly { readonly task: string; readonly missingUnits: number }[];
  readonly macro: TaskMeans;
  /** Accuracies of each task with other demonstrations, this run's first; null where they were drawn once. */
  readonly spread: {
    readonly seeds: readonly number[];
    readonly tasks: readonly {
      readonly task: string;
      readonly lmProb: readonly number[];
      readonly polar: readonly number[];
      readonly magn: readonly number[];
    }[];
  } | null;
  /** Of the tasks whose skill neurons' properties were measured. */
  readonly properties: readonly TaskProperties[];
  /** What other probers reach on tasks, where they were put to the test; not there in results of before. */
  readonly methods?: readonly TaskMethods[];
  /** Means of the paper's Table 3 over the same tasks, and over all 22. */
  readonly paper: {
    readonly same: Readonly<Record<'rand' | 'lmProb' | 'polar' | 'magn', number>>;
    readonly all: typeof PAPER_MACRO;
  };
}

/** `–` where there is none. */
export const share = (value: number | null | undefined): string =>
  value === undefined || value === null || Number.isNaN(value) ? '–' : value.toFixed(4);
/** `–` where there is none. */
export const between = (interval: Interval | null): string =>
  interval ? interval.map((end) => end.toFixed(3)).join('–') : '–';

/** With its number, as English has it. */
export const counted = (count: number, thing: string): string =>
  `${count.toLocaleString('en')} ${thing}${count === 1 ? '' : 's'}`;

/** A p value; four decimals are more than permutations give. */
export const chance = (p: number): string => (p < 5e-5 ? '<0.0001' : p.toFixed(4));

/** Rows of text under their heads. */
export interface TextTable {
  readonly head: string[];
  readonly rows: string[][];
}

/** Table 3 as rows of text; `macro average` last. With released splits, how much of test lies in train stands last. */
export function table3(summary: ProbeSummary): TextTable {
  const { macro, paper, settings } = summary;
  const released = settings.splits === 'released';
  const prober = (
    { accuracy, interval, null: permuted }: Pick<TaskReport['polar'], 'accuracy' | 'interval' | 'null'>,
    size: string,
    theirs: number | undefined,
    theirSize: string,
  ): string[] => [
    share(accuracy),
    between(interval),
    between(permuted?.interval ?? null),
    permuted ? chance(permuted.p) : '–',
    size,
    share(theirs),
    theirSize,
  ];
  const rows = summary.tasks.map((task) => {
    const paper = PAPER[task.task];
    return [
      task.task,
      share(task.rand),
      share(task.majority.accuracy),
      share(task.lmProb.accuracy),
      share(paper?.lmProb),
      ...prober(task.polar, String(task.polar.size), paper?.polar, paper ? String(paper.polarSize) : '–'),
      ...prober(task.magn, String(task.magn.size), paper?.magn, paper ? String(paper.magnSize) : '–'),
      share(task.act.accuracy),
      ...(released ? [percent(task.leak)] : []),
    ];
  });
  rows.push([
    'macro average',
    share(macro.rand),
    share(macro.majority),
    share(macro.lmProb.accuracy),
    share(paper.same.lmProb),
    ...prober(macro.polar, '', paper.same.polar, ''),
    ...prober(macro.magn, '', paper.same.magn, ''),
    share(macro.act.accuracy),
    ...(released ? [''] : []),
  ]);
  const heads = (name: string): string[] => [name, '95%', 'null 95%', 'p', '|N_s|', 'paper', 'its |N_s|'];
  return {
    head: [
      ...['task', 'Rand', 'Majority', 'LM-Prob', 'paper'],
      ...heads('Polar'),
      ...heads('Magn'),
      'Act',
      ...(released ? ['test in train'] : []),
    ],
    rows,
  };
}

const percent = (value: number): string => `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)}%`;
const signed = (value: number, digits = 4): string =>
  `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`;

/** Each prober's tests: against LM-Prob on the same prompts, and against permuted labels, corrected for the number of tasks. */
export function testsTable({ tasks, macro }: ProbeSummary): TextTable {
  const rows = (['polar', 'magn'] as const).flatMap((name) => {
    const { permutation, overLmProb } = macro.holm[name];
    const title = name === 'polar' ? 'Polar' : 'Magn';
    return [
      ...tasks.map((task, t) => {
        const { difference, interval, onlyFirst, onlySecond, p } = task[name].overLmProb;
        return [
          ...[task.task, title, signed(difference), signedBetween(interval)],
          ...[String(onlyFirst), String(onlySecond), chance(p), chance(overLmProb[t]!)],
          ...(permutation ? [chance(task[name].null!.p), chance(permutation[t]!)] : ['–', '–']),
        ];
      }),
      [
        ...['macro average', title],
        signed(macro[name].overLmProb.difference),
        signedBetween(macro[name].overLmProb.interval),
        ...['', '', '', ''],
        ...[macro[name].null ? chance(macro[name].null.p) : '–', ''],
      ],
    ];
  });
  return {
    head: [
      ...['task', 'prober', 'over LM-Prob', '95%', 'only it', 'only LM-Prob', 'McNemar p', 'Holm'],
      ...['permutation p', 'Holm'],
    ],
    rows,
  };
}

const signedBetween = (interval: Interval | null): string =>
  interval ? interval.map((end) => signed(end, 3)).join(' to ') : '–';

/** Why the accuracies of Table 3 have no interval where they have none; null where all have one. */
export function intervalsRemark({ tasks, settings }: ProbeSummary): string | null {
  const few = tasks.flatMap(({ task, prompts }) =>
    prompts.test < INTERVAL_PARTS ? [`${task} ${prompts.test}`] : [],
  );
  const told = [
    ...(few.length > 0 ? [`An interval needs ${INTERVAL_PARTS} test prompts: ${few.join(', ')}.`] : []),
    ...(settings.permutations > 0 && tasks.some(({ polar }) => polar.null?.interval === null)
      ? [
          `${counted(settings.permutations, 'permutation')} ${settings.permutations === 1 ? 'has' : 'have'} no middle 95%.`,
        ]
      : []),
  ];
  return told.length > 0 ? told.join(' ') : null;
}

/** What the tests cannot say: null where there is nothing to add. */
export function testsRemark({ tasks, settings }: ProbeSummary): string | null {
  const { permutations } = settings;
  if (permutations === 0) return 'No permutations: nothing is tested against chance.';
  const needed = permutationsFor(tasks.length);
  return permutations < needed
    ? `${counted(permutations, 'permutation')} ${permutations === 1 ? 'gives' : 'give'} no p below ${chance(1 / (permutations + 1))}; ${tasks.length === 1 ? 'one' : `Holm over ${tasks.length} tasks finds one`} below 0.05 ${tasks.length === 1 ? 'needs' : 'from'} ${needed}${tasks.length === 1 ? '' : ' on'} (--permutations).`
    : null;
}

/** Accuracies over other draws of demonstrations, or null where there is one draw. */
export function spreadTable({ spread }: ProbeSummary): TextTable | null {
  if (!spread) return null;
  const over = (values: readonly number[]): string => {
    const middle = mean(values);
    const deviation = Math.sqrt(
      values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1),
    );
    return `${share(middle)} ± ${share(deviation)} (${share(Math.min(...values))}–${share(Math.max(...values))})`;
  };
  return {
    head: ['task', 'LM-Prob', 'Polar', 'Magn'],
    rows: spread.tasks.map(({ task, lmProb, polar, magn }) => [task, over(lmProb), over(polar), over(magn)]),
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

/** A row a task and prober. */
export const methodsTable = (tasks: readonly TaskMethods[]): TextTable => ({
  head: ['task', 'prober', 'accuracy', '95%', 'null 95%', 'p', '|N_s|', 'of neurons', 'estimator'],
  rows: tasks.flatMap(({ task, chosen, estimator, methods }) =>
    methods.map(({ prober, accuracy, interval, null: permuted, size }) => [
      ...[task, prober, share(accuracy), between(interval), between(permuted?.interval ?? null)],
      ...[permuted ? chance(permuted.p) : '–', String(size), chosen, estimator],
    ]),
  ),
});

/** What the table says, in one sentence. */
export const METHODS_REMARK =
  'Probers of the registry on some neurons: ranked on train, the first |N_s| fitted again alone, |N_s| chosen on valid, accuracy on test; null: all of that with the labels of every split permuted.';

/** Table 3 as Markdown. */
export function markdown(summary: ProbeSummary): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const table = ({ head, rows }: TextTable): string[] => [
    line(head),
    line(head.map((_, i) => (i === 0 ? '---' : '---:'))),
    ...rows.map(line),
    '',
  ];
  const spread = spreadTable(summary);
  const remark = testsRemark(summary);
  const few = intervalsRemark(summary);
  return [
    ...table(table3(summary)),
    `${describeRun(summary)}. Paper: Llama2-7B. Majority: the label most frequent in training. 95%: Wilson’s, of the average a bootstrap’s. Null: the whole procedure on permuted labels; p: share of them that do as well.${few ? ` ${few}` : ''}`,
    '',
    ...table(testsTable(summary)),
    `Over LM-Prob: difference of the accuracies on the same prompts, 95% by bootstrap over them, none where they all say the same of the two; Holm: p corrected for the number of tasks.${remark ? ` ${remark}` : ''}`,
    '',
    ...(spread
      ? [
          ...table(spread),
          `Mean ± standard deviation and range over demonstrations drawn with the seeds ${summary.spread!.seeds.join(', ')}.`,
          '',
        ]
      : []),
    ...(summary.methods?.length ? [...table(methodsTable(summary.methods)), METHODS_REMARK, ''] : []),
  ].join('\n');
}

/** A task's result in one line. */
export function describeTask({ task, rand, lmProb, polar, magn }: TaskReport): string {
  const prober = ({ accuracy, size }: TaskReport['polar']): string =>
    `${share(accuracy)} (${counted(size, 'neuron')})`;
  return `${task}: Rand ${share(rand)}, LM-Prob ${share(lmProb.accuracy)}, Polar ${prober(polar)}, Magn ${prober(magn)}`;
}

/** The run for a terminal. */
export function describeSummary(summary: ProbeSummary): string {
  const { head, rows } = table3(summary);
  // A terminal is narrow: the rest is in tables/table3.md.
  const narrow = new Set(['its |N_s|', 'null 95%', 'Act']);
  const columns = head.flatMap((name, i) => (narrow.has(name) ? [] : [i]));
  const cut = (cells: readonly string[]): string[] => columns.map((i) => cells[i]!);
  const prompts = summary.tasks.map(
    ({ task, prompts: count }) => `${task} ${SPLITS.map((split) => count[split]).join('/')}`,
  );
  const tests = testsTable(summary);
  const spread = spreadTable(summary);
  const methods = methodsTable(summary.methods ?? []);
  return [
    table(cut(head), rows.map(cut)),
    table(tests.head, tests.rows),
    ...(spread ? [table(spread.head, spread.rows)] : []),
    ...(methods.rows.length > 0 ? [table(methods.head, methods.rows)] : []),
    ...[intervalsRemark(summary), testsRemark(summary)].filter((remark) => remark !== null),
    `prompts train/valid/test: ${prompts.join(', ')}`,
    `paper, all 22 tasks of Llama2-7B: Rand ${figure(PAPER_MACRO.rand)}, LM-Prob ${figure(PAPER_MACRO.lmProb)}, Polar ${figure(PAPER_MACRO.polar)}, Magn ${figure(PAPER_MACRO.magn)}`,
    describeRun(summary),
  ].join('\n');
}
