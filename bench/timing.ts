/**
 * Fair clocks: contenders take turns within one run, so that whatever else the machine does falls on all of them.
 *
 * Each round times every contender once, the first one changing from round to round. Ratios are medians of the rounds'
 * ratios, not ratios of medians: a slow minute cancels.
 *
 * Where the adapter is the processor itself, and for host costs, the clock counts this process's processor time over all
 * cores: other programs on the machine then stretch nothing.
 */

/** Milliseconds; only differences mean something. In a browser there is only the wall's. */
export type Clock = () => number;

export const wallClock: Clock = () => performance.now();

/** Processor time of all threads of this process, shared out over `cores`. Node's. */
export const processorClock =
  (cores: number): Clock =>
  () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000 / cores;
  };

/** Does its work once and waits until it is done. */
export type Contender = () => Promise<void>;

/** Milliseconds of one contender. */
export interface Times {
  readonly median: number;
  readonly least: number;
  /** Half the distance between the quartiles, as a share of the median; null of one round, which has none. */
  readonly spread: number | null;
  readonly rounds: readonly number[];
}

export const quantile = (sorted: readonly number[], q: number): number => {
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
};

export const median = (values: readonly number[]): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);

function summarise(rounds: readonly number[]): Times {
  const sorted = [...rounds].sort((a, b) => a - b);
  const middle = quantile(sorted, 0.5);
  return {
    median: middle,
    least: sorted[0]!,
    spread: rounds.length < 2 ? null : (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2 / middle,
    rounds,
  };
}

/** Runs every contender once to warm up (pipelines, pools), then `rounds` times in turn. */
export async function interleave<Name extends string>(
  contenders: Readonly<Record<Name, Contender>>,
  rounds: number,
  clock: Clock,
): Promise<Record<Name, Times>> {
  const names = Object.keys(contenders) as Name[];
  for (const name of names) await contenders[name]();
  const taken = new Map<Name, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length]!;
      const begin = clock();
      await contenders[name]();
      taken.get(name)!.push(clock() - begin);
    }
  return Object.fromEntries(names.map((name) => [name, summarise(taken.get(name)!)])) as Record<Name, Times>;
}

/** Median over rounds of a's time over b's. */
export const ratioOf = (a: Times, b: Times): number => median(a.rounds.map((t, i) => t / b.rounds[i]!));
