/** The results page's figures as SVG files, which stand alone: the reports' figures, with the colours of a light page written in. */

import * as Plot from '@observablehq/plot';
import type { Html } from '../../cli/html.ts';
import { scatter, straightnessByRange } from '../../cli/linearityPlots.ts';
import { draw } from '../../cli/plots.ts';
import type { ProbeSummary } from '../../cli/probeTable.ts';
import type { Entry } from './entry.ts';

const COLOURS: Readonly<Record<string, string>> = {
  ink: '#1d2330',
  muted: '#7b8494',
  line: '#e3e5e9',
  positive: '#2563b8',
  negative: '#c2562d',
};

/** A figure of a page as a file of its own, on white. */
export function standalone(figure: Html): string {
  const svg = figure.text
    .replace(/var\(--(\w+)\)/g, (_, name: string) => COLOURS[name]!)
    .replace('background:transparent', 'background:white')
    .replace('font-family:inherit', 'font-family:system-ui,sans-serif');
  return svg.includes('xmlns=') ? svg : svg.replace('<svg', '<svg xmlns="http://www.w3.org/2000/svg"');
}

/** Figures of an entry by the ending of their file's name; those of which there are numbers. */
export function figuresOf({ studies: { figure, table }, probe }: Entry): Map<string, string> {
  const figures = new Map<string, Html>();
  const model = table?.models[0];
  if (figure && figure.models[0]!.figure2.length > 0)
    figures.set('range', straightnessByRange([figure.models[0]!.figure2], [2]));
  if (model && model.pairs.length > 0) {
    figures.set('gradient', scatter(model.pairs, 'gradient', 'G_C'));
    figures.set('neurgrad', scatter(model.pairs, 'neurgrad', 'NeurGrad'));
  }
  if (probe) figures.set('tasks', accuracies(probe));
  return new Map([...figures].map(([name, drawn]) => [name, standalone(drawn)]));
}

const METHODS = [
  { name: 'lmProb', title: 'LM-Prob', colour: 'var(--ink)' },
  { name: 'polar', title: 'Polar', colour: 'var(--negative)' },
  { name: 'magn', title: 'Magn', colour: 'var(--positive)' },
] as const;

/** Accuracy of each method on each task with its 95% interval; grey: the middle 95% of the same prober's null. */
function accuracies({ tasks }: ProbeSummary): Html {
  const rows = tasks.flatMap((task) =>
    METHODS.map(({ name, title, colour }) => {
      const found = task[name];
      const [low, high] = found.interval ?? [Number.NaN, Number.NaN];
      const [nullLow, nullHigh] = (name === 'lmProb' ? null : task[name].null?.interval) ?? [
        Number.NaN,
        Number.NaN,
      ];
      return { task: task.task, title, colour, accuracy: found.accuracy, low, high, nullLow, nullHigh };
    }),
  );
  const y = { fy: 'task', y: 'title' };
  return draw('Accuracy on each task, with intervals and nulls', {
    width: 640,
    height: 40 + 74 * tasks.length,
    marginLeft: 60,
    marginRight: 90,
    marginBottom: 36,
    x: { domain: [0, 1], label: 'accuracy on test', grid: true },
    y: { label: null, domain: METHODS.map(({ title }) => title) },
    fy: { label: null, domain: tasks.map(({ task }) => task) },
    marks: [
      Plot.ruleX(tasks, {
        x: 'rand',
        fy: 'task',
        stroke: 'var(--ink)',
        strokeOpacity: 0.5,
        strokeDasharray: '3 3',
      }),
      Plot.ruleY(
        rows.filter(({ nullLow }) => !Number.isNaN(nullLow)),
        { ...y, x1: 'nullLow', x2: 'nullHigh', stroke: 'var(--muted)', strokeOpacity: 0.25, strokeWidth: 12 },
      ),
      Plot.ruleY(
        rows.filter(({ low }) => !Number.isNaN(low)),
        { ...y, x1: 'low', x2: 'high', stroke: 'colour', strokeWidth: 1.5 },
      ),
      Plot.dot(rows, { ...y, x: 'accuracy', fill: 'colour', r: 4 }),
    ],
  });
}
