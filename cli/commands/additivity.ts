/** `neurgrad additivity`: sets of 1 to 4096 neurons shifted together, what NeurGrad foretells against what comes; resumable in a folder. */

import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { checkFile } from '../../engine/disk.ts';
import {
  ADDITIVITY_SHIFTS,
  type Additivity,
  type AdditivitySet,
  additivity,
  type Conventions,
  describeConventions,
  resolveSite,
  SET_KINDS,
  type SetKind,
} from '../../neurgrad/index.ts';
import { type AdditivityCell, summariseAdditivity } from '../../neurgrad/study/additivity.ts';
import { type AdditivityAbout, additivityPage, addsUpTo, KIND_WORDS } from '../additivityPage.ts';
import {
  integer,
  type MeasureOptions,
  measureConventionOptions,
  modelOptions,
  positionOption,
  promptsOptions,
  resultOptions,
  seedOption,
  targetOptions,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import {
  inUnits,
  OTHER_COLUMNS,
  PROMPT_COLUMNS,
  promptCells,
  questionOf,
  shownTokens,
  TARGET_COLUMNS,
  targetCells,
} from '../perPrompt.ts';
import { asksMany, type PromptOptions, readCases } from '../prompt.ts';
import { writePage } from '../reportPage.ts';
import { destinationOf, openRows, type ResultOptions } from '../results.ts';
import type { Cell, RowSchema } from '../rows.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, table } from '../table.ts';
import type { TargetOptions } from '../target.ts';

interface Options extends PromptOptions, TargetOptions, MeasureOptions, ResultOptions, WeightsOptions {
  readonly model: string;
  readonly position?: string;
  readonly sizes?: number[];
  readonly shifts: number[];
  readonly draws: number;
  readonly seed: number;
}

/** A row a (model, prompt, set, shift). */
export const ADDITIVITY_ROWS: RowSchema = {
  format: 'neurgrad additivity 1',
  columns: {
    ...PROMPT_COLUMNS,
    ...TARGET_COLUMNS,
    ...OTHER_COLUMNS,
    kind: 'text',
    draw: 'whole',
    size: 'whole',
    shift: 'number',
    predicted: 'number',
    reached: 'number',
    noise: 'number',
    p_reached: 'number',
    engine: 'text',
  },
};

/** Numbers separated by commas. */
const numbers =
  (one: (text: string) => number) =>
  (text: string): number[] =>
    text.split(',').map((part) => one(part.trim()));

const shift = (text: string): number => {
  const value = Number(text);
  if (text === '' || !Number.isFinite(value) || value === 0)
    throw new InvalidArgumentError('It must be numbers but 0, such as -0.1,0.1,1.');
  return value;
};

export function addAdditivity(program: Command): void {
  withOptions(
    program
      .command('additivity')
      .description('shift 1, 2, 4 … 4096 neurons together: the sum of their NeurGrads against what comes'),
    ...modelOptions(),
    ...promptsOptions(),
    ...targetOptions(),
    positionOption(),
    ...measureConventionOptions(),
    seedOption('of the draws of prompts and of random sets'),
    new Option(
      '--sizes <list>',
      'neurons of a set, such as 1,16,256; default 1,2,4 … 4096, as many as there are',
    ).argParser(numbers(integer(1))),
    new Option('--shifts <list>', 'of each neuron of a set')
      .argParser(numbers(shift))
      .default([...ADDITIVITY_SHIFTS], ADDITIVITY_SHIFTS.join(',')),
    new Option('--draws <n>', 'random sets of each size, besides the one of the largest |NeurGrad|')
      .argParser(integer(0))
      .default(4),
    ...resultOptions(', or the report to .html'),
    ...weightsOptions(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad additivity --model facts-bert --prompt "The capital of France is [MASK]." --target paris
  neurgrad additivity --model facts-bert --prompts examples/models/facts-bert --num-prompts 20 --out runs/additivity
  neurgrad additivity --model stories260k --prompt "Once upon a time" --of logit --shifts=-0.1,0.1 --out stories.html

Random sets are shifted by one number along their axes; of the set of the largest |NeurGrad| each neuron by the sign of its own, so that all pull the
same way. A folder as --out is resumable, prompt by prompt, and holds part-*.parquet and additivity.html. Rows are one a (model, prompt, set, shift): docs/tables.md.`,
    )
    .action(runAdditivity);
}

/** A set as its row says it. */
const setOf = (row: Readonly<Record<string, unknown>>): AdditivitySet => {
  const number = (name: string): number => Number(row[name] ?? Number.NaN);
  return {
    kind: SET_KINDS.find((kind) => kind === row.kind)!,
    draw: number('draw'),
    size: number('size'),
    shift: number('shift'),
    predicted: number('predicted'),
    reached: number('reached'),
    noise: number('noise'),
    p: number('p_reached'),
  };
};

async function runAdditivity(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const many = asksMany(options);
  const destination = destinationOf(options, { others: ['.html'] as const, many });
  const page =
    destination.kind === 'folder'
      ? join(destination.path!, 'additivity.html')
      : destination.ending === '.html'
        ? destination.path!
        : null;
  if (page && destination.kind === 'folder') checkFile(page);
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const cases = await readCases(card, options, output);
  const { of, direction, sign, sizes, shifts, draws, seed } = options;
  await withModel(
    card,
    async (session, held) => {
      const { tokenizer } = session;
      const asked = { of, direction, sign, site, shifts, draws, ...(sizes ? { sizes } : {}) };
      using sink =
        destination.ending === '.html'
          ? null
          : openRows(destination, ADDITIVITY_ROWS, () => ({
              ...questionOf(options.model, card, session, cases),
              ...asked,
              seed,
            }));
      const found = new Map<number, readonly AdditivitySet[]>();
      let last: Pick<Additivity, 'conventions' | 'engine'> | null = null;
      await inUnits(
        'additivity',
        cases,
        sink,
        async ([one]) => {
          const { prompt, target, other, at } = one!;
          const number = cases.indexOf(one!);
          const result = await held.run(({ model }) =>
            additivity(model, prompt, {
              ...{ ...asked, target, other, neuronPosition: at },
              // Other random sets for each prompt.
              seed: (seed + Math.imul(number, 0x85ebca6b)) >>> 0,
            }),
          );
          last = result;
          const { sets } = result;
          found.set(number, sets);
          if (!sink) return [];
          const each = (of: (set: AdditivitySet) => Cell): Cell[] => sets.map(of);
          const token = shownTokens(tokenizer, result);
          return [
            {
              count: sets.length,
              same: {
                ...promptCells(options.model, one!),
                ...targetCells(token, result),
                engine: result.engine,
              },
              each: {
                kind: each(({ kind }) => kind),
                draw: each(({ draw }) => draw),
                size: each(({ size }) => size),
                shift: each((set) => set.shift),
                predicted: each(({ predicted }) => predicted),
                reached: each(({ reached }) => reached),
                noise: each(({ noise }) => noise),
                p_reached: each(({ p }) => p),
              },
            },
          ];
        },
        1,
      );
      // What is there from before is read again, for the summary.
      const prompts = cases.map((_, i) => {
        const there = found.get(i);
        if (there) return there;
        const rows = sink!.read(i);
        const [{ engine, ...first }] = rows as [Record<string, unknown>];
        last ??= {
          engine: engine as Additivity['engine'],
          conventions: Object.fromEntries(
            ['site', 'of', 'direction', 'sign', 'dtype'].map((name) => [name, first[name]]),
          ) as unknown as Conventions,
        };
        return rows.map(setOf);
      });
      const written = sink?.end() ?? page ?? undefined;
      const cells = summariseAdditivity(prompts);
      const { conventions, engine } = last as unknown as Pick<Additivity, 'conventions' | 'engine'>;
      const about: AdditivityAbout = {
        ...{ model: options.model, prompts: cases.length, conventions, engine, draws, seed },
      };
      if (page) await writePage(page, additivityPage(cells, prompts, about));
      if (destination.kind === 'output') return;
      const document = { format: ADDITIVITY_ROWS.format, ...about, cells };
      output.result(written === undefined ? document : { ...document, file: written }, () =>
        [
          ...SET_KINDS.flatMap((kind) => describe(cells, kind)),
          describeConventions(conventions),
          ...(written === undefined
            ? []
            : [`wrote ${written}${page && page !== written ? ', additivity.html and figures/' : ''}`]),
        ].join('\n'),
      );
    },
    options,
  );
}

/** What came of what was foretold, sizes by shifts. */
function describe(cells: readonly AdditivityCell[], kind: SetKind): string[] {
  const own = cells.filter((cell) => cell.kind === kind);
  if (own.length === 0) return [];
  const shifts = [...new Set(own.map(({ shift }) => shift))].sort((a, b) => a - b);
  const sizes = [...new Set(own.map(({ size }) => size))];
  const share = (size: number, shift: number): string =>
    figure(own.find((cell) => cell.size === size && cell.shift === shift)!.share.value, 3);
  const upTo = shifts.map((shift) => `${addsUpTo(cells, kind, shift) ?? 'none'} (${shift})`);
  return [
    `reached / foretold, ${KIND_WORDS[kind]}; within 10% up to so many neurons (shift): ${upTo.join(', ')}`,
    table(
      ['neurons', ...shifts.map((shift) => `shift ${shift}`)],
      sizes.map((size) => [size, ...shifts.map((shift) => share(size, shift))]),
    ),
  ];
}
