/**
 * A task of one's own: a table of multiple-choice questions (JSONL, JSON, CSV, TSV, Parquet, Arrow), laid out, split, audited and asked as
 * the tasks of MCEval8K that list lettered options.
 *
 * A row has `question` (or `prompt`), `choices` and `answer`; or a `sentence` with [Y], which is asked as it is and answered by the words
 * of `choices`, the same in all rows. It may have `instruction`, `split` and `source`. What is wrong with a row
 * ends the reading, by the row's place and the field's name: it is its author who reads the message.
 */

import { checkValue, like, list, show, text as textField } from '../engine/options.ts';
import { UserError } from '../neurgrad/index.ts';
import { contentKey } from './audit.ts';
import { SPLITS, type Split, type SplitRows, type TaskData, type TaskRow } from './data.ts';
import { BLANK, type Row, readRow, type Task } from './task.ts';
import { TASKS } from './tasks.ts';

/** A row of one's own and where it stands, for messages: `capitals.jsonl:3`. */
export interface OwnRow {
  readonly row: Row;
  readonly where: string;
}

/** A task of one's own with its rows. */
export interface OwnTask {
  readonly task: Task;
  /** Rows by the file's `split`; all in train where it has none. */
  readonly data: TaskData;
  /** Whether the rows say in which split they belong. */
  readonly split: boolean;
}

/** What a task may be called, since its files are. */
export const TASK_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';
const PLACES = [...SPLITS, 'demonstration'] as const;
const [SMALLEST, LARGEST] = [2, LETTERS.length];

const ownRows = list<OwnRow>(
  like(
    (value) =>
      typeof (value as OwnRow | null)?.row === 'object' && typeof (value as OwnRow).where === 'string',
    'a row: { row, where }',
  ),
  'a list of rows: [{ row, where }]',
);

const refused = (where: string, field: string, what: string): UserError =>
  new UserError('data', `${where}: ${field} ${what}`);

/** The field's text. @throws UserError where it is none, or blank. */
function textOf({ row, where }: OwnRow, field: string): string {
  const value = row[field];
  if (value === undefined || value === null)
    throw refused(where, field, `is missing; fields are ${Object.keys(row).join(', ') || 'none'}`);
  if (typeof value === 'number' || (typeof value === 'string' && value.trim() !== ''))
    return String(value).trim();
  throw refused(where, field, `is ${show(value)}, expected a text`);
}

const given = ({ row }: OwnRow, field: string): boolean =>
  row[field] !== undefined && row[field] !== null && row[field] !== '';

/** The choices: a list, or in a table of texts one text with `|` between. */
function choicesOf(own: OwnRow): string[] {
  const { row, where } = own;
  const value = typeof row.choices === 'string' ? row.choices.split('|') : row.choices;
  if (value === undefined || value === null) textOf(own, 'choices');
  if (!Array.isArray(value)) throw refused(where, 'choices', `is ${show(value)}, expected a list of texts`);
  const choices = value.map((choice, i) => {
    if (typeof choice === 'number' || (typeof choice === 'string' && choice.trim() !== ''))
      return String(choice).trim();
    throw refused(where, `choices[${i}]`, `is ${show(choice)}, expected a text`);
  });
  if (choices.length < SMALLEST || choices.length > LARGEST)
    throw refused(where, 'choices', `has ${choices.length} texts, expected ${SMALLEST} to ${LARGEST}`);
  const twice = choices.find((choice, i) => choices.indexOf(choice) < i);
  if (twice !== undefined) throw refused(where, 'choices', `has ${show(twice)} twice`);
  return choices;
}

/** Place of the right choice: its text, its letter, or its place from 0, of which no two may say different things. */
function answerOf(own: OwnRow, choices: readonly string[]): number {
  const answer = textOf(own, 'answer');
  const letter = answer.length === 1 ? LETTERS.indexOf(answer.toLowerCase()) : -1;
  const readings = [
    choices.indexOf(answer),
    letter < choices.length ? letter : -1,
    /^\d+$/.test(answer) && Number(answer) < choices.length ? Number(answer) : -1,
  ].filter((place) => place >= 0);
  const places = [...new Set(readings)];
  if (places.length === 1) return places[0]!;
  const letters = `${LETTERS[0]} to ${LETTERS[choices.length - 1]}`;
  throw refused(
    own.where,
    'answer',
    places.length === 0
      ? `${show(answer)} is none of the choices (${choices.join(', ')}), of their letters (${letters}) or places (0 to ${choices.length - 1})`
      : `${show(answer)} may be ${places.map((place) => show(choices[place]!)).join(' or ')}; choices that are letters or numbers need an answer that is one of them and no other's letter or place`,
  );
}

