/**
 * The study's questions. Of facts: every fact of ParaRel (Elazar et al. 2021, MIT; examples/models/facts-bert) in one of its templates,
 * drawn by seed; a causal model can only be asked where the object comes last, so for it a fact without such a template is left out. Of
 * stories: for a model that knows no facts, how its own text goes on.
 */

import { generate } from '../../models/generate.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { fill } from '../../neurgrad/study/prompts.ts';
import type { FactSet } from '../train-facts-bert/facts.ts';

/** A line of a study's JSONL file; equal `uuid`s are the same fact. */
export interface Question {
  readonly prompt: string;
  readonly answer: string;
  readonly uuid: string;
}

/** One question a fact, in the facts' order. @param mask the token of the object, null for a causal model. */
export function factQuestions({ facts, templates }: FactSet, mask: string | null, seed: number): Question[] {
  const random = seededRandom(seed);
  return facts.flatMap(({ relation, subject, object }) => {
    const { train, held_out: heldOut } = templates[relation]!;
    const prompts = [...train, ...heldOut].flatMap((template) => fill(template, subject, mask) ?? []);
    if (prompts.length === 0) return [];
    const prompt = prompts[Math.floor(random() * prompts.length)]!;
    return [{ prompt, answer: object, uuid: `${subject}\t${object}` }];
  });
}

/** Whom a story is of, and how it begins. */
const NAMES = ['Lily', 'Tom', 'Max', 'Ben', 'Mia', 'Sam', 'Anna', 'Tim', 'Lucy', 'Jack'];
const BEGINNINGS = [
  (name: string) => `Once upon a time, there was a little child named ${name}.`,
  (name: string) => `One day, ${name} went to the park.`,
  (name: string) => `${name} had a big red ball.`,
];
/** Tokens that a story goes on for. */
const LENGTH = 80;

/**
 * Whole words of the model's own stories, each after the text before it: what the model says, so that it answers them all.
 * @param names whom stories are told of, three of each.
 */
export async function storyQuestions(
  model: LanguageModel,
  tokenizer: Tokenizer,
  names: readonly string[] = NAMES,
): Promise<Question[]> {
  const questions: Question[] = [];
  for (const begin of BEGINNINGS)
    for (const name of names) {
      const ids = [...tokenizer.encode(begin(name))];
      const from = ids.length;
      ids.push(...(await generate(model, ids, { maxTokens: LENGTH })).ids);
      for (let at = from; at + 1 < ids.length; at++) {
        // A word of one token: after a space, and the next token begins another word.
        const word = /^ ([A-Za-z]+)$/.exec(tokenizer.textOf(ids[at]!));
        if (!word || !/^[ .,!?]/.test(tokenizer.textOf(ids[at + 1]!))) continue;
        const prompt = tokenizer.decode(ids.slice(0, at), { skipSpecialTokens: true });
        questions.push({ prompt, answer: word[1]!, uuid: `${begin(name)} ${at}` });
      }
    }
  return questions;
}
