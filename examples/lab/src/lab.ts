/**
 * The laboratory: the user's state, the newest results for it, and what follows from what. A change of the state asks the
 * worker; an answer is shown if it still belongs to the state. Nothing else remembers anything.
 */

import { outwardSign, shiftGrid, strongest } from '../../../neurgrad/index.ts';
import { Address } from './address.ts';
import { type Answering, CallError, Client } from './client.ts';
import { type Found, findIn } from './find.ts';
import { Latest } from './latest.ts';
import type { Point } from './lines.ts';
import { missing } from './missing.ts';
import { BUNDLED, examplesOf, modelOf, sourceOf } from './models.ts';
import { Past } from './past.ts';
import type {
  Answer,
  Calls,
  Distribution,
  KeptModel,
  Measured,
  ModelCard,
  ModelSource,
  Progress,
  Question,
  Side,
  Study,
} from './protocol.ts';
import { fromHash, type NeuronId, nameOf, type State, sameNeuron, toHash, type Versus } from './state.ts';
import { turnedRound } from './turned.ts';
import {
  type Before,
  NOTHING,
  type Remedy,
  type Results,
  type Shows,
  START,
  sameQuestion,
  type View,
} from './view.ts';

export type { Moved, Remedy, View, Written } from './view.ts';

/** Losses of the device within a minute after which the page stops trying by itself. */
const LOSSES = 3;
/** Failures to open a model that may be gone when it is tried again. */
const PASSING = new Set([
  'cancelled',
  'offline',
  'http',
  'http-unreachable',
  'busy',
  'no-adapter',
  'no-device',
  'out-of-memory',
]);
/** Words that the answer lists. */
export const WORDS = 10;
const SWEEP_STEP = 0.2;
/** Reach of the curve that comes with a drag. */
const NEAR = 2;
/** Largest shift of a steered neuron: where curves are straight. */
const STEER_RANGE = 2;

export class Lab {
  #client: Answering;
  readonly #render: (view: View) => void;
  readonly #busy: (progress: Progress | null) => void;
  readonly #say: (sentence: string | null, remedies?: readonly Remedy[]) => void;
  readonly #pick: (kind: 'gguf' | 'folder') => void;
  readonly #study = new Latest<void>(() => this.#askStudy());
  readonly #run = new Latest<void>(() => this.#askRun());
  #state: State;
  #source: ModelSource | null = null;
  #card: ModelCard | null = null;
  #results: Results = NOTHING;
  #before: Before | null = null;
  /** The long piece of work that Cancel stops. */
  #work: AbortController | null = null;
  /** The neuron whose curve a drag has asked for, once. */
  #drawn: NeuronId | null = null;
  /** The state is that of a link whose model is not here. */
  #missing = false;
  #losses: number[] = [];
  /** The long piece of work under way, to be begun again where a loss of the device breaks it off. */
  #again: (() => Promise<void>) | null = null;
  /** How often that was done since any such work came to its end. */
  #repeats = 0;
  /** To be said when the model next answers. */
  #remark: string | null = null;
  readonly #address = new Address();
  readonly #past = new Past();

  constructor(show: Shows) {
    this.#render = show.render;
    this.#busy = show.busy;
    this.#say = show.say;
    this.#pick = show.pick;
    this.#client = new Client((why) => this.#lost(why));
    this.#state = { ...START, ...fromHash(location.hash) };
  }

  get view(): View {
    // Results without a model are those of one that is being opened again.
    const results = this.#card ? this.#results : NOTHING;
    return { state: this.#state, card: this.#card, ...results, current: this.#current };
  }

  get #current(): View['current'] {
    const { answer, study } = this.#results;
    const question = this.#question();
    const belongs = (result: Answer | null) =>
      !!result && !!question && sameQuestion(result.question, question);
    return { answer: belongs(answer), study: belongs(study) };
  }

  /** What is saved as JSON: the view without results of another sentence, target, site or direction, or of other shifts. */
  get saved(): { link: string } & Omit<View, 'current'> {
    const { current, ...view } = this.view;
    return {
      link: this.link,
      ...view,
      ...(current.answer ? {} : { answer: null }),
      ...(view.distribution?.shifts === view.state.shifts ? {} : { distribution: null }),
      ...(current.study ? {} : { study: null, distribution: null, sweep: null, written: null, trace: [] }),
    };
  }

