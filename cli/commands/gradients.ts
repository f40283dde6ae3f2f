/** `neurgrad gradients`: activation, G_C and NeurGrad of neurons, by one backward a prompt. */

import { type Command, Option } from 'commander';
import { type TensorToWrite, writeSafetensors } from '../../models/safetensors.ts';
import { showToken } from '../../models/tokenText.ts';
import type { Target } from '../../neurgrad/answers.ts';
import {
  describeConventions,
  formatNeuron,
  type Neuron,
  type NeuronGradients,
  neuronAt,
  neuronGradients,
  resolveSite,
  type Site,
  strongest,
} from '../../neurgrad/index.ts';
import { readSelection } from '../neurons.ts';
import {
  answerOptions,
  integer,
  type MeasureOptions,
  measureConventionOptions,
  modelOptions,
  neuronsOption,
  positionOption,
  promptsOptions,
  resultOptions,
  seedOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import {
  askedAgain,
  inUnits,
  OTHER_COLUMNS,
  PROMPT_COLUMNS,
  promptCells,
  questionOf,
  type ShownTokens,
  shownTokens,
  TARGET_COLUMNS,
  type TargetText,
  targetCells,
  targetWords,
} from '../perPrompt.ts';
import { asksMany, type Case, describePrompt, type PromptOptions, readAnswerCases } from '../prompt.ts';
import { destinationOf, openRows, type ResultOptions } from '../results.ts';
import type { RowBlock, RowSchema } from '../rows.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import type { TargetOptions } from '../target.ts';

interface Options extends PromptOptions, TargetOptions, MeasureOptions, ResultOptions, WeightsOptions {
  readonly model: string;
  readonly neurons?: string;
  readonly position?: string;
  readonly seed: number;
  readonly top: number;
}

/** A row a (model, prompt, neuron). */
export const GRADIENT_ROWS: RowSchema = {
  format: 'neurgrad gradients 2',
  columns: {
    ...PROMPT_COLUMNS,
    ...TARGET_COLUMNS,
    ...OTHER_COLUMNS,
    layer: 'whole',
    neuron: 'whole',
    activation: 'number',
    g_c: 'number',
    neurgrad: 'number',
    noise: 'number',
  },
};

export function addGradients(program: Command): void {
  withOptions(
    program
      .command('gradients')
      .description('activation, G_C and NeurGrad of neurons, by one backward a prompt'),
    ...modelOptions(),
    ...promptsOptions(),
    ...answerOptions(),
    neuronsOption('all in a file, the strongest on the terminal'),
    positionOption(),
    ...measureConventionOptions(),
    seedOption(),
    new Option('--top <n>', 'strongest neurons to list, of either sign').argParser(integer(1)).default(10),
    ...resultOptions(', or .safetensors of one prompt'),
    ...weightsOptions(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad gradients --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --target paris
  neurgrad gradients --model examples/models/stories260k --prompt "Once upon a time" --of logprob --top 20 --json
  neurgrad gradients --model examples/models/facts-bert --prompt "Rome is in [MASK]." --out rome.safetensors
  neurgrad gradients --model examples/models/facts-bert --prompt "Rome is in [MASK]." --target italy --of logit_diff --other france
  neurgrad gradients --model examples/models/facts-bert --prompts prompts.jsonl --neurons top:20,bottom:20 --out rows.parquet

Noise is what of G_C, and so of NeurGrad, may be rounding: a value no larger is marked, and says nothing, not even by its sign.
Rows are one a (model, prompt, neuron): docs/tables.md. A folder as --out is resumable. A safetensors file holds activation in float32,
gradient, neurgrad and noise in float64, each [layers, width], and the conventions as metadata.`,
    )
    .action(runGradients);
}

async function runGradients(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const many = asksMany(options);
  const others = many ? [] : (['.safetensors'] as const);
  const destination = destinationOf(options, { others, many });
  // As before: one prompt's file without an ending.
  const tensors =
    destination.kind === 'file' && !destination.format && (destination.ending === '.safetensors' || !many);
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const { of, direction, sign, seed } = options;
  const selection =
    options.neurons === undefined ? null : readSelection(options.neurons, card, { site, seed });
  const cases = await readAnswerCases(card, options, output);
  await withModel(
    card,
    async (session) => {
      const { model, tokenizer } = session;
      const { width } = model.sizes;
      using sink = tensors
        ? null
        : openRows(destination, GRADIENT_ROWS, () => ({
            ...questionOf(options.model, card, session, cases),
            ...{ of, direction, sign, site, seed, neurons: options.neurons ?? null },
          }));
      const all = Array.from({ length: model.sizes.layers * width }, (_, n) => neuronAt(n, width, site));
      const summaries: Summary[] = [];
      const lists: string[] = [];
      const gradientsAt = (
        some: readonly Case<Target>[],
        where: Site,
        target: (Target | undefined)[],
        told?: (done: number) => void,
      ) =>
        neuronGradients(
          model,
          some.map(({ prompt }) => prompt),
          {
            target,
            other: some.map(({ other }) => other),
            neuronPosition: some.map(({ at }) => at),
            ...{ site: where, of, direction, sign },
            ...(told ? { onProgress: told } : {}),
          },
        );

      await inUnits('gradients', cases, sink, async (some, told) => {
        const asked = some.map(({ target }) => target);
        const found = await gradientsAt(some, site, asked, cases.length > 1 ? told : undefined);
        const chosen = found.map(({ neurgrad }) => selection?.neurons(neurgrad) ?? null);
        // A neuron may be asked for at a site of its own.
        const bySite = new Map<Site, readonly NeuronGradients[]>([[site, found]]);
        for (const neuron of chosen.flatMap((list) => list ?? []))
          if (!bySite.has(neuron.site))
            bySite.set(neuron.site, await gradientsAt(some, neuron.site, found.map(askedAgain)));
        if (tensors)
          await writeGradients(
            options.out!,
            options.model,
            some[0]!,
            found[0]!,
            shownTokens(tokenizer, found[0]!).target,
          );
        return some.flatMap((one, i) => {
          const at = (neuron: Neuron): NeuronGradients => bySite.get(neuron.site)![i]!;
          const token = shownTokens(tokenizer, found[i]!);
          const summary = summaryOf(options, one, found[i]!, token, chosen[i] ?? null, at);
          if (!sink || output.json) summaries.push(summary);
          if (!sink && !output.json && chosen[i]) lists.push(listOf(summary, chosen[i], at, model.paperSite));
          return sink ? blocksOf(options.model, one, token, chosen[i] ?? all, at) : [];
        });
      });
      const written = sink?.end() ?? (tensors ? options.out : undefined);
      if (destination.kind === 'output') return;
      const file = written === undefined ? {} : { file: written };
      const document = many
        ? { format: GRADIENT_ROWS.format, model: options.model, prompts: summaries, ...file }
        : { model: options.model, ...summaries[0]!, ...file };
      output.result(document, () =>
        [
          ...(sink
            ? []
            : lists.length > 0
              ? lists
              : many
                ? [overview(summaries, model.paperSite)]
                : [listStrongest(summaries[0]!, model.paperSite)]),
          ...(summaries[0] ? [describeConventions(summaries[0].conventions)] : []),
          ...(written === undefined ? [] : [`wrote ${written}${many ? `: ${cases.length} prompts` : ''}`]),
        ].join('\n'),
      );
    },
    options,
  );
}

type Described = Neuron & {
  readonly activation: number;
  readonly gradient: number;
  readonly neurgrad: number;
  readonly noise: number;
  readonly belowNoise: boolean;
};

function describe(neuron: Neuron, found: NeuronGradients): Described {
  const flat = neuron.layer * found.width + neuron.index;
  const [gradient, noise] = [found.gradient[flat]!, found.noise[flat]!];
  return {
    ...neuron,
    activation: found.activation[flat]!,
    gradient,
    neurgrad: found.neurgrad[flat]!,
    noise,
    belowNoise: Math.abs(gradient) <= noise,
  };
}

type Summary = ReturnType<typeof summaryOf>;

/** What is said of one prompt. */
function summaryOf(
  { top }: Options,
  { id, prompt, answer }: Case<Target>,
  found: NeuronGradients,
  { target, other }: ShownTokens,
  chosen: readonly Neuron[] | null,
  at: (neuron: Neuron) => NeuronGradients,
) {
  const { positive, negative } = strongest(found.neurgrad, top);
  const { site } = found.conventions;
  const named = (flat: number) => describe(neuronAt(flat, found.width, site), found);
  return {
    id,
    ...describePrompt(prompt),
    neuronPosition: found.neuronPosition,
    ...(answer === null ? {} : { answer }),
    target: { ...target, p: found.p },
    ...(other ? { other } : {}),
    conventions: found.conventions,
    layers: found.layers,
    width: found.width,
    zeros: found.zeros,
    belowNoise: found.belowNoise,
    positive: positive.map(named),
    negative: negative.map(named),
    ...(chosen ? { neurons: chosen.map((neuron) => describe(neuron, at(neuron))) } : {}),
  };
}

const headOf = ({ target, other, position, layers, width, zeros, belowNoise }: Summary): string =>
  `${targetWords(target, other ?? null)} at position ${position}; ${layers * width} neurons, ${zeros.activation} with activation 0, ${zeros.gradient} with gradient 0, ${belowNoise} with a gradient no larger than its noise`;

const neuronTable = (neurons: readonly Described[], paperSite: Site): string =>
  table(
    ['neuron', 'activation', 'G_C', 'NeurGrad', '± noise'],
    neurons.map((neuron) => [
      formatNeuron(neuron, paperSite),
      figure(neuron.activation),
      signed(neuron.gradient),
      neuron.belowNoise ? `${signed(neuron.neurgrad)} (noise)` : signed(neuron.neurgrad),
      figure(neuron.noise, 2),
    ]),
  );

const listStrongest = (summary: Summary, paperSite: Site): string =>
  `${headOf(summary)}\n${neuronTable([...summary.positive, ...summary.negative.toReversed()], paperSite)}`;

const listOf = (
  summary: Summary,
  chosen: readonly Neuron[],
  at: (neuron: Neuron) => NeuronGradients,
  paperSite: Site,
): string =>
  `${summary.prompt}\n${headOf(summary)}\n${neuronTable(
    chosen.map((neuron) => describe(neuron, at(neuron))),
    paperSite,
  )}`;

/** A line a prompt. */
const overview = (summaries: readonly Summary[], paperSite: Site): string =>
  table(
    ['id', 'target', 'p', 'strongest up', 'NeurGrad', 'strongest down', 'NeurGrad'],
    summaries.map(({ id, target, positive: [up], negative: [down] }) => [
      id,
      showToken(target),
      figure(target.p),
      ...[up, down].flatMap((one) =>
        one ? [formatNeuron(one, paperSite), signed(one.neurgrad)] : ['–', '–'],
      ),
    ]),
  );

/** Rows of one prompt, a block a site. */
function blocksOf(
  model: string,
  one: Case<Target>,
  tokens: ShownTokens,
  neurons: readonly Neuron[],
  at: (neuron: Neuron) => NeuronGradients,
): RowBlock[] {
  const sites = [...new Set(neurons.map(({ site }) => site))];
  return sites.map((site) => {
    const own = neurons.filter((neuron) => neuron.site === site);
    const found = at(own[0]!);
    const flat = own.map(({ layer, index }) => layer * found.width + index);
    const pick = (values: ArrayLike<number>): number[] => flat.map((n) => values[n]!);
    return {
      count: own.length,
      same: {
        ...promptCells(model, one),
        ...targetCells(tokens, found),
      },
      each: {
        layer: own.map(({ layer }) => layer),
        neuron: own.map(({ index }) => index),
        activation: pick(found.activation),
        g_c: pick(found.gradient),
        neurgrad: pick(found.neurgrad),
        noise: pick(found.noise),
      },
    };
  });
}

/** All neurons as a safetensors file, its metadata saying what they are. */
async function writeGradients(
  path: string,
  model: string,
  { prompt }: Case<Target>,
  found: NeuronGradients,
  target: TargetText,
): Promise<void> {
  const tensor = (name: string, data: Float32Array | Float64Array): TensorToWrite => ({
    name,
    dtype: data instanceof Float32Array ? 'F32' : 'F64',
    shape: [found.layers, found.width],
    data,
  });
  await writeSafetensors(
    path,
    [
      tensor('activation', found.activation),
      tensor('gradient', found.gradient),
      tensor('neurgrad', found.neurgrad),
      tensor('noise', found.noise),
    ],
    {
      format: 'neurgrad gradients 1',
      model,
      prompt: prompt.text,
      position: String(found.position),
      neuron_position: String(found.neuronPosition),
      target_id: String(target.id),
      target_token: target.token,
      ...(target.ids ? { target_ids: target.ids.join(' ') } : {}),
      target_text: target.text,
      target_p: String(found.p),
      ...(found.other === undefined ? {} : { other_id: String(found.other) }),
      ...found.conventions,
    },
  );
}
