/** The models on the menu, and a sentence to begin with. */

import { KNOWN_MODELS } from '../../../models/known.ts';
import type { ModelSource } from './protocol.ts';

export interface Bundled {
  readonly name: string;
  readonly about: string;
  readonly examples: readonly string[];
}

/** Files of a bundled model: what the loader reads. */
export const BUNDLED_FILES: readonly string[] = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'model.safetensors',
];

export const BUNDLED: readonly Bundled[] = [
  {
    name: 'facts-bert',
    about: 'BERT, 4 layers of 512 neurons, trained on facts about the world. 5 MB.',
    examples: [
      'The capital of France is [MASK].',
      'The official language of Brazil is [MASK].',
      'Toyota is a company from [MASK].',
    ],
  },
  {
    name: 'stories260k',
    about: 'Llama, 5 layers of 172 neurons, tells children’s stories. 1 MB.',
    examples: ['Once upon a time, there was a girl named', 'Once upon a time, there was a', 'Lily was'],
  },
];

/** Sentences for a model of the user's own. @param mask the token that it fills in; null: it goes on with a text. */
export const examplesOf = (mask: string | null): readonly string[] =>
  mask === null
    ? ['The capital of France is', 'The opposite of hot is', 'Once upon a time, there was a']
    : [`The capital of France is ${mask}.`, `A robin is a ${mask}.`, `The opposite of hot is ${mask}.`];

/** What a state's or link's `model` names; null for a folder, which only the user can open again. */
export function sourceOf(model: string, token?: string): ModelSource | null {
  if (model.startsWith('hub:')) return { kind: 'hub', id: model.slice(4), ...(token ? { token } : {}) };
  if (model.startsWith('gguf:')) return { kind: 'gguf', name: model.slice(5), file: null };
  const bundled = BUNDLED.find(({ name }) => name === model);
  if (!bundled) return null;
  return { kind: 'bundled', name: bundled.name, url: new URL(`${bundled.name}/`, document.baseURI).href };
}

export function modelOf(source: ModelSource): string {
  if (source.kind === 'bundled') return source.name;
  return source.kind === 'hub' ? `hub:${source.id}` : `${source.kind}:${source.name}`;
}

/** As it is shown: a Hub id, a file's or folder's name. */
export const nameOfModel = (model: string): string => model.replace(/^\w+:/, '');

/** Of a bundled model. */
export const licenceOf = (name: string): string =>
  KNOWN_MODELS.find((known) => known.name === name)?.licence ?? '';
