/** Tables and numbers for people. */

import CliTable from 'cli-table3';
import type { Estimate } from '../neurgrad/index.ts';

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

/** Four significant digits, with an exponent where the number is very small or large; `–` for NaN. */
export function figure(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e5 ? value.toExponential(digits - 2) : value.toPrecision(digits);
}

/** A value with its 95% interval where it has one: `0.998 [0.995, 0.999]`. */
export function withInterval(
  { value, interval }: Estimate,
  text = (part: number): string => figure(part),
): string {
  return interval ? `${text(value)} [${text(interval.low)}, ${text(interval.high)}]` : text(value);
}

/** With a sign in front, for gradients. */
export function signed(value: number, digits = 4): string {
  return value > 0 ? `+${figure(value, digits)}` : figure(value, digits);
}
