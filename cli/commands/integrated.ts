/** `neurgrad integrated`: integrated gradients of neurons, the baseline that NeurGrad is measured against. */

import { type Command, Option } from 'commander';
import { showToken, type TokenText, tokenText } from '../../models/tokenText.ts';
import {
  ENDPOINTS,
  type Endpoints,
  formatNeuron,
  integrateLayers,
  integrateNeurons,
  type Neuron,
  neuronGradients,
  numbersOf,
  pathPoints,
  type Quantity,
  resolveSite,
  targetOrArgmax,
  targetValues,
} from '../../neurgrad/index.ts';
import { probeLogits } from '../../neurgrad/predict.ts';
import { readSelection } from '../neurons.ts';
import {
  integer,
  modelOptions,
  neuronsOption,
  ofOption,
  positionOption,
  promptsOptions,
  resultOptions,
  seedOption,
  siteOption,
  targetOptions,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import { inUnits, PROMPT_COLUMNS, promptCells, questionOf } from '../perPrompt.ts';
import { asksMany, type Case, describePrompt, type PromptOptions, readCases } from '../prompt.ts';
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
  readonly of: Quantity;
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
    ...targetOptions(),
    neuronsOption('all').default('all'),
    positionOption(),
    siteOption(),
    ofOption(),
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
  const cases = await readCases(card, options, output);
  await withModel(
    card,
    async (session) => {
      const { model, tokenizer } = session;
      using sink = openRows(destination, INTEGRATED_ROWS, () => ({
        ...questionOf(options.model, card, session, cases),
        ...{ of, site, seed, neurons: options.neurons, path, steps, endpoints },
      }));

      const integrate = async ({ prompt, at }: Case, target: number, chosen: readonly Neuron[]) => {
        const asked = { target, neuronPosition: at, steps, endpoints, of };
        if (path === 'neuron')
          return (await integrateNeurons(model, prompt, chosen, asked)).map(
            ({ ig, change, ...neuron }): Found => ({ ...neuron, ig, pathSum: ig, pathChange: change }),
          );
        const found = new Map<string, Found>();
        for (const own of new Set(chosen.map((neuron) => neuron.site))) {
          const ofSite = chosen.filter((neuron) => neuron.site === own);
          const layers = [...new Set(ofSite.map(({ layer }) => layer))].sort((a, b) => a - b);
          const results = await integrateLayers(model, prompt, { ...asked, site: own, layers });
          for (const { layer, index } of ofSite) {
            const one = results[layers.indexOf(layer)]!;
            const [ig, noise] = [one.ig[index]!, one.noise[index]!];
            found.set(formatNeuron({ layer, index, site: own }), {
              ...{ layer, index, site: own, ig, noise },
              pathSum: one.sum,
              pathChange: one.change,
            });
          }
        }
        return chosen.map((neuron) => found.get(formatNeuron(neuron))!);
      };

      const summaries: ReturnType<typeof summaryOf>[] = [];
      await inUnits('integrated', cases, sink, async (some, told) => {
        const blocks: RowBlock[] = [];
        for (const [i, one] of some.entries()) {
          const target = await targetOrArgmax(model, one.prompt, one.target);
          const { prob: p } = targetValues(await probeLogits(model, one.prompt), target);
          const ranked = selection.ranked
            ? await neuronGradients(model, one.prompt, { target, neuronPosition: one.at, site, of })
            : null;
          const found = await integrate(one, target, selection.neurons(ranked?.neurgrad));
          const token = tokenText(tokenizer, target);
          if (sink) blocks.push(...blocksOf(options, one, found, token, p, numbersOf(model)));
          if (!sink || output.json) summaries.push(summaryOf(options, one, found, token, p));
          if (cases.length > 1) told(i + 1);
        }
        return blocks;
      });
      const written = sink?.end();
      if (destination.kind === 'output') return;
      const whole = many
        ? { format: INTEGRATED_ROWS.format, model: options.model, prompts: summaries }
        : { model: options.model, ...summaries[0]! };
      output.result(written === undefined ? whole : { ...whole, file: written }, () =>
        [
          ...summaries.flatMap(({ prompt, target, neurons }) => [
            ...(many ? [prompt] : []),
            `p(${showToken(target)}) = ${figure(target.p)}; integrated gradients of ${of} along the path of the ${path}, ${steps} points (${endpoints})`,
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

const strongestOf = (neurons: readonly Found[], top: number): readonly Found[] => {
  if (neurons.length <= 2 * top) return neurons;
  const order = [...neurons].sort((a, b) => b.ig - a.ig);
  return [...order.slice(0, top), ...order.slice(-top)];
};

const summaryOf = (
  { of, path, steps, endpoints }: Options,
  { id, prompt, answer }: Case,
  neurons: readonly Found[],
  token: TokenText,
  p: number,
) => ({
  id,
  ...describePrompt(prompt),
  ...(answer === null ? {} : { answer }),
  target: { ...token, p },
  ...{ of, path, steps, endpoints },
  neurons,
});

const blocksOf = (
  { model, of, path, steps, endpoints }: Options,
  one: Case,
  found: readonly Found[],
  token: TokenText,
  p: number,
  dtype: string,
): RowBlock[] => [
  {
    count: found.length,
    same: {
      ...promptCells(model, one),
      target: token.text,
      target_id: token.id,
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
