/**
 * The rows of a task's splits, as the release has them: FOLDER/linguistic/clang8/train.json and its like, each a JSON
 * list, JSON lines or Parquet. Every row is read; those that are no question are kept as problems with their number.
 */

import { checkValue, like, list } from '../engine/options.ts';
import { hasNodeModules } from '../engine/runtime.ts';
import { addressOf, boundedRunner } from '../models/boundedProcess.ts';
import type { ByteFolder, ByteSource } from '../models/index.ts';
import { parseJson } from '../models/json.ts';
import { POINTER_LIMIT, refusePointer } from '../models/lfsPointer.ts';
import { UserError } from '../neurgrad/index.ts';
import { checkGiven } from '../neurgrad/lists.ts';
import { checkTask, type Question, type Row, readRow, type Task } from './task.ts';

/** The splits of a task. */
export const SPLITS = ['train', 'valid', 'test'] as const;
/** One of {@link SPLITS}. */
export type Split = (typeof SPLITS)[number];

/** Names that other exporters give the splits. */
const STEMS: Readonly<Record<Split, readonly string[]>> = {
  train: ['train'],
  valid: ['valid', 'validation', 'dev'],
  test: ['test'],
};
const ENDINGS = ['.json', '.jsonl', '.parquet'];

/** A row that is a question. */
export interface TaskRow {
  /** Place in its file, from 0. */
  readonly index: number;
  /** The split that its file is of; null where a file is of no split. */
  readonly from: Split | null;
  readonly row: Row;
  readonly question: Question;
}

/** A row that is none. */
export interface BadRow {
  readonly index: number;
  readonly problem: string;
}

/** Rows of one split's file, sorted into questions and others. */
export interface SplitRows {
  /** File the rows came from, relative to the folder; null where there is none. */
  readonly file: string | null;
  readonly rows: readonly TaskRow[];
  readonly bad: readonly BadRow[];
}

/** All rows of a task. */
export type TaskData = Readonly<Record<Split, SplitRows>>;

/** @returns null where the folder has none of the task's files. @throws UserError for a file that cannot be read. */
export async function readTask(folder: ByteFolder, task: Task): Promise<TaskData | null> {
  checkGiven('readTask', 'folder', folder, 'open', 'a folder, which localFolder or resolveDataFolder gives');
  checkTask('readTask', task);
  const splits = {} as Record<Split, SplitRows>;
  for (const split of SPLITS) splits[split] = await readSplit(folder, task, split);
  return SPLITS.some((split) => splits[split].file !== null) ? splits : null;
}

async function readSplit(folder: ByteFolder, task: Task, split: Split): Promise<SplitRows> {
  const file = await findFile(folder, task, split);
  if (file === null) return { file, rows: [], bad: [] };
  const { rows, bad } = sortRows(task, await readRecords(folder, file));
  return { file, rows: rows.map((row) => ({ ...row, from: split })), bad };
}

async function findFile(folder: ByteFolder, task: Task, split: Split): Promise<string | null> {
  for (const place of [task.folder, task.folder.split('/')[1]!, task.name]) {
    for (const stem of STEMS[split]) {
      for (const ending of ENDINGS) {
        const file = `${place}/${stem}${ending}`;
        if (await folder.has(file)) return file;
      }
    }
  }
  return null;
}

/** Questions and problems among the records of one file. */
export function sortRows(task: Task, records: readonly unknown[]): Omit<SplitRows, 'file'> {
  checkTask('sortRows', task);
  checkGiven('sortRows', 'records', records, 'forEach', 'a list of records');
  const rows: TaskRow[] = [];
  const bad: BadRow[] = [];
  records.forEach((record, index) => {
    const read = readRow(task, record);
    if ('problem' in read) bad.push({ index, problem: read.problem });
    else rows.push({ index, from: null, row: record as Row, question: read.question });
  });
  return { rows, bad };
}

async function readRecords(folder: ByteFolder, file: string): Promise<unknown[]> {
  const fail = (what: string, cause?: unknown) =>
    new UserError('data', `${folder.name}/${file}: ${what}`, { cause });
  if (file.endsWith('.parquet')) return readParquet(await folder.open(file), fail);
  const text = await folder.readText(file);
  const name = `${folder.name}/${file}`;
  if (file.endsWith('.jsonl'))
    return text
      .split('\n')
      .flatMap((line, i) => (line.trim() === '' ? [] : [parseJson(line, `${name}:${i + 1}`, 'data')]));
  const parsed = parseJson(text, name, 'data');
  if (Array.isArray(parsed)) return parsed;
  throw fail('is not a list of rows');
}

