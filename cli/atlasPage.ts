/** The map of an atlas: a row a layer, NeurGrad above what was measured, and how far each neuron is linear. */

import type { AtlasNeuron } from '../neurgrad/index.ts';
import { FigureBook } from './figures/book.ts';
import { everyNeuron, mapFigure, neuronsPerCell } from './figures/map.ts';
import { type Html, html } from './html.ts';
import { version } from './package.ts';
import { type ReportPage, reportPage, tile } from './reportPage.ts';

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
  /** sha256 of its files. */
  readonly files: Readonly<Record<string, string>>;
  readonly conventions: {
    readonly site: string;
    readonly of: string;
    readonly direction: string;
    readonly sign: string;
  };
  readonly prompt: string;
  readonly token: string;
  readonly layers: number;
  readonly width: number;
  readonly linear: number;
  readonly forwards: number;
  readonly shifts: number;
  readonly pearson: number;
}

/** The page. */
export function atlasPage(rows: readonly AtlasRow[], about: About): ReportPage {
  const { layers, width, model, prompt, token, conventions, files } = about;
  const figures = new FigureBook({
    neurgrad: version,
    facts: {
      model,
      ...Object.fromEntries(Object.entries(files).map(([file, hash]) => [`sha256 of ${file}`, hash])),
      prompt,
      target: token,
      conventions: `site ${conventions.site}, of ${conventions.of}, direction ${conventions.direction}, sign ${conventions.sign}`,
    },
  });
  const each = neuronsPerCell(width);
  const map = (column: 'neurgrad' | 'slope' | 'range', of: string, what: string): Html =>
    figures.show(
      mapFigure(
        everyNeuron(`map-${column}`, of, what, { model, prompt, token, neurons: layers * width }),
        rows.map((row) => ({ layer: row.layer, index: row.index, value: row[column] })),
        { layers, width, signs: column !== 'range', of },
      ),
    );
  return reportPage(
    'atlas',
    html`<h1>Every neuron for “${prompt}”</h1>
<p>What shifting each neuron of ${model} does to the probability of ${token}${each > 1 ? `; a cell shows the largest of up to ${each} neurons` : ''}.</p>
<ul class="tiles">
${[
  tile(`${layers * width}`, 'neurons'),
  tile(`${(100 * about.linear).toFixed(1)}%`, 'of all neurons are linear within ±2, for this prompt'),
  tile(`${about.forwards.toFixed(1)} of ${about.shifts}`, 'points run a neuron'),
  tile(about.pearson.toFixed(4), 'Pearson of NeurGrad and G_E, over all neurons of one prompt: no interval'),
]}
</ul>
${map('neurgrad', 'NeurGrad', 'NeurGrad, by one backward pass,')}
${map('slope', 'G_E', 'Measured slope G_E')}
${map('range', 'linear range', 'Linear range: the largest shift within which |r| ≥ 0.95,')}`,
    version,
    figures,
  );
}
