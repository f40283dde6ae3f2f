/**
 * Prompts (docs/probing.md#what-is-computed): instruction, blank line, one demonstration of each label, blank lines between, then the question. The
 * demonstrations are drawn once a task (and language) from train, so that all its prompts begin alike.
 *
 * Every row that makes no prompt is counted: too long for the model, or shown as a demonstration itself.
 */

import {
  checkMembers,
  checkValue,
  flag,
  like,
  one,
  optionsSchema,
  required,
  whole,
} from '../engine/options.ts';
import type { LanguageModel, Tokenizer } from '../neurgrad/index.ts';
import { seededRandom, UserError } from '../neurgrad/index.ts';
import { checkGiven, checkLists, checkNumber, FINITE, MODEL, NATURAL, TOKENIZER } from '../neurgrad/lists.ts';
import {
  byLabel,
  checkRows,
  countProblems,
  type ProblemCount,
  SPLITS,
  type Split,
  type TaskRow,
} from './data.ts';
import { sampleRows, textSeed } from './splits.ts';
import { BLANK, checkTask, type Language, type Task } from './task.ts';

/**
 * Which token a label is scored by, where a causal model answers:
 * - `continuation` (default): the token that really follows the prompt;
 * - `release`: the token of the label encoded alone, as the authors' code has it (Llama 2: `▁a`, which never follows).
 */
export const LABEL_TOKENS = ['continuation', 'release'] as const;
/** One of {@link LABEL_TOKENS}. */
export type LabelTokens = (typeof LABEL_TOKENS)[number];
const textField = like<string>((value) => typeof value === 'string', 'the text of a question');

/** The same as a field of options. */
export const labelTokensField = one(LABEL_TOKENS);

/** The part of a model that prompts are made for. */
export type PromptModel = Pick<LanguageModel, 'causal'> & {
  readonly sizes: Pick<LanguageModel['sizes'], 'positions'>;
};

/** What stands before the question, by language. */
export type Contexts = Readonly<Partial<Record<Language, string>>>;

/** One question as tokens. */
export interface TaskPrompt {
  /** Row of its file. */
  readonly index: number;
  /** The split that its file is of, which clean splits may not keep; null where a file is of no split. */
  readonly from: Split | null;
  readonly gold: number;
  readonly language: Language;
  readonly ids: readonly number[];
  readonly position: number;
}

/** How many prompts, with which demonstrations. */
export interface PromptOptions {
  /** Most training prompts. */
  readonly rows: number;
  /** Most prompts of valid and of test. */
  readonly evaluationRows: number;
  readonly seed: number;
  /** Draws other demonstrations for the same prompts; default `seed`. */
  readonly demonstrationSeed?: number | undefined;
  /** Demonstrations of each label: 1 (default) or none. */
  readonly shots: 0 | 1;
  readonly labelTokens: LabelTokens;
}

/** What prompts are made of. */
export const promptFields = {
  rows: required(whole()),
  evaluationRows: required(whole()),
  seed: required(whole()),
  demonstrationSeed: whole(),
  shots: required(one([0, 1])),
  labelTokens: required(labelTokensField),
};
const promptOptions = optionsSchema<PromptOptions>(promptFields);

/** All prompts of a task, and what was left out. */
export interface TaskPlan {
  readonly task: Task;
  readonly contexts: Contexts;
  /** Rows of train shown as demonstrations. */
  readonly demonstrations: readonly number[];
  /** Token of each label. */
  readonly candidates: readonly number[];
  readonly prompts: Readonly<Record<Split, readonly TaskPrompt[]>>;
  /** Rows looked at that make no prompt. */
  readonly left: Readonly<Record<Split, readonly ProblemCount[]>>;
}

/** One demonstration a label for each language that the rows have. @throws UserError where a label has no row. */
export function drawDemonstrations(task: Task, train: readonly TaskRow[], seed: number): TaskRow[] {
  checkTask('drawDemonstrations', task);
  checkRows('drawDemonstrations', train, 'train');
  checkNumber('drawDemonstrations', 'seed', seed, FINITE);
  const random = seededRandom(textSeed(`${task.name} demonstrations`, seed));
  const languages = [...new Set(train.map(({ question }) => question.language))].sort();
  if (languages.length === 0) {
    throw new UserError(
      'data',
      `${task.name}: train has no rows to draw demonstrations from; --splits clean makes one from the other splits`,
    );
  }
  return languages.flatMap((language) =>
    byLabel(
      task,
      train.filter(({ question }) => question.language === language),
    ).map((rows, gold) => {
      if (rows.length > 0) return rows[Math.floor(random() * rows.length)]!;
      const where = languages.length > 1 ? ` in ${language}` : '';
      throw new UserError(
        'data',
        `${task.name}: train has no row of label "${task.labels[gold]}"${where} to demonstrate it by`,
      );
    }),
  );
}

