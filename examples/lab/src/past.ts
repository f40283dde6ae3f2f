/** What the user did, as states: undo and redo. What follows closely and changes the same thing is one deed. */

import { type NeuronId, nameOf, type State, sameNeuron } from './state.ts';

/** Moves of the same thing within these milliseconds are one. */
const ONE_DEED = 900;

/** What differs between two states, by name: `text`, or `shift L3.N308` where one neuron alone is moved. Empty: nothing. */
export function difference(before: State, after: State): string {
  const keys = (Object.keys(after) as (keyof State)[]).filter(
    (key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]),
  );
  if (keys.length !== 1 || keys[0] !== 'shifts') return keys.join(' ');
  const [name, ...others] = movedNeurons(before, after);
  return name !== undefined && others.length === 0 ? `shift ${name}` : 'shifts';
}

/** Names of the neurons whose shifts differ between two states; one that is in hand in one of them alone is among them. */
export function movedNeurons(before: Pick<State, 'shifts'>, after: Pick<State, 'shifts'>): string[] {
  const moved = (from: State['shifts'], to: State['shifts']): NeuronId[] =>
    from.filter((one) => !to.some((other) => sameNeuron(one, other) && one.shift === other.shift));
  return [
    ...new Set([...moved(before.shifts, after.shifts), ...moved(after.shifts, before.shifts)].map(nameOf)),
  ];
}

export class Past {
  #states: State[] = [];
  #at = -1;
  #deed = '';
  #when = Number.NEGATIVE_INFINITY;

  /** The state now, at a time in milliseconds. One without a sentence yet is not a place to come back to. */
  note(state: State, now: number): void {
    const current = this.#states[this.#at];
    if (current === state) return;
    const deed = current ? difference(current, state) : 'start';
    if (deed === '') return;
    const same = deed === this.#deed && now - this.#when < ONE_DEED && this.#at > 0;
    this.#states.length = this.#at + 1;
    if (same || current?.text === '') this.#states[this.#at] = state;
    else this.#states[++this.#at] = state;
    this.#deed = deed;
    this.#when = now;
  }

  get canUndo(): boolean {
    return this.#at > 0;
  }

  get canRedo(): boolean {
    return this.#at < this.#states.length - 1;
  }

  /** The state before; null where there is none. */
  undo(): State | null {
    return this.canUndo ? this.#go(this.#at - 1) : null;
  }

  redo(): State | null {
    return this.canRedo ? this.#go(this.#at + 1) : null;
  }

  #go(at: number): State {
    this.#at = at;
    // What is done next is a deed of its own.
    this.#deed = '';
    return this.#states[at]!;
  }
}
