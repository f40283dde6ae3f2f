/** `neurgrad generate`: text from a causal model, streamed as it comes. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../../engine/errors.ts';
import { checkSampling, generate, streamText } from '../../models/index.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { integer, jsonOption, modelOptions, promptOptions, weightsOptions, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import { asksMany, type PromptOptions, readOne } from '../prompt.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';

interface Options extends Omit<PromptOptions, 'prompts' | 'seed'>, WeightsOptions {
  readonly model: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP: number;
  readonly seed: number;
  readonly json?: boolean;
}

/** A number from 0 up, or a share of 1. */
const number =
  (passes: (value: number) => boolean, what: string) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() === '' || !passes(value)) throw new InvalidArgumentError(what);
    return value;
  };

export function addGenerate(program: Command): void {
  withOptions(
    program.command('generate').description('text that a causal model writes after a prompt'),
    ...modelOptions(),
    ...promptOptions(),
    new Option('--max-tokens <n>', 'most tokens to write').argParser(integer(1)).default(100),
    new Option('--temperature <t>', '0: always the most probable token; above: drawn')
      .argParser(
        number(
          (value) => value >= 0 && value < Number.POSITIVE_INFINITY,
          'It must be 0 or a number above it.',
        ),
      )
      .default(0),
    new Option('--top-k <n>', 'draw among this many most probable tokens').argParser(integer(1)),
    new Option('--top-p <share>', 'draw among the tokens that hold this share of probability')
      .argParser(number((value) => value > 0 && value <= 1, 'It must be above 0 and at most 1.'))
      .default(1),
    new Option('--seed <n>', 'of the draws').argParser(integer(0)).default(0),
    ...weightsOptions(),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad generate --model examples/models/stories260k --prompt "Once upon a time"
  neurgrad generate --model examples/models/stories260k --prompt "The dog" --temperature 0.8 --top-p 0.9 --seed 7

JSON: {"model", "prompt" as written out, "promptIds", "promptTokens", "text", "ids", "tokens" as the vocabulary spells them, "texts", "end": "stop" | "length" | "positions", "seconds"}`,
    )
    .action(runGenerate);
}

async function runGenerate(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const sampling = {
    temperature: options.temperature,
    topP: options.topP,
    random: seededRandom(options.seed),
    ...(options.topK === undefined ? {} : { topK: options.topK }),
  };
  checkSampling(sampling);
  asksMany(options);
  const card = await readModelCard(options.model);
  if (!card.causal)
    throw new UserError(
      'generate',
      `${options.model}: a ${card.family} fills masks; take predict instead of generate`,
    );
  const prompt = await readOne(card, options, output);
  const { ids } = prompt;
  await withModel(
    card,
    async ({ model, tokenizer }) => {
      const stream = streamText((all) => tokenizer.decode(all, { skipSpecialTokens: true }), ids);
      const told: number[] = [];
      let text = '';
      const began = performance.now();
      const { end } = await generate(model, ids, {
        ...sampling,
        maxTokens: options.maxTokens,
        onToken(id) {
          told.push(id);
          const fresh = stream(told);
          text += fresh;
          output.stream(fresh);
          return undefined;
        },
      });
      const seconds = (performance.now() - began) / 1000;
      output.result(
        {
          model: options.model,
          prompt: prompt.text,
          promptIds: ids,
          promptTokens: prompt.tokens,
          text,
          ids: told,
          tokens: told.map((id) => tokenizer.tokenOf(id)),
          texts: told.map((id) => tokenizer.textOf(id)),
          end,
          seconds,
        },
        () => '',
      );
      output.note(
        `${told.length} tokens in ${seconds.toFixed(1)} s, ${(told.length / seconds).toFixed(1)} a second`,
      );
    },
    options,
  );
}
