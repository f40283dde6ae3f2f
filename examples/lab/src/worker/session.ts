/** An open model and the page's questions to it, each answered by the project's own packages. */

import { type ChatTemplate, readChatTemplate } from '../../../../models/chat.ts';
import { readConfig } from '../../../../models/config.ts';
import { generate } from '../../../../models/generate.ts';
import { loadModelWeights } from '../../../../models/load.ts';
import type { WeightDtype } from '../../../../models/storage.ts';
import { loadTokenizer } from '../../../../models/tokenizer.ts';
import { tokenText } from '../../../../models/tokenText.ts';
import type { Transformer } from '../../../../models/transformer.ts';
import {
  type Device,
  encodePrompt,
  maskToken,
  neuronGradients,
  openDevice,
  outwardSign,
  type Patch,
  type Prediction,
  type Prompt,
  probeLogits,
  probeRows,
  promptRemarks,
  resolveTarget,
  siteHook,
  steer,
  sweep,
  type Tokenizer,
  targetOrArgmax,
  targetValues,
  topPredictions,
  UserError,
} from '../../../../neurgrad/index.ts';
import { checkKnown } from '../../../../neurgrad/prompt.ts';
import type {
  Answer,
  Calls,
  Distribution,
  ModelCard,
  ModelSource,
  Question,
  Scored,
  Shift,
  Side,
  Study,
  Token,
} from '../protocol.ts';
import type { Job } from './job.ts';
import { openSource } from './sources.ts';

/** Predictions that an answer lists. */
const TOP = 50;
/** Tokens that a word takes at most, in the mean. */
const TOKENS_A_WORD = 4;
/** Rounds of choosing shifts and looking. */
const STEER_ROUNDS = 10;

let openings = 0;

export class Session {
  readonly card: ModelCard;
  readonly device: Device;
  readonly #model: Transformer;
  readonly #tokenizer: Tokenizer;
  readonly #chat: ChatTemplate | null;

  private constructor(
    card: ModelCard,
    device: Device,
    model: Transformer,
    tokenizer: Tokenizer,
    chat: ChatTemplate | null,
  ) {
    this.card = card;
    this.device = device;
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#chat = chat;
  }

  /** @throws UserError, Cancelled; nothing is left on the device then. */
  static async open(source: ModelSource, dtype: WeightDtype, job: Job): Promise<Session> {
    // The device first: without one there is no point in a download.
    const device = await openDevice();
    try {
      const { folder, notice } = await openSource(source, job);
      // First, so that what is no model's folder is told as such.
      await readConfig(folder);
      const tokenizer = await loadTokenizer(folder);
      // Most models have none, and some have one that cannot be read: both are read as plain text.
      const chat = await readChatTemplate(folder).catch(() => null);
      const model = await loadModelWeights(folder, device, {
        dtype,
        onProgress: ({ bytes, total }) => job.progress('Loading weights', bytes, total, 'bytes'),
      });
      job.check();
      const { info } = device;
      const card: ModelCard = {
        serial: ++openings,
        name: folder.name,
        family: model.family,
        chat: model.causal && chat !== null,
        mask: maskToken(model, tokenizer),
        layers: model.sizes.layers,
        width: model.sizes.width,
        vocabulary: model.sizes.vocabulary,
        sites: model.sites,
        paperSite: model.paperSite,
        adapter:
          info.description || [info.vendor, info.architecture].filter(Boolean).join(' ') || 'unnamed adapter',
        software: info.software,
        bytes: device.memory.weights,
        notice,
      };
      return new Session(card, device, model, tokenizer, chat);
    } catch (error) {
      device.destroy();
      throw error;
    }
  }

  close(): void {
    this.#model.dispose();
    this.device.destroy();
  }

