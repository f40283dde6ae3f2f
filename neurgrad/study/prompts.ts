/**
 * Questions from the files that the field publishes its prompts in (docs/prompts.md): what a row is, its fields say; what a folder is, the
 * names in it.
 *
 * A masked model gets the sentence with its mask for the object; a causal one the text before it, so that only sentences that end
 * in their object serve.
 */

import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileError, UserError } from '../../engine/errors.ts';
import { checkValue, like, show } from '../../engine/options.ts';
import { parseJson } from '../../models/json.ts';
import { checkGiven } from '../lists.ts';
import type { PromptsPlan } from './plan.ts';
import { type PlacedRow, type Row, readTable, TABLE_ENDINGS } from './tableFile.ts';
import { listFolder, readTextFile } from './textFile.ts';

/** A sentence, and the word that belongs at its probe position where its file says one. */
export interface OpenQuestion {
  /** Names the question within its file or folder: the row's `id` or `uuid`, else its place. */
  readonly id: string;
  readonly prompt: string;
  /** Null where the file has none. */
  readonly answer: string | null;
  /** What the prompt is about, equal for prompts of one fact. */
  readonly fact: string;
}

/** A sentence and the word that belongs at its probe position. */
export interface Question extends OpenQuestion {
  readonly answer: string;
}

/** Questions by number, made when asked for. */
export interface Questions<One extends OpenQuestion = Question> {
  readonly count: number;
  /** Question `i`, 0 to count - 1. */
  at(i: number): One;
  /** Sentences and templates that cannot be asked, by reason. */
  readonly dropped: Readonly<Partial<Record<Unaskable, number>>>;
}

/** Why a sentence or a template is no question. */
export const UNASKABLE = [
  'template without [Y]',
  'template with two [Y]',
  'sentence without one mask',
  'text goes on after the answer, which a causal model does not read',
] as const;
/** One of {@link UNASKABLE}. */
export type Unaskable = (typeof UNASKABLE)[number];

const anyText = like<string>((value) => typeof value === 'string', 'a text');

/** The token that stands for the object; null for causal models. */
type Mask = string | null;
const maskField = like<Mask>(
  (value) => value === null || (typeof value === 'string' && value !== ''),
  'a mask token, or null for a causal model: maskToken gives it',
);

/**
 * @param mask the token that the model fills in, null for a causal one: `maskToken` gives it.
 * @throws UserError naming the file and line that cannot be read, or has no answer.
 */
export function readQuestions(plan: PromptsPlan, mask: Mask): Questions {
  checkValue('readQuestions', 'mask', maskField, mask);
  checkGiven('readQuestions', 'plan', plan, 'path', "the `prompts` of a study's plan");
  return readFrom(plan.path, mask, true) as Questions;
}

/**
 * The same of prompts that may have no answers. @param path a file or folder.
 * @throws UserError naming the file and line that cannot be read.
 */
export function readOpenQuestions(path: string, mask: Mask): Questions<OpenQuestion> {
  checkValue('readOpenQuestions', 'mask', maskField, mask);
  checkValue('readOpenQuestions', 'path', anyText, path);
  return readFrom(path, mask, false);
}

function readFrom(path: string, mask: Mask, answered: boolean): Questions<OpenQuestion> {
  if (!existsSync(path)) throw new UserError('prompts', `${path}: no such file or folder`);
  const counts: Partial<Record<Unaskable, number>> = {};
  const drop = (reason: Unaskable): void => {
    counts[reason] = (counts[reason] ?? 0) + 1;
  };
  const crossed = crossedIn(path);
  const found = crossed ? crossing(path, crossed, mask, drop) : rowsOf(path, mask, answered, drop);
  const lost = Object.entries(counts).map(([reason, count]) => `${count} ${reason}`);
  if (found.count === 0)
    throw new UserError(
      'prompts',
      `${path}: holds no prompts${lost.length > 0 ? ` that can be asked (${lost.join(', ')})` : ''}`,
    );
  return { ...found, dropped: counts };
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    throw fileError(path, cause);
  }
}

// --- Rows ---

type Found = Omit<Questions<OpenQuestion>, 'dropped'>;
type Drop = (reason: Unaskable) => void;
/** What a row asks; its id comes later. */
type Asked = Pick<OpenQuestion, 'prompt' | 'answer'> & { readonly about?: string };

