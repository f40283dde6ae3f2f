/** Answers from a recording, where no model can run: what was not recorded is refused in a sentence. */

import { type Answering, CallError } from '../client.ts';
import type { CallName, Calls, Question, Scored } from '../protocol.ts';
import { type NeuronId, nameOf, sameNeuron } from '../state.ts';
import { type Recording, readRecording } from './recording.ts';

/** Shifts within it are the same one. */
const SAME = 1e-9;

type Handlers = { [K in CallName]: (ask: Calls[K]['ask']) => Calls[K]['answer'] };

export class Player implements Answering {
  readonly recording: Recording;
  readonly #tokens: ReadonlyMap<number, Recording['tokens'][number]>;
  readonly #handlers: Handlers;
  #serial = 0;

  constructor(recording: Recording) {
    this.recording = recording;
    this.#tokens = new Map(recording.tokens.map((token) => [token.id, token]));
    const { study, card } = recording;
    const never = (what: string) => (): never => {
      throw refused(`${what} was not recorded`);
    };
    this.#handlers = {
      open: ({ source, dtype }) => {
        if (source.kind !== 'bundled' || source.name !== recording.model || dtype !== recording.dtype)
          throw refused(`only ${recording.model} in ${recording.dtype} was recorded`);
        this.#serial++;
        return { ...card, serial: this.#serial };
      },
      opened: () => (this.#serial === 0 ? null : { ...card, serial: this.#serial }),
      answer: (question) => {
        this.#check(question);
        const { activation, gradient, neurgrad, noise, ...answer } = study;
        return { ...answer, question };
      },
      study: ({ question }) => {
        this.#check(question);
        return { ...study, question };
      },
      run: ({ question, shifts, follow, top }) => {
        this.#check(question);
        const [shift, ...more] = shifts.filter((one) => one.shift !== 0);
        if (more.length > 0) throw refused('neurons were recorded moved one at a time');
        const best = shift ? this.#moved(shift, shift.shift) : study.predictions;
        const rest = best.slice(top).filter(({ id }) => follow.includes(id));
        return { predictions: [...best.slice(0, top), ...rest], took: 0 };
      },
      sweep: ({ question, neuron, shifts }) => {
        this.#check(question);
        const curve = this.#neuron(neuron).curves.find((one) => sameShifts(one.shifts, shifts));
        if (!curve) throw refused(`this range of ${nameOf(neuron)} was not recorded`);
        return { curve, target: study.target };
      },
      side: never('a comparison'),
      measure: never('measuring a list of neurons'),
      write: never('writing on'),
      steer: never('steering'),
      close: () => null,
      kept: () => [],
      forget: () => null,
      loseDevice: () => null,
    };
  }

  async call<K extends CallName>(call: K, ask: Calls[K]['ask']): Promise<Calls[K]['answer']> {
    return this.#handlers[call](ask);
  }

  /** The next shift of the grid on the way, so that steps smaller than the grid's move, too. */
  nearest(neuron: NeuronId, others: readonly NeuronId[], from: number, to: number): number {
    if (to === 0) return 0;
    this.#neuron(neuron);
    if (others.length > 0)
      throw refused('neurons were recorded moved one at a time: put the other back first');
    const { grid } = this.recording;
    const found =
      to > from ? grid.find((shift) => shift > to - SAME) : grid.findLast((shift) => shift < to + SAME);
    return found ?? (to > from ? grid.at(-1)! : grid[0]!);
  }

  stop(): void {}

  /** @throws CallError unless it is the recorded one. */
  #check(question: Question): void {
    const { study } = this.recording;
    const { text, chat, at, site, direction } = study.question;
    const { target } = question;
    const same =
      question.text === text &&
      question.chat === chat &&
      (question.at === at || question.at === study.position) &&
      question.site === site;
    if (!same)
      throw refused(`only “${text}” was recorded, at site ${site} of the token where the model is asked`);
    if (question.direction !== direction) throw refused(`only ${direction} shifts were recorded`);
    const word =
      target && ('id' in target ? target.id === study.target.id : target.word === study.target.text);
    if (target && !word) throw refused(`only the target “${study.target.text}” was recorded`);
  }

  #neuron(neuron: NeuronId): Recording['neurons'][number] {
    const { neurons } = this.recording;
    const found = neurons.find((one) => sameNeuron(one, neuron));
    if (!found)
      throw refused(`${nameOf(neuron)} was not recorded moved; ${neurons.map(nameOf).join(', ')} were`);
    return found;
  }

  #moved(neuron: NeuronId, shift: number): readonly Scored[] {
    const { ids, p } = this.#neuron(neuron);
    const at = this.recording.grid.findIndex((one) => Math.abs(one - shift) < SAME);
    if (at < 0) throw refused(`${nameOf(neuron)} shifted by ${shift} was not recorded`);
    return Array.from(ids[at]!, (id, i) => ({ ...this.#tokens.get(id)!, p: p[at]![i]! }));
  }
}

const sameShifts = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((shift, at) => Math.abs(shift - b[at]!) < SAME);

const refused = (what: string): CallError =>
  new CallError({ code: 'recorded', message: `A recording is played: ${what}.` });

/** What is played, in a sentence. */
export function toldOf({ made, model, study, card }: Recording): string {
  const day = made.at.slice(0, 10);
  return `This is a recording of ${model} with “${study.question.text}”, made on ${day} on ${card.adapter} by “${made.by}” of neurgrad ${made.neurgrad}. One neuron at a time can be moved, along recorded steps.`;
}

/** The recording that comes with the page. @throws UserError; Error where it cannot be fetched. */
export async function openPlayer(): Promise<Player> {
  const response = await fetch(new URL('../../recordings/facts-bert.json', import.meta.url));
  if (!response.ok) throw new Error(`the page's host answers ${response.status}`);
  return new Player(readRecording(await response.text(), 'the recording'));
}
