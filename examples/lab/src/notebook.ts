/** What was done and what it gave, written by itself: one line for each thing asked, moved and swept, with the link that leads back to it. */

import { figure, percent, signed, word } from './format.ts';
import { meaningOf } from './meaning.ts';
import { nameOfModel } from './models.ts';
import { movedNeurons } from './past.ts';
import { type NeuronId, nameOf, type State, toHash } from './state.ts';
import type { View } from './view.ts';

export interface Entry {
  /** ISO 8601. */
  readonly when: string;
  /** In a sentence. */
  readonly did: string;
  /** The state, as the part of an address after `#`. */
  readonly state: string;
  /** p of the target with nothing moved, and as it was then. */
  readonly before: number;
  readonly after: number;
}

/** A state with a name, to be put beside others. */
export interface Kept {
  readonly name: string;
  readonly state: string;
  readonly model: string;
  readonly text: string;
  readonly target: string;
  readonly before: number;
  readonly after: number;
  /** The first word of the answer, and the neurons moved. */
  readonly first: string;
  readonly moved: string;
}

export const KIND = 'neurgrad laboratory notebook';

/** As it is saved. */
export interface NotebookFile {
  readonly kind: typeof KIND;
  readonly version: 1;
  readonly entries: readonly Entry[];
  readonly kept: readonly Kept[];
}

/** Beyond it the oldest lines go. */
const LINES = 500;

type Axis = (neuron: NeuronId) => 1 | -1;

export class Notebook {
  #entries: Entry[] = [];
  #kept: Kept[] = [];
  #seen: Pick<View, 'study' | 'sweep' | 'distribution'> = { study: null, sweep: null, distribution: null };
  /** The last move, which a drag goes on with. */
  #moved: { readonly deed: string; readonly entry: Entry } | null = null;
  /** What was last shown at rest. */
  #last: State | null = null;

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  get kept(): readonly Kept[] {
    return this.#kept;
  }

  get file(): NotebookFile {
    return { kind: KIND, version: 1, entries: this.#entries, kept: this.#kept };
  }

  /** Takes the lines of a saved one in place of its own. */
  take({ entries, kept }: Pick<NotebookFile, 'entries' | 'kept'>): void {
    this.#entries = [...entries];
    this.#kept = [...kept];
    this.#moved = null;
  }

  /**
   * Looks at what the page shows, and writes down what is new of it.
   * @param axisOf what a shift of 1 adds to a neuron's activation. @returns whether anything was written.
   */
  look(view: View, axisOf: Axis, now: Date): boolean {
    const { state, study, sweep, distribution, current } = view;
    if (!study || !current.study) return false;
    const before = this.#seen;
    this.#seen = { study, sweep, distribution };
    if (study !== before.study) {
      this.#moved = null;
      this.#last = state;
      this.#write(
        view,
        `Asked ${nameOfModel(state.model)} “${state.text}”: ${word(study.target)} ${percent(study.p)}.`,
        now,
      );
      return true;
    }
    if (sweep && sweep !== before.sweep && state.selected) {
      const { slope, r, shifts } = sweep.curve;
      const reach = figure(Math.max(...shifts.map(Math.abs)), 2);
      this.#write(
        view,
        `Swept ${nameOf(state.selected)} over ±${reach}: slope ${signed(slope)}, r ${figure(r)}.`,
        now,
      );
      return true;
    }
    // What is shown is of the state alone once the sliders have stopped.
    if (distribution === before.distribution || (distribution?.shifts ?? []) !== state.shifts) return false;
    // A neuron is taken and moved in one deed, however many of its steps were answered apart.
    const deed = this.#last ? movedNeurons(this.#last, state).join(' ') : '';
    this.#last = state;
    const said = meaningOf(view, axisOf);
    if (said === null) return false;
    const moved = this.#moved;
    const goesOn = moved !== null && (deed === '' || deed === moved.deed);
    if (goesOn) this.#entries = this.#entries.filter((one) => one !== moved.entry);
    this.#moved = { deed: goesOn ? moved.deed : deed, entry: this.#write(view, said, now) };
    return true;
  }

  keep(view: View, name: string, axisOf: Axis): void {
    const { state, study, distribution } = view;
    if (!study) return;
    const moved = state.shifts.map((one) => `${nameOf(one)} ${signed(axisOf(one) * one.shift)}`).join(', ');
    const first = (distribution ?? study).predictions[0]!;
    this.#kept.push({
      name,
      state: toHash(state),
      model: nameOfModel(state.model),
      text: state.text,
      target: word(study.target),
      before: study.p,
      after: pOf(view),
      first: word(first),
      moved: moved || 'none',
    });
  }

  drop(kept: Kept): void {
    this.#kept = this.#kept.filter((one) => one !== kept);
  }

  #write(view: View, did: string, now: Date): Entry {
    const { state, study } = view;
    const entry = { when: now.toISOString(), did, state: toHash(state), before: study!.p, after: pOf(view) };
    this.#entries.push(entry);
    this.#entries.splice(0, this.#entries.length - LINES);
    return entry;
  }
}

/** p of the target as it is shown. */
function pOf({ study, distribution }: View): number {
  return distribution?.predictions.find(({ id }) => id === study!.target.id)?.p ?? study!.p;
}