/** A published form of rows: the fields that tell it, and what it asks. */
interface RowForm {
  /** As an error and the docs name them. */
  readonly fields: string;
  readonly fits: (row: Row) => boolean;
  readonly read: (row: Row, where: string, mask: Mask, drop: Drop) => readonly Asked[];
}

/** The first that fits is taken. */
const FORMS: readonly RowForm[] = [
  {
    // CounterFact (Meng et al. 2022)
    fields: 'requested_rewrite',
    fits: ({ requested_rewrite }) => isRecord(requested_rewrite),
    read({ requested_rewrite }, where, mask) {
      const rewrite = requested_rewrite as Row;
      const answer = text(rewrite.target_true as Row, where, 'str');
      const subject = text(rewrite, where, 'subject');
      const sentence = text(rewrite, where, 'prompt').replace('{}', () => subject);
      return [{ prompt: ended(sentence, mask), answer, about: `${subject}\t${answer}` }];
    },
  },
  {
    // LAMA (Petroni et al. 2019): masked_sentences; T-REx rows: evidences
    fields: 'masked_sentences (or evidences) and obj_label',
    fits: ({ masked_sentences, evidences }) => Array.isArray(masked_sentences) || Array.isArray(evidences),
    read(row, where, mask, drop) {
      const { masked_sentences, evidences } = row;
      const answer = text(row, where, 'obj_label');
      const sentences = Array.isArray(masked_sentences)
        ? masked_sentences
        : (evidences as unknown[]).map((one) => (one as Row | null)?.masked_sentence);
      const about = `${textOrNull(row, 'sub_label') ?? ''}\t${answer}`;
      return sentences.flatMap((sentence) => {
        if (typeof sentence !== 'string')
          throw new UserError(
            'prompts',
            `${where}: a masked sentence is ${show(sentence)}, expected a text with [MASK]`,
          );
        if (sentence.split('[MASK]').length !== 2) {
          drop('sentence without one mask');
          return [];
        }
        const prompt = open(sentence.replace('[MASK]', GAP), mask, drop);
        return prompt === null ? [] : [{ prompt, answer, about }];
      });
    },
  },
  {
    // JSONL of one's own; the release's tables (uuid, prompt, tpl, answer); CounterFact without its nesting
    fields: 'prompt and answer',
    fits: ({ prompt }) => typeof prompt === 'string',
    read(row, where, mask) {
      const given = text(row, where, 'prompt');
      const subject = row.subject === undefined ? null : textOrNull(row, 'subject');
      const prompt = subject === null ? given : given.replace('{}', () => subject);
      const answer = textOrNull(row, 'answer');
      const counter = textOrNull(row, 'target_true')?.trim();
      if (answer === null && counter !== undefined) return [{ prompt: ended(prompt, mask), answer: counter }];
      return [{ prompt: mask === null ? prompt : withMask(prompt, mask), answer }];
    },
  },
  {
    // MyriadLAMA (Zhao et al. 2024): a template and the two entities
    fields: 'template (or pattern), sub_ent and obj_ent',
    fits: ({ template, pattern }) => typeof (template ?? pattern) === 'string',
    read(row, where, mask, drop) {
      const template = text(row, where, 'template', 'pattern');
      const subject = text(row, where, 'sub_exp', 'sub_ent', 'sub_label');
      const answer = text(row, where, 'obj_exp', 'obj_ent', 'obj_label');
      const fault = faultOf(template);
      if (fault) {
        drop(fault);
        return [];
      }
      const prompt = open(named(template, subject), mask, drop);
      return prompt === null ? [] : [{ prompt, answer, about: `${subject}\t${answer}` }];
    },
  },
];

/** What a row may be, for messages and the docs. */
export const ROW_FIELDS: readonly string[] = FORMS.map(({ fields }) => fields);

const isRecord = (value: unknown): value is Row =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** A sentence of CounterFact, which ends where the answer begins. */
const ended = (sentence: string, mask: Mask): string => (mask === null ? sentence : `${sentence} ${mask}.`);

/** Another vocabulary's mask as this one's; a prompt with several is left to its encoder, which says so. */
function withMask(prompt: string, mask: string): string {
  if (prompt.includes(mask)) return prompt;
  const other = ['[MASK]', '<mask>'].find((known) => prompt.split(known).length === 2);
  return other === undefined ? prompt : prompt.replace(other, () => mask);
}

