/** `neurgrad generate`: text from a causal model, streamed as it comes. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../../engine/errors.ts';
import { checkSampling, generate, type Message, readChatTemplate, streamText } from '../../models/index.ts';
import { checkKnown } from '../../neurgrad/prompt.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { integer, jsonOption, modelOptions, weightsOptions, withOptions } from '../options.ts';
import { type Output, openOutput } from '../output.ts';
import { readPrompt } from '../prompt.ts';
import { type ModelCard, readModelCard, type WeightsOptions, withModel } from '../session.ts';

interface Options extends WeightsOptions {
  readonly model: string;
  readonly prompt: string;
  readonly chat?: boolean;
  readonly system?: string;
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
    new Option('--prompt <text>', 'the text to go on from').makeOptionMandatory(),
    new Option('--chat', "write the prompt as a user's message, by the tokenizer's chat template"),
    new Option('--system <text>', 'with --chat: the system message'),
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

JSON: {"prompt", "text", "ids", "tokens" as the vocabulary spells them, "texts", "end": "stop" | "length" | "positions", "seconds"}`,
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
  if (options.system !== undefined && !options.chat)
    throw new UserError('chat', '--system goes with --chat only');
  const card = await readModelCard(options.model);
  if (!card.causal)
    throw new UserError(
      'generate',
      `${options.model}: a ${card.family} fills masks; take predict instead of generate`,
    );
  const ids = await promptIds(card, options, output);
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
          prompt: options.prompt,
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

/** The prompt's tokens, with the template's own special tokens where it is a chat. */
async function promptIds(card: ModelCard, options: Options, output: Output): Promise<readonly number[]> {
  if (!options.chat) return readPrompt(card, options.prompt, output).ids;
  const template = await readChatTemplate(card.folder);
  const messages: Message[] = [
    ...(options.system === undefined ? [] : [{ role: 'system' as const, content: options.system }]),
    { role: 'user', content: options.prompt },
  ];
  const ids = card.tokenizer.encode(template(messages), { addSpecialTokens: false });
  checkKnown(card, card.tokenizer, ids, 'the conversation');
  return ids;
}
