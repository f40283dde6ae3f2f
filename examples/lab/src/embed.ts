/** The page within another one: what its address, before the `#`, asks to be left out. */

import { byId } from './dom.ts';

/** Parts of the page by the name that an address gives them, and the element that each is. */
const PARTS: Readonly<Record<string, string>> = {
  header: 'body > header',
  sentence: '.ask',
  answer: '.answer',
  hand: '.hands',
  map: '.chart',
  curve: '.curve',
  steer: '.steering',
  compare: '.versus',
  notebook: '.notebook',
  footer: 'footer',
};

/** What `?embed=1` leaves out by itself. */
const FRAME = ['header', 'footer', 'notebook'];

/** The parts that an address leaves out, and the names in it that are none. */
export function leftOut(search: string): {
  readonly parts: readonly string[];
  readonly unknown: readonly string[];
} {
  const fields = new URLSearchParams(search);
  const names = (fields.get('hide') ?? '').split(',').flatMap((name) => name.trim() || []);
  const known = (name: string) => Object.hasOwn(PARTS, name);
  const frame = fields.get('embed') === '1' ? FRAME : [];
  return {
    parts: [...new Set([...frame, ...names.filter(known)])],
    unknown: names.filter((name) => !known(name)),
  };
}

/** Leaves out of the page what its address says. */
export function embed(search: string): void {
  const { parts, unknown } = leftOut(search);
  byId('lab').classList.toggle('embedded', parts.length > 0);
  for (const part of parts) document.querySelector(PARTS[part]!)!.classList.add('left-out');
  byId('unknown-parts').hidden = unknown.length === 0;
  byId('unknown-parts').textContent =
    `The address hides ${unknown.map((name) => `“${name}”`).join(', ')}, which the page does not have; its parts are ${Object.keys(PARTS).join(', ')}.`;
}