function rowsOf(path: string, mask: Mask, answered: boolean, drop: Drop): Found {
  const tables = listTables(path);
  const files = isFolder(path) ? tables.map((name) => join(path, name)) : [path];
  const questions: OpenQuestion[] = [];
  const names = new Map<string, number>();
  for (const file of files)
    for (const [i, { row, where }] of readTable(file).entries()) {
      const form = FORMS.find(({ fits }) => fits(row));
      if (!form) throw unreadable(row, where);
      const asked = form.read(row, where, mask, drop);
      for (const [k, { prompt, answer, about }] of asked.entries()) {
        if (answered && answer === null)
          throw new UserError(
            'prompts',
            `${where}: has no answer; it has ${fieldsOf(row)}, a study wants prompt and answer`,
          );
        const own = idOf(row) ?? (files.length > 1 ? `${basename(file)}:${i}` : `${i}`);
        const id = asked.length > 1 ? `${own}.${k}` : own;
        const before = names.get(id) ?? 0;
        names.set(id, before + 1);
        questions.push({
          // The same name twice would join rows that do not belong together.
          id: before === 0 ? id : `${id}#${before + 1}`,
          prompt,
          answer,
          fact: factOf(row, where) ?? about ?? `${prompt}\t${answer ?? ''}`,
        });
      }
    }
  return { count: questions.length, at: (i) => questions[i]! };
}

const fieldsOf = (row: Row): string => Object.keys(row).join(', ') || 'no fields';

const unreadable = (row: Row, where: string): UserError =>
  new UserError('prompts', `${where}: has ${fieldsOf(row)}; wanted is one of: ${ROW_FIELDS.join('; ')}`);

/** Files of a folder that hold rows. */
function listTables(path: string): string[] {
  if (!isFolder(path)) return [];
  return listFolder(path).filter((name) => TABLE_ENDINGS.some((ending) => name.endsWith(ending)));
}

/** What a file calls a row; rows of one fact and several templates share their uuid. */
function idOf({ id, case_id, uuid, tpl }: Row): string | null {
  const own = [id, case_id, uuid].find((one) => typeof one === 'string' || typeof one === 'number');
  if (own === undefined) return null;
  return own === uuid && typeof tpl === 'string' ? `${own}/${tpl}` : `${own}`;
}

/** What its file calls the fact that a row is about. @throws UserError where that is neither a text nor a number. */
function factOf({ uuid }: Row, where: string): string | null {
  if (uuid === undefined || uuid === null) return null;
  if (typeof uuid === 'string' || typeof uuid === 'number') return `${uuid}`;
  throw new UserError('prompts', `${where}: uuid is ${show(uuid)}, expected a text or a number`);
}

/** A field's text, or the first of a list in it; a number is one. */
function textOrNull(row: Row, name: string): string | null {
  const value = Array.isArray(row[name]) ? row[name][0] : row[name];
  if (typeof value === 'number' && Number.isFinite(value)) return `${value}`;
  return typeof value === 'string' && value.trim() !== '' ? value : null;
}

/** The first of some fields. @throws UserError where all are missing. */
function text(row: Row, where: string, ...names: readonly string[]): string {
  for (const name of names) {
    const found = isRecord(row) ? textOrNull(row, name) : null;
    if (found !== null) return found;
  }
  throw new UserError(
    'prompts',
    `${where}: has no ${names.join(' or ')}${isRecord(row) ? `; it has ${fieldsOf(row)}` : ''}`,
  );
}

// --- Templates ---

/** Where the object goes. */
const GAP = '[Y]';

function faultOf(template: string): Unaskable | null {
  const gaps = template.split(GAP).length - 1;
  return gaps === 1 ? null : gaps === 0 ? UNASKABLE[0] : UNASKABLE[1];
}

/** A subject may contain `$`: no replacement patterns. And `[Y]`, which is not the gap. */
const named = (template: string, subject: string): string =>
  template
    .split(GAP)
    .map((part) => part.split('[X]').join(subject.split(GAP).join('')))
    .join(GAP);

/** A sentence opened at its gap, the only one. Null, and told, where a causal model could not answer. */
function open(sentence: string, mask: Mask, drop: Drop = () => {}): string | null {
  const at = sentence.indexOf(GAP);
  if (at < 0) return sentence;
  if (mask !== null) return `${sentence.slice(0, at)}${mask}${sentence.slice(at + GAP.length)}`;
  const rest = sentence.slice(at + GAP.length).trim();
  const before = sentence.slice(0, at).trimEnd();
  if (/^[.!?]?$/.test(rest) && before !== '') return before;
  drop(UNASKABLE[3]);
  return null;
}

