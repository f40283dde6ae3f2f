/**
 * Do a task's splits leak? Rows of one split that stand in another too, rows that stand twice in their own, the same
 * question with different answers, labels out of balance, rows that cannot be asked.
 *
 * Rows are compared as the file has them (`exact`, identifiers aside), as questions (`content`: what the model would read,
 * whatever case, width and spacing), and by what they are about (`source`).
 */

import { checkValue, like, list, one } from '../engine/options.ts';
import { checkGiven } from '../neurgrad/lists.ts';
import {
  checkData,
  countProblems,
  type ProblemCount,
  SPLITS,
  type Split,
  type TaskData,
  type TaskRow,
} from './data.ts';
import { checkTask, normalised, type Task } from './task.ts';

/** Rows of `from` that stand in `in` too. */
export interface Leak {
  readonly from: Split;
  readonly in: Split;
  readonly exact: number;
  readonly content: number;
  /** Rows about the same thing: one text with other words asked for, one fact in another language. */
  readonly source: number;
}

/** What is in one split. */
export interface SplitAudit {
  readonly file: string | null;
  readonly rows: number;
  /** Rows whose content an earlier row of the split has. */
  readonly duplicates: number;
  /** Rows of each label, in label order. */
  readonly labels: readonly number[];
  /** Labels without a row. */
  readonly emptyLabels: readonly string[];
  readonly problems: readonly ProblemCount[];
  /** Rows whose right option stands among the options twice. */
  readonly ambiguous: number;
}

/** What is in one task's splits, and what they share. */
export interface TaskAudit {
  readonly task: string;
  readonly splits: Readonly<Record<Split, SplitAudit>>;
  /** Every ordered pair of splits that there are. */
  readonly leaks: readonly Leak[];
  /** Questions that stand with different labels, over all splits. */
  readonly contradictions: number;
}

/** What identifies a row in its file, its own number aside. */
const IDENTIFIERS = new Set(['uuid', 'index', 'id']);

/** A row as it stands in its file, but for numbers that only name it. */
export function exactKey({ row }: TaskRow): string {
  const fields = Object.entries(row).filter(([name]) => !IDENTIFIERS.has(name));
  return JSON.stringify(fields.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The question as text to compare by, without its label. */
export function contentKey({ question }: Pick<TaskRow, 'question'>): string {
  return normalised(question.text);
}

/** Counts leaks, duplicates and contradictions of one task. */
export function auditTask(task: Task, data: TaskData): TaskAudit {
  checkTask('auditTask', task);
  checkData('auditTask', data);
  const exact = keysOf(data, exactKey);
  const content = keysOf(data, contentKey);
  const source = keysOf(data, ({ question }) => question.source);
  const present = SPLITS.filter((split) => data[split].file !== null);
  const common = (keys: Record<Split, readonly string[]>, from: Split, other: Split): number => {
    const there = new Set(keys[other]);
    return keys[from].filter((key) => there.has(key)).length;
  };
  const answers = new Map<string, Set<number>>();
  for (const split of present) {
    for (const row of data[split].rows) {
      const key = contentKey(row);
      answers.set(key, (answers.get(key) ?? new Set()).add(row.question.gold));
    }
  }
  return {
    task: task.name,
    splits: {
      train: auditSplit(task, data, 'train', content.train),
      valid: auditSplit(task, data, 'valid', content.valid),
      test: auditSplit(task, data, 'test', content.test),
    },
    leaks: present.flatMap((from) =>
      present
        .filter((other) => other !== from)
        .map((other) => ({
          from,
          in: other,
          exact: common(exact, from, other),
          content: common(content, from, other),
          source: common(source, from, other),
        })),
    ),
    contradictions: [...answers.values()].filter((labels) => labels.size > 1).length,
  };
}

function keysOf(data: TaskData, key: (row: TaskRow) => string): Record<Split, string[]> {
  return { train: data.train.rows.map(key), valid: data.valid.rows.map(key), test: data.test.rows.map(key) };
}

function auditSplit(task: Task, data: TaskData, split: Split, content: readonly string[]): SplitAudit {
  const { file, rows, bad } = data[split];
  const labels = task.labels.map((_, gold) => rows.filter(({ question }) => question.gold === gold).length);
  return {
    file,
    rows: rows.length + bad.length,
    duplicates: content.length - new Set(content).size,
    labels,
    emptyLabels: file === null ? [] : task.labels.filter((_, gold) => labels[gold] === 0),
    problems: countProblems(bad),
    ambiguous: rows.filter(({ question }) => question.ambiguous).length,
  };
}

const splitField = one(SPLITS);
const byField = one(['content', 'source']);

/** Share of a split's rows that stand in another split too, as questions or by source; 0 where either is missing. */
export function leakShare(
  audit: TaskAudit,
  from: Split,
  other: Split,
  by: 'content' | 'source' = 'content',
): number {
  checkValue('leakShare', 'from', splitField, from);
  checkValue('leakShare', 'other', splitField, other);
  checkValue('leakShare', 'by', byField, by);
  checkGiven('leakShare', 'audit', audit, 'leaks', 'what auditTask gives');
  const leak = audit.leaks.find((l) => l.from === from && l.in === other);
  const questions = audit.splits[from].labels.reduce((sum, count) => sum + count, 0);
  return leak && questions > 0 ? leak[by] / questions : 0;
}

const auditList = list<TaskAudit>(
  like((value) => Array.isArray((value as Partial<TaskAudit> | null)?.leaks), 'what auditTask gives'),
  'a list of audits, which auditTask gives',
);

/** Share of common rows from which two splits count as the same. */
export const SAME_SPLIT = 0.99;

/** What is wrong with a release, by kind. */
export interface AuditSummary {
  /** Tasks whose valid and test are the same, at 99% of rows or more. */
  readonly validIsTest: readonly string[];
  /** Tasks with test rows in train, and how many of the test rows. */
  readonly testInTrain: readonly { readonly task: string; readonly share: number }[];
  readonly validInTrain: readonly { readonly task: string; readonly share: number }[];
  /** Tasks with test rows that are about the same thing as rows of train. */
  readonly testSourceInTrain: readonly { readonly task: string; readonly share: number }[];
  readonly missingFiles: readonly string[];
  readonly contradictions: readonly string[];
  readonly badRows: number;
}

/** The audit of a whole release in one record. */
export function summariseAudits(audits: readonly TaskAudit[]): AuditSummary {
  checkValue('summariseAudits', 'audits', auditList, audits);
  const sharing = (from: Split, other: Split, by: 'content' | 'source' = 'content') =>
    audits
      .map((audit) => ({ task: audit.task, share: leakShare(audit, from, other, by) }))
      .filter(({ share }) => share > 0);
  return {
    validIsTest: sharing('valid', 'test')
      .filter(({ share }) => share >= SAME_SPLIT)
      .map(({ task }) => task),
    testInTrain: sharing('test', 'train'),
    validInTrain: sharing('valid', 'train'),
    testSourceInTrain: sharing('test', 'train', 'source'),
    missingFiles: audits.flatMap(({ task, splits }) =>
      SPLITS.filter((split) => splits[split].file === null).map((split) => `${task} ${split}`),
    ),
    contradictions: audits.filter(({ contradictions }) => contradictions > 0).map(({ task }) => task),
    badRows: audits.reduce(
      (sum, { splits }) =>
        sum +
        SPLITS.reduce(
          (all, split) => all + splits[split].problems.reduce((count, problem) => count + problem.count, 0),
          0,
        ),
      0,
    ),
  };
}
