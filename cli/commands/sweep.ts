/** `neurgrad sweep`: p against the shift of single neurons, and the empirical gradient G_E. */

import { type Command, Option } from 'commander';

import { writeWhole } from '../../engine/disk.ts';
import { showToken, tokenText } from '../../models/tokenText.ts';
import {
  formatNeuron,
  LINEAR_POINTS,
  parseNeurons,
  RANGE_SLACK,
  SWEEP_ENGINES,
  type Sweep,
  type SweepEngine,
  sweep,
} from '../../neurgrad/index.ts';
import { checkFitRange } from '../../neurgrad/sweep.ts';
import {
  type ConventionOptions,
  conventionOptions,
  jsonOption,
  modelOptions,
  positive,
  promptOption,
  range,
  targetOptions,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { checkOutFile, openOutput, toJson } from '../output.ts';
import { startProgress } from '../progress.ts';
import { readPrompt } from '../prompt.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import { chooseTarget, type TargetOptions } from '../target.ts';

interface Options extends TargetOptions, ConventionOptions, WeightsOptions {
  readonly model: string;
  readonly prompt: string;
  readonly neurons: string;
  readonly range: number[];
  readonly fit: number;
  readonly withZero?: boolean;
  readonly intercept?: boolean;
  readonly engine: SweepEngine | 'auto';
  readonly tolerance?: number;
  readonly out?: string;
  readonly json?: boolean;
}

export function addSweep(program: Command): void {
  withOptions(
    program.command('sweep').description('shift single neurons, read p, fit the empirical gradient'),
    ...modelOptions(),
    promptOption(),
    new Option('--neurons <list>', 'such as L0.N3,L1.N7 or L2.N5@pre').makeOptionMandatory(),
    ...targetOptions(),
    ...conventionOptions(),
    new Option('--range <from:to:step>', 'shifts; 0 is always among them')
      .argParser(range)
      .default(range('-2:2:0.2'), '-2:2:0.2'),
    new Option('--fit <range>', 'slope and r use the shifts within ± this').argParser(positive).default(2),
    new Option('--with-zero', 'count the point at shift 0 in r'),
    new Option('--intercept', 'fit a line with intercept in place of one through the origin'),
    new Option(
      '--engine <name>',
      'naive: full forward passes; rows: rows behind a cache, for weights on disk; differences: differences to the plain pass; curve: as few shifts as make the curve known; auto: the best that runs all',
    )
      .choices(['auto', ...SWEEP_ENGINES])
      .default('auto'),
    new Option(
      '--tolerance <share>',
      'with --engine curve: error of p, as a share of it; default 1e-6',
    ).argParser(positive),
    new Option('--out <file>', 'write the JSON document to a file too'),
    ...weightsOptions(),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad sweep --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --neurons L0.N3,L1.N7
  neurgrad sweep --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --neurons L3.N40 \\
    --range=-10:10:0.2 --direction plain --target paris --json
  neurgrad sweep --model examples/models/stories260k --prompt "Once upon a time" --neurons L2.N9@post --out curve.json

JSON: {"target", "neurons": [{"layer", "index", "site", "activation", "gradient", "gradientNoise", "neurgrad", "slope",
"noise", "r", "polarity",
"linear", "shifts", "p", "ran", "bound", "response"}], "engine", "by", "conventions", …}`,
    )
    .action(runSweep);
}

/** What ran, and what of. */
function engineOf({ engine, by, neurons }: Sweep): string {
  if (engine !== 'curve') return engine;
  const ran = neurons.reduce((sum, neuron) => sum + neuron.ran, 0);
  const asked = neurons.reduce((sum, neuron) => sum + neuron.shifts.length - 1, 0);
  const bound = Math.max(...neurons.map((neuron) => neuron.bound));
  return `curve by ${by}: ${ran} of ${asked} points run, the others within ${figure(bound, 2)}`;
}

async function runSweep(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  if (options.out !== undefined) checkOutFile(options.out, ['.json']);
  checkFitRange(options.range, options.fit);
  const card = await readModelCard(options.model);
  const neurons = parseNeurons(options.neurons, card, options.site);
  const prompt = readPrompt(card, options.prompt, output);
  const target = chooseTarget(card, prompt, options);
  await withModel(
    card,
    async ({ model, tokenizer }) => {
      const progress = startProgress('sweep', 'rows');
      let found: Sweep;
      try {
        found = await sweep(model, prompt, {
          neurons,
          target,
          shifts: options.range,
          of: options.of,
          direction: options.direction,
          sign: options.sign,
          engine: options.engine,
          ...(options.tolerance === undefined ? {} : { tolerance: options.tolerance }),
          fit: {
            range: options.fit,
            includeZero: options.withZero ?? false,
            withIntercept: options.intercept ?? false,
          },
          onProgress: progress.update,
        });
      } finally {
        progress.stop();
      }
      const { p, target: id, ...rest } = found;
      // For a sweep of p itself `values` would only repeat `p`.
      const curves = found.neurons.map(({ values, ...curve }) =>
        options.of === 'prob' ? curve : { ...curve, values },
      );
      const inside = options.range.filter(
        (shift) => shift !== 0 && Math.abs(shift) <= options.fit + RANGE_SLACK,
      );
      const fitted = inside.length + (options.withZero ? 1 : 0);
      const token = tokenText(tokenizer, id);
      const document = {
        model: options.model,
        prompt: prompt.text,
        ...rest,
        neurons: curves,
        target: { ...token, p },
      };
      if (options.out !== undefined) writeWhole(options.out, `${toJson(document, 2)}\n`);
      for (const neuron of found.neurons) {
        const lost = neuron.shifts.filter((_, i) => !Number.isFinite(neuron.p[i]));
        if (lost.length > 0)
          output.note(
            `${formatNeuron(neuron, model.paperSite)}: the logits at shift ${lost.join(', ')} are not finite in float32; shift less`,
          );
      }
      output.result(document, () =>
        [
          `p(${showToken(token)}) = ${figure(p)} at position ${found.position}; ${found.rows} rows, engine ${engineOf(found)}`,
          table(
            ['neuron', 'activation', 'NeurGrad', 'G_E', 'r', 'polarity', 'linear'],
            found.neurons.map((neuron) => [
              formatNeuron(neuron, model.paperSite),
              figure(neuron.activation),
              Math.abs(neuron.gradient) <= neuron.gradientNoise
                ? `${signed(neuron.neurgrad)} (noise)`
                : signed(neuron.neurgrad),
              signed(neuron.slope),
              neuron.flat ? 'flat' : signed(neuron.r),
              Number.isNaN(neuron.slope)
                ? '–'
                : neuron.polarity === 0
                  ? '0'
                  : neuron.polarity > 0
                    ? '+'
                    : '-',
              neuron.linear ? 'yes' : 'no',
            ]),
          ),
          `of ${options.of}, direction ${options.direction}, sign ${options.sign}, fit within ±${options.fit}`,
          ...(fitted < LINEAR_POINTS
            ? [
                `${fitted} point${fitted === 1 ? '' : 's'} within it: any two lie on a line, so r says nothing; sweep in smaller steps`,
              ]
            : []),
          ...(options.out === undefined ? [] : [`wrote ${options.out}`]),
        ].join('\n'),
      );
    },
    options,
  );
}
