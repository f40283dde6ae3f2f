/** `neurgrad sweep`: p against the shift of single neurons, and the empirical gradient G_E. */

import { type Command, Option } from 'commander';
import { writeWhole } from '../../engine/disk.ts';
import type { Target } from '../../neurgrad/answers.ts';
import {
  formatNeuron,
  LINEAR_POINTS,
  RANGE_SLACK,
  resolveSite,
  type Site,
  SWEEP_ENGINES,
  type Sweep,
  type SweepEngine,
  sweep,
} from '../../neurgrad/index.ts';
import { checkFitRange } from '../../neurgrad/sweep.ts';
import { engineOf } from '../engineWords.ts';
import { readSelection } from '../neurons.ts';
import {
  answerOptions,
  type MeasureOptions,
  measureConventionOptions,
  modelOptions,
  neuronsOption,
  positionOption,
  positive,
  promptsOptions,
  range,
  renamedOption,
  resultOptions,
  seedOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput, toJson } from '../output.ts';
import {
  askedAgain,
  inUnits,
  MEASURED_COLUMNS,
  OTHER_COLUMNS,
  PROMPT_COLUMNS,
  promptCells,
  questionOf,
  rankedBy,
  type ShownTokens,
  shownTokens,
  TARGET_COLUMNS,
  targetCells,
  targetWords,
} from '../perPrompt.ts';
import { startProgress } from '../progress.ts';
import { asksMany, type Case, describePrompt, type PromptOptions, readAnswerCases } from '../prompt.ts';
import { destinationOf, openRows, type ResultOptions } from '../results.ts';
import type { RowBlock, RowSchema } from '../rows.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import type { TargetOptions } from '../target.ts';

interface Options extends PromptOptions, TargetOptions, MeasureOptions, ResultOptions, WeightsOptions {
  readonly model: string;
  readonly neurons: string;
  readonly position?: string;
  readonly seed: number;
  readonly range: number[];
  readonly fitRange: number;
  readonly withZero?: boolean;
  readonly intercept?: boolean;
  readonly engine: SweepEngine | 'auto';
  readonly tolerance?: number;
}

/** A row a (model, prompt, neuron, shift). */
export const SWEEP_ROWS: RowSchema = {
  format: 'neurgrad sweep 1',
  columns: {
    ...PROMPT_COLUMNS,
    ...TARGET_COLUMNS,
    ...OTHER_COLUMNS,
    ...MEASURED_COLUMNS,
    engine: 'text',
    shift: 'number',
    p_at_shift: 'number',
    value: 'number',
    change: 'number',
    change_noise: 'number',
  },
};