  /** From now on answers come from elsewhere: a recording, where no model can run. */
  play(answering: Answering): void {
    this.#client.stop();
    this.#client = answering;
  }

  /** Opens what the address asks for, or the first bundled model. */
  async start(): Promise<void> {
    await this.#reach({ ...START, ...fromHash(location.hash) });
  }

  /** The browser has gone to another address: back, forward, or one that was typed. */
  async arrive(): Promise<void> {
    const state = { ...START, ...fromHash(location.hash) };
    this.#address.arrive(state);
    await this.go(state);
  }

  /** Goes to a state that was, or that someone else made: what of it is open already stays open. */
  async go(state: State): Promise<void> {
    const before = this.#state;
    if (!this.#card || state.model !== before.model || state.dtype !== before.dtype)
      return this.#reach(state);
    this.#again = null;
    this.#state = { ...state, ...this.#existing(this.#card, state) };
    if (!sameNeuron(state.selected, before.selected))
      this.#results = { ...this.#results, sweep: null, trace: [] };
    if (!this.#current.study) return this.#changed();
    this.#move(this.#state.shifts);
  }

  async undo(): Promise<void> {
    const state = this.#past.undo();
    if (state) await this.go(state);
  }

  async redo(): Promise<void> {
    const state = this.#past.redo();
    if (state) await this.go(state);
  }

  get can(): { readonly undo: boolean; readonly redo: boolean } {
    return { undo: this.#past.canUndo, redo: this.#past.canRedo };
  }

  async #reach(state: State): Promise<void> {
    // A folder that was chosen is in no address.
    const source = (state.model === this.#state.model && this.#source) || sourceOf(state.model);
    this.#again = null;
    if (source) return this.#open(source, state);
    this.#state = state;
    this.#card = null;
    this.#before = null;
    this.#results = NOTHING;
    this.#show();
    this.#miss();
  }

  /** A link's model is a file or folder that is not here: how to come by it, and the link's state waits for it. */
  #miss(): void {
    this.#missing = true;
    const { sentence, remedies } = missing(
      this.#state.model,
      this.#pick,
      ({ model }) => void this.choose(sourceOf(`hub:${model}`)!),
    );
    this.#say(sentence, remedies);
  }

  /** Another model, chosen by the user. The same one again keeps the sentence and the neurons in hand. */
  async choose(source: ModelSource): Promise<void> {
    const { model, direction, dtype, scale, order } = this.#state;
    const same = modelOf(source) === model || this.#missing;
    const start = { ...START, model: modelOf(source), direction, dtype, scale, order };
    this.#again = null;
    await this.#open(source, same ? { ...this.#state, model: modelOf(source) } : start);
  }

  /** Other storage of the weights: the same model is opened again. */
  async storeAs(dtype: State['dtype']): Promise<void> {
    const state = { ...this.#state, dtype };
    this.#again = null;
    if (this.#source) await this.#open(this.#source, state);
    else this.#state = state;
  }

  /**
   * Opens a model for a state. The one before stays open, in the worker, until this one is.
   * @param results known of this model in this state.
   */
  async #open(source: ModelSource, state = this.#state, results = NOTHING): Promise<void> {
    if (this.#card && this.#source)
      this.#before = { source: this.#source, state: this.#state, card: this.#card, results: this.#results };
    this.#source = source;
    this.#state = state;
    this.#card = null;
    this.#results = results;
    this.#say(null);
    this.#show();
    const card = await this.#long('open', { source, dtype: state.dtype }, 'Opening the model');
    if (!card) return;
    this.#before = null;
    this.#missing = false;
    this.#card = card;
    askToKeep(source);
    const { text, site } = this.#state;
    const [example = ''] = this.examples();
    this.#state = {
      ...this.#state,
      text: text.trim() === '' ? example : text,
      chat: this.#state.chat && card.chat,
      site: site && card.sites.includes(site) && site !== card.paperSite ? site : null,
      ...this.#existing(card),
    };
    this.#remark = [this.#remark, card.notice].filter(Boolean).join(' ') || null;
    if (this.#current.study) this.#studied();
    else this.#changed();
  }

  /** The study of the state is there: what waits for one goes on. */
  #studied(): void {
    this.#say(this.#remark);
    this.#remark = null;
    this.#show();
    if (this.#state.shifts.length > 0) void this.#run.ask();
    const again = this.#again;
    this.#again = null;
    if (!again) return;
    if (++this.#repeats <= LOSSES) void again();
    else this.#say(`The graphics device was lost ${this.#repeats} times in the midst of this.`);
  }

  /** The neurons and layer of the state that the model has. */
  #existing(card: ModelCard, state = this.#state): Pick<State, 'selected' | 'shifts' | 'layer'> {
    const has = ({ layer, index }: NeuronId) => layer < card.layers && index < card.width;
    const { selected, shifts, layer } = state;
    return {
      selected: selected && has(selected) ? selected : null,
      shifts: shifts.filter(has),
      layer: layer !== null && layer < card.layers ? layer : null,
    };
  }

  examples(): readonly string[] {
    const bundled = BUNDLED.find(({ name }) => name === this.#state.model);
    return bundled?.examples ?? (this.#card ? examplesOf(this.#card.mask) : []);
  }

  /** The sentence, the token, the target, the site or the direction: all that the neurons are asked about. */
  ask(change: Partial<Pick<State, 'text' | 'chat' | 'at' | 'target' | 'site' | 'direction'>>): void {
    const before = this.#state;
    this.#again = null;
    // Of another sentence, the token is another one.
    const same = (change.text ?? before.text) === before.text && (change.chat ?? before.chat) === before.chat;
    this.#state = { ...before, ...(same ? {} : { at: null }), ...change };
    // Neurons in hand are those of a site.
    if (before.site !== this.#state.site) this.#state = { ...this.#state, selected: null, shifts: [] };
    this.#changed();
  }

  #changed(): void {
    this.#drawn = null;
    this.#show();
    // While a model is being opened, what is asked waits for it.
    if (!this.#card) return;
    this.#work?.abort();
    void this.#study.ask();
  }

  /** What the map shows, and how. */
  look(change: Partial<Pick<State, 'quantity' | 'scale' | 'order' | 'layer' | 'versus'>>): void {
    this.#state = { ...this.#state, ...change };
    this.#show();
  }

  select(neuron: NeuronId): void {
    if (!sameNeuron(neuron, this.#state.selected)) {
      this.#state = { ...this.#state, selected: neuron };
      this.#results = { ...this.#results, sweep: null, trace: [] };
      this.#again = null;
    }
    this.#show();
    // A graphics card sweeps in no time; a processor's time is better spent on the slider.
    if (this.#card && !this.#card.software) void this.sweep(10);
  }

  /** A neuron by its name, or a layer; a sentence where the model has none such. */
  find(name: string): Found | string {
    return this.#card ? findIn(this.#card, name) : 'There is no model yet.';
  }

  shift(neuron: NeuronId, to: number): void {
    const { layer, index } = neuron;
    const others = this.#state.shifts.filter((one) => !sameNeuron(one, neuron));
    const known = this.#state.shifts.findIndex((one) => sameNeuron(one, neuron));
    let shift: number;
    try {
      shift = this.#client.nearest(neuron, others, this.#state.shifts[known]?.shift ?? 0, to);
    } catch (error) {
      this.#failed(error);
      // Its slider goes back.
      this.#show();
      return;
    }
    const shifts = [...others];
    // In its place, so that the list does not jump.
    if (shift !== 0) shifts.splice(known < 0 ? shifts.length : known, 0, { layer, index, shift });
    if (!sameNeuron(neuron, this.#state.selected)) this.select(neuron);
    this.#move(shifts);
    // Where it can be had from a few forwards, the curve is there while the slider is still on its way.
    if (this.#results.sweep || this.#work || sameNeuron(neuron, this.#drawn)) return;
    this.#drawn = neuron;
    void this.sweep(NEAR);
  }

  remove(neuron: NeuronId): void {
    if (sameNeuron(neuron, this.#state.selected)) {
      this.#state = { ...this.#state, selected: null };
      this.#results = { ...this.#results, sweep: null, trace: [] };
    }
    this.#move(this.#state.shifts.filter((one) => !sameNeuron(one, neuron)));
  }

  reset(): void {
    this.#move([]);
  }

  #move(shifts: State['shifts']): void {
    this.#state = { ...this.#state, shifts };
    // Browsers send a slider's events once a frame. The worker computes while the page draws where the slider is.
    void this.#run.ask();
    this.#show();
  }

  /** Sweeps the selected neuron, nothing else shifted. */
  async sweep(reach: number): Promise<void> {
    const { selected } = this.#state;
    const question = this.#question();
    if (!selected || !question || !this.#current.study) return;
    const shifts = shiftGrid(-reach, reach, SWEEP_STEP);
    const neuron = { ...selected, site: question.site };
    const answer = await this.#long(
      'sweep',
      { question, neuron, shifts },
      `Sweeping ${nameOf(selected)}`,
      () => this.sweep(reach),
    );
    if (!answer || !sameNeuron(selected, this.#state.selected)) return;
    this.#results = { ...this.#results, sweep: answer };
    this.#show();
  }

  /** Slope and r of neurons, each moved alone; null where that was cancelled or failed. */
  async measure(neurons: readonly NeuronId[]): Promise<readonly Measured[] | null> {
    const question = this.#question();
    if (!question || !this.#current.study) return null;
    const { site } = question;
    const ask = {
      question,
      neurons: neurons.map(({ layer, index }) => ({ layer, index, site })),
      shifts: shiftGrid(-NEAR, NEAR, SWEEP_STEP),
    };
    return this.#long('measure', ask, `Measuring ${neurons.length} neurons`);
  }

  /** The present sentence and target, and what they are compared with; null where that failed, which is then said. */
  async compare({ text, word, of }: Versus): Promise<readonly [Side, Side] | null> {
    const question = this.#question();
    const { study } = this.#results;
    if (!question || !study || !this.#current.study) return null;
    const target = { id: study.target.id };
    // Of another sentence, the token is another one: that where the model is asked.
    const other = text === '' || text === question.text ? question : { ...question, text, at: null };
    try {
      const a = await this.#client.call('side', { question: { ...question, target }, of });
      const b = await this.#client.call('side', {
        question: { ...other, target: word === '' ? target : { word } },
        of,
      });
      return [a, b];
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  /** Shifts few of the strongest neurons, within their linear range, so that the target reaches a probability. */
  async steer(wish: number, neurons: number): Promise<void> {
    const question = this.#question();
    if (!question || !this.#current.study) return;
    const ask = { question, wish, neurons, range: STEER_RANGE };
    const answer = await this.#long('steer', ask, 'Steering', () => this.steer(wish, neurons));
    if (!answer) return;
    this.#move(answer.shifts);
    if (!answer.reached) {
      this.#say(
        `${neurons} ${neurons === 1 ? 'neuron brings' : 'neurons bring'} the target to ${(100 * answer.p).toFixed(2)}% at most within ±${STEER_RANGE}; take more neurons to come nearer.`,
      );
    }
  }

  /** The next words, the likeliest each time: nothing shifted, and with the neurons in hand. */
  async write(words: number): Promise<void> {
    const question = this.#question();
    if (!question || !this.#current.study) return;
    const { shifts } = this.#state;
    const again = (): Promise<void> => this.write(words);
    const plain =
      this.#results.written?.plain ??
      (await this.#long('write', { question, shifts: [], words }, 'Writing', again));
    // Another question was asked meanwhile.
    const stays = () => this.#current.study && JSON.stringify(question) === JSON.stringify(this.#question());
    if (plain === null || !stays()) return;
    this.#results = { ...this.#results, written: { plain, moved: null } };
    this.#show();
    if (shifts.length === 0) return;
    const moved = shifts.map((one) => ({ ...one, site: question.site }));
    const text = await this.#long(
      'write',
      { question, shifts: moved, words },
      'Writing with the neurons in hand',
      again,
    );
    if (text === null || !stays()) return;
    this.#results = { ...this.#results, written: { plain, moved: { text, shifts } } };
    this.#show();
  }

  cancel(): void {
    this.#again = null;
    this.#work?.abort();
  }

  /** The neurons with the largest and the smallest NeurGrad, of all layers or of the open one. */
  ends(count: number): { positive: NeuronId[]; negative: NeuronId[] } {
    const { study } = this.#results;
    const width = this.#card?.width ?? 1;
    if (!study) return { positive: [], negative: [] };
    const { layer } = this.#state;
    const [from, to] = layer === null ? [0, study.neurgrad.length] : [layer * width, (layer + 1) * width];
    const { positive, negative } = strongest(study.neurgrad.subarray(from, to), count);
    const ids = (flat: readonly number[]) =>
      flat.map((at) => ({ layer: Math.floor((from + at) / width), index: at % width }));
    return { positive: ids(positive), negative: ids(negative) };
  }

  /** A neuron's values in the study: as it is, and shifted. */
  valuesOf(neuron: NeuronId): {
    activation: number;
    gradient: number;
    neurgrad: number;
    /** What of the gradient, and so of NeurGrad, may be rounding. */
    noise: number;
    now: number;
    shift: number;
    /** What a shift of 1 adds to the activation. */
    axis: 1 | -1;
  } {
    const { study } = this.#results;
    const at = neuron.layer * (this.#card?.width ?? 0) + neuron.index;
    const activation = study?.activation[at] ?? 0;
    const shift = this.#state.shifts.find((one) => sameNeuron(one, neuron))?.shift ?? 0;
    const axis = this.#state.direction === 'outward' ? outwardSign(activation) : 1;
    return {
      activation,
      gradient: study?.gradient[at] ?? 0,
      neurgrad: study?.neurgrad[at] ?? 0,
      noise: study?.noise[at] ?? 0,
      now: activation + axis * shift,
      shift,
      axis,
    };
  }

  /** Another tab wants the device for itself: the model's memory is given back, and the state stays. */
  async yield(): Promise<void> {
    const source = this.#source;
    if (!this.#card || !source) return;
    this.#again = null;
    this.#work?.abort();
    this.#card = null;
    this.#results = NOTHING;
    this.#show();
    await this.#client.call('close', null);
    this.#say('Another tab closed the model here, to have its memory.', [
      { label: 'Open it here again', act: () => void this.#open(source) },
    ]);
  }

  /** Models that need neither network nor file. */
  kept(): Promise<readonly KeptModel[]> {
    return this.#client.call('kept', null);
  }

  async forget(model: string): Promise<void> {
    await this.#client.call('forget', { model });
  }

  /** For tests: what a crash of the graphics driver does. */
  async loseDevice(): Promise<void> {
    await this.#client.call('loseDevice', null);
  }

  #question(): Question | null {
    if (!this.#card) return null;
    const { text, chat, at, target, site, direction } = this.#state;
    return { text, chat, at, target, site: site ?? this.#card.paperSite, direction };
  }

  async #askStudy(): Promise<void> {
    const question = this.#question();
    const card = this.#card;
    if (!question) return;
    try {
      const answer = await this.#client.call('answer', question);
      // Another model was asked for meanwhile: this is an answer of the one before.
      if (card !== this.#card) return;
      this.#results = { ...NOTHING, answer, study: this.#results.study };
      this.#show();
      const before = this.#results.study;
      const study = await this.#client.call('study', answer);
      if (card !== this.#card) return;
      this.#results = { ...this.#results, study };
      this.#remark = [this.#remark, before && this.#turned(before, study)].filter(Boolean).join(' ') || null;
      this.#studied();
    } catch (error) {
      this.#failed(error, this.#remark);
    }
  }

  /** What turns round of the shifts that are carried from one study to the next. */
  #turned(before: Study, after: Study): string | null {
    const outward = [before, after].every(({ question }) => question.direction === 'outward');
    if (!outward || before.question.site !== after.question.site) return null;
    const width = this.#card?.width ?? 0;
    const at = ({ layer, index }: NeuronId) => layer * width + index;
    return turnedRound(
      this.#state.shifts,
      (neuron) => before.activation[at(neuron)]!,
      (neuron) => after.activation[at(neuron)]!,
    );
  }

  async #askRun(): Promise<void> {
    const { study } = this.#results;
    // A study under way asks again when it is there.
    if (!study || !this.#current.study) return;
    const { shifts, selected } = this.#state;
    const { site } = study.question;
    const ask: Calls['run']['ask'] = {
      question: study.question,
      shifts: shifts.map((one) => ({ ...one, site })),
      follow: [study.target.id, study.predictions[0]!.id],
      top: WORDS,
    };
    try {
      const distribution = shifts.length === 0 ? null : { ...(await this.#client.call('run', ask)), shifts };
      if (study !== this.#results.study) return;
      const met = this.#meet(distribution, study, shifts, selected);
      this.#results = { ...this.#results, distribution, trace: met };
      this.#show();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The trace with the point where the selected neuron, shifted alone, stands now. */
  #meet(
    distribution: Distribution | null,
    study: Study,
    shifts: State['shifts'],
    selected: NeuronId | null,
  ): readonly Point[] {
    const { trace } = this.#results;
    const [only] = shifts;
    if (!distribution || shifts.length !== 1 || !only || !sameNeuron(only, selected)) return trace;
    if (trace.some(({ shift }) => shift === only.shift)) return trace;
    const p = distribution.predictions.find(({ id }) => id === study.target.id)?.p;
    return p === undefined ? trace : [...trace, { shift: only.shift, p }];
  }

  /**
   * A call that takes long: shown with its progress, and stopped by Cancel or by the next one.
   * @param again does the same once more; none of what opens a model, which a loss does anyway.
   */
  async #long<K extends 'open' | 'sweep' | 'measure' | 'steer' | 'write'>(
    call: K,
    ask: Calls[K]['ask'],
    what: string,
    again: (() => Promise<void>) | null = null,
  ): Promise<Calls[K]['answer'] | null> {
    this.#work?.abort();
    const work = new AbortController();
    this.#work = work;
    if (again) this.#again = again;
    this.#busy({ what, done: 0, total: 0, unit: 'rows' });
    try {
      const answer = await this.#client.call(call, ask, {
        signal: work.signal,
        onProgress: (progress) => this.#work === work && this.#busy(progress),
      });
      if (again) {
        if (this.#again === again) this.#again = null;
        this.#repeats = 0;
      }
      return answer;
    } catch (error) {
      if (call === 'open' && this.#work === work) await this.#notOpened(error, work);
      else {
        // One that is lost, or stopped because the model is opened again, is begun again.
        if (this.#again === again && !isPassing(error)) this.#again = null;
        this.#failed(error);
      }
      return null;
    } finally {
      if (this.#work === work) {
        this.#work = null;
        this.#busy(null);
      }
    }
  }

  async #notOpened(error: unknown, work: AbortController): Promise<void> {
    const { code, message } = error as CallError;
    if (code === 'lost') {
      this.#lost(message);
      return;
    }
    const source = this.#source!;
    const state = this.#state;
    const open = await this.#client.call('opened', null).catch(() => null);
    if (this.#work !== work) return;
    const before = this.#before;
    this.#before = null;
    if (before && open?.serial === before.card.serial) {
      this.#source = before.source;
      this.#state = before.state;
      this.#card = before.card;
      this.#results = before.results;
      if (this.#current.study) this.#show();
      else this.#changed();
    }
    if (code === 'not-here' && !this.#card) return this.#miss();
    const again = PASSING.has(code)
      ? [{ label: 'Try again', act: () => void this.#open(source, state) }]
      : [];
    const why = code === 'cancelled' ? 'Opening the model was cancelled.' : message;
    // A study that is asked anew says it once more: its answer takes away what is said here.
    if (this.#card && !this.#current.study) this.#remark = why;
    this.#say(why, again);
  }

  /** @param remark that stood in line to be said. */
  #failed(error: unknown, remark: string | null = null): void {
    // Cancelled was wished; of a lost device the worker tells by itself.
    if (isPassing(error)) return;
    if (remark !== null) this.#remark = null;
    this.#say([remark, (error as Error).message].filter(Boolean).join(' '));
  }

  #lost(why: string): void {
    const now = Date.now();
    this.#losses = [...this.#losses.filter((time) => now - time < 60_000), now];
    const source = this.#source;
    if (!source) return;
    if (this.#losses.length > LOSSES) {
      this.#card = null;
      this.#say(`The graphics device keeps getting lost (${why}).`, [
        { label: 'Try again', act: () => void this.#open(source) },
      ]);
      return;
    }
    this.#remark =
      'The graphics device was lost; the model has been opened again, and nothing of yours is gone.';
    // A driver that has just crashed needs a moment.
    setTimeout(() => void this.#open(source, this.#state, this.#results), 400 * (this.#losses.length - 1));
  }

  #show(): void {
    this.#address.follow(this.#state, this.link);
    this.#past.note(this.#state, performance.now());
    this.#render(this.view);
  }

  /** The address that leads back here. */
  get link(): string {
    return `${location.href.replace(/#.*$/, '')}#${toHash(this.#state)}`;
  }
}

/** What was fetched or dropped is kept; without this the browser may throw it away when its disk fills up. It may say no, and all works as ever. */
function askToKeep({ kind }: ModelSource): void {
  if (kind === 'hub' || kind === 'gguf') navigator.storage?.persist?.().catch(() => false);
}

const isPassing = (error: unknown): boolean =>
  error instanceof CallError && (error.code === 'cancelled' || error.code === 'lost');
