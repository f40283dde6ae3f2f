/** `neurgrad integrated`: integrated gradients of neurons, the baseline that NeurGrad is measured against. */

import { type Command, Option } from 'commander';
import type { Target } from '../../neurgrad/answers.ts';
import {
  ENDPOINTS,
  type Endpoints,
  formatNeuron,
  integrateLayers,
  integrateNeurons,
  type Measure,
  type Neuron,
  numbersOf,
  pathPoints,
  resolveSite,
} from '../../neurgrad/index.ts';
import { readSelection } from '../neurons.ts';
import {
  answerOptions,
  integer,
  measureOptions,
  modelOptions,
  neuronsOption,
  positionOption,
  promptsOptions,
  resultOptions,
  seedOption,
  siteOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import {
  askedAgain,
  inUnits,
  OTHER_COLUMNS,
  otherCells,
  PROMPT_COLUMNS,
  promptCells,
  questionOf,
  rankedBy,
  type ShownTokens,
  shownTokens,
  targetWords,
} from '../perPrompt.ts';
import { asksMany, type Case, describePrompt, type PromptOptions, readAnswerCases } from '../prompt.ts';
import { destinationOf, openRows, type ResultOptions } from '../results.ts';
import type { RowBlock, RowSchema } from '../rows.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import type { TargetOptions } from '../target.ts';

interface Options extends PromptOptions, TargetOptions, ResultOptions, WeightsOptions {
  readonly model: string;
  readonly neurons: string;
  readonly position?: string;
  readonly site: string;
  readonly of: Measure;
  readonly other?: string;
  readonly seed: number;
  readonly path: 'layer' | 'neuron';
  readonly steps: number;
  readonly endpoints: Endpoints;
  readonly top: number;
}

/** A row a (model, prompt, neuron). */
export const INTEGRATED_ROWS: RowSchema = {
  format: 'neurgrad integrated 1',
  columns: {
    ...PROMPT_COLUMNS,
    target: 'text',
    target_id: 'whole',
    p: 'number',
    position: 'whole',
    site: 'text',
    of: 'text',
    dtype: 'text',
    ...OTHER_COLUMNS,
    path: 'text',
    steps: 'whole',
    endpoints: 'text',
    layer: 'whole',
    neuron: 'whole',
    ig: 'number',
    noise: 'number',
    path_sum: 'number',
    path_change: 'number',
  },
};

export function addIntegrated(program: Command): void {
  withOptions(
    program
      .command('integrated')
      .description('integrated gradients of neurons: the whole layer scaled together, or each neuron alone'),
    ...modelOptions(),
    ...promptsOptions(),
    ...answerOptions(),
    neuronsOption('all').default('all'),
    positionOption(),
    siteOption(),
    ...measureOptions(),
    seedOption(),
    new Option('--path <name>', 'what goes from 0 to its activation: the layer (Dai et al.), or one neuron')
      .choices(['layer', 'neuron'])
      .default('layer'),
    new Option('--steps <n>', 'points of the path').argParser(integer(1)).default(20),
    new Option('--endpoints <rule>', 'which points: right is k/m, k = 1 to m')
      .choices(ENDPOINTS)
      .default('right'),
    new Option('--top <n>', 'neurons to list, of either sign').argParser(integer(1)).default(10),
    ...resultOptions(),
    ...weightsOptions(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad integrated --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --neurons L3.*
  neurgrad integrated --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --path neuron --neurons top:20
  neurgrad integrated --model examples/models/facts-bert --prompts prompts.jsonl --endpoints gauss --steps 10 --out ig.parquet

path_sum tends to path_change with more steps (completeness): of the layer the sum over its neurons, of one neuron its own.
Rows are one a (model, prompt, neuron): docs/tables.md.`,
    )
    .action(runIntegrated);
}

/** One neuron's, and what its path says of completeness. */
interface Found extends Neuron {
  readonly target: number;
  readonly answer?: readonly number[] | undefined;
  /** The target's probability. */
  readonly p: number;
  readonly ig: number;
  readonly noise: number;
  readonly pathSum: number;
  readonly pathChange: number;
}

async function runIntegrated(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const many = asksMany(options);
  const destination = destinationOf(options, { many });
  const { of, steps, endpoints, path, seed, top } = options;
  pathPoints(steps, endpoints);
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const selection = readSelection(options.neurons, card, { site, seed });
  const cases = await readAnswerCases(card, options, output);
  await withModel(
    card,
    async (session) => {
      const { model, tokenizer } = session;
      using sink = openRows(destination, INTEGRATED_ROWS, () => ({
        ...questionOf(options.model, card, session, cases),
        ...{ of, site, seed, neurons: options.neurons, path, steps, endpoints },
      }));

      /** Of each case its neurons'. */
      const integrate = async (
        some: readonly Case<Target>[],
        targets: readonly (Target | undefined)[],
        chosen: readonly (readonly Neuron[])[],
        told: ((done: number, all: number) => void) | undefined,
      ): Promise<Found[][]> => {
        const asked = (which: readonly number[]) => ({
          target: which.map((i) => targets[i]),
          other: which.map((i) => some[i]!.other),
          neuronPosition: which.map((i) => some[i]!.at),
          ...{ steps, endpoints, of },
          ...(told ? { onProgress: told } : {}),
        });
        const every = [...some.keys()];
        const prompts = (which: readonly number[]) => which.map((i) => some[i]!.prompt);
        if (path === 'neuron')
          return (await integrateNeurons(model, prompts(every), chosen, asked(every))).map((own) =>
            own.map(
              ({ ig, change, ...neuron }): Found => ({ ...neuron, ig, pathSum: ig, pathChange: change }),
            ),
          );
        const found = some.map(() => new Map<string, Found>());
        for (const own of new Set(chosen.flat().map((neuron) => neuron.site))) {
          const which = every.filter((i) => chosen[i]!.some(({ site }) => site === own));
          const ofSite = which.map((i) => chosen[i]!.filter((neuron) => neuron.site === own));
          const layers = [...new Set(ofSite.flat().map(({ layer }) => layer))].sort((a, b) => a - b);
          const results = await integrateLayers(model, prompts(which), {
            ...asked(which),
            site: own,
            layers,
          });
          for (const [k, i] of which.entries())
            for (const { layer, index } of ofSite[k]!) {
              const { target, answer, p, ...one } = results[k]![layers.indexOf(layer)]!;
              found[i]!.set(formatNeuron({ layer, index, site: own }), {
                ...{
                  layer,
                  index,
                  site: own,
                  target,
                  answer,
                  p,
                  ig: one.ig[index]!,
                  noise: one.noise[index]!,
                },
                pathSum: one.sum,
                pathChange: one.change,
              });
            }
        }
        return chosen.map((own, i) => own.map((neuron) => found[i]!.get(formatNeuron(neuron))!));
      };

      const summaries: ReturnType<typeof summaryOf>[] = [];
      await inUnits('integrated', cases, sink, async (some, told) => {
        const ranked = selection.ranked ? await rankedBy(model, some, { site, of }) : null;
        const found = await integrate(
          some,
          some.map(({ target }, i) => (ranked?.[i] ? askedAgain(ranked[i]) : target)),
          some.map((_, i) => selection.neurons(ranked?.[i]?.neurgrad)),
          cases.length > 1 ? (done, all) => told(Math.floor((done / all) * some.length)) : undefined,
        );
        return some.flatMap((one, i) => {
          const [{ target, answer, p }] = found[i] as [Found];
          const tokens = shownTokens(tokenizer, { target, answer, other: one.other });
          if (!sink || output.json) summaries.push(summaryOf(options, one, found[i]!, tokens, p));
          return sink ? blocksOf(options, one, found[i]!, tokens, p, numbersOf(model)) : [];
        });
      });
      const written = sink?.end();
      if (destination.kind === 'output') return;
      const whole = many
        ? { format: INTEGRATED_ROWS.format, model: options.model, prompts: summaries }
        : { model: options.model, ...summaries[0]! };
      output.result(written === undefined ? whole : { ...whole, file: written }, () =>
        [
          ...summaries.flatMap(({ prompt, target, other, neurons }) => [
            ...(many ? [prompt] : []),
            `${targetWords(target, other ?? null)}; integrated gradients of ${of} along the path of the ${path}, ${steps} points (${endpoints})`,
            table(
              ['neuron', 'IG', '± noise', 'path: sum', 'change'],
              strongestOf(neurons, top).map((neuron) => [
                formatNeuron(neuron, model.paperSite),
                signed(neuron.ig),
                figure(neuron.noise, 2),
                signed(neuron.pathSum),
                signed(neuron.pathChange),
              ]),
            ),
          ]),
          ...(written === undefined ? [] : [`wrote ${written}${many ? `: ${cases.length} prompts` : ''}`]),
        ].join('\n'),
      );
    },
    options,
  );
}

const strongestOf = <One extends { readonly ig: number }>(
  neurons: readonly One[],
  top: number,
): readonly One[] => {
  if (neurons.length <= 2 * top) return neurons;
  const order = [...neurons].sort((a, b) => b.ig - a.ig);
  return [...order.slice(0, top), ...order.slice(-top)];
};

const summaryOf = (
  { of, path, steps, endpoints }: Options,
  { id, prompt, answer }: Case<Target>,
  neurons: readonly Found[],
  { target, other }: ShownTokens,
  p: number,
) => ({
  id,
  ...describePrompt(prompt),
  ...(answer === null ? {} : { answer }),
  target: { ...target, p },
  ...(other ? { other } : {}),
  ...{ of, path, steps, endpoints },
  neurons: neurons.map(({ target: _, answer: __, p: ___, ...neuron }) => neuron),
});

const blocksOf = (
  { model, of, path, steps, endpoints }: Options,
  one: Case<Target>,
  found: readonly Found[],
  tokens: ShownTokens,
  p: number,
  dtype: string,
): RowBlock[] => [
  {
    count: found.length,
    same: {
      ...promptCells(model, one),
      target: tokens.target.text,
      target_id: tokens.target.id,
      ...otherCells(tokens),
      ...{ p, of, dtype, path, steps, endpoints },
      position: one.at ?? one.prompt.position,
    },
    each: {
      site: found.map((neuron) => neuron.site),
      layer: found.map(({ layer }) => layer),
      neuron: found.map(({ index }) => index),
      ig: found.map(({ ig }) => ig),
      noise: found.map(({ noise }) => noise),
      path_sum: found.map(({ pathSum }) => pathSum),
      path_change: found.map(({ pathChange }) => pathChange),
    },
  },
];
