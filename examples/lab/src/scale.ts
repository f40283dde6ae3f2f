/**
 * From values to colours. One neuron is often a hundred times as strong as the median, so a scale that ends at the strongest shows
 * little else: it may be cut where one neuron in a thousand, or in a hundred, lies beyond, or count in powers of ten.
 */

/** `p999` and `p99`: cut at that percentile; `all`: to the strongest; `log`: four powers of ten below it. */
export const SCALES = ['p999', 'p99', 'all', 'log'] as const;
export type ScaleName = (typeof SCALES)[number];

export interface Scale {
  readonly name: ScaleName;
  /** Where the colour is full. */
  readonly high: number;
  /** Below it nothing is coloured; 0 but for `log`. */
  readonly low: number;
  /** Values beyond `high`: as dark as it. */
  readonly beyond: number;
}

const SHARE: Readonly<Record<ScaleName, number>> = { p999: 0.999, p99: 0.99, all: 1, log: 1 };
const DECADES = 4;

export function scaleOf(name: ScaleName, values: ArrayLike<number>): Scale {
  const sizes = Float64Array.from(values, Math.abs).sort();
  const most = sizes.at(-1) ?? 0;
  // Where all but a few are 0, there is nothing to cut.
  const cut = sizes[Math.ceil(SHARE[name] * sizes.length) - 1] || most;
  let at = sizes.length;
  while (at > 0 && sizes[at - 1]! > cut) at--;
  return { name, high: cut, low: name === 'log' ? cut / 10 ** DECADES : 0, beyond: sizes.length - at };
}

/**
 * How much of its colour a value has, 0 to 1: the square root of its share of the largest, so that small ones show too, or its
 * share of the powers of ten.
 */
export function strength(value: number, { name, high, low }: Scale): number {
  const size = Math.abs(value);
  if (high === 0 || size <= low) return 0;
  if (size >= high) return 1;
  return name === 'log' ? Math.log10(size / low) / DECADES : Math.sqrt(size / high);
}

/**
 * The colour bar, from the most negative to the largest, in the map's own colours: values run evenly along it, or their powers
 * of ten do, nothing between the two lowest.
 */
export function colourBar(name: ScaleName): string {
  const steps = [1, 0.75, 0.5, 0.25, 0.125];
  const stop = (colour: string, share: number, at: number) =>
    `color-mix(in srgb, var(${colour}) ${(100 * share).toFixed(1)}%, var(--cell)) ${(50 + 50 * at).toFixed(2)}%`;
  const along = (share: number) => (name === 'log' ? share : share ** 2);
  return `linear-gradient(90deg, ${[
    ...steps.map((share) => stop('--negative', share, -along(share))),
    'var(--cell) 50%',
    ...steps.toReversed().map((share) => stop('--positive', share, along(share))),
  ].join(', ')})`;
}
