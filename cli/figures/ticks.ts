/** Labels of axes. */

/** About as many on each axis. */
export const TICKS = 5;

/**
 * Labels that tell some five ticks from `low` to `high` apart: decimals, or exponents where zeros would fill the label.
 * Twelve digits at most: float32 has no more to tell.
 */
export function tickLabels(low: number, high: number): (value: number) => string {
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const span = high - low || size;
  // Ticks stand at multiples of 1, 2 or 5 times a power of ten: of which, rounded as the axis rounds them.
  const place = (value: number) => Math.floor(Math.log10(value) + 1e-9);
  const raw = span / TICKS;
  const power = place(raw) + (raw / 10 ** place(raw) >= Math.sqrt(50) ? 1 : 0);
  const digits = Math.max(0, Math.min(12, place(size) - power));
  const decimals = Math.max(0, Math.min(12, -power));
  return (value) => {
    if (Math.abs(value) < span * 1e-6) return '0';
    const text = size >= 1e-3 ? value.toFixed(decimals) : value.toExponential(digits);
    return text.replace(/-/g, '−').replace('e+', 'e');
  };
}

/** Ticks of a root axis that lie evenly on it: 0, and a number of one digit and its quarter on both sides. */
export function rootTicks(most: number): number[] {
  const unit = 10 ** Math.floor(Math.log10(most));
  // 8 of the unit below is there where most is less than 2 of its own.
  const outer = unit * [8, 4, 2, 0.8].find((digit) => digit * unit <= most)!;
  return [-outer, -outer / 4, 0, outer / 4, outer];
}

/** A number of one digit, short where it is small. */
export function oneDigit(value: number): string {
  const size = Math.abs(value);
  const text = size > 0 && size < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(1)));
  return text.replaceAll('-', '−');
}

/** What an axis shows of values, of which some may be no numbers: all of them, with a little air. */
export function padded(values: readonly number[], share = 0.06): [number, number] {
  const [low, high] = values
    .filter(Number.isFinite)
    .reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  if (low > high) return [0, 1];
  const air = (high - low || Math.abs(high) || 1) * share;
  return [low - air, high + air];
}

/** {@link padded}, but not beyond what a probability can be. */
export function probabilities(values: readonly number[], share = 0.06): [number, number] {
  const [low, high] = padded(values, share);
  return [Math.max(0, low), Math.min(1, high)];
}