  async answer(question: Question): Promise<Answer> {
    const prompt = this.#prompt(question);
    const logits = await probeLogits(this.#model, prompt);
    const predictions = topPredictions(logits, Math.min(TOP, this.card.vocabulary));
    const target = this.#target(prompt, question) ?? predictions[0]!.id;
    return {
      question,
      remarks: question.chat ? [] : promptRemarks(this.#model, this.#tokenizer, question.text),
      tokens: prompt.shown,
      unknown: prompt.ids.flatMap((id, at) => (id === this.#tokenizer.unknownId ? [at] : [])),
      position: prompt.position,
      target: this.#token(target),
      p: targetValues(logits, target).prob,
      predictions: predictions.map((one) => this.#scored(one)),
    };
  }

  async study(answer: Answer): Promise<Study> {
    const { site, direction, at } = answer.question;
    const prompt = this.#prompt(answer.question);
    const { activation, gradient, neurgrad, noise } = await neuronGradients(this.#model, prompt, {
      target: answer.target.id,
      neuronPosition: at ?? undefined,
      site,
      direction,
    });
    return { ...answer, activation, gradient, neurgrad, noise };
  }

  async side({ question, of }: Calls['side']['ask']): Promise<Side> {
    const prompt = this.#prompt(question);
    const logits = await probeLogits(this.#model, prompt);
    const target = this.#target(prompt, question) ?? topPredictions(logits, 1)[0]!.id;
    const found = await neuronGradients(this.#model, prompt, {
      target,
      neuronPosition: question.at ?? undefined,
      site: question.site,
      direction: question.direction,
      of: of === 'logit' ? 'logit' : 'logprob',
    });
    const { prob, logprob, logit } = targetValues(logits, target);
    const others = probabilityOfOthers(logits, target);
    const [value, factor] = {
      logit: [logit, 1],
      // dp = p d log p, and d log p/(1 - p) = d log p / (1 - p).
      prob: [prob, prob],
      log_odds: [logprob - Math.log(others), 1 / others],
    }[of] as [number, number];
    return {
      target: this.#token(target),
      value,
      activation: found.activation,
      neurgrad: found.neurgrad.map((each) => factor * each),
    };
  }

  async run({ question, shifts, follow, top }: Calls['run']['ask']): Promise<Distribution> {
    const began = performance.now();
    const prompt = this.#prompt(question);
    const at = question.at ?? prompt.position;
    const patch = shifts.map((shift) => toPatch(shift, at, question.direction));
    using run = this.#model.run(probeRows(prompt), { patch, logits: [prompt.position] });
    const logits = await run.logits.read();
    const best = topPredictions(logits, top);
    const rest = follow
      .filter((id) => best.every((one) => one.id !== id))
      .map((id) => ({ id, p: targetValues(logits, id).prob }));
    return {
      predictions: [...best, ...rest].map((one) => this.#scored(one)),
      took: performance.now() - began,
    };
  }

  async sweep(
    { question, neuron, shifts }: Calls['sweep']['ask'],
    job: Job,
  ): Promise<Calls['sweep']['answer']> {
    const { neurons, target } = await this.#curves(question, [neuron], shifts, job);
    return { curve: neurons[0]!, target: this.#token(target) };
  }

  async measure(
    { question, neurons, shifts }: Calls['measure']['ask'],
    job: Job,
  ): Promise<Calls['measure']['answer']> {
    const found = await this.#curves(question, neurons, shifts, job);
    return found.neurons.map(({ slope, r, flat }) => ({ slope, r, flat }));
  }

  #curves(
    question: Question,
    neurons: readonly Omit<Shift, 'shift'>[],
    shifts: readonly number[],
    job: Job,
  ): ReturnType<typeof sweep> {
    const prompt = this.#prompt(question);
    return sweep(this.#model, prompt, {
      neurons,
      shifts,
      target: this.#target(prompt, question),
      neuronPosition: question.at ?? undefined,
      direction: question.direction,
      // Few rows a pass: the page's slider gets its turn in between.
      rowsPerPass: 16,
      onProgress: (done, total) => job.progress('Sweeping', done, total, 'rows'),
    });
  }

  /**
   * Neurons are shifted at the token that the question names and at every one that is written. Without shifts the prompt's keys and
   * values are kept from token to token; with them, each token is a run of the whole text.
   */
  async write({ question, shifts, words }: Calls['write']['ask'], job: Job): Promise<string> {
    const prompt = this.#prompt(question);
    const before = this.#tokenizer.decode(prompt.ids).length;
    let text = '';
    const ids = [...prompt.ids];
    /** Takes a token; false where the words are there. */
    const take = (id: number): boolean => {
      ids.push(id);
      text = this.#tokenizer.decode(ids).slice(before);
      const parts = text.trim().split(/\s+/);
      job.progress('Writing', Math.min(parts.length - 1, words), words, 'words');
      if (parts.length <= words) return true;
      // The word after the last one has begun.
      text = text.slice(0, text.length - parts.slice(words).join(' ').length).trimEnd();
      return false;
    };
    const maxTokens = Math.min(words * TOKENS_A_WORD, this.#model.sizes.positions - prompt.ids.length);
    job.progress('Writing', 0, words, 'words');
    if (shifts.length === 0) {
      await generate(this.#model, prompt.ids, { maxTokens, onToken: take });
      return text;
    }
    const at = question.at ?? prompt.position;
    while (ids.length - prompt.ids.length < maxTokens) {
      const written = ids.flatMap((_, position) => (position >= prompt.ids.length ? [position] : []));
      const patch = [at, ...written].flatMap((position) =>
        shifts.map((shift) => toPatch(shift, position, question.direction)),
      );
      using run = this.#model.run({ ids: [ids] }, { patch, logits: [ids.length - 1] });
      const [best] = topPredictions(await run.logits.read(), 1);
      if (this.#model.config.endIds.includes(best!.id) || !take(best!.id)) break;
    }
    return text;
  }

  async steer(
    { question, wish, neurons, range }: Calls['steer']['ask'],
    job: Job,
  ): Promise<Calls['steer']['answer']> {
    const prompt = this.#prompt(question);
    const target = await targetOrArgmax(this.#model, prompt, this.#target(prompt, question));
    let round = 0;
    const found = await steer(this.#model, prompt, {
      target,
      to: wish,
      maxNeurons: neurons,
      range,
      tolerance: 1e-3,
      rounds: STEER_ROUNDS,
      site: question.site,
      onRound: () => job.progress('Steering', ++round, STEER_ROUNDS, 'rows'),
    });
    return {
      shifts: found.neurons.map(({ layer, index, site, shift, activation }) => ({
        layer,
        index,
        site,
        shift: question.direction === 'outward' ? shift : shift * outwardSign(activation),
      })),
      p: found.reached,
      reached: found.success,
    };
  }

  #prompt({ text, chat }: Question): Prompt {
    const [model, tokenizer] = [this.#model, this.#tokenizer];
    if (!chat || !this.#chat) return encodePrompt(model, tokenizer, text);
    if (text.trim() === '') throw new UserError('prompt', 'the message is empty');
    const written = this.#chat([{ role: 'user', content: text }]);
    // The template has written the special tokens.
    const ids = tokenizer.encode(written, { addSpecialTokens: false });
    checkKnown(model, tokenizer, ids, 'the conversation');
    const [tokens, shown] = [ids.map(tokenizer.tokenOf), ids.map(tokenizer.show)];
    return { text: written, ids, tokens, shown, position: ids.length - 1 };
  }

  #target(prompt: Prompt, { target }: Question): number | undefined {
    if (target === null) return undefined;
    return 'id' in target ? target.id : resolveTarget(this.#model, this.#tokenizer, prompt, target.word);
  }

  #token(id: number): Token {
    return tokenText(this.#tokenizer, id);
  }

  #scored({ id, p }: Prediction): Scored {
    return { ...this.#token(id), p };
  }
}

/** 1 - p of a token, with all its digits where p is near 1. */
function probabilityOfOthers(logits: Float32Array, target: number): number {
  const top = logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY);
  let [all, others] = [0, 0];
  for (const [id, logit] of logits.entries()) {
    const part = Math.exp(logit - top);
    all += part;
    if (id !== target) others += part;
  }
  return others / all;
}

/** A shift as the engine's patch. */
function toPatch(shift: Shift, position: number, along: 'outward' | 'plain'): Patch {
  return {
    name: siteHook(shift.layer, shift.site),
    position,
    neuron: shift.index,
    op: 'add',
    value: shift.shift,
    along,
  };
}