/** A Parquet reader given a hostile file may do anything, even run for ever or fail where nobody waits for it. */
const PROGRAM = `
const { readFileSync } = process.getBuiltinModule('fs');
const input = readFileSync(0);
const { library } = JSON.parse(input.subarray(4, 4 + input.readUInt32LE(0)));
const { parquetReadObjects } = await import(library);
const bytes = input.subarray(4 + input.readUInt32LE(0));
const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
let answer;
try {
  const records = await parquetReadObjects({ file });
  answer = JSON.stringify({ records }, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
} catch (error) {
  // The reader's own words; where it stumbles, its words are about itself, or of what is not there.
  const stumbles = error instanceof TypeError || error instanceof RangeError || /undefined/.test(error?.message);
  answer = JSON.stringify({ reason: stumbles ? 'it is damaged' : String(error?.message).split('\\n')[0].slice(0, 200) });
}
process.stdout.write(answer);
`;
/** Ten times what a task's largest file of the release takes. */
const BOUNDS = { seconds: 60, mebibytes: 2048, answer: 2 ** 29 };
const LARGEST_FILE = 2 ** 28;

async function readParquet(
  source: ByteSource,
  fail: (what: string, cause?: unknown) => UserError,
): Promise<unknown[]> {
  try {
    if (source.size > LARGEST_FILE) throw new Error(`it has more than ${LARGEST_FILE / 2 ** 20} MiB`);
    const bytes = await source.read(0, source.size);
    if (source.size < POINTER_LIMIT) refusePointer(source.name, new TextDecoder().decode(bytes));
    return hasNodeModules() ? await decodeApart(bytes) : await decodeHere(bytes);
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw fail(`cannot be read as Parquet (${String((cause as Error).message).split('\n')[0]})`, cause);
  } finally {
    await source.close();
  }
}

async function decodeApart(bytes: Uint8Array): Promise<unknown[]> {
  const run = await boundedRunner();
  const about = Buffer.from(JSON.stringify({ library: await addressOf('hyparquet') }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(about.length);
  const answer = JSON.parse(run(PROGRAM, Buffer.concat([length, about, bytes]), BOUNDS)) as
    | { records: unknown[] }
    | { reason: string };
  if ('reason' in answer) throw new Error(answer.reason);
  return answer.records;
}

/** Where there are no processes: a page, whose worker the browser ends. */
async function decodeHere(bytes: Uint8Array): Promise<unknown[]> {
  const { parquetReadObjects } = await import('hyparquet');
  const records = await parquetReadObjects({ file: bytes.slice().buffer as ArrayBuffer });
  // Parquet's 64-bit integers come as BigInt.
  return records.map((record) =>
    Object.fromEntries(
      Object.entries(record).map(([key, value]) => [key, typeof value === 'bigint' ? Number(value) : value]),
    ),
  );
}

/** Rows by label; every label has its list. */
export function byLabel<Item extends { readonly question: Question }>(
  task: Task,
  rows: readonly Item[],
): Item[][] {
  checkTask('byLabel', task);
  checkRows('byLabel', rows);
  return task.labels.map((_, gold) => rows.filter(({ question }) => question.gold === gold));
}

/** Problems with how often and, of the first few, where. */
export interface ProblemCount {
  readonly problem: string;
  readonly count: number;
  readonly rows: readonly number[];
}

const badRows = list<BadRow>(
  like(
    (value) => typeof (value as Partial<BadRow> | null)?.problem === 'string',
    'a row: { index, problem }',
  ),
  'a list of rows: [{ index, problem }]',
);
const questions = list<{ readonly question: Question }>(
  like(
    (value) => typeof (value as { question?: unknown } | null)?.question === 'object',
    'a row with its question, as readTask and sortRows give',
  ),
  'a list of rows, which readTask and sortRows give',
);
/** @throws UserError for what are no rows with their questions. */
export const checkRows = (door: string, rows: unknown, name = 'rows'): void =>
  checkValue(door, name, questions, rows);

/** @throws UserError for what is no data of a task. */
export function checkData(door: string, data: TaskData): void {
  for (const split of SPLITS)
    checkGiven(
      door,
      `data.${split}`,
      (data ?? ({} as TaskData))[split],
      'rows',
      'the data of a task, which readTask gives',
    );
}

/** Rows listed of each problem. */
const LISTED = 20;

/** Problems from the most frequent on. */
export function countProblems(bad: readonly BadRow[]): ProblemCount[] {
  checkValue('countProblems', 'bad', badRows, bad);
  const problems = new Map<string, number[]>();
  for (const { index, problem } of bad) problems.set(problem, [...(problems.get(problem) ?? []), index]);
  return [...problems]
    .map(([problem, rows]) => ({ problem, count: rows.length, rows: rows.slice(0, LISTED) }))
    .sort((a, b) => b.count - a.count);
}
