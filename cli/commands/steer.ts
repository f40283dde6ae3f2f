/** `neurgrad steer`: shift few neurons together so that a word's probability reaches a goal. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { showToken, tokenText } from '../../models/tokenText.ts';
import { formatNeuron } from '../../neurgrad/index.ts';
import { resolveSite } from '../../neurgrad/neuron.ts';
import { targetOrArgmax } from '../../neurgrad/predict.ts';
import { steer } from '../../neurgrad/steer.ts';
import {
  integer,
  jsonOption,
  modelOptions,
  positive,
  promptOption,
  siteOption,
  targetOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import { readPrompt } from '../prompt.ts';
import { readModelCard, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import { chooseTarget, type TargetOptions } from '../target.ts';

interface Options extends TargetOptions {
  readonly model: string;
  readonly prompt: string;
  readonly to: number;
  readonly maxNeurons: number;
  readonly range: number;
  readonly rounds: number;
  readonly site: string;
  readonly json?: boolean;
}

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
    promptOption(),
    ...targetOptions(),
    new Option('--to <p>', 'probability to reach').argParser(probability).makeOptionMandatory(),
    new Option('--max-neurons <k>', 'most neurons to shift').argParser(integer(1)).default(32),
    new Option('--range <r>', 'largest shift of one neuron').argParser(positive).default(2),
    new Option('--rounds <n>', 'rounds of choosing and looking').argParser(integer(1)).default(10),
    siteOption(),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad steer --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --target berlin --to 0.5 --max-neurons 64`,
    )
    .action(runSteer);
}

async function runSteer(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const prompt = readPrompt(card, options.prompt, output);
  const asked = chooseTarget(card, prompt, options);
  const { to, maxNeurons, range, rounds } = options;
  await withModel(card, async ({ model, tokenizer }) => {
    const target = await targetOrArgmax(model, prompt, asked);
    const found = await steer(model, prompt, { target, to, maxNeurons, range, rounds, site });
    const { token, text } = tokenText(tokenizer, target);
    output.result({ model: options.model, prompt: prompt.text, token, text, ...found }, () =>
      [
        `p(${showToken({ token, text })}) = ${figure(found.before)}, goal ${found.goal}: reached ${figure(found.reached)} with ${found.neurons.length} neurons${found.success ? '' : '; allow more neurons or a wider range'}`,
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
            formatNeuron(neuron, model.paperSite),
            signed(neuron.shift),
            figure(neuron.activation),
            signed(neuron.neurgrad),
          ]),
        ),
      ].join('\n'),
    );
  });
}
