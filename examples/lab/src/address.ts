/**
 * The address follows the state: another question or model is a place of its own that the browser's Back leads from; everything else
 * changes the place one is at.
 */

import type { State } from './state.ts';

/** Browsers refuse an address that changes with every frame. */
const PAUSE = 250;

export class Address {
  #timer = 0;
  #place: string | null = null;

  /** The state now, and the link to it. */
  follow(state: State, link: string): void {
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => {
      const place = placeOf(state);
      const fresh = this.#place !== null && place !== this.#place && link !== location.href;
      this.#place = place;
      if (fresh) history.pushState(null, '', link);
      else history.replaceState(null, '', link);
    }, PAUSE);
  }

  /** The browser itself has gone to this state. */
  arrive(state: State): void {
    clearTimeout(this.#timer);
    this.#place = placeOf(state);
  }
}

function placeOf({ model, dtype, text, chat, at, target, site, direction }: State): string | null {
  // Without a sentence a model is still being opened: the same place as with it.
  return text === '' ? null : JSON.stringify([model, dtype, text, chat, at, target, site, direction]);
}
