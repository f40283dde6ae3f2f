/** `neurgrad predict`: what the model answers at the probe position. */

import { type Command, Option } from 'commander';
import { showToken, tokenText } from '../../models/tokenText.ts';
import { predict } from '../../neurgrad/index.ts';
import { integer, jsonOption, modelOptions, promptOption, weightsOptions, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import { readPrompt } from '../prompt.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, table } from '../table.ts';

interface Options extends WeightsOptions {
  readonly model: string;
  readonly prompt: string;
  readonly top: number;
  readonly json?: boolean;
}

export function addPredict(program: Command): void {
  withOptions(
    program.command('predict').description('the most probable tokens at the mask, or after the prompt'),
    ...modelOptions(),
    promptOption(),
    new Option('--top <n>', 'how many').argParser(integer(1)).default(5),
    ...weightsOptions(),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad predict --model examples/models/facts-bert --prompt "The capital of France is [MASK]."
  neurgrad predict --model examples/models/stories260k --prompt "Once upon a time" --top 10 --json

JSON: {"position", "predictions": [{"id", "token" as the vocabulary spells it, "text", "p"}]}`,
    )
    .action(runPredict);
}

async function runPredict(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const card = await readModelCard(options.model);
  const prompt = readPrompt(card, options.prompt, output);
  await withModel(
    card,
    async ({ model, tokenizer }) => {
      const best = await predict(model, prompt, options.top);
      const predictions = best.map(({ id, p }) => ({ ...tokenText(tokenizer, id), p }));
      output.result({ position: prompt.position, predictions }, () =>
        table(
          ['token', 'id', 'p'],
          predictions.map((one) => [showToken(one), one.id, figure(one.p)]),
        ),
      );
    },
    options,
  );
}