const lettered = (count: number): string => {
  const letters = [...LETTERS.slice(0, count)];
  return `${letters.slice(0, -1).join(', ')} or ${letters.at(-1)}`;
};

/** The task that rows of `choices` options make. @param instruction default: which option answers best. */
export function ownTaskOf(name: string, choices: number, instruction?: string): Task {
  return {
    name,
    group: 'own',
    folder: `own/${name}`,
    labels: [...LETTERS.slice(0, choices)],
    fields: [{ name: 'question' }],
    options: 'choices',
    gold: { field: 'answer' },
    source: 'source',
    wording: {
      en: {
        instruction:
          instruction ??
          `Which option answers the question best? Answer with its letter: ${lettered(choices)}.`,
        headings: ['Question'],
        options: 'Options',
        answer: 'Answer',
      },
    },
  };
}

/** The task that sentences with a blank make, which the labels fill. @param instruction default none. */
export function clozeTaskOf(name: string, labels: readonly string[], instruction = ''): Task {
  return {
    ...{ name, group: 'own', folder: `own/${name}`, labels, cloze: true },
    fields: [{ name: 'sentence' }],
    gold: { field: 'answer' },
    source: 'source',
    wording: { en: { instruction, headings: [], answer: 'Answer' } },
  };
}

/** Whether labels are those of lettered options. */
export const areLetters = (labels: readonly string[]): boolean =>
  labels.every((label, i) => label === LETTERS[i]);

/** Fields that hold the question, of which a row has one. */
const QUESTIONS = ['question', 'prompt', 'sentence'] as const;

/** A row as the task's own fields. @param unanswered to be classified: it needs no answer. */
export function ownFields(own: OwnRow, unanswered = false): Row {
  const [asked = 'question', other] = QUESTIONS.filter((field) => given(own, field));
  if (other !== undefined) throw refused(own.where, other, `stands beside ${asked}; give one of them`);
  const choices = choicesOf(own);
  const question = textOf(own, asked);
  if (asked === 'sentence') {
    if (question.split(BLANK).length !== 2)
      throw refused(own.where, asked, `needs one ${BLANK}, where the answer stands`);
    if (areLetters(choices))
      throw refused(
        own.where,
        'choices',
        'are letters, which stand for options: give question, not sentence',
      );
  }
  return {
    [asked === 'sentence' ? asked : 'question']: question,
    choices,
    answer: unanswered && !given(own, 'answer') ? 0 : answerOf(own, choices),
    ...(given(own, 'source') ? { source: textOf(own, 'source') } : {}),
  };
}

/**
 * A task of one's own from its rows.
 * @param name letters, digits, `-` and `_`; none of MCEval8K's.
 * @param file what the splits' rows are said to come from; default the name.
 * @throws UserError naming the row and the field that is not as it should be.
 * @example
 * ```ts
 * import { ownTask } from 'neurgrad/probing';
 *
 * const rows = ['Rome|Oslo', 'Paris|Lima'].map((choices, i) => ({
 *   row: { question: `Where is tower ${i}?`, choices, answer: i === 0 ? 'Rome' : 'a' },
 *   where: `row ${i}`,
 * }));
 * const { task, data } = ownTask('towers', rows);
 * console.log(task.labels, data.train.rows.map(({ question }) => question.gold)); // → [ 'a', 'b' ] [ 0, 0 ]
 * ```
 */
