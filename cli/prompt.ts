/**
 * What a command is asked about: one prompt, typed or from a file, or many of a file or folder, each encoded, with its target and the
 * position of its neurons. What is likely to be a mistake in a prompt is told in one line each.
 */

import { UserError } from '../engine/errors.ts';
import { type ChatTemplate, readChatTemplate } from '../models/index.ts';
import type { Target } from '../neurgrad/answers.ts';
import {
  encodeChat,
  encodePrompt,
  maskToken,
  type Prompt,
  positionOf,
  promptRemarks,
  resolveTarget,
  unknownRemark,
} from '../neurgrad/index.ts';
import { seededRandom, shuffled } from '../neurgrad/random.ts';
import { type OpenQuestion, readOpenQuestions } from '../neurgrad/study/prompts.ts';
import { readTextFile } from '../neurgrad/study/textFile.ts';
import type { Output } from './output.ts';
import type { ModelCard } from './session.ts';
import {
  checkOtherOption,
  chooseAnswer,
  chooseOther,
  chooseTarget,
  type OtherOptions,
  type TargetOptions,
} from './target.ts';

/** Options that say what is asked. */
export interface PromptOptions {
  readonly prompt?: string;
  readonly promptFile?: string;
  readonly prompts?: string;
  readonly numPrompts?: number;
  readonly seed?: number;
  readonly chat?: boolean;
  readonly system?: string;
}

/** One prompt to run. */
export interface Case<T extends Target = number> {
  /** Names it among the others; `0` for the only one. */
  readonly id: string;
  readonly prompt: Prompt;
  /** What its file says is right. */
  readonly answer: string | null;
  /** Undefined: the model's own answer. */
  readonly target: T | undefined;
  /** What logit_diff subtracts. */
  readonly other: number | undefined;
  /** Undefined: the probe position. */
  readonly at: number | undefined;
}

/** Whether several prompts were asked for. @throws UserError where it is not one of the ways to give them. */
export function asksMany({ prompt, promptFile, prompts, numPrompts, chat, system }: PromptOptions): boolean {
  const given = [prompt, promptFile, prompts].filter((one) => one !== undefined);
  if (given.length !== 1)
    throw new UserError(
      'prompt',
      given.length === 0
        ? 'nothing is asked: give --prompt TEXT, --prompt-file FILE or --prompts FILE'
        : 'give one of --prompt, --prompt-file and --prompts',
    );
  if (numPrompts !== undefined && prompts === undefined)
    throw new UserError('prompts', '--num-prompts goes with --prompts only');
  if (system !== undefined && !chat) throw new UserError('chat', '--system goes with --chat only');
  return prompts !== undefined;
}

/** @throws UserError as {@link encodePrompt}. */
export function readPrompt(card: ModelCard, text: string, output: Pick<Output, 'note'>): Prompt {
  for (const remark of promptRemarks(card, card.tokenizer, text)) output.note(`note: ${remark}`);
  return encodePrompt(card, card.tokenizer, text);
}

/** How texts become prompts: as they are, or as a user's message. */
async function encoderOf(
  card: ModelCard,
  { chat, system }: PromptOptions,
): Promise<((text: string) => Prompt) | null> {
  if (!chat) return null;
  const template: ChatTemplate = await readChatTemplate(card.folder);
  const before = system === undefined ? [] : [{ role: 'system' as const, content: system }];
  return (content) => encodeChat(card, card.tokenizer, template, [...before, { role: 'user', content }]);
}

/**
 * Prompts as texts and from a file, each asked as it is or as a user's message.
 * @throws UserError as {@link encodePrompt}, and where there is none.
 */
export async function readTexts(
  card: ModelCard,
  options: Pick<PromptOptions, 'promptFile' | 'chat' | 'system'> & { readonly prompt?: readonly string[] },
  output: Pick<Output, 'note'>,
): Promise<Prompt[]> {
  const { prompt: texts = [], promptFile, ...asked } = options;
  const ways = [
    ...texts.map((prompt): PromptOptions => ({ ...asked, prompt })),
    ...(promptFile === undefined ? [] : [{ ...asked, promptFile }]),
  ];
  if (ways.length === 0) asksMany(asked);
  const prompts: Prompt[] = [];
  for (const way of ways) {
    asksMany(way);
    prompts.push(await readOne(card, way, output));
  }
  return prompts;
}

