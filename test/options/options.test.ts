/**
 * Options at every door of the package: a name that is not known, and a value that none of an option's can be, are refused in
 * one line that names the option. Doors are found in the sources: a new one without a schema fails here.
 */

import { beforeAll, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import { loadTokenizer, localFolder, type Tokenizer } from '../../models/index.ts';
import { choiceCases, innerCases, type OptionsCase, optionsCases, saysOf } from './cases.ts';
import { faults } from './faults.ts';
import { type Door, entries, findDoors } from './walk.ts';

/** Types that are things, not options: what of them is not as it must be, shows. */
const THINGS = new Set([
  'LanguageModel',
  'ModelConfig',
  'Task',
  'Kernel',
  'Kernel<Params>',
  'Fusion',
  'ProductShape',
  // What a family says of itself: its author's compiler sees it.
  'Families',
  "Omit<Family, 'describe'> & { readonly schema: Schema; readonly describe: (json: v.InferOutput<Schema>, name: string) => Description; }",
  'ErrorOptions',
  'Estimator',
  'Conventions',
  'LinearityInput',
  // Made by the package for itself.
  'CheckedInput',
  'TensorEntry',
  'readonly RowsOf[]',
  'Tokens',
  'TokenIds',
  'NeuronSpace | ModelConfig',
  'Asked',
  // The implementations of the interface are doors.
  'RunOptions LanguageModel',
  'ModelInput LanguageModel',
]);
/** Words that nothing hangs on but what is printed, or that others check. */
const LOOSE = new Set([
  'formatNeuron defaultSite',
  'storedAs stored',
  'Tensor.dispose by',
  // A kernel's function, whose own door looks at the word.
  'givesIntegers name',
  'checkVariant variant',
  'fileError doing',
  'wgsl passing',
]);

let tokenizer: Tokenizer;
let cases: Record<string, OptionsCase>;
let doors: readonly Door[];
beforeAll(async () => {
  tokenizer = await loadTokenizer(await localFolder('examples/models/facts-bert'));
  cases = optionsCases(tokenizer);
  doors = findDoors(entries());
});

it('every door has a case', () => {
  const missing = doors.filter(({ name, type, kind, argument }) => {
    if (kind === 'choice')
      return !LOOSE.has(`${name} ${argument}`) && !(`${name} ${argument}` in choiceCases);
    if (THINGS.has(type) || name.startsWith('LanguageModel.')) return false;
    if (/^(readonly )?(Probe|Probe \| readonly Probe|EstimateProbe)(\[\])?$/.test(type)) return false;
    if (name === 'normLinear' || name === 'rowNorm') return false;
    return !(name in cases) && !(`${name} ${type}` in cases);
  });
  expect(missing.map(({ name, argument, type }) => `${name}(${argument}: ${type})`)).toEqual([]);
  expect(doors.length).toBeGreaterThan(150);
});

it('refuses what no door knows', async () => {
  const wrong: string[] = [];
  for (const [name, one] of Object.entries({ ...cases, ...innerCases }))
    wrong.push(...(await faults(name, one)));
  expect(wrong).toEqual([]);
});

it.each(Object.entries(choiceCases))('refuses a word that is none: %s', async (name, call) => {
  const told = await Promise.resolve()
    .then(() => call('nonesuch'))
    .catch((error: unknown) => error);
  expect(told).toBeInstanceOf(UserError);
  expect((told as Error).message).toMatch(/'nonesuch'.*expected/);
  expect((told as Error).message.startsWith(`${saysOf(name)}: `)).toBe(true);
});