export function addSweep(program: Command): void {
  withOptions(
    program.command('sweep').description('shift single neurons, read p, fit the empirical gradient'),
    ...modelOptions(),
    ...promptsOptions(),
    ...answerOptions(),
    neuronsOption('none').makeOptionMandatory(),
    positionOption(),
    ...measureConventionOptions(),
    seedOption(),
    new Option('--range <from:to:step>', 'shifts; 0 is always among them')
      .argParser(range)
      .default(range('-2:2:0.2'), '-2:2:0.2'),
    new Option('--fit-range <range>', 'slope and r use the shifts within ± this')
      .argParser(positive)
      .default(2),
    renamedOption('--fit <range>', 'fitRange', positive),
    new Option('--with-zero', 'count the point at shift 0 in r'),
    new Option('--intercept', 'fit a line with intercept in place of one through the origin'),
    new Option(
      '--engine <name>',
      'naive: full forward passes; rows: rows behind a cache, for weights on disk; differences: differences to the plain pass; curve: as few shifts as make the curve known; auto: curve from 12 shifts on, else the best that runs all',
    )
      .choices(['auto', ...SWEEP_ENGINES])
      .default('auto'),
    new Option('--tolerance <share>', 'of curves: error of p, as a share of it; default 1e-6').argParser(
      positive,
    ),
    ...resultOptions(' (of one prompt without --format: the JSON document)'),
    ...weightsOptions(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad sweep --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --neurons L0.N3,L1.N7
  neurgrad sweep --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --neurons L3.N40 \\
    --range=-10:10:0.2 --direction plain --target paris --json
  neurgrad sweep --model examples/models/stories260k --prompt "Once upon a time" --neurons L2.N9@post --out curve.json
  neurgrad sweep --model examples/models/facts-bert --prompt "Rome is in [MASK]." --neurons top:5 --of logit_diff --other france
  neurgrad sweep --model examples/models/facts-bert --prompts prompts.jsonl --neurons top:10,random:20 --out curves.parquet

Rows are one a (model, prompt, neuron, shift): docs/tables.md.
JSON: {"target", "neurons": [{"layer", "index", "site", "activation", "gradient", "gradientNoise", "neurgrad", "slope",
"noise", "r", "polarity",
"linear", "shifts", "p", "ran", "bound", "response"}], "engine", "by", "conventions", …}`,
    )
    .action(runSweep);
}

async function runSweep(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const many = asksMany(options);
  const destination = destinationOf(options, { many });
  // One prompt's .json is the document, as before.
  const document = !many && destination.kind === 'file' && destination.format === 'json' && !options.format;
  checkFitRange(options.range, options.fitRange);
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const selection = readSelection(options.neurons, card, { site: options.site, seed: options.seed });
  const cases = await readAnswerCases(card, options, output);
  await withModel(
    card,
    async (session) => {
      const { model, tokenizer } = session;
      const { of, direction, sign, seed } = options;
      const fit = {
        range: options.fitRange,
        includeZero: options.withZero ?? false,
        withIntercept: options.intercept ?? false,
      };
      const { engine, tolerance, range: shifts } = options;
      using sink = document
        ? null
        : openRows(destination, SWEEP_ROWS, () => ({
            ...questionOf(options.model, card, session, cases),
            ...{ of, direction, sign, site, seed, neurons: options.neurons, shifts, fit, engine },
            tolerance: tolerance ?? null,
          }));
      const found: { one: Case<Target>; swept: Sweep; token: ShownTokens }[] = [];
      await inUnits('sweep', cases, sink, async (some, told) => {
        const blocks: RowBlock[] = [];
        const ranked = selection.ranked ? await rankedBy(model, some, { site, of, direction, sign }) : null;
        const single = cases.length === 1 ? startProgress('sweep', 'rows') : null;
        const several = cases.length > 1;
        const onProgress =
          single?.update ??
          (several ? (done: number, all: number) => told(Math.floor((done / all) * some.length)) : undefined);
        const sweeps = await sweep(
          model,
          some.map(({ prompt }) => prompt),
          {
            neurons: some.map((_, i) => selection.neurons(ranked?.[i]?.neurgrad)),
            target: some.map(({ target }, i) => (ranked?.[i] ? askedAgain(ranked[i]) : target)),
            other: some.map(({ other }) => other),
            neuronPosition: some.map(({ at }) => at),
            ...{ shifts, of, direction, sign, engine, fit },
            ...(tolerance === undefined ? {} : { tolerance }),
            ...(onProgress ? { onProgress } : {}),
          },
        ).finally(() => single?.stop());
        for (const [i, one] of some.entries()) {
          const swept = sweeps[i]!;
          for (const neuron of swept.neurons) {
            const lost = neuron.shifts.filter((_, k) => !Number.isFinite(neuron.p[k]));
            if (lost.length > 0)
              output.note(
                `${formatNeuron(neuron, model.paperSite)}: the logits at shift ${lost.join(', ')} are not finite in float32; shift less`,
              );
          }
          const token = shownTokens(tokenizer, swept);
          if (!sink || output.json) found.push({ one, swept, token });
          if (sink) blocks.push(...blocksOf(options.model, one, swept, token));
        }
        return blocks;
      });
      const documents = found.map(({ one, swept, token }) => documentOf(options, one, swept, token));
      const whole = many
        ? { format: SWEEP_ROWS.format, model: options.model, prompts: documents }
        : { model: options.model, ...documents[0]! };
      if (document) writeWhole(options.out!, `${toJson(whole, 2)}\n`);
      const written = sink?.end() ?? (document ? options.out : undefined);
      if (destination.kind === 'output') return;
      output.result(whole, () =>
        [
          ...found.map(({ one, swept, token }) => textOf(options, one, swept, token, model.paperSite, many)),
          ...(found.length > 0 ? fitWords(options) : []),
          ...(written === undefined ? [] : [`wrote ${written}${many ? `: ${cases.length} prompts` : ''}`]),
        ].join('\n'),
      );
    },
    options,
  );
}

function documentOf(
  options: Options,
  { id, prompt, answer }: Case<Target>,
  found: Sweep,
  { target, other }: ShownTokens,
) {
  const { p, target: _, answer: __, other: ___, ...rest } = found;
  return {
    id,
    ...describePrompt(prompt),
    ...(answer === null ? {} : { answer }),
    ...rest,
    // For a sweep of p itself `values` would only repeat `p`.
    neurons: found.neurons.map(({ values, ...curve }) =>
      options.of === 'prob' ? curve : { ...curve, values },
    ),
    target: { ...target, p },
    ...(other ? { other } : {}),
  };
}

const polarity = (slope: number, sign: number): string =>
  Number.isNaN(slope) ? '–' : sign === 0 ? '0' : sign > 0 ? '+' : '-';

function textOf(
  _: Options,
  { prompt }: Case<Target>,
  found: Sweep,
  token: ShownTokens,
  paperSite: Site,
  many: boolean,
): string {
  return [
    ...(many ? [prompt.text] : []),
    `${targetWords({ ...token.target, p: found.p }, token.other)} at position ${found.position}; ${found.rows} rows, engine ${engineOf(found)}`,
    table(
      ['neuron', 'activation', 'NeurGrad', 'G_E', 'r', 'polarity', 'linear'],
      found.neurons.map((neuron) => [
        formatNeuron(neuron, paperSite),
        figure(neuron.activation),
        Math.abs(neuron.gradient) <= neuron.gradientNoise
          ? `${signed(neuron.neurgrad)} (noise)`
          : signed(neuron.neurgrad),
        signed(neuron.slope),
        neuron.flat ? 'flat' : signed(neuron.r),
        polarity(neuron.slope, neuron.polarity),
        neuron.linear ? 'yes' : 'no',
      ]),
    ),
  ].join('\n');
}

function fitWords({ of, direction, sign, fitRange, range: shifts, withZero }: Options): string[] {
  const inside = shifts.filter((shift) => shift !== 0 && Math.abs(shift) <= fitRange + RANGE_SLACK);
  const fitted = inside.length + (withZero ? 1 : 0);
  return [
    `of ${of}, direction ${direction}, sign ${sign}, fit within ±${fitRange}`,
    ...(fitted < LINEAR_POINTS
      ? [
          `${fitted} point${fitted === 1 ? '' : 's'} within it: any two lie on a line, so r says nothing; sweep in smaller steps`,
        ]
      : []),
  ];
}

/** A block a neuron. */
const blocksOf = (model: string, one: Case<Target>, found: Sweep, token: ShownTokens): RowBlock[] =>
  found.neurons.map((neuron) => ({
    count: neuron.shifts.length,
    same: {
      ...promptCells(model, one),
      ...targetCells(token, found),
      site: neuron.site,
      layer: neuron.layer,
      neuron: neuron.index,
      activation: neuron.activation,
      g_c: neuron.gradient,
      neurgrad: neuron.neurgrad,
      g_c_noise: neuron.gradientNoise,
      g_e: neuron.slope,
      intercept: neuron.intercept,
      r: neuron.r,
      noise: neuron.noise,
      flat: neuron.flat,
      linear: neuron.linear,
      fit_range: found.fit.range,
      engine: found.engine,
    },
    each: {
      shift: neuron.shifts,
      p_at_shift: neuron.p,
      value: neuron.values,
      change: neuron.changes,
      change_noise: neuron.valueNoise,
    },
  }));
