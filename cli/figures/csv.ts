/**
 * A figure's data as CSV under a head of lines that begin with `#`: what it shows, where it is from, how to cite it. Read by pandas with
 * `comment='#'`, by R with `comment.char = '#'`.
 */

import { dsvFormat } from 'd3-dsv';
import type { Cell, Figure } from './figure.ts';
import { citation, type Source } from './source.ts';

const cellText = (cell: Cell | undefined): string =>
  typeof cell === 'number' ? (Number.isFinite(cell) ? String(cell) : '') : (cell ?? '');

/** Numbers are written so that they read back the same; what is none is empty. */
export function figureCsv(
  { label, caption, n, interval, data }: Figure,
  { neurgrad, facts }: Source,
): string {
  const head = { figure: label, caption, n, interval, neurgrad, ...facts, cite: citation(neurgrad) };
  const lines = Object.entries(head).map(([name, value]) => `# ${name}: ${value.replaceAll(/\s+/g, ' ')}`);
  const columns = [...new Set(data.flatMap((row) => Object.keys(row)))];
  const { formatRow } = dsvFormat(',');
  const rows = data.map((row) => formatRow(columns.map((column) => cellText(row[column]))));
  return `${[...lines, formatRow(columns), ...rows].join('\n')}\n`;
}