/** The template with its subject, open at the object. Null where it has not one object, or a causal model could not answer. */
export function fill(template: string, subject: string, mask: Mask): string | null {
  checkValue('fill', 'mask', maskField, mask);
  checkValue('fill', 'template', anyText, template);
  checkValue('fill', 'subject', anyText, subject);
  return faultOf(template) ? null : open(named(template, subject), mask);
}

// --- Facts crossed with templates ---

interface Relation {
  readonly name: string;
  readonly facts: readonly { readonly subject: string; readonly answer: string }[];
  readonly templates: readonly string[];
}

/** Reads the relations of a folder whose facts are crossed with templates. */
type Crossed = () => Relation[];

/** ParaRel's folders (Elazar et al. 2021), by either name, and the bundled `facts.jsonl` with its `templates.json`. */
function crossedIn(path: string): Crossed | null {
  const folder = isFolder(path) ? path : dirname(path);
  const [facts, templates] = [join(folder, 'facts.jsonl'), join(folder, 'templates.json')];
  if ((folder === path || basename(path) === 'facts.jsonl') && existsSync(facts) && existsSync(templates))
    return () => factsWithTemplates(facts, templates);
  if (folder !== path) return null;
  const there = (...names: string[]) => names.map((name) => join(path, name)).find((one) => existsSync(one));
  const objects = there('objects', 'trex_lms_vocab');
  const patterns = there('templates', 'graphs_json', join('pattern_data', 'graphs_json'));
  return objects && patterns ? () => pararel(objects, patterns) : null;
}

const list = (folder: string): string[] => listFolder(folder).filter((name) => name.endsWith('.jsonl'));

function pararel(objects: string, patterns: string): Relation[] {
  const names = list(objects).filter((name) => existsSync(join(patterns, name)));
  return names.map((name) => ({
    name: name.replace(/\.jsonl$/, ''),
    facts: readTable(join(objects, name)).map(({ row, where }) => ({
      subject: text(row, where, 'sub_label'),
      answer: text(row, where, 'obj_label'),
    })),
    templates: readTable(join(patterns, name)).map(({ row, where }) =>
      text(row, where, 'pattern', 'template'),
    ),
  }));
}

function factsWithTemplates(facts: string, templates: string): Relation[] {
  const rows = readTable(facts);
  const byRelation = new Map<string, PlacedRow[]>();
  for (const placed of rows) {
    const relation = text(placed.row, placed.where, 'relation');
    const own = byRelation.get(relation) ?? [];
    own.push(placed);
    byRelation.set(relation, own);
  }
  const json = parseJson(readTextFile(templates), templates, 'prompts');
  if (!isRecord(json)) throw new UserError('prompts', `${templates}: is not an object of relations`);
  return [...byRelation].map(([name, own]) => {
    const given = json[name];
    const lists = Array.isArray(given) ? [given] : isRecord(given) ? [given.train, given.held_out] : [];
    const all = lists.flatMap((each) => (Array.isArray(each) ? each : []));
    if (all.some((each) => typeof each !== 'string'))
      throw new UserError('prompts', `${templates}: ${name} has a template that is not a text`);
    return {
      name,
      facts: own.map(({ row, where }) => ({
        subject: text(row, where, 'subject'),
        answer: text(row, where, 'object'),
      })),
      templates: all as string[],
    };
  });
}

function crossing(path: string, read: Crossed, mask: Mask, drop: Drop): Found {
  const blocks = read().map(({ name, facts, templates: all }) => {
    const templates = all.flatMap((template, number) => {
      const fault = faultOf(template);
      if (fault) drop(fault);
      return fault || open(named(template, 'x'), mask, drop) === null ? [] : [{ template, number }];
    });
    return { name, facts, templates, size: facts.length * templates.length };
  });
  const starts: number[] = [];
  let count = 0;
  for (const { size } of blocks) {
    starts.push(count);
    count += size;
  }
  return {
    count,
    at(i) {
      const block = starts.findLastIndex((start) => start <= i);
      const own = blocks[block];
      if (!own || i >= count) throw new RangeError(`${path}: there is no question ${i}`);
      const within = i - starts[block]!;
      const place = Math.floor(within / own.templates.length);
      const { subject, answer } = own.facts[place]!;
      const { template, number } = own.templates[within % own.templates.length]!;
      return {
        id: `${own.name}/${place}/${number}`,
        prompt: open(named(template, subject), mask)!,
        answer,
        fact: `${own.name}.jsonl\t${subject}\t${answer}`,
      };
    },
  };
}
