/**
 * A task: which fields a row of its file has, how a question is laid out from them, and which label is right (docs/probing.md#what-is-computed).
 *
 * Rows are checked field by field; what is wrong with one is a sentence to be counted and listed, not an exception that
 * ends a run. A question ends in its answer heading, without a space, and a label follows directly.
 */

import * as v from 'valibot';
import { checkValue, like, show } from '../engine/options.ts';
import { checkGiven } from '../neurgrad/lists.ts';

const textField = like<string>((value) => typeof value === 'string', 'a text');

/** The place of the answer in a sentence, as the field's templates have it. */
export const BLANK = '[Y]';

/** A record of a task's file, whatever its fields. */
export type Row = Readonly<Record<string, unknown>>;

/** Languages of the release. */
export const LANGUAGES = ['de', 'en', 'es', 'fr', 'zh'] as const;
/** One of {@link LANGUAGES}. */
export type Language = (typeof LANGUAGES)[number];

/** The words around the data, in one language. */
export interface Wording {
  readonly instruction: string;
  /** Headings in the order of the task's fields. */
  readonly headings: readonly string[];
  /** Heading of the options, where the task has any. */
  readonly options?: string;
  /** Heading that the label follows. */
  readonly answer: string;
}

/** A field shown in the question: its name in the file, and whether it holds one text or a list of words. */
export interface Field {
  readonly name: string;
  readonly words?: boolean;
}

/** How a task's rows become questions. */
export interface Task {
  /** As the paper's Table 3 names it. */
  readonly name: string;
  readonly group: string;
  /** Folder of its files in the released data. */
  readonly folder: string;
  /** Label words, in the order of gold numbers: the candidates. */
  readonly labels: readonly string[];
  readonly fields: readonly Field[];
  /**
   * Questions are sentences with {@link BLANK} where the answer stands, asked as they are, and labels the words that fill it; default: a
   * label follows the answer heading.
   */
  readonly cloze?: boolean;
  /** Field that lists the options, one for each label. */
  readonly options?: string;
  /** Field that holds the right label, and what stands for the first label there (default 0). */
  readonly gold: { readonly field: string; readonly first?: number; readonly values?: readonly string[] };
  /** Wording for each language; a task in English alone has `en` and its rows need no `lang`. */
  readonly wording: Readonly<Partial<Record<Language, Wording>>>;
  /** Fields of which rows about the same thing share the value; default the first field shown. */
  readonly source?: string;
  /** Rows shown before every question, in this order; default one of each label, drawn from train. */
  readonly demonstrations?: readonly { readonly index: number; readonly question: Question }[];
}

/** A row as a question. */
export interface Question {
  readonly language: Language;
  /** Ends in the answer heading; of a cloze task the sentence. */
  readonly text: string;
  readonly gold: number;
  /** Rows with the same source say the same thing in part: they belong in one split. */
  readonly source: string;
  /** The right option stands among the options twice. */
  readonly ambiguous: boolean;
}

/** A question, or why a row is none. */
export type ReadRow = { readonly question: Question } | { readonly problem: string };

const filled = v.pipe(v.string(), v.trim(), v.nonEmpty());
const words = v.pipe(v.array(v.string()), v.nonEmpty());
const optionText = v.union([filled, v.number()]);

/** @throws UserError for what is no task. */
export const checkTask = (door: string, task: Task): void =>
  checkGiven(door, 'task', task, 'labels', 'a task, which parseTasks gives');