/** The one prompt that was given. @throws UserError as {@link encodePrompt}, and where there is no text. */
export async function readOne(
  card: ModelCard,
  options: PromptOptions,
  output: Pick<Output, 'note'>,
): Promise<Prompt> {
  const text = options.prompt ?? readTextFile(options.promptFile!).replace(/\n$/, '');
  const chat = await encoderOf(card, options);
  return chat ? chat(text) : readPrompt(card, text, output);
}

interface CaseOptions extends PromptOptions, TargetOptions, OtherOptions {
  /** As `--position` has it. */
  readonly position?: string;
}

/** {@link readCases} where an answer may be several tokens ({@link chooseAnswer}). */
export async function readAnswerCases(
  card: ModelCard,
  options: CaseOptions,
  output: Pick<Output, 'note'>,
): Promise<Case<Target>[]> {
  const cases = await casesBy<Target>(card, options, output, (prompt, answer) =>
    chooseAnswer(card, prompt, options, answer),
  );
  const several = cases.filter(({ target }) => typeof target === 'object').length;
  if (several > 0)
    output.note(
      cases.length === 1
        ? 'note: the answer is several tokens: p is the product of theirs'
        : `note: ${several} of ${cases.length} answers are several tokens: p is the product of theirs`,
    );
  return cases;
}

/**
 * All that is asked. Of many prompts those that cannot be asked are left out, and told by reason.
 * @throws UserError where the only one, or all, cannot be asked.
 */
export const readCases = (
  card: ModelCard,
  options: CaseOptions,
  output: Pick<Output, 'note'>,
): Promise<Case[]> =>
  casesBy(card, options, output, (prompt, answer) =>
    answer === undefined
      ? chooseTarget(card, prompt, options)
      : resolveTarget(card, card.tokenizer, prompt, answer),
  );

/** @param choose what is asked for, of a prompt and what its file says is right. */
async function casesBy<T extends Target>(
  card: ModelCard,
  options: CaseOptions,
  output: Pick<Output, 'note'>,
  choose: (prompt: Prompt, answer?: string) => T | undefined,
): Promise<Case<T>[]> {
  const { position, prompts: path } = options;
  checkOtherOption(options);
  const placed = (prompt: Prompt): number | undefined =>
    position === undefined ? undefined : positionOf(prompt, card.tokenizer, position);
  if (path === undefined) {
    const prompt = await readOne(card, options, output);
    const target = choose(prompt);
    const other = chooseOther(card, prompt, options);
    return [{ id: '0', prompt, answer: null, target, other, at: placed(prompt) }];
  }
  const questions = readOpenQuestions(path, maskToken(card, card.tokenizer));
  for (const [reason, count] of Object.entries(questions.dropped))
    output.note(`note: ${path}: ${count} left out: ${reason}`);
  const chat = await encoderOf(card, options);
  const cases: Case<T>[] = [];
  const lost: { readonly what: string; readonly why: string }[] = [];
  const encode = ({ id, prompt: text, answer }: OpenQuestion): Case<T> => {
    const prompt = chat ? chat(text) : encodePrompt(card, card.tokenizer, text);
    const own = options.target === undefined && options.targetId === undefined && answer !== null;
    const target = own ? choose(prompt, answer) : choose(prompt);
    return { id, prompt, answer, target, other: chooseOther(card, prompt, options), at: placed(prompt) };
  };
  const wanted = options.numPrompts ?? questions.count;
  const order =
    options.numPrompts === undefined
      ? Uint32Array.from({ length: questions.count }, (_, i) => i)
      : shuffled(questions.count, seededRandom(options.seed ?? 0));
  for (const i of order) {
    if (cases.length === wanted) break;
    const question = questions.at(i);
    try {
      cases.push(encode(question));
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      lost.push({ what: question.id, why: error.message });
    }
  }
  const first = lost[0];
  if (first && cases.length === 0)
    throw new UserError(
      'prompts',
      `${path}: none of ${lost.length} prompts can be asked; ${first.what}: ${first.why}`,
    );
  if (first)
    output.note(
      `note: ${lost.length} of ${lost.length + cases.length} prompts left out, such as ${first.what}: ${first.why}`,
    );
  if (options.numPrompts !== undefined && cases.length < wanted)
    output.note(`note: ${cases.length} prompts of ${wanted} asked for; these are all`);
  const remark = unknownRemark(
    card.tokenizer,
    cases.map(({ prompt }) => prompt),
  );
  if (remark !== null) output.note(`note: ${remark}`);
  return cases;
}

/** What every result says of its prompt: as it was written out, and its tokens. */
export const describePrompt = ({ text, ids, tokens, position }: Prompt) => ({
  prompt: text,
  ids,
  tokens,
  position,
});
