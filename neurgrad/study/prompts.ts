/**
 * Prompts of a study: JSONL (`prompt`, `answer`), MyriadLAMA's rows, and ParaRel's folder of facts and templates.
 *
 * A masked model gets the sentence with its mask for the object; a causal one the text before it, so that only templates that end
 * in their object serve.
 */

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileError, UserError } from '../../engine/errors.ts';
import { checkValue, like, show } from '../../engine/options.ts';
import { parseJson } from '../../models/json.ts';
import { checkGiven } from '../lists.ts';
import type { Plan } from './plan.ts';
import { listFolder, readTextFile } from './textFile.ts';

/** A sentence and the word that belongs at its probe position. */
export interface Question {
  readonly prompt: string;
  readonly answer: string;
  /** What the prompt is about, equal for prompts of one fact. */
  readonly fact: string;
}

/** Questions by number, made when asked for. */
export interface Questions {
  readonly count: number;
  /** Question `i`, 0 to count - 1. */
  at(i: number): Question;
}

const anyText = like<string>((value) => typeof value === 'string', 'a text');

/** The token that stands for the object; null for causal models. */
type Mask = string | null;
const maskField = like<Mask>(
  (value) => value === null || (typeof value === 'string' && value !== ''),
  'a mask token, or null for a causal model: maskToken gives it',
);

/**
 * @param mask the token that the model fills in, null for a causal one: `maskToken` gives it.
 * @throws UserError naming the file and line that cannot be read.
 */
export function readQuestions(plan: Plan['prompts'], mask: Mask): Questions {
  checkValue('readQuestions', 'mask', maskField, mask);
  checkGiven('readQuestions', 'plan', plan, 'path', "the `prompts` of a study's plan");
  if (!existsSync(plan.path)) throw new UserError('prompts', `${plan.path}: no such file or folder`);
  if (plan.format === 'pararel') return pararel(plan.path, mask);
  const files = isFolder(plan.path) ? list(plan.path).map((name) => join(plan.path, name)) : [plan.path];
  const questions = files.flatMap((file) =>
    readLines(file).map(({ row, where }) =>
      plan.format === 'myriadlama' ? myriad(row, where, mask) : plainRow(row, where),
    ),
  );
  const kept = questions.filter((question) => question !== null);
  if (kept.length === 0) throw new UserError('prompts', `${plan.path}: holds no prompts`);
  return { count: kept.length, at: (i) => kept[i]! };
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    throw fileError(path, cause);
  }
}

type Row = Readonly<Record<string, unknown>>;

function readLines(file: string): { row: Row; where: string }[] {
  return readTextFile(file)
    .split('\n')
    .flatMap((line, i) => {
      if (line.trim() === '') return [];
      const where = `${file}:${i + 1}`;
      const row = parseJson(line, where, 'prompts');
      if (row === null || typeof row !== 'object' || Array.isArray(row))
        throw new UserError('prompts', `${where}: is not an object with fields`);
      return [{ row: row as Row, where }];
    });
}

/** The first of some fields, or of a list in it. @throws UserError where all are missing. */
function text(row: Row, where: string, ...names: readonly string[]): string {
  for (const name of names) {
    const value = Array.isArray(row[name]) ? row[name][0] : row[name];
    if (typeof value === 'string' && value.trim() !== '') return value;
  }
  throw new UserError('prompts', `${where}: has no ${names.join(' or ')}`);
}

function plainRow(row: Row, where: string): Question {
  const prompt = text(row, where, 'prompt');
  const answer = text(row, where, 'answer');
  return { prompt, answer, fact: factOf(row, where) ?? `${prompt}\t${answer}` };
}

/** What its file calls the fact that a row is about. @throws UserError where that is neither a text nor a number. */
function factOf({ uuid }: Row, where: string): string | null {
  if (uuid === undefined || uuid === null) return null;
  if (typeof uuid === 'string' || typeof uuid === 'number') return `${uuid}`;
  throw new UserError('prompts', `${where}: uuid is ${show(uuid)}, expected a text or a number`);
}

/** A row of MyriadLAMA: ready-made `prompt` and `answer`, or a `template` with [X] and [Y] and the two entities. */
function myriad(row: Row, where: string, mask: Mask): Question | null {
  if (typeof row.prompt === 'string') return plainRow(row, where);
  const template = text(row, where, 'template', 'pattern');
  const subject = text(row, where, 'sub_exp', 'sub_ent', 'sub_label');
  const answer = text(row, where, 'obj_exp', 'obj_ent', 'obj_label');
  const prompt = fill(template, subject, mask);
  return prompt === null ? null : { prompt, answer, fact: factOf(row, where) ?? `${subject}\t${answer}` };
}

/** The template with its subject, open at the object. Null where a causal model could not answer. */
export function fill(template: string, subject: string, mask: Mask): string | null {
  checkValue('fill', 'mask', maskField, mask);
  checkValue('fill', 'template', anyText, template);
  checkValue('fill', 'subject', anyText, subject);
  const at = template.indexOf('[Y]');
  if (at < 0) return null;
  // A subject may contain `$`: no replacement patterns.
  const named = (part: string): string => part.split('[X]').join(subject);
  if (mask !== null) return `${named(template.slice(0, at))}${mask}${named(template.slice(at + 3))}`;
  const rest = template.slice(at + 3).trim();
  const before = named(template.slice(0, at)).trimEnd();
  return /^[.!?]?$/.test(rest) && before !== '' ? before : null;
}

/** ParaRel (Elazar et al. 2021): every fact of a relation in every template of it. */
function pararel(folder: string, mask: Mask): Questions {
  const relations = list(join(folder, 'objects')).filter((name) =>
    existsSync(join(folder, 'templates', name)),
  );
  const blocks = relations.map((name) => {
    const facts = readLines(join(folder, 'objects', name)).map(({ row, where }) => ({
      subject: text(row, where, 'sub_label'),
      answer: text(row, where, 'obj_label'),
    }));
    const templates = readLines(join(folder, 'templates', name))
      .map(({ row, where }) => text(row, where, 'pattern', 'template'))
      .filter((template) => fill(template, 'x', mask) !== null);
    return { name, facts, templates, size: facts.length * templates.length };
  });
  const starts: number[] = [];
  let count = 0;
  for (const { size } of blocks) {
    starts.push(count);
    count += size;
  }
  if (count === 0) throw new UserError('prompts', `${folder}: holds no facts with templates`);
  return {
    count,
    at(i) {
      const block = starts.findLastIndex((start) => start <= i);
      const { name, facts, templates } = blocks[block]!;
      const within = i - starts[block]!;
      const { subject, answer } = facts[Math.floor(within / templates.length)]!;
      const prompt = fill(templates[within % templates.length]!, subject, mask)!;
      return { prompt, answer, fact: `${name}\t${subject}\t${answer}` };
    },
  };
}

const list = (folder: string): string[] => listFolder(folder).filter((name) => name.endsWith('.jsonl'));