export function ownTask(name: string, rows: readonly OwnRow[], file = name): OwnTask {
  checkValue('ownTask', 'name', textField, name);
  checkValue('ownTask', 'file', textField, file);
  checkValue('ownTask', 'rows', ownRows, rows);
  if (!TASK_NAME.test(name))
    throw new UserError(
      'task',
      `ownTask: name ${show(name)} is no name of a task: letters, digits, - and _, 64 at most; rename the file`,
    );
  if (TASKS.some((task) => task.name.toLowerCase() === name.toLowerCase()))
    throw new UserError('task', `ownTask: name ${name} is that of a task of MCEval8K; rename the file`);
  if (rows.length === 0) throw new UserError('data', `${name}: has no rows`);
  const read = rows.map((own) => ({ ...own, fields: ownFields(own) }));
  const count = (fields: Row): number => (fields.choices as string[]).length;
  const first = read[0]!;
  const other = read.find(({ fields }) => count(fields) !== count(first.fields));
  if (other)
    throw refused(
      other.where,
      'choices',
      `has ${count(other.fields)} texts, ${first.where} has ${count(first.fields)}; a task needs the same number in all rows`,
    );
  const instructed = rows.filter((own) => given(own, 'instruction'));
  const instruction = instructed[0] && textOf(instructed[0], 'instruction');
  const different = instructed.find((own) => textOf(own, 'instruction') !== instruction);
  if (different)
    throw refused(
      different.where,
      'instruction',
      `differs from that of ${instructed[0]!.where}; a task has one instruction`,
    );
  const placed = rows.filter((own) => given(own, 'split') && own.row.split !== 'demonstration');
  for (const own of rows)
    if (given(own, 'split') && !PLACES.some((place) => place === own.row.split))
      throw refused(own.where, 'split', `is ${show(own.row.split)}, expected ${PLACES.join(', ')}`);
  const unplaced = rows.find((own) => !given(own, 'split'));
  if (placed.length > 0 && unplaced)
    throw refused(
      unplaced.where,
      'split',
      `is missing, ${placed[0]!.where} has one; give it to all rows or to none`,
    );

  const isCloze = ({ fields }: (typeof read)[0]): boolean => fields.sentence !== undefined;
  const mixed = read.find((own) => isCloze(own) !== isCloze(first));
  if (mixed)
    throw refused(
      mixed.where,
      isCloze(mixed) ? 'sentence' : 'question',
      `stands where ${first.where} has a ${isCloze(first) ? 'sentence' : 'question'}; a task asks in one way`,
    );
  const labels = first.fields.choices as string[];
  if (isCloze(first))
    for (const { fields, where } of read) {
      const choices = fields.choices as string[];
      const strange = choices.find((choice) => !labels.includes(choice));
      if (strange !== undefined)
        throw refused(
          where,
          'choices',
          `has ${show(strange)}, ${first.where} has ${labels.join(', ')}; sentences of a task are filled from the same words`,
        );
      // In the order of the labels, whatever the row's own.
      Object.assign(fields, { answer: labels.indexOf(choices[fields.answer as number]!) });
    }
  const bare = isCloze(first)
    ? clozeTaskOf(name, labels, instruction)
    : ownTaskOf(name, count(first.fields), instruction);
  const taskRows = read.map(({ fields, where }, index): TaskRow & { where: string } => {
    const found = readRow(bare, fields);
    // All that a row can lack has been looked for.
    if ('problem' in found) throw refused(where, 'row', `is no question: ${found.problem}`);
    return { index, from: null, row: fields, question: found.question, where };
  });
  const placeOf = ({ index }: TaskRow): unknown => rows[index]!.row.split;
  const isShown = (row: TaskRow): boolean => placeOf(row) === 'demonstration';
  const demonstrations = taskRows.filter(isShown);
  for (const shown of demonstrations) {
    const again = taskRows.find((row) => !isShown(row) && contentKey(row) === contentKey(shown));
    if (again) throw refused(again.where, 'question', `is shown as a demonstration, too, by ${shown.where}`);
  }
  const of = (split: Split): SplitRows => {
    const found = taskRows
      .filter((row) => !isShown(row) && (placed.length > 0 ? placeOf(row) : 'train') === split)
      .map(({ where: _, ...row }) => row);
    return { file: found.length > 0 ? file : null, rows: found, bad: [] };
  };
  return {
    task: demonstrations.length > 0 ? { ...bare, demonstrations } : bare,
    data: { train: of('train'), valid: of('valid'), test: of('test') },
    split: placed.length > 0,
  };
}

/**
 * A task of one's own from its file, named as the file without its ending (Node).
 * @throws UserError naming file, row and field.
 */
export async function readOwnTask(path: string): Promise<OwnTask> {
  checkValue('readOwnTask', 'path', textField, path);
  const { readTable } = await import('../neurgrad/study/tableFile.ts');
  const { basename, extname } = await import('node:path');
  return ownTask(basename(path, extname(path)), readTable(path), basename(path));
}
