/**
 * Which prompts and neurons a study takes (docs/conventions.md#the-sweep): questions in seeded order until there are enough that pass every
 * filter, with a count of those that did not and why; neurons by a seeded draw.
 */

import { UserError } from '../../engine/errors.ts';
import { checkValue, text } from '../../engine/options.ts';
import { type LanguageModel, runModel } from '../../models/model.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { tokenText } from '../../models/tokenText.ts';
import { checkGiven, checkNumber, MODEL, NATURAL, TOKENIZER } from '../lists.ts';
import { type NeuronSpace, neuronAt, resolveSite, SITES } from '../neuron.ts';
import { type NeuronSelection, selectNeurons } from '../neuronSelection.ts';
import type { Probe } from '../predict.ts';
import { encodePrompt, type Prompt, resolveTarget } from '../prompt.ts';
import { drawWithoutReplacement, seededRandom, shuffled } from '../random.ts';
import type { ModelPlan, NeuronsPlan, Plan, PromptsPlan } from './plan.ts';
import type { Questions } from './prompts.ts';

/** A prompt that a study runs. */
export interface SelectedPrompt {
  /** The question's; undefined in studies of before. */
  readonly id: string | undefined;
  readonly text: string;
  readonly answer: string;
  readonly ids: readonly number[];
  readonly position: number;
  readonly target: number;
  /** The target as text; undefined in studies of before. */
  readonly token: string | undefined;
}

/** Why questions were left out. */
export const REASONS = [
  'prompt cannot be encoded',
  'answer is not one token',
  'answer stands in the prompt',
  'another prompt of the same fact',
  'model answers otherwise',
] as const;
/** One of {@link REASONS}. */
export type Reason = (typeof REASONS)[number];

/** The prompts of a model, and what became of the other questions. */
export interface Selection {
  readonly prompts: readonly SelectedPrompt[];
  /** Questions looked at. */
  readonly tried: number;
  readonly dropped: Readonly<Record<Reason, number>>;
}

/** Prompts that the model answers at once: few enough to keep short work short. */
const CHUNK = 32;

/** The model's answer to each prompt, as token ids. */
export type Ask = (prompts: readonly Probe[]) => Promise<readonly number[]>;

/**
 * Takes questions in seeded order until the plan's count is reached. @param name the model's, for the error.
 * @param ask default: the model given, on its device.
 * @throws UserError where no question passes.
 */
export async function selectPrompts(
  opened: { readonly model: LanguageModel; readonly tokenizer: Tokenizer },
  name: string,
  questions: Questions,
  plan: Omit<PromptsPlan, 'path'>,
  onProgress?: (done: number, all: number) => void,
  ask: Ask = (prompts) => argmaxes(opened.model, prompts),
): Promise<Selection> {
  const { model, tokenizer } = opened ?? {};
  checkGiven('selectPrompts', 'model', model, 'sizes', MODEL);
  checkGiven('selectPrompts', 'tokenizer', tokenizer, 'encode', TOKENIZER);
  checkValue('selectPrompts', 'name', text, name);
  checkGiven('selectPrompts', 'questions', questions, 'count', 'what readQuestions gives');
  checkGiven('selectPrompts', 'plan', plan, 'count', "the `prompts` of a study's plan");
  const dropped = Object.fromEntries(REASONS.map((reason) => [reason, 0])) as Record<Reason, number>;
  const prompts: SelectedPrompt[] = [];
  const facts = new Set<string>();
  const order = shuffled(questions.count, seededRandom(plan.seed));
  let tried = 0;
  while (prompts.length < plan.count && tried < order.length) {
    const chunk: { id: string; prompt: Prompt; answer: string; target: number; fact: string }[] = [];
    while (chunk.length < CHUNK && tried < order.length) {
      const question = questions.at(order[tried++]!);
      const found = encode(model, tokenizer, question.prompt, question.answer);
      if (typeof found === 'string') dropped[found]++;
      else if (plan.hideAnswer && contains(question.prompt, question.answer)) dropped[REASONS[2]]++;
      else chunk.push({ ...found, id: question.id, answer: question.answer, fact: question.fact });
    }
    const answers = plan.answeredRight
      ? await ask(chunk.map(({ prompt }) => prompt))
      : chunk.map(({ target }) => target);
    for (const [i, { id, prompt, answer, target, fact }] of chunk.entries()) {
      if (prompts.length === plan.count) {
        // Looked at too early: as if never tried.
        tried--;
        continue;
      }
      if (plan.onePerFact && facts.has(fact)) dropped[REASONS[3]]++;
      else if (answers[i] !== target) dropped[REASONS[4]]++;
      else {
        facts.add(fact);
        const { text, ids, position } = prompt;
        prompts.push({ id, text, answer, ids, position, target, token: tokenText(tokenizer, target).text });
      }
    }
    onProgress?.(prompts.length, plan.count);
  }
  if (prompts.length === 0)
    throw new UserError(
      'prompts',
      `${name}: none of ${tried} prompts passed: ${REASONS.filter((reason) => dropped[reason] > 0)
        .map((reason) => `${dropped[reason]} ${reason}`)
        .join(', ')}`,
    );
  return { prompts, tried, dropped };
}

