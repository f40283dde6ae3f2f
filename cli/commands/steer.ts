/** `neurgrad steer`: shift few neurons together so that a word's probability reaches a goal. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { showToken } from '../../models/tokenText.ts';
import {
  formatNeuron,
  numbersOf,
  type Site,
  type Steering,
  steer,
  type Target,
  targetOrArgmax,
} from '../../neurgrad/index.ts';
import { resolveSite } from '../../neurgrad/neuron.ts';
import { readSelection } from '../neurons.ts';
import {
  answerOptions,
  integer,
  modelOptions,
  neuronsOption,
  positionOption,
  positive,
  promptsOptions,
  renamedOption,
  resultOptions,
  seedOption,
  siteOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import {
  inUnits,
  otherCells,
  PROMPT_COLUMNS,
  promptCells,
  questionOf,
  rankedBy,
  type ShownTokens,
  shownTokens,
} from '../perPrompt.ts';
import { asksMany, type Case, describePrompt, type PromptOptions, readAnswerCases } from '../prompt.ts';
import { destinationOf, openRows, type ResultOptions } from '../results.ts';
import type { RowBlock, RowSchema } from '../rows.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import type { TargetOptions } from '../target.ts';

interface Options extends PromptOptions, TargetOptions, ResultOptions, WeightsOptions {
  readonly model: string;
  readonly neurons?: string;
  readonly position?: string;
  readonly to: number;
  readonly maxNeurons: number;
  readonly maxShift: number;
  readonly rounds: number;
  readonly site: string;
  readonly seed: number;
}

/** A row a (model, prompt, neuron shifted). */
export const STEERING_ROWS: RowSchema = {
  format: 'neurgrad steering 1',
  columns: {
    ...PROMPT_COLUMNS,
    target: 'text',
    target_id: 'whole',
    target_ids: 'text',
    position: 'whole',
    site: 'text',
    direction: 'text',
    dtype: 'text',
    goal: 'number',
    p_before: 'number',
    p_reached: 'number',
    success: 'flag',
    layer: 'whole',
    neuron: 'whole',
    shift: 'number',
    activation: 'number',
    neurgrad: 'number',
  },
};

const probability = (text: string): number => {
  const value = Number(text);
  if (!(value > 0 && value < 1))
    throw new InvalidArgumentError('It must be a probability above 0 and below 1.');
  return value;
};

