/** A prompt with its answer in place. */

import { type Html, html } from './html.ts';

/** How the vocabularies of masked models spell the token that is filled in. */
const MASK = /\[MASK\]|<mask>/;

/** The answer marked where the mask is, behind a text that has none. */
export function answered(prompt: string, answer: string): Html {
  const [before, after] = prompt.split(MASK);
  return after === undefined
    ? html`${prompt} <mark>${answer}</mark>`
    : html`${before!}<mark>${answer}</mark>${after}`;
}
