/** Where devices are lost: some of the calls to WebGPU that a calm run makes, and now and then one more soon after another. */

export interface Losses {
  /** When, by the number of the call: `before` it, `after` it, or `later`. */
  readonly places: Readonly<Record<number, string>>;
  /** For people. */
  readonly name: string;
}

/** Most calls between two losses of which one follows the other: while the device is being opened again, or soon after. */
const SOON = 600;

/** Calls of kinds drawn first: most are dispatches, of which one is like another. */
export function drawLosses(calls: readonly string[], count: number, random: () => number): Losses {
  const pick = <One>(all: readonly One[]): One => all[Math.floor(random() * all.length)]!;
  const kinds = [...new Set(calls)].sort();
  const found = Array.from({ length: count }, () => {
    const kind = pick(kinds);
    const at = pick(calls.flatMap((call, i) => (call === kind ? [i + 1] : [])));
    return { kind, at, how: pick(['before', 'after', 'later']) };
  });
  const [first, second] = found;
  // Two in a row, every other time.
  if (first && second && random() < 0.5) second.at = first.at + 1 + Math.floor(random() * SOON);
  return {
    places: Object.fromEntries(found.map(({ at, how }) => [at, how])),
    name: found.map(({ kind, at, how }) => `${how} call ${at} (${kind})`).join(', '),
  };
}