/** Instruction and demonstrations of each language, ending in a blank line. */
export function taskContexts(
  task: Task,
  demonstrations: readonly Pick<TaskRow, 'index' | 'question'>[],
): Contexts {
  checkTask('taskContexts', task);
  checkRows('taskContexts', demonstrations, 'demonstrations');
  const entries = Object.entries(task.wording) as [Language, { instruction: string }][];
  return Object.fromEntries(
    entries.map(([language, { instruction }]) => {
      const shown = demonstrations
        .filter(({ question }) => question.language === language)
        .map(({ question: { text, gold } }) => {
          const label = task.labels[gold]!;
          return task.cloze ? text.replace(BLANK, () => label) : text + label;
        });
      const before = [instruction, ...shown].filter((part) => part !== '');
      return [language, before.map((part) => `${part}\n\n`).join('')];
    }),
  );
}

/**
 * Tokens of the labels. @throws UserError where one is several tokens, unknown, or the same as another's.
 */
export function labelTokenIds(
  model: Pick<LanguageModel, 'causal'>,
  tokenizer: Tokenizer,
  task: Task,
  mode: LabelTokens,
): number[] {
  checkValue('labelTokenIds', 'mode', labelTokensField, mode);
  checkGiven('labelTokenIds', 'model', model, 'causal', MODEL);
  checkGiven('labelTokenIds', 'tokenizer', tokenizer, 'encode', TOKENIZER);
  checkTask('labelTokenIds', task);
  const { answer } = Object.values(task.wording)[0]!;
  const heading = `### ${answer}:`;
  const ids = task.labels.map((label) => {
    // The word that fills a sentence follows a space.
    if (task.cloze && model.causal) return tokenizer.singleToken(` ${label}`, { kind: 'causal', after: 'a' });
    const alone = mode === 'release' || !model.causal;
    // A mask stands after a space (encodeQuestion), which in some vocabularies is a part of the word.
    const found = alone
      ? tokenizer.encode(model.causal ? label : ` ${label}`, { addSpecialTokens: false })
      : tokenizer.continuation(heading, label);
    if (found.length === 1 && found[0] !== tokenizer.unknownId) return found[0]!;
    const pieces = found.map(tokenizer.show).join(' ');
    const place = alone ? '' : ` after "${heading}"`;
    throw new UserError(
      'target',
      `${task.name}: label "${label}" is not one token of this model${place}; its pieces: ${pieces}`,
    );
  });
  if (new Set(ids).size < ids.length) {
    throw new UserError('target', `${task.name}: two labels are the same token of this model`);
  }
  return ids;
}

/** What a sentence may have behind its blank, which a causal model does not read. */
const ENDS = /^[\s\p{P}]*$/u;

const GOES_ON = `text goes on after ${BLANK}, which a causal model does not read`;

/** Whether a causal model would have to read on behind the blank. */
const goesOn = (text: string): boolean => !ENDS.test(text.slice(text.lastIndexOf(BLANK) + BLANK.length));

/**
 * A question after its context, as token ids. `null` where the model has not so many positions, or, causal, would have to read on behind the blank.
 * @param cloze whether the text is a sentence with {@link BLANK}, of which the last one counts.
 */
export function encodeQuestion(
  model: PromptModel,
  tokenizer: Tokenizer,
  text: string,
  cloze = false,
): { ids: number[]; position: number } | null {
  checkGiven('encodeQuestion', 'model', model, 'sizes', MODEL);
  checkGiven('encodeQuestion', 'tokenizer', tokenizer, 'encode', TOKENIZER);
  checkValue('encodeQuestion', 'text', textField, text);
  checkValue('encodeQuestion', 'cloze', flag, cloze);
  const { maskId } = tokenizer;
  const blank = cloze ? text.lastIndexOf(BLANK) : text.length;
  if (blank < 0)
    throw new UserError('prompt', `encodeQuestion: the sentence has no ${BLANK} where the answer stands`);
  if (model.causal) {
    if (cloze && goesOn(text)) return null;
    const ids = tokenizer.encode(cloze ? text.slice(0, blank).trimEnd() : text);
    return ids.length > model.sizes.positions ? null : { ids, position: ids.length - 1 };
  }
  if (maskId === undefined)
    throw new UserError('tokenizer', 'the tokenizer of this masked model has no mask token');
  const mask = tokenizer.tokenOf(maskId);
  const ids = tokenizer.encode(
    cloze ? text.slice(0, blank) + mask + text.slice(blank + BLANK.length) : `${text} ${mask}`,
  );
  return ids.length > model.sizes.positions ? null : { ids, position: ids.lastIndexOf(maskId) };
}

