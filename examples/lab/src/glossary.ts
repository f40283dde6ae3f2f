/** All words of the page in one window, opened at one of them. */

import { el } from './dom.ts';
import { TERMS } from './terms.ts';

let dialog: HTMLDialogElement | null = null;

export function openGlossary(term?: string): void {
  dialog ??= build();
  dialog.showModal();
  dialog.querySelector(`#word-${term}`)?.scrollIntoView({ block: 'center' });
}

function build(): HTMLDialogElement {
  const words = Object.entries(TERMS).flatMap(([id, { name, says }]) => [
    el('dt', { text: name, attributes: { id: `word-${id}` } }),
    el('dd', { text: says }),
  ]);
  const built = el(
    'dialog',
    { class: 'glossary', attributes: { 'aria-labelledby': 'glossary-title' } },
    el(
      'form',
      { class: 'row', attributes: { method: 'dialog' } },
      el('h2', { text: 'Words', attributes: { id: 'glossary-title' } }),
      el('button', { class: 'quiet', text: '×', attributes: { type: 'submit', 'aria-label': 'Close' } }),
    ),
    el('dl', {}, ...words),
  );
  document.body.append(built);
  return built;
}
