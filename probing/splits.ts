/**
 * Clean splits from whatever rows there are: pooled, deduplicated, disjoint by source, balanced over labels (and languages),
 * drawn with a seed.
 *
 * Rows about the same source (one text with different target words, one fact in five languages) go into one split, so that
 * nothing of a test question has been seen. Questions that stand with different labels are left out altogether.
 */

import { callback, checkValue, like } from '../engine/options.ts';
import { seededRandom } from '../neurgrad/index.ts';
import { checkNumber, FINITE } from '../neurgrad/lists.ts';
import { contentKey } from './audit.ts';
import { checkData, SPLITS, type Split, type TaskData, type TaskRow } from './data.ts';
import { checkTask, type Task } from './task.ts';

/** Rows of each split that the release has: 6 to 1 to 1. */
export const RELEASED_SIZES: Readonly<Record<Split, number>> = { train: 6000, valid: 1000, test: 1000 };
const PARTS = 8;

/** Splits, and what became of the other rows. */
export interface CleanSplits {
  readonly rows: Readonly<Record<Split, readonly TaskRow[]>>;
  /** What became of the rows that are in no split. */
  readonly left: {
    /** Not a question: fields missing, options without the answer. */
    readonly bad: number;
    readonly duplicates: number;
    /** Same question, different labels. */
    readonly contradictions: number;
    /** Over the number that all labels (and languages) can have alike. */
    readonly unbalanced: number;
  };
}

const anyList = like<unknown[]>(Array.isArray, 'a list');
const randomField = callback<() => number>();

/** Mixes a list in place (Fisher and Yates). */
export function shuffle<Item>(items: Item[], random: () => number): Item[] {
  checkValue('shuffle', 'items', anyList, items);
  checkValue('shuffle', 'random', randomField, random);
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}

/** A number for a text, to give each task draws of its own. FNV-1a (Fowler, Noll, Vo). */
export function textSeed(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (const character of text) hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
  return hash >>> 0;
}

/** Splits that share nothing, of all rows of a task; the seed decides which row goes where. */
export function cleanSplits(task: Task, data: TaskData, seed: number): CleanSplits {
  checkTask('cleanSplits', task);
  checkData('cleanSplits', data);
  checkNumber('cleanSplits', 'seed', seed, FINITE);
  const all = SPLITS.flatMap((split) => data[split].rows);
  const bad = SPLITS.reduce((sum, split) => sum + data[split].bad.length, 0);
  const questions = new Map<string, TaskRow | null>();
  for (const row of all) {
    const key = contentKey(row);
    const first = questions.get(key);
    if (first === undefined) questions.set(key, row);
    else if (first !== null && first.question.gold !== row.question.gold) questions.set(key, null);
  }
  const contradicted = all.filter((row) => questions.get(contentKey(row)) === null).length;
  const unique = [...questions.values()].filter((row) => row !== null);

  const cell = ({ question }: TaskRow): string => `${question.gold} ${question.language}`;
  const sizes = new Map<string, number>();
  for (const row of unique) sizes.set(cell(row), (sizes.get(cell(row)) ?? 0) + 1);
  // A label that no row has cannot be balanced; the audit tells of it.
  const smallest = sizes.size === 0 ? 0 : Math.min(...sizes.values());
  const quota = (split: Split): number => {
    const part = Math.floor(smallest / PARTS);
    const share = split === 'train' ? smallest - 2 * part : part;
    return Math.min(share, Math.floor(RELEASED_SIZES[split] / sizes.size));
  };
  const room = Object.fromEntries(
    SPLITS.map((split) => [split, new Map([...sizes.keys()].map((key) => [key, quota(split)]))]),
  ) as Record<Split, Map<string, number>>;

  const groups = new Map<string, TaskRow[]>();
  for (const row of unique)
    groups.set(row.question.source, [...(groups.get(row.question.source) ?? []), row]);
  const rows: Record<Split, TaskRow[]> = { train: [], valid: [], test: [] };
  const order = shuffle([...groups.values()], seededRandom(textSeed(task.name, seed)));
  // Small splits first: what a group cannot place in its split is lost to the others.
  for (const group of order) {
    const split = (['test', 'valid', 'train'] as const).find((name) =>
      group.some((row) => room[name].get(cell(row))! > 0),
    );
    if (!split) continue;
    for (const row of group) {
      const free = room[split].get(cell(row))!;
      if (free === 0) continue;
      room[split].set(cell(row), free - 1);
      rows[split].push(row);
    }
  }
  evenOut(rows, cell, sizes.size);
  const kept = SPLITS.reduce((sum, split) => sum + rows[split].length, 0);
  return {
    rows,
    left: {
      bad,
      duplicates: all.length - contradicted - unique.length,
      contradictions: contradicted,
      unbalanced: unique.length - kept,
    },
  };
}

/** Groups may fill one label and starve another: cut each split to what all its labels have. */
function evenOut(rows: Record<Split, TaskRow[]>, cell: (row: TaskRow) => string, cells: number): void {
  for (const split of SPLITS) {
    const counts = new Map<string, number>();
    for (const row of rows[split]) counts.set(cell(row), (counts.get(cell(row)) ?? 0) + 1);
    const most = counts.size < cells ? 0 : Math.min(...counts.values());
    const taken = new Map<string, number>();
    rows[split] = rows[split].filter((row) => {
      const count = taken.get(cell(row)) ?? 0;
      taken.set(cell(row), count + 1);
      return count < most;
    });
  }
}

/**
 * At most `count` rows, the same of each label as far as there are, in a seeded order that mixes labels.
 */
export function sampleRows<Item extends { readonly question: { readonly gold: number } }>(
  rows: readonly Item[],
  labels: number,
  count: number,
  random: () => number,
): Item[] {
  const lists = Array.from({ length: labels }, (_, gold) =>
    shuffle(
      rows.filter(({ question }) => question.gold === gold),
      random,
    ),
  );
  const drawn: Item[] = [];
  for (let round = 0; drawn.length < Math.min(count, rows.length); round++) {
    for (const list of lists) if (round < list.length && drawn.length < count) drawn.push(list[round]!);
  }
  return drawn;
}
