/**
 * Whether the tests of test/options notice an options check that is gone: each check of each door, and of each single option, is
 * left out in turn. Part of `npm run mutations` (run.mjs), not of `npm test`.
 */

import { beforeAll, expect, it, vi } from 'vitest';
import { loadTokenizer, localFolder } from '../../models/index.ts';
import { choiceCases, innerCases, type OptionsCase, optionsCases, saysOf } from '../options/cases.ts';
import { faults } from '../options/faults.ts';

type Options = typeof import('../../engine/options.ts');
type Check = (door: string, name: string, field: never, value: unknown) => void;
type Schema = { readonly entries: object };

/** What is left out, as `door`, `door.option` or `door.*` (names that are not known); and the checks that came by. */
const state = vi.hoisted(() => ({ without: '', seen: new Set<string>() }));

vi.mock('../../engine/options.ts', async (original) => {
  const real = (await original()) as Options;
  /** The options without what is not looked at. */
  const left = (door: string, { entries }: Schema, options: object): object => {
    for (const name of ['*', ...Object.keys(entries)]) state.seen.add(`${door}.${name}`);
    state.seen.add(door);
    if (!state.without.startsWith(`${door}.`) || typeof options !== 'object') return options;
    const one = state.without.slice(door.length + 1);
    return Object.fromEntries(
      Object.entries(options).filter(([name]) => (one === '*' ? name in entries : name !== one)),
    );
  };
  return {
    ...real,
    checkOptions: (door: string, schema: Schema, options: object) => {
      const some = left(door, schema, options);
      if (state.without !== door) real.checkOptions(door, schema as never, some);
    },
    checkMembers: (door: string, schema: Schema, options: object) => {
      left(door, schema, options);
      state.seen.delete(`${door}.*`);
      const one = state.without.startsWith(`${door}.`) ? state.without.slice(door.length + 1) : '';
      const entries = Object.fromEntries(Object.entries(schema.entries).filter(([name]) => name !== one));
      if (state.without !== door) real.checkMembers(door, { ...schema, entries } as never, options);
    },
    checkValue: (door: string, name: string, field: never, value: unknown) => {
      state.seen.add(`${door}.${name}`);
      const check: Check = real.checkValue;
      if (state.without !== `${door}.${name}`) check(door, name, field, value);
    },
  };
});

/** Arguments beside the options. */
const BESIDES = new Set([
  'integrateNeurons.neurons',
  'SplitModel.open.dtype',
  'AdamW.parameters',
  'encode.text',
  'singleToken.word',
  'generate.prompt',
  'loadModel.source',
  'selectNeurons.given',
  'selectNeurons.space',
]);

let cases: Record<string, OptionsCase>;
beforeAll(async () => {
  // What is let in may go on to the network.
  process.env.HF_HUB_OFFLINE = '1';
  cases = {
    ...optionsCases(await loadTokenizer(await localFolder('examples/models/facts-bert'))),
    ...innerCases,
  };
});

it('each check of options that is left out is noticed', { timeout: 600_000 }, async () => {
  const missed: string[] = [];
  let checks = 0;
  for (const [name, door] of Object.entries(cases)) {
    state.without = '';
    state.seen.clear();
    expect(await faults(name, door)).toEqual([]);
    // Doors of which this case looks at every option.
    const own = [...state.seen].filter((check) => ownDoor(name, check));
    for (const check of own) {
      state.without = check;
      checks++;
      if ((await faults(name, door)).length === 0) missed.push(`${name} without ${check}`);
    }
    state.without = '';
  }
  console.log(`options: ${checks} checks left out in turn, ${missed.length} not noticed`);
  expect(missed).toEqual([]);
  expect(checks).toBeGreaterThan(300);
});

it('each check of a word that is left out is noticed', { timeout: 60_000 }, async () => {
  const missed: string[] = [];
  for (const [name, call] of Object.entries(choiceCases)) {
    const refused = async (): Promise<boolean> => {
      try {
        await call('nonesuch');
        return false;
      } catch (error) {
        const { message } = error as Error;
        return message.startsWith(`${saysOf(name)}: `) && /'nonesuch'.*expected/.test(message);
      }
    };
    state.without = '';
    state.seen.clear();
    expect(await refused()).toBe(true);
    const check = [...state.seen].at(-1);
    state.without = check!;
    if (await refused()) missed.push(`${name} without ${check}`);
    state.without = '';
  }
  expect(missed).toEqual([]);
});

/** Whether a check is of the options that the case is about, not of another argument. */
function ownDoor(name: string, check: string): boolean {
  // Of these the list is looked at as a whole; what stands in it is looked at by valibot.
  if (name.includes('RowGroup')) return check === 'runRows.rows';
  if (name in innerCases && !name.endsWith(' norm')) return false;
  if (check === 'runRows.rows') return false;
  const says = saysOf(name, cases[name]);
  return check === says || (check.startsWith(`${says}.`) && !BESIDES.has(check));
}
