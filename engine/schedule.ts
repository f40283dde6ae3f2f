/**
 * Learning rates over time: linear warm-up, then a cosine (Loshchilov & Hutter 2017) or a line down to a floor.
 */

import { between, checkOptions, optionsSchema, positive, required, whole } from './options.ts';

/** A learning rate's course. */
export interface ScheduleOptions {
  /** The highest rate. */
  readonly peak: number;
  /** Steps of linear warm-up; default 0. */
  readonly warmup?: number;
  /** Steps in all. */
  readonly steps: number;
  /** Share of the peak that is left at the end; default 0. */
  readonly floor?: number;
}

const scheduleOptions = optionsSchema<ScheduleOptions>(
  {
    peak: required(positive),
    warmup: whole(),
    steps: required(whole(1)),
    floor: between(0, 1),
  },
  { rate: 'peak', lr: 'peak', warmupSteps: 'warmup', totalSteps: 'steps' },
);

/** Rate of step 1, 2, …; from `steps` on, the floor. */
export type Schedule = (step: number) => number;

function schedule(door: string, options: ScheduleOptions, fall: (t: number) => number): Schedule {
  checkOptions(door, scheduleOptions, options);
  const { peak, warmup = 0, steps, floor = 0 } = options;
  return (step) => {
    if (step <= warmup) return (peak * step) / warmup;
    const t = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
    return peak * (floor + (1 - floor) * fall(t));
  };
}

/**
 * Linear warm-up, then a cosine from the peak to the floor.
 * @example
 * ```ts
 * import { warmupCosine } from 'neurgrad/engine';
 *
 * const rate = warmupCosine({ peak: 0.01, warmup: 10, steps: 100 });
 * console.log(rate(5), rate(10), rate(100)); // → 0.005 0.01 0
 * ```
 */
export const warmupCosine = (options: ScheduleOptions): Schedule =>
  schedule('warmupCosine', options, (t) => (1 + Math.cos(Math.PI * t)) / 2);

/** Linear warm-up, then a line from the peak to the floor. */
export const warmupLinear = (options: ScheduleOptions): Schedule =>
  schedule('warmupLinear', options, (t) => 1 - t);
