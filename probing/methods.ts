/** The probers there are. A new one is a file with a {@link ProbeMethod}, and a word here. */

import { UserError } from '../engine/errors.ts';
import { checkValue, text } from '../engine/options.ts';
import { forest } from './forest.ts';
import { logistic } from './logistic.ts';
import type { ProbeMethod } from './method.ts';
import { actMethod, magnMethod, polarMethod } from './votingMethods.ts';

/** Polar, Magn, Act, logistic regression and a random forest. */
export const PROBERS: readonly ProbeMethod[] = [polarMethod, magnMethod, actMethod, logistic, forest];

/**
 * Probers by name: `all`, or a list with commas.
 * @throws UserError for a name that there is not, or that stands twice.
 * @example
 * ```ts
 * import { parseProbers } from 'neurgrad/probing';
 *
 * console.log(parseProbers('magn,logistic').map(({ name }) => name)); // → [ 'magn', 'logistic' ]
 * ```
 */
export function parseProbers(list: string): ProbeMethod[] {
  checkValue('parseProbers', 'list', text, list);
  if (list.trim() === 'all') return [...PROBERS];
  const names = list.split(',').map((name) => name.trim());
  return names.map((name, at) => {
    const found = PROBERS.find((method) => method.name === name);
    if (!found)
      throw new UserError(
        'prober',
        `unknown prober "${name}"; there are ${PROBERS.map((method) => method.name).join(', ')}, or all`,
      );
    if (names.indexOf(name) < at) throw new UserError('prober', `prober ${name} stands twice`);
    return found;
  });
}