function encode(
  model: LanguageModel,
  tokenizer: Tokenizer,
  text: string,
  answer: string,
): { prompt: Prompt; target: number } | Reason {
  let prompt: Prompt;
  try {
    prompt = encodePrompt(model, tokenizer, text);
  } catch (error) {
    if (error instanceof UserError) return 'prompt cannot be encoded';
    throw error;
  }
  try {
    return { prompt, target: resolveTarget(model, tokenizer, prompt, answer) };
  } catch (error) {
    if (error instanceof UserError) return 'answer is not one token';
    throw error;
  }
}

/** As a word of its own. */
function contains(prompt: string, answer: string): boolean {
  const words = (text: string): string =>
    ` ${text
      .toLowerCase()
      .replace(/[^\p{L}\p{N}]+/gu, ' ')
      .trim()} `;
  return words(prompt).includes(words(answer));
}

/** The model's answers; prompts of one length share a pass. */
export async function argmaxes(model: LanguageModel, probes: readonly Probe[]): Promise<number[]> {
  const answers = new Array<number>(probes.length);
  const byLength = groupBy([...probes.keys()], (i) => probes[i]!.ids.length);
  for (const group of byLength.values()) {
    const ids = group.map((i) => probes[i]!.ids);
    using run = await runModel(model, { ids }, { logits: group.map((i) => probes[i]!.position) });
    const logits = await run.logits.read();
    const { vocabulary } = model.sizes;
    for (const [row, i] of group.entries()) {
      const part = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
      answers[i] = part.reduce((best, value, at) => (value > part[best]! ? at : best), 0);
    }
  }
  return answers;
}

function groupBy<Value, Key>(values: readonly Value[], key: (value: Value) => Key): Map<Key, Value[]> {
  const groups = new Map<Key, Value[]>();
  for (const value of values) groups.set(key(value), [...(groups.get(key(value)) ?? []), value]);
  return groups;
}

/** @throws UserError, naming the model, where it has fewer neurons than a plan draws, or not those that it names. */
export function checkNeurons(space: NeuronSpace, { path, neurons }: ModelPlan, figure: Plan['figure']): void {
  const drawn = Math.max(neurons.perPrompt ?? 0, figure.prompts > 0 ? figure.neurons : 0);
  try {
    checkDraw(space, drawn);
    selectionFor(space, neurons, 0);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError('plan', `${path}: ${error.message}`, { cause: error });
  }
}

/** @throws UserError where the model has fewer neurons. */
function checkDraw({ sizes }: Pick<NeuronSpace, 'sizes'>, count: number): void {
  const total = sizes.layers * sizes.width;
  if (count > total) throw new UserError('plan', `${count} neurons a prompt: the model has ${total}`);
}

/** The seed of a prompt's draw: of all prompts the same, or each its own. `salt` keeps the draws of table and figure apart. */
function seedOf({ sampling, seed }: NeuronsPlan, prompt: number, salt: number): number {
  const mix = sampling === 'shared' ? 0 : prompt + 1;
  return (seed + Math.imul(mix, 0x9e3779b1) + Math.imul(salt, 0x85ebca6b)) >>> 0;
}

/** The neurons of the tables that a prompt's unit sweeps: those of the plan's list, `random` ones by the prompt's draw, or a draw alone. */
export function selectionFor(space: NeuronSpace, plan: NeuronsPlan, prompt: number): NeuronSelection {
  if (plan.list !== undefined)
    return selectNeurons(plan.list, space, { site: plan.site, seed: seedOf(plan, prompt, 0) });
  const most = plan.perPrompt!;
  const site = resolveSite(plan.site, space);
  const neurons = () =>
    drawNeurons(space, plan, most, prompt, 0).map((n) => neuronAt(n, space.sizes.width, site));
  return { ranked: false, most, neurons };
}

/** How many neurons of a model a prompt's tables sweep at most, by its sizes alone. */
export const mostNeurons = (plan: NeuronsPlan, sizes: NeuronSpace['sizes']): number =>
  // Which sites it has makes no difference to how many neurons they are.
  plan.perPrompt ?? selectionFor({ family: '', sizes, sites: SITES_OF_ANY, paperSite: 'post' }, plan, 0).most;
const SITES_OF_ANY = SITES.filter((site) => site !== 'paper');

/** Flat numbers of the neurons that a prompt's unit sweeps. `salt` keeps the draws of table and figure apart. */
export function drawNeurons(
  model: Pick<NeuronSpace, 'sizes'>,
  plan: NeuronsPlan,
  count: number,
  prompt: number,
  salt: number,
): number[] {
  checkGiven('drawNeurons', 'model', model, 'sizes', MODEL);
  checkGiven('drawNeurons', 'plan', plan, 'sampling', "the `neurons` of a study's plan");
  for (const [name, value] of Object.entries({ count, prompt, salt }))
    checkNumber('drawNeurons', name, value, NATURAL);
  checkDraw(model, count);
  const random = seededRandom(seedOf(plan, prompt, salt));
  return drawWithoutReplacement(count, model.sizes.layers * model.sizes.width, random);
}
