/**
 * Patterns of strangers in bounded time. JavaScript's expressions go back and try again, for ever in the worst case; a script
 * of `node:vm` is stopped when its time is over, wherever it is. That costs a fifth of a millisecond a text, which patterns
 * that cannot try again in many ways, as those of all models we know of, are spared. A page has no such scripts: its worker is
 * ended by the browser.
 */

import { UserError } from '../../engine/errors.ts';

/** For one text. */
const SECONDS = 5;
/** Ways to try again that multiply in one alternative: three would take the cube of a text's length, and its starts besides. */
const MOST_LOOPS = 2;

/** Whether no alternative has loops within loops, or more than a few in a row. */
export function isTame(source: string): boolean {
  // What loops stand behind does not matter: an escape, a class, a property.
  const bare = source
    .replace(/\\[pP]\{[^}]*\}|\\x\{[^}]*\}|\\[\s\S]/g, 'a')
    .replace(/\[\^?\]?(?:\[[^\]]*\]|[^\]])*\]/g, 'a');
  if (/\\|\)(?:[*+]|\{)/.test(bare)) return false;
  return bare
    .split('|')
    .every((part) => (part.match(/[*+]+|\{\d*,?\d*\}/g) ?? []).filter(isLoop).length <= MOST_LOOPS);
}

/** `{1,3}` is a few tries. */
const isLoop = (quantifier: string): boolean => !/^\{\d?(?:,\d)?\}$/.test(quantifier);

/** The same, given up where it takes too long. @param source of the pattern. */
export function bounded<Parts>(source: string, divide: (text: string) => Parts): (text: string) => Parts {
  const vm = globalThis.process?.getBuiltinModule?.('node:vm');
  if (!vm || isTame(source)) return divide;
  const script = new vm.Script('parts = divide(text)');
  const context = vm.createContext({ divide, text: '', parts: undefined });
  return (text) => {
    context.text = text;
    try {
      script.runInContext(context, { timeout: 1000 * SECONDS });
    } catch (cause) {
      if ((cause as { code?: string }).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw cause;
      throw new UserError('tokenizer', `a pattern of its tokenizer.json takes more than ${SECONDS} seconds`, {
        cause,
      });
    }
    return context.parts as Parts;
  };
}
