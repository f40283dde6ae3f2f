/** Whether a door refuses each kind of wrong options: names that are not known, values of no option, what is no object. */

import { UserError } from '../../engine/errors.ts';
import { type OptionsCase, saysOf } from './cases.ts';

/** A value that no option takes. */
class Nothing {}
/** Doors that take objects with more members than theirs. */
const LOOSE = /Reader$| ReadingConventions$|^planTask|Settings$|^timeBatch|^missingUnits|^evaluateParts/;

/** Milliseconds after which a call has not been refused: refusals come before any work. */
const AT_ONCE = 500;

/** The error of a call, or undefined. */
async function errorOf(call: () => unknown): Promise<unknown> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, AT_ONCE);
  });
  try {
    await Promise.race([call(), late]);
    return undefined;
  } catch (error) {
    return error;
  } finally {
    clearTimeout(timer);
  }
}

const told = (error: unknown): string => (error instanceof Error ? error.message : 'nothing');
const isRefusal = (error: unknown, says: string, words: RegExp): boolean =>
  error instanceof UserError &&
  error.code === 'option' &&
  // 'run: …', and of what is in an argument 'normLinear: norm.bias …'.
  (error.message.startsWith(`${says}: `) || error.message.startsWith(`${says}.`)) &&
  words.test(error.message);

/** Names of the options of a door: what it says of one that is unknown. */
async function namesOf({ call, right = {} }: OptionsCase): Promise<string[]> {
  const message = told(await errorOf(() => call({ ...right, qqqqqqqqqqqqqqqqqqqq: 1 })));
  return [
    ...message
      .split(';')
      .at(-1)!
      .matchAll(/'([^']+)'/g),
  ].map(([, name]) => name!.split('.').at(-1)!);
}

/** One line for each wrong call that is not refused as it should be. */
export async function faults(name: string, door: OptionsCase): Promise<string[]> {
  const { call, right = {} } = door;
  const wrong: string[] = [];
  const expectRefusal = async (
    what: string,
    options: unknown,
    words: RegExp,
    says = saysOf(name, door),
  ): Promise<void> => {
    const error = await errorOf(() => call(options));
    if (!isRefusal(error, says, words)) wrong.push(`${name} with ${what}: ${told(error)}`);
  };
  const loose = LOOSE.test(name);
  const names = loose ? Object.keys(right) : await namesOf(door);
  if (names.length === 0) wrong.push(`${name}: tells no names`);
  if (!loose)
    await expectRefusal(
      'an unknown name',
      { ...right, qqqqqqqqqqqqqqqqqqqq: 1 },
      /there is no option '.*qqq'; there (is|are) '/,
    );
  for (const each of names) {
    await expectRefusal(
      each,
      { ...right, [each]: new Nothing() },
      new RegExp(`${each} is a Nothing, expected \\S`),
    );
    if (each in right && !loose) {
      const { [each as never]: _, ...rest } = right as Record<string, unknown>;
      await expectRefusal(`no ${each}`, rest, new RegExp(`${each} is missing, expected \\S`));
    }
    if (!loose)
      await expectRefusal(
        `${each} misspelt`,
        { ...right, [`${each}x`]: 1 },
        new RegExp(`'[^']*${each}x'; did you mean '[^']*${each}'`),
      );
  }
  // In a list of them the list says so.
  await expectRefusal('a text', 'text', /(is|are) 'text'/, saysOf(name, door).split(':')[0]);
  return wrong;
}
