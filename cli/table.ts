/** Tables for people, and the numbers in them. */

import CliTable from 'cli-table3';
import type { Estimate } from '../neurgrad/index.ts';
import { figure } from './numbers.ts';

export { figure, signed } from './numbers.ts';

/** A table of text; columns whose cells are all numbers are set to the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const uneven = rows.findIndex((row) => row.length !== head.length);
  if (uneven >= 0)
    throw new Error(`table: row ${uneven} has ${rows[uneven]!.length} cells for ${head.length} columns`);
  const numeric = (text: string | number): boolean => /^\[?[-+−±]?[\d.]|^–$/.test(String(text));
  const grid = new CliTable({
    head: [...head],
    colAligns: head.map((_, column) => (rows.every((row) => numeric(row[column]!)) ? 'right' : 'left')),
    style: { head: [], border: [], compact: true },
  });
  grid.push(...rows.map((row) => row.map(String)));
  return grid.toString();
}

/** A value with its 95% interval where it has one: `0.998 [0.995, 0.999]`. */
export function withInterval(
  { value, interval }: Estimate,
  text = (part: number): string => figure(part),
): string {
  return interval ? `${text(value)} [${text(interval.low)}, ${text(interval.high)}]` : text(value);
}
