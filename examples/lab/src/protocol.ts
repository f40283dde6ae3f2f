/**
 * What page and worker say to each other: one table of calls. Everything is plain data, and every question carries all it
 * depends on but the open model, so that a worker can be replaced at any moment without losing the user's state.
 */

import type { Site } from '../../../models/model.ts';
import type { WeightDtype } from '../../../models/storage.ts';
import type { TokenText } from '../../../models/tokenText.ts';
import type { Direction, NeuronCurve } from '../../../neurgrad/index.ts';

/** Where a model comes from. `files` are relative to the chosen folder. */
export type ModelSource =
  | { readonly kind: 'bundled'; readonly name: string; readonly url: string }
  | { readonly kind: 'folder'; readonly name: string; readonly files: ReadonlyMap<string, File> }
  /** `file` null: the copy of it that this browser keeps. */
  | { readonly kind: 'gguf'; readonly name: string; readonly file: File | null }
  | { readonly kind: 'hub'; readonly id: string; readonly token?: string };

/** A token: as the vocabulary writes it, and the text that it stands for. */
export type Token = TokenText;

export interface ModelCard {
  /** Which opening this is: another number each time. */
  readonly serial: number;
  readonly name: string;
  readonly family: string;
  /** Whether its tokenizer writes conversations. */
  readonly chat: boolean;
  /** The token that it fills in, as it is typed in a sentence; null: it goes on with a text. */
  readonly mask: string | null;
  readonly layers: number;
  readonly width: number;
  readonly vocabulary: number;
  readonly sites: readonly Site[];
  readonly paperSite: Site;
  readonly adapter: string;
  readonly software: boolean;
  /** Bytes of weights on the device. */
  readonly bytes: number;
  /** Something the user should know, in a sentence. */
  readonly notice: string | null;
}

/** A token by its word, or by its id. Null: the model's own answer. */
export type Target = { readonly word: string } | { readonly id: number } | null;

/** What the neurons are asked about. */
export interface Question {
  readonly text: string;
  /** The text is a message, written by the tokenizer's chat template. */
  readonly chat: boolean;
  /** The token whose neurons are looked at and shifted; null: where the model is asked. */
  readonly at: number | null;
  readonly target: Target;
  readonly site: Site;
  readonly direction: Direction;
}

/** A neuron moved by `shift` along the question's axis. */
export interface Shift {
  readonly layer: number;
  readonly index: number;
  readonly site: Site;
  readonly shift: number;
}

export interface Scored extends Token {
  readonly p: number;
}

/** One forward, nothing shifted. */
export interface Answer {
  readonly question: Question;
  /** What is odd about the prompt, a sentence each. */
  readonly remarks: readonly string[];
  /** As they are shown. */
  readonly tokens: readonly string[];
  /** Those that stand for text that the vocabulary does not have. */
  readonly unknown: readonly number[];
  /** Where the model is asked. */
  readonly position: number;
  readonly target: Token;
  readonly p: number;
  /** Best first. */
  readonly predictions: readonly Scored[];
}

/** One backward more. Arrays run layer by layer. */
export interface Study extends Answer {
  readonly activation: Float32Array;
  readonly gradient: Float64Array;
  readonly neurgrad: Float64Array;
  /** What of each gradient may be rounding. */
  readonly noise: Float64Array;
}

export interface Distribution {
  /** Best first, then the tokens that were followed and are not among them. */
  readonly predictions: readonly Scored[];
  /** Milliseconds in the worker. */
  readonly took: number;
}

export interface SweepAnswer {
  readonly curve: NeuronCurve;
  readonly target: Token;
}

/** What two words, or two sentences, are compared by: p, log p/(1 - p), or the logit, whose difference of two words is that of their log probabilities. */
export const COMPARED_BY = ['prob', 'log_odds', 'logit'] as const;
export type ComparedBy = (typeof COMPARED_BY)[number];

/** One of the two that are compared. Arrays run layer by layer. */
export interface Side {
  readonly target: Token;
  readonly value: number;
  readonly activation: Float32Array;
  /** Of the value. */
  readonly neurgrad: Float64Array;
}

/** What moving a neuron within ±2 says of it. */
export interface Measured {
  readonly slope: number;
  readonly r: number;
  readonly flat: boolean;
}

export interface SteerAnswer {
  readonly shifts: readonly Shift[];
  readonly p: number;
  readonly reached: boolean;
}

/** A model in the browser's own files. */
export interface KeptModel {
  /** As in a state: `hub:…` or `gguf:…`. */
  readonly model: string;
  readonly bytes: number;
}

export interface Calls {
  open: { ask: { source: ModelSource; dtype: WeightDtype }; answer: ModelCard };
  answer: { ask: Question; answer: Answer };
  study: { ask: Answer; answer: Study };
  run: {
    ask: { question: Question; shifts: readonly Shift[]; follow: readonly number[]; top: number };
    answer: Distribution;
  };
  sweep: {
    ask: { question: Question; neuron: Omit<Shift, 'shift'>; shifts: readonly number[] };
    answer: SweepAnswer;
  };
  /** One side of a comparison. */
  side: { ask: { question: Question; of: ComparedBy }; answer: Side };
  /** Slopes of many neurons. */
  measure: {
    ask: { question: Question; neurons: readonly Omit<Shift, 'shift'>[]; shifts: readonly number[] };
    answer: readonly Measured[];
  };
  /** Goes on with the text, word by word, the likeliest each time. */
  write: {
    ask: { question: Question; shifts: readonly Shift[]; words: number };
    answer: string;
  };
  steer: {
    ask: { question: Question; wish: number; neurons: number; range: number };
    answer: SteerAnswer;
  };
  /** Gives the model's memory back. */
  close: { ask: null; answer: null };
  /** The model that is open now. */
  opened: { ask: null; answer: ModelCard | null };
  /** Models that need no network. */
  kept: { ask: null; answer: readonly KeptModel[] };
  forget: { ask: { model: string }; answer: null };
  /** Test hook: what a driver's crash does. */
  loseDevice: { ask: null; answer: null };
}

export type CallName = keyof Calls;

export interface Progress {
  readonly what: string;
  readonly done: number;
  readonly total: number;
  readonly unit: 'bytes' | 'rows' | 'words';
}

export interface Failure {
  readonly code: string;
  readonly message: string;
}

/** To the worker. */
export type Order =
  | {
      readonly [K in CallName]: { readonly id: number; readonly call: K; readonly ask: Calls[K]['ask'] };
    }[CallName]
  | { readonly cancel: number };

/** From the worker. */
export type News =
  | { readonly id: number; readonly answer: Calls[CallName]['answer'] }
  | { readonly id: number; readonly failure: Failure }
  | { readonly id: number; readonly progress: Progress }
  | { readonly lost: string };
