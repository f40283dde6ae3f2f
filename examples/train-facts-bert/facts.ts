/**
 * Facts as masked sentences. ParaRel (Elazar et al. 2021, MIT): `{relation, subject, object}` and templates with [X] and
 * [Y], prepared in examples/models/facts-bert.
 *
 * A sentence is put together from the token ids of its parts, which equals encoding it whole, because the parts meet at
 * spaces and punctuation (a test compares both).
 */

import { join } from 'node:path';
import * as v from 'valibot';
import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';
import type { ModelInput, Tokenizer } from '../../models/index.ts';
import { checkJson, parseJson } from '../../models/json.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';

export interface Fact {
  readonly relation: string;
  readonly subject: string;
  readonly object: string;
}

/** Templates of one relation. */
export interface Templates {
  readonly train: readonly string[];
  readonly held_out: readonly string[];
}

export interface FactSet {
  readonly facts: readonly Fact[];
  readonly templates: Readonly<Record<string, Templates>>;
}

/** Token ids of a sentence, and where in it the object stands. */
export interface Sentence {
  readonly ids: readonly number[];
  readonly object: number;
}

/** One masked token: the ids with [MASK], its position and what was there. */
export interface Masked {
  readonly ids: readonly number[];
  readonly position: number;
  readonly label: number;
}

const word = v.pipe(v.string(), v.nonEmpty());
const factSchema = v.object({ relation: word, subject: word, object: word });
const templatesSchema = v.record(
  v.string(),
  v.object({ train: v.array(v.string()), held_out: v.array(v.string()) }),
);

const readJson = <Schema extends v.GenericSchema>(schema: Schema, text: string, name: string) =>
  checkJson(schema, parseJson(text, name, 'facts'), name, 'facts');

/** Reads `facts.jsonl` and `templates.json`. @throws UserError where one is missing or not what it should be. */
export function readFacts(folder: string): FactSet {
  const [list, patterns] = [join(folder, 'facts.jsonl'), join(folder, 'templates.json')];
  const lines = readTextFile(list).trim().split('\n');
  const facts = lines.map((line, i) => readJson(factSchema, line, `${list}:${i + 1}`));
  const templates = readJson(templatesSchema, readTextFile(patterns), patterns);
  const bare = facts.find(({ relation }) => !Object.hasOwn(templates, relation));
  if (bare) throw new UserError('facts', `${patterns}: has no templates of ${show(bare.relation)}`);
  return { facts, templates };
}

/** Sentences of one tokenizer; the ids of every part are found once. */
export class SentenceMaker {
  readonly #tokenizer: Tokenizer;
  readonly #parts = new Map<string, readonly number[]>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  #ids(text: string): readonly number[] {
    let ids = this.#parts.get(text);
    if (!ids) {
      ids = text.trim() === '' ? [] : this.#tokenizer.encode(text, { addSpecialTokens: false });
      this.#parts.set(text, ids);
    }
    return ids;
  }

  /** The fact in a template: [CLS] … [SEP]. */
  sentence(fact: Fact, template: string): Sentence {
    const ids = [this.#tokenizer.idOf('[CLS]')!];
    let object = -1;
    for (const part of template.split(/(\[[XY]\])/)) {
      if (part === '[Y]') object = ids.length;
      ids.push(...this.#ids(part === '[X]' ? fact.subject : part === '[Y]' ? fact.object : part));
    }
    ids.push(this.#tokenizer.idOf('[SEP]')!);
    return { ids, object };
  }

  /** The sentence with one token masked: the one at `position`. */
  mask({ ids }: Sentence, position: number): Masked {
    return { ids: ids.with(position, this.#tokenizer.maskId!), position, label: ids[position]! };
  }
}

/** Masked sentences as one padded batch. */
export function batchInput(batch: readonly Masked[]): ModelInput {
  const length = Math.max(...batch.map(({ ids }) => ids.length));
  const padded = (row: readonly number[], fill: number) => [
    ...row,
    ...new Array<number>(length - row.length).fill(fill),
  ];
  return {
    ids: batch.map(({ ids }) => padded(ids, 0)),
    attentionMask: batch.map(({ ids }) =>
      padded(
        ids.map(() => 1),
        0,
      ),
    ),
  };
}