/** Reads a row. A bad row is a `problem`, never an exception. @throws UserError for what is no task */
export function readRow(task: Task, row: unknown): ReadRow {
  checkTask('readRow', task);
  if (nestsDeeper(row, DEEPEST)) return { problem: `nests more than ${DEEPEST} deep` };
  const fields = v.object(
    Object.fromEntries(task.fields.map(({ name, words: list }) => [name, list ? words : filled])),
  );
  const parsed = v.safeParse(fields, row);
  if (!parsed.success) return { problem: missing(parsed.issues[0], row) };
  const record = row as Row;
  const language = languageOf(task, record);
  if (!language) return { problem: `lang ${show(record.lang)} is none of ${languages(task)}` };

  const gold = goldOf(task, record);
  if (typeof gold === 'string') return { problem: gold };
  let options: string[] | undefined;
  if (task.options !== undefined) {
    const listed = v.safeParse(v.array(optionText), record[task.options]);
    if (!listed.success) return { problem: missing(listed.issues[0], row, task.options) };
    options = listed.output.map(String);
    if (gold >= options.length) {
      return { problem: `options without the answer: label ${gold} of ${options.length} options` };
    }
    if (options.length !== task.labels.length) {
      return { problem: `${options.length} options for ${task.labels.length} labels` };
    }
  }
  const shown = task.fields.map(({ name }) => {
    const value = parsed.output[name]!;
    return Array.isArray(value) ? value.join(' ') : value;
  });
  const about = record[task.source ?? ''];
  const source = typeof about === 'string' || typeof about === 'number' ? about : undefined;
  return {
    question: {
      language,
      text: layOut(task, task.wording[language]!, shown, options),
      gold,
      source: normalised(source === undefined ? shown[0]! : String(source)),
      ambiguous: options !== undefined && options.filter((option) => option === options[gold]).length > 1,
    },
  };
}

/** Levels of a row; what writes rows would overflow the stack far below what a file can hold. */
const DEEPEST = 100;

function nestsDeeper(root: unknown, limit: number): boolean {
  let level = [root];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    level = level.flatMap((value) =>
      typeof value === 'object' && value !== null ? Object.values(value) : [],
    );
  }
  return false;
}

function layOut(
  task: Task,
  wording: Wording,
  shown: readonly string[],
  options: readonly string[] | undefined,
): string {
  if (task.cloze) return shown.join('\n');
  const lines = shown.map((value, i) => `### ${wording.headings[i]}: ${value}`);
  if (options) {
    lines.push(`### ${wording.options}:`, ...options.map((option, i) => `${task.labels[i]}. ${option}`));
  }
  return [...lines, `### ${wording.answer}:`].join('\n');
}

function goldOf(task: Task, row: Row): number | string {
  const { field, first = 0, values } = task.gold;
  const value = row[field];
  if (value === undefined || value === null || value === '') return `${field}: missing`;
  // A list of one number would count as that number.
  const written = typeof value === 'object' ? '' : String(value).trim();
  const number = typeof value === 'boolean' ? Number(value) : written === '' ? Number.NaN : Number(written);
  const gold = values ? values.indexOf(written) : number - first;
  if (Number.isInteger(gold) && gold >= 0 && gold < task.labels.length) return gold;
  const known = values ? values.join(', ') : `${first} to ${first + task.labels.length - 1}`;
  return `${field} ${show(value)} is outside ${known}`;
}

function languageOf(task: Task, row: Row): Language | undefined {
  const known = Object.keys(task.wording) as Language[];
  if (known.length === 1) return known[0];
  return known.find((language) => language === row.lang);
}

const languages = (task: Task): string => Object.keys(task.wording).join(', ');

function missing(issue: v.BaseIssue<unknown>, row: unknown, field?: string): string {
  if (typeof row !== 'object' || row === null) return 'not an object';
  const name = field ?? String(issue.path?.[0]?.key ?? '');
  const value = (row as Row)[name];
  if (value === undefined || value === null) return `${name}: missing`;
  return `${name}: ${value === '' || (Array.isArray(value) && value.length === 0) ? 'empty' : 'not what it should be'}`;
}

/** Text by which two rows count as the same: letters alone, whatever case, width and spacing. */
export function normalised(text: string): string {
  if (typeof text !== 'string') checkValue('normalised', 'text', textField, text);
  return text.normalize('NFKC').toLowerCase().replace(/\s+/gu, ' ').trim();
}
