/** What the page shows: the user's state and the newest results for it. */

import type { Point } from './lines.ts';
import { BUNDLED } from './models.ts';
import type {
  Answer,
  Distribution,
  ModelCard,
  ModelSource,
  Progress,
  Question,
  Study,
  SweepAnswer,
} from './protocol.ts';
import type { State } from './state.ts';

/** The distribution with neurons shifted, and by how much: sliders run ahead of it. */
export type Moved = Distribution & { readonly shifts: State['shifts'] };

/** What was written with neurons shifted, and by how much. */
export interface Written {
  readonly text: string;
  readonly shifts: State['shifts'];
}

/** What the page shows; each part null while there is none. */
export interface View {
  readonly state: State;
  readonly card: ModelCard | null;
  readonly answer: Answer | null;
  readonly study: Study | null;
  readonly distribution: Moved | null;
  readonly sweep: SweepAnswer | null;
  /** How the text goes on, with nothing shifted and with the neurons in hand. */
  readonly written: { readonly plain: string; readonly moved: Written | null } | null;
  /** Points met by dragging the selected neuron alone. */
  readonly trace: readonly Point[];
  /** Whether the answer, and the study with all that follows from it, belong to the state. */
  readonly current: { readonly answer: boolean; readonly study: boolean };
}

/** Something to do about what is said: a deed, or a place to go to. */
export interface Remedy {
  readonly label: string;
  readonly act: (() => void) | { readonly href: string };
}

/** Where the laboratory shows itself. */
export interface Shows {
  readonly render: (view: View) => void;
  readonly busy: (progress: Progress | null) => void;
  readonly say: (sentence: string | null, remedies?: readonly Remedy[]) => void;
  /** Where the user gives a file or folder: a link to one has come. */
  readonly pick: (kind: 'gguf' | 'folder') => void;
}

export type Results = Omit<View, 'state' | 'card' | 'current'>;

/** A model that was open when another one was asked for: the page comes back to it if that one does not open. */
export interface Before {
  readonly source: ModelSource;
  readonly state: State;
  readonly card: ModelCard;
  readonly results: Results;
}

export const START: State = {
  model: BUNDLED[0]!.name,
  dtype: 'f32',
  text: '',
  chat: false,
  at: null,
  target: null,
  site: null,
  // Up is up; the paper's axis is a choice.
  direction: 'plain',
  quantity: 'neurgrad',
  scale: 'p999',
  order: 'number',
  layer: null,
  selected: null,
  shifts: [],
  versus: null,
};

export const NOTHING: Results = {
  answer: null,
  study: null,
  distribution: null,
  sweep: null,
  written: null,
  trace: [],
};

export function sameQuestion(a: Question, b: Question): boolean {
  return (
    a.text === b.text &&
    a.chat === b.chat &&
    a.at === b.at &&
    a.site === b.site &&
    a.direction === b.direction &&
    JSON.stringify(a.target) === JSON.stringify(b.target)
  );
}