/**
 * Draws demonstrations and prompts of a task.
 * @throws UserError where a label is no single token, a label cannot be demonstrated, or a split has no prompt that fits.
 */
export function planTask(
  model: PromptModel,
  tokenizer: Tokenizer,
  task: Task,
  rows: Readonly<Record<Split, readonly TaskRow[]>>,
  options: PromptOptions,
): TaskPlan {
  checkMembers('planTask', promptOptions, options);
  checkGiven('planTask', 'model', model, 'sizes', MODEL);
  checkGiven('planTask', 'rows', rows, 'train', 'rows: { train, valid, test }');
  const { seed, shots, labelTokens } = options;
  const candidates = labelTokenIds(model, tokenizer, task, labelTokens);
  const demonstrations =
    shots === 0
      ? []
      : (task.demonstrations ?? drawDemonstrations(task, rows.train, options.demonstrationSeed ?? seed));
  const contexts = taskContexts(task, demonstrations);
  const shown = new Set<object>(demonstrations);
  const prompts = {} as Record<Split, TaskPrompt[]>;
  const left = {} as Record<Split, ProblemCount[]>;
  for (const split of SPLITS) {
    const most = split === 'train' ? options.rows : options.evaluationRows;
    const random = seededRandom(textSeed(`${task.name} ${split}`, seed));
    const bad: { index: number; problem: string }[] = [];
    // Rows that do not fit are often of one label: the others must not take their places.
    const quota = Math.ceil(Math.min(most, rows[split].length) / task.labels.length);
    const taken = task.labels.map(() => 0);
    prompts[split] = [];
    for (const row of sampleRows(rows[split], task.labels.length, rows[split].length, random)) {
      if (prompts[split].length === most) break;
      const { index, question, from } = row;
      if (taken[question.gold] === quota) continue;
      if (shown.has(row)) {
        bad.push({ index, problem: 'shown as a demonstration' });
        continue;
      }
      if (task.cloze && model.causal && goesOn(question.text)) {
        bad.push({ index, problem: GOES_ON });
        continue;
      }
      const text = contexts[question.language]! + question.text;
      const encoded = encodeQuestion(model, tokenizer, text, task.cloze ?? false);
      if (!encoded) {
        bad.push({ index, problem: `prompt longer than the model's ${model.sizes.positions} positions` });
      } else {
        taken[question.gold]!++;
        const { gold, language } = question;
        prompts[split].push({ index, from, gold, language, ...encoded });
      }
    }
    // A language at a time: prompts that begin alike are read together.
    prompts[split].sort((a, b) => (a.language < b.language ? -1 : a.language > b.language ? 1 : 0));
    const none = task.labels.filter((_, gold) => taken[gold] === 0);
    left[split] = [
      ...countProblems(bad),
      ...none.map((label) => ({ problem: `no prompt of label "${label}"`, count: 0, rows: [] })),
    ];
    if (prompts[split].length === 0) throw noPrompts(model, task, split, rows[split].length, bad, shots);
  }
  return {
    task,
    contexts,
    demonstrations: demonstrations.map(({ index }) => index),
    candidates,
    prompts,
    left,
  };
}

function noPrompts(
  model: PromptModel,
  task: Task,
  split: Split,
  rows: number,
  bad: readonly { readonly problem: string }[],
  shots: number,
): UserError {
  if (rows === 0) {
    return new UserError(
      'data',
      `${task.name}: ${split} has no rows; --splits clean makes splits from what there is`,
    );
  }
  if (bad.some(({ problem }) => problem === GOES_ON))
    return new UserError(
      'prompt',
      `${task.name}: none of ${bad.length} ${split} sentences can be asked: ${GOES_ON}`,
    );
  const advice = shots > 0 ? '; --shots 0 leaves the demonstrations out' : '';
  return new UserError(
    'prompt',
    `${task.name}: none of ${bad.length} ${split} prompts fits the model's ${model.sizes.positions} positions${advice}`,
  );
}

/** Tokens that all prompts begin with, one at least left over. */
export function sharedPrefix(prompts: readonly (readonly number[])[]): number[] {
  checkLists('sharedPrefix', 'prompts', prompts, NATURAL);
  const first = prompts[0] ?? [];
  let length = Math.min(...prompts.map((ids) => ids.length - 1), first.length);
  for (const ids of prompts) {
    let same = 0;
    while (same < length && ids[same] === first[same]) same++;
    length = same;
  }
  return first.slice(0, Math.max(0, length));
}
