/** Numbers as reports and tables write them; reads nothing, so that a page in a browser may too. */

/** Four significant digits, with an exponent where the number is very small or large; `–` for NaN. */
export function figure(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e5 ? value.toExponential(digits - 2) : value.toPrecision(digits);
}

/** With a sign in front, for gradients. */
export function signed(value: number, digits = 4): string {
  return value > 0 ? `+${figure(value, digits)}` : figure(value, digits);
}
