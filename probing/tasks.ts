/**
 * The 22 tasks of MCEval8K (Zhao, Jiang, Yoshinaga, ACL 2025) in the order of the paper's Table 3. Field names are those
 * of the released files; instructions and layouts are this project's own.
 */

import { closest } from 'fastest-levenshtein';
import { checkValue, text as textField } from '../engine/options.ts';
import { UserError } from '../neurgrad/index.ts';
import type { Field, Task, Wording } from './task.ts';
import { fact, inference, partOfSpeech, review } from './wording.ts';

const LETTERS = ['a', 'b', 'c', 'd', 'e'];

const text: Field = { name: 'text' };

/** Wording of a task in English alone. */
function english(
  instruction: string,
  headings: readonly string[],
  options?: string,
): { readonly en: Wording } {
  return { en: { instruction, headings, ...(options ? { options } : {}), answer: 'Answer' } };
}

/** The 22 tasks of MCEval8K. */
export const TASKS: readonly Task[] = [
  {
    name: 'GED',
    group: 'linguistic',
    folder: 'linguistic/clang8',
    labels: LETTERS.slice(0, 2),
    fields: [{ name: 'sentence1' }, { name: 'sentence2' }],
    gold: { field: 'acceptable' },
    wording: english('Which of the two sentences is grammatically correct? Answer with a or b.', [
      'Sentence a',
      'Sentence b',
    ]),
  },
  {
    name: 'POS',
    group: 'linguistic',
    folder: 'linguistic/postag',
    labels: LETTERS.slice(0, 4),
    fields: [text, { name: 'target_token' }],
    options: 'options',
    gold: { field: 'label' },
    wording: { en: partOfSpeech.en },
  },
  {
    name: 'CHUNK',
    group: 'linguistic',
    folder: 'linguistic/chunking',
    labels: LETTERS.slice(0, 4),
    fields: [text, { name: 'target_chunk', words: true }],
    options: 'options',
    gold: { field: 'label' },
    wording: english(
      'What kind of phrase is the given part of the text? Answer with the letter of the right option: a, b, c or d.',
      ['Text', 'Part'],
      'Options',
    ),
  },
  {
    name: 'NER',
    group: 'linguistic',
    folder: 'linguistic/ner',
    labels: LETTERS.slice(0, 4),
    fields: [text, { name: 'target_chunk', words: true }],
    options: 'options',
    gold: { field: 'label' },
    wording: english(
      'What kind of named entity is the given name in the text? Answer with the letter of the right option: a, b, c or d.',
      ['Text', 'Name'],
      'Options',
    ),
  },
  {
    name: 'Agnews',
    group: 'classification',
    folder: 'classification/agnews',
    labels: LETTERS.slice(0, 4),
    fields: [text],
    gold: { field: 'label' },
    wording: english(
      'What is the topic of the news? Answer with a (world), b (sports), c (business) or d (science and technology).',
      ['News'],
    ),
  },
  {
    name: 'Amazon',
    group: 'classification',
    folder: 'classification/amazon-reviews',
    labels: ['1', '2', '3', '4', '5'],
    fields: [text],
    gold: { field: 'label', first: 1 },
    wording: { en: review.en },
  },
  {
    name: 'IMDB',
    group: 'classification',
    folder: 'classification/imdb',
    labels: ['bad', 'good'],
    fields: [text],
    gold: { field: 'label' },
    wording: english('What does the writer of this review think of the film? Answer with good or bad.', [
      'Review',
    ]),
  },
  {
    name: 'MyriadLAMA',
    group: 'fact',
    folder: 'fact/myriadlama',
    labels: LETTERS.slice(0, 4),
    fields: [text],
    options: 'options',
    gold: { field: 'label' },
    wording: { en: fact.en },
  },
  {
    name: 'FEVER',
    group: 'fact',
    folder: 'fact/fever',
    labels: ['False', 'True'],
    fields: [{ name: 'claim' }],
    gold: { field: 'label' },
    wording: english('Is the claim a fact? Answer with True or False.', ['Claim']),
  },
  {
    name: 'CSQA',
    group: 'fact',
    folder: 'fact/commensenseqa',
    labels: LETTERS,
    fields: [text],
    options: 'options',
    gold: { field: 'label' },
    wording: english(
      'Which option answers the question best? Answer with its letter: a, b, c, d or e.',
      ['Question'],
      'Options',
    ),
  },
  {
    name: 'TempLAMA',
    group: 'fact',
    folder: 'fact/templama',
    labels: LETTERS.slice(0, 4),
    fields: [text],
    options: 'options',
    gold: { field: 'label' },
    wording: english(
      'In which year was the statement true? Answer with the letter of the right option: a, b, c or d.',
      ['Statement'],
      'Options',
    ),
  },
  {
    name: 'PAWS',
    group: 'nli',
    folder: 'nli/paws',
    labels: ['no', 'yes'],
    fields: [{ name: 'sentence1' }, { name: 'sentence2' }],
    gold: { field: 'label' },
    wording: english('Do the two sentences say the same? Answer with yes or no.', [
      'Sentence 1',
      'Sentence 2',
    ]),
  },
  {
    name: 'MNLI',
    group: 'nli',
    folder: 'nli/mnli',
    labels: LETTERS.slice(0, 3),
    fields: [{ name: 'premise' }, { name: 'hypothesis' }],
    gold: { field: 'label' },
    wording: { en: inference.en },
  },
  {
    name: 'SWAG',
    group: 'nli',
    folder: 'nli/swag',
    labels: LETTERS.slice(0, 4),
    fields: [text],
    options: 'options',
    gold: { field: 'label' },
    wording: english(
      'Which option goes on with the text most plausibly? Answer with its letter: a, b, c or d.',
      ['Text'],
      'Options',
    ),
  },
  {
    name: 'HaluEval',
    group: 'self-reflection',
    folder: 'self-reflection/halueval',
    labels: ['no', 'yes'],
    fields: [{ name: 'knowledge' }, { name: 'dialogue' }, { name: 'response' }],
    gold: { field: 'hallucination' },
    wording: english(
      'Does the response say something that the knowledge does not support? Answer with yes or no.',
      ['Knowledge', 'Dialogue', 'Response'],
    ),
  },
  {
    name: 'Toxic',
    group: 'self-reflection',
    folder: 'self-reflection/toxicity',
    labels: ['no', 'yes'],
    fields: [text],
    gold: { field: 'toxic' },
    wording: english('Is the comment toxic? Answer with yes or no.', ['Comment']),
  },
  {
    name: 'Stereoset',
    group: 'self-reflection',
    folder: 'self-reflection/stereoset',
    labels: LETTERS.slice(0, 3),
    fields: [{ name: 'context' }],
    options: 'sentences',
    // The paper does not say which of the three is right; `stereotype` is what the task is named for.
    gold: { field: 'stereotype' },
    wording: english(
      'Which option goes with the context and is a stereotype? Answer with its letter: a, b or c.',
      ['Context'],
      'Options',
    ),
  },
  {
    name: 'LTI',
    group: 'multilingual',
    folder: 'multilingual/lti',
    labels: LETTERS,
    fields: [text],
    gold: { field: 'lang', values: ['en', 'fr', 'de', 'zh', 'es'] },
    wording: english(
      'In which language is the text? Answer with a (English), b (French), c (German), d (Chinese) or e (Spanish).',
      ['Text'],
    ),
  },
  {
    name: 'M-POS',
    group: 'multilingual',
    folder: 'multilingual/mpostag',
    labels: LETTERS.slice(0, 4),
    fields: [text, { name: 'target_token' }],
    options: 'options',
    gold: { field: 'label' },
    wording: partOfSpeech,
  },
  {
    name: 'M-Amazon',
    group: 'multilingual',
    folder: 'multilingual/amazon-review-multi',
    labels: ['1', '2', '3', '4', '5'],
    fields: [{ name: 'review' }],
    gold: { field: 'label', first: 1 },
    wording: review,
  },
  {
    name: 'mLAMA',
    group: 'multilingual',
    folder: 'multilingual/mlama',
    labels: LETTERS.slice(0, 4),
    fields: [text],
    options: 'options',
    gold: { field: 'label' },
    wording: fact,
    source: 'uuid',
  },
  {
    name: 'XNLI',
    group: 'multilingual',
    folder: 'multilingual/xnli',
    labels: LETTERS.slice(0, 3),
    fields: [{ name: 'premise' }, { name: 'hypothesis' }],
    gold: { field: 'label' },
    wording: inference,
    source: 'index',
  },
];

/**
 * Tasks by name or folder, whatever case: `all`, or a list with commas.
 * @throws UserError naming the nearest match.
 * @example
 * ```ts
 * import { parseTasks } from 'neurgrad/probing';
 *
 * console.log(parseTasks('GED,FEVER').map(({ name }) => name)); // → [ 'GED', 'FEVER' ]
 * ```
 */
export function parseTasks(list: string): Task[] {
  checkValue('parseTasks', 'list', textField, list);
  if (list.trim().toLowerCase() === 'all') return [...TASKS];
  const names = list.split(',').map((name) => name.trim());
  return names.map((name) => {
    const found = TASKS.find((task) =>
      [task.name, task.folder, task.folder.split('/')[1]!].some(
        (known) => known.toLowerCase() === name.toLowerCase(),
      ),
    );
    if (found) return found;
    const near = closest(
      name,
      TASKS.map((task) => task.name),
    );
    throw new UserError('task', `unknown task "${name}"; did you mean "${near}"? "all" takes all 22`);
  });
}
