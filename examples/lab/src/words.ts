/** The distribution: one bar a word, with a tick where it stands while nothing is shifted. Rows stay; numbers move. */

import { showToken } from '../../../models/tokenText.ts';
import { el } from './dom.ts';
import { percent, word } from './format.ts';
import type { Scored } from './protocol.ts';

interface Row {
  readonly item: HTMLLIElement;
  readonly button: HTMLButtonElement;
  readonly name: HTMLElement;
  readonly bar: HTMLElement;
  readonly tick: HTMLElement;
  readonly value: HTMLElement;
}

export class WordList {
  readonly #list: HTMLOListElement;
  readonly #onPick: (id: number) => void;
  readonly #rows = new Map<number, Row>();

  constructor(list: HTMLOListElement, onPick: (id: number) => void) {
    this.#list = list;
    this.#onPick = onPick;
  }

  /** `before` holds p of words while nothing is shifted; words that it lacks have no tick. */
  show(words: readonly Scored[], before: ReadonlyMap<number, number>, target: number): void {
    for (const [id, row] of this.#rows) {
      if (words.some((one) => one.id === id)) continue;
      row.item.remove();
      this.#rows.delete(id);
    }
    // “Tokyo” and “ Tokyo” are two tokens: where both stand here, the space is shown.
    const names = words.map(word);
    words.forEach((one, at) => {
      const row = this.#rows.get(one.id) ?? this.#add(one);
      const was = before.get(one.id);
      const twice = names.indexOf(names[at]!) !== names.lastIndexOf(names[at]!);
      row.name.textContent = twice ? showToken(one) : names[at]!;
      row.bar.style.setProperty('--p', String(one.p));
      row.tick.hidden = was === undefined;
      if (was !== undefined) row.tick.style.setProperty('--p', String(was));
      row.value.textContent = percent(one.p);
      row.button.dataset.p = String(one.p);
      row.button.setAttribute('aria-pressed', String(one.id === target));
      if (this.#list.children[at] !== row.item)
        this.#list.insertBefore(row.item, this.#list.children[at] ?? null);
    });
  }

  #add(one: Scored): Row {
    const { id, token } = one;
    const text = word(one);
    const name = el('span', { class: 'word' });
    const bar = el('i', { class: 'bar' });
    const tick = el('i', { class: 'tick' });
    const value = el('span', { class: 'number' });
    const button = el(
      'button',
      {
        on: { click: () => this.#onPick(id) },
        attributes: { type: 'button', title: `make “${text}” the target`, 'data-token': token },
      },
      name,
      el('span', { class: 'track' }, bar, tick),
      value,
    );
    const item = el('li', {}, button);
    const row = { item, button, name, bar, tick, value };
    this.#rows.set(id, row);
    return row;
  }
}