export function addSteer(program: Command): void {
  withOptions(
    program
      .command('steer')
      .description(
        'shift few neurons together, chosen by NeurGrad, until a word has the probability asked for',
      ),
    ...modelOptions(),
    ...promptsOptions(),
    ...answerOptions(),
    neuronsOption('all'),
    positionOption(),
    siteOption(),
    seedOption(),
    new Option('--to <p>', 'probability to reach').argParser(probability).makeOptionMandatory(),
    new Option('--max-neurons <k>', 'most neurons to shift').argParser(integer(1)).default(32),
    new Option('--max-shift <r>', 'largest shift of one neuron').argParser(positive).default(2),
    renamedOption('--range <r>', 'maxShift', positive),
    new Option('--rounds <n>', 'rounds of choosing and looking').argParser(integer(1)).default(10),
    ...resultOptions(),
    ...weightsOptions(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad steer --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --target berlin --to 0.5 --max-neurons 64
  neurgrad steer --model examples/models/facts-bert --prompts prompts.jsonl --target berlin --to 0.5 --out steered.csv

Rows are one a (model, prompt, neuron shifted): docs/tables.md.`,
    )
    .action(runSteer);
}

async function runSteer(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const many = asksMany(options);
  const destination = destinationOf(options, { many });
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const selection =
    options.neurons === undefined ? null : readSelection(options.neurons, card, { site, seed: options.seed });
  const cases = await readAnswerCases(card, options, output);
  const { to, maxNeurons, maxShift, rounds } = options;
  await withModel(
    card,
    async (session) => {
      const { model, tokenizer } = session;
      using sink = openRows(destination, STEERING_ROWS, () => ({
        ...questionOf(options.model, card, session, cases),
        ...{ to, maxNeurons, maxShift, rounds, site },
        ...(selection ? { neurons: options.neurons, seed: options.seed } : {}),
      }));
      const all: { one: Case<Target>; token: ShownTokens['target']; found: Steering }[] = [];
      await inUnits('steer', cases, sink, async (some, told) => {
        const blocks: RowBlock[] = [];
        const ranked = selection?.ranked ? await rankedBy(model, some, { site }) : null;
        for (const [i, one] of some.entries()) {
          const target: Target =
            typeof one.target === 'object' ? one.target : await targetOrArgmax(model, one.prompt, one.target);
          const found = await steer(model, one.prompt, {
            target,
            to,
            maxNeurons,
            range: maxShift,
            rounds,
            site,
            neuronPosition: one.at,
            ...(selection ? { neurons: selection.neurons(ranked?.[i]?.neurgrad) } : {}),
          });
          const { target: token } = shownTokens(tokenizer, found);
          if (sink) blocks.push(blockOf(options.model, one, token, found, site, numbersOf(model)));
          if (!sink || output.json) all.push({ one, token, found });
          if (cases.length > 1) told(i + 1);
        }
        return blocks;
      });
      const written = sink?.end();
      if (destination.kind === 'output') return;
      const documents = all.map(({ one, token: { token, text }, found }) => ({
        ...describePrompt(one.prompt),
        ...(many ? { id: one.id } : {}),
        token,
        text,
        ...found,
      }));
      const whole = many
        ? { format: STEERING_ROWS.format, model: options.model, prompts: documents }
        : { model: options.model, ...documents[0]! };
      output.result(written === undefined ? whole : { ...whole, file: written }, () =>
        [
          ...all.flatMap(({ one, token, found }) => [
            ...(many ? [one.prompt.text] : []),
            ...describe(token, found, model.paperSite, many),
          ]),
          ...(many && all.length > 0
            ? [`${all.filter(({ found }) => found.success).length} of ${all.length} prompts reached ${to}`]
            : []),
          ...(written === undefined ? [] : [`wrote ${written}${many ? `: ${cases.length} prompts` : ''}`]),
        ].join('\n'),
      );
    },
    options,
  );
}

function describe(token: ShownTokens['target'], found: Steering, paperSite: Site, short: boolean): string[] {
  return [
    `p(${showToken(token)}) = ${figure(found.before)}, goal ${found.goal}: reached ${figure(found.reached)} with ${found.neurons.length} neurons${found.success ? '' : '; allow more neurons or larger shifts'}`,
    ...(short
      ? []
      : [
          table(
            ['round', 'neurons', 'predicted', 'reached'],
            found.rounds.map(({ neurons, predicted, reached }, i) => [
              i + 1,
              neurons,
              figure(predicted),
              figure(reached),
            ]),
          ),
          table(
            ['neuron', 'shift outward', 'activation', 'NeurGrad'],
            found.neurons.map((neuron) => [
              formatNeuron(neuron, paperSite),
              signed(neuron.shift),
              figure(neuron.activation),
              signed(neuron.neurgrad),
            ]),
          ),
        ]),
  ];
}

const blockOf = (
  model: string,
  one: Case<Target>,
  token: ShownTokens['target'],
  { neurons, neuronPosition, goal, before, reached, success }: Steering,
  site: Site,
  dtype: string,
): RowBlock => ({
  count: neurons.length,
  same: {
    ...promptCells(model, one),
    target: token.text,
    target_id: token.id,
    target_ids: otherCells({ target: token, other: null }).target_ids,
    position: neuronPosition,
    ...{ site, dtype, goal, success },
    direction: 'outward',
    p_before: before,
    p_reached: reached,
  },
  each: {
    layer: neurons.map(({ layer }) => layer),
    neuron: neurons.map(({ index }) => index),
    shift: neurons.map(({ shift }) => shift),
    activation: neurons.map(({ activation }) => activation),
    neurgrad: neurons.map(({ neurgrad }) => neurgrad),
  },
});
