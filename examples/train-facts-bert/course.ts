/** What is learned and what is asked, all of it decided by the seed: the facts, the passes over them, the test prompts. */

import type { Tokenizer } from '../../models/index.ts';
import { seededRandom } from '../../neurgrad/index.ts';
import { shuffle } from '../../probing/index.ts';
import { batchesOf, passRandom } from '../training/order.ts';
import { type Fact, type Masked, readFacts, SentenceMaker, type Templates } from './facts.ts';

/** Share of the sentences whose object is masked; in the others it is another token. */
const OBJECT_MASKED = 0.85;
/** Facts asked for at a checkpoint. */
const ASKED = 2000;

export class Course {
  readonly facts: readonly Fact[];
  /** Facts with their object masked, each in one training template. */
  readonly trainPrompts: readonly Masked[];
  /** The same in held-out templates, for relations that have them. */
  readonly heldOutPrompts: readonly Masked[];
  readonly #templates: Readonly<Record<string, Templates>>;
  readonly #maker: SentenceMaker;
  readonly #seed: number;

  /** @param folder with `facts.jsonl` and `templates.json`. @param count facts, drawn with the seed. */
  constructor(folder: string, tokenizer: Tokenizer, count: number, seed: number) {
    const { facts, templates } = readFacts(folder);
    this.#templates = templates;
    this.#maker = new SentenceMaker(tokenizer);
    this.#seed = seed;
    this.facts = shuffle([...facts], seededRandom(seed)).slice(0, count);
    const random = passRandom(seed, -1);
    const asked = this.facts.slice(0, ASKED);
    this.trainPrompts = asked.map((fact) => this.#ask(fact, 'train', random));
    this.heldOutPrompts = asked
      .filter(({ relation }) => templates[relation]!.held_out.length > 0)
      .map((fact) => this.#ask(fact, 'held_out', random));
  }

  #ask(fact: Fact, kind: keyof Templates, random: () => number): Masked {
    const templates = this.#templates[fact.relation]![kind];
    const sentence = this.#maker.sentence(fact, templates[Math.floor(random() * templates.length)]!);
    return this.#maker.mask(sentence, sentence.object);
  }

  /** A pass: every fact once, in a random template with one token masked. */
  pass(index: number, batch: number): Masked[][] {
    const random = passRandom(this.#seed, index);
    const masked = this.facts.map((fact) => {
      const templates = this.#templates[fact.relation]!.train;
      const sentence = this.#maker.sentence(fact, templates[Math.floor(random() * templates.length)]!);
      const anywhere = 1 + Math.floor(random() * (sentence.ids.length - 2));
      return this.#maker.mask(sentence, random() < OBJECT_MASKED ? sentence.object : anywhere);
    });
    return batchesOf(masked, batch, ({ ids }) => ids.length, random);
  }
}
