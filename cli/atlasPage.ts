/** The map of an atlas: a row a layer, NeurGrad above what was measured, and how far each neuron is linear. */

import * as Plot from '@observablehq/plot';
import type { AtlasNeuron } from '../neurgrad/index.ts';
import { type Html, html } from './html.ts';
import { version } from './package.ts';
import { draw } from './plots.ts';
import { reportPage, tile } from './reportPage.ts';
import { figure } from './table.ts';

/** Columns of an atlas' file. */
export const ATLAS_COLUMNS = {
  layer: 'INT32',
  index: 'INT32',
  activation: 'DOUBLE',
  gradient: 'DOUBLE',
  gradientNoise: 'DOUBLE',
  neurgrad: 'DOUBLE',
  slope: 'DOUBLE',
  r: 'DOUBLE',
  noise: 'DOUBLE',
  range: 'DOUBLE',
  linear: 'INT32',
  flat: 'INT32',
  ran: 'INT32',
  bound: 'DOUBLE',
} as const;

/** One neuron of it: numbers, and its curve as coefficients. */
export type AtlasRow = Readonly<Record<keyof typeof ATLAS_COLUMNS, number>> & Pick<AtlasNeuron, 'response'>;

/** What stands above the map. */
interface About {
  readonly model: string;
  readonly prompt: string;
  readonly token: string;
  readonly layers: number;
  readonly width: number;
  readonly linear: number;
  readonly forwards: number;
  readonly shifts: number;
  readonly pearson: number;
}

/** Cells of a row at most: of more neurons a cell shows the largest. */
const CELLS = 128;

interface Cell {
  readonly layer: number;
  readonly cell: number;
  readonly value: number;
}

function cells(rows: readonly AtlasRow[], width: number, of: (row: AtlasRow) => number): Cell[] {
  const across = Math.min(CELLS, width);
  const kept = new Map<string, Cell>();
  for (const row of rows) {
    const cell = Math.floor((row.index * across) / width);
    const key = `${row.layer}.${cell}`;
    const value = of(row);
    const before = kept.get(key);
    if (!before || Math.abs(value) > Math.abs(before.value)) kept.set(key, { layer: row.layer, cell, value });
  }
  return [...kept.values()];
}

function map(title: string, values: readonly Cell[], layers: number, signs: boolean): Html {
  // A few neurons hold most: the scale is of square roots.
  const most = values.reduce((largest, { value }) => Math.max(largest, Math.abs(value)), 0) || 1;
  const shade = (value: number): number => Math.sign(value) * Math.sqrt(Math.abs(value) / most);
  return html`<figure><figcaption>${title}, up to ${figure(most)}</figcaption>${draw(title, {
    width: 960,
    height: 60 + 16 * layers,
    x: { axis: null },
    y: { label: 'layer' },
    color: signs
      ? { type: 'linear', domain: [-1, 0, 1], range: ['#c2410c', '#e5e7eb', '#1d4ed8'] }
      : { type: 'linear', domain: [0, 1], range: ['#e5e7eb', '#15803d'] },
    marks: [Plot.cell(values, { x: 'cell', y: 'layer', fill: ({ value }: Cell) => shade(value), inset: 0 })],
  })}</figure>`;
}

/** One page, without scripts. */
export function atlasPage(rows: readonly AtlasRow[], about: About): string {
  const { layers, width } = about;
  const each = Math.ceil(width / Math.min(CELLS, width));
  return reportPage(
    'atlas',
    html`<h1>Every neuron for “${about.prompt}”</h1>
<p>What shifting each neuron of ${about.model} does to the probability of ${about.token}${each > 1 ? `; a cell shows the largest of up to ${each} neurons` : ''}.</p>
<ul class="tiles">
${[
  tile(`${layers * width}`, 'neurons'),
  tile(`${(100 * about.linear).toFixed(1)}%`, 'linear within ±2'),
  tile(`${about.forwards.toFixed(1)} of ${about.shifts}`, 'points run a neuron'),
  tile(about.pearson.toFixed(4), 'Pearson of NeurGrad and G_E'),
]}
</ul>
${map(
  'NeurGrad',
  cells(rows, width, ({ neurgrad }) => neurgrad),
  layers,
  true,
)}
${map(
  'G_E',
  cells(rows, width, ({ slope }) => slope),
  layers,
  true,
)}
${map(
  'Linear range',
  cells(rows, width, ({ range }) => range),
  layers,
  false,
)}`,
    version,
  );
}
