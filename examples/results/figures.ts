/** The results page's figures as SVG files: those of the reports, and accuracies on all tasks. */

import * as Plot from '@observablehq/plot';
import { figureSvg } from '../../cli/figures/book.ts';
import type { Figure } from '../../cli/figures/figure.ts';
import { LIGHT } from '../../cli/figures/palette.ts';
import { estimateFigure, rangeFigure } from '../../cli/linearityFigures.ts';
import type { ProbeSummary } from '../../cli/probeTable.ts';
import type { Entry } from './entry.ts';

/** Figures of an entry by the ending of their file's name; those of which there are numbers. */
export function figuresOf({ studies: { figure, table }, probe }: Entry): Map<string, string> {
  const figures = new Map<string, Figure>();
  const model = table?.models[0];
  if (figure && figure.models[0]!.figure2.length > 0) figures.set('range', rangeFigure(figure));
  if (table && model && model.pairs.length > 0)
    for (const name of ['gradient', 'neurgrad'] as const)
      figures.set(name, estimateFigure(model, name, table));
  if (probe) figures.set('tasks', accuracies(probe));
  return new Map([...figures].map(([name, drawn]) => [name, figureSvg(drawn)]));
}

const METHODS = [
  { name: 'lmProb', title: 'LM-Prob', colour: LIGHT.ink },
  { name: 'polar', title: 'Polar', colour: LIGHT.negative },
  { name: 'magn', title: 'Magn', colour: LIGHT.positive },
] as const;

/** Accuracy of each method on each task with its 95% interval; grey: the middle 95% of the same prober's null. */
function accuracies({ tasks, model }: ProbeSummary): Figure {
  const rows = tasks.flatMap((task) =>
    METHODS.map(({ name, title, colour }) => {
      const { accuracy, interval } = task[name];
      const byChance = name === 'lmProb' ? null : task[name].null?.interval;
      return {
        ...{ task: task.task, title, colour, accuracy },
        ...{ low: interval?.[0] ?? null, high: interval?.[1] ?? null },
        ...{ nullLow: byChance?.[0] ?? null, nullHigh: byChance?.[1] ?? null },
      };
    }),
  );
  const y = { fy: 'task', y: 'title' };
  const [fewest, most] = [Math.min, Math.max].map((of) => of(...tasks.map(({ prompts }) => prompts.test)));
  return {
    name: 'tasks',
    label: 'Accuracy on each task, with intervals and nulls',
    caption: `Accuracy of ${model.name} on each task: its own answer and those of its skill neurons; dotted: guessing`,
    n: `n = ${fewest === most ? fewest : `${fewest} to ${most}`} test prompts a task`,
    interval: 'Lines: 95% over test prompts; grey: middle 95% of permuted labels',
    columns: 2,
    height: 46 + 40 * tasks.length,
    legend: [
      ...METHODS.map(({ title, colour }) => ({ label: title, colour, mark: 'dot' }) as const),
      { label: 'permuted labels', colour: LIGHT.line, mark: 'band' },
      { label: 'guessing', colour: LIGHT.ink, mark: 'dots' },
    ],
    plot: {
      marginLeft: 46,
      marginRight: 120,
      x: { domain: [0, 1], label: 'accuracy on test', grid: true },
      y: { label: null, domain: METHODS.map(({ title }) => title) },
      fy: { label: null, domain: tasks.map(({ task }) => task) },
      marks: [
        Plot.ruleX(tasks, { x: 'rand', fy: 'task', stroke: LIGHT.ink, strokeDasharray: '1 2' }),
        Plot.ruleY(
          rows.filter(({ nullLow }) => nullLow !== null),
          { ...y, x1: 'nullLow', x2: 'nullHigh', stroke: LIGHT.line, strokeWidth: 6 },
        ),
        Plot.ruleY(
          rows.filter(({ low }) => low !== null),
          { ...y, x1: 'low', x2: 'high', stroke: 'colour', strokeWidth: 1.2 },
        ),
        Plot.dot(rows, { ...y, x: 'accuracy', fill: 'colour', r: 2.4 }),
      ],
    },
    data: rows.map(({ task, title, accuracy, low, high, nullLow, nullHigh }) => ({
      ...{ task, method: title, accuracy, '95% low': low, '95% high': high },
      ...{ 'null low': nullLow, 'null high': nullHigh },
    })),
  };
}
