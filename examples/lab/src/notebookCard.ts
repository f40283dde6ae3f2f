/** The notebook on the page: what was done, newest first, and named states side by side. */

import { byId, el } from './dom.ts';
import { save } from './download.ts';
import { percent } from './format.ts';
import type { Lab } from './lab.ts';
import { type Kept, Notebook } from './notebook.ts';
import { notebookHtml, parseNotebook } from './notebookFile.ts';
import { fromHash, type NeuronId } from './state.ts';
import { START, type View } from './view.ts';

/** Rows of the table of states. */
const ROWS: readonly [string, (kept: Kept) => string][] = [
  ['model', ({ model }) => model],
  ['sentence', ({ text }) => text],
  ['target', ({ target }) => target],
  ['nothing moved', ({ before }) => percent(before)],
  ['as it was', ({ after }) => percent(after)],
  ['answer', ({ first }) => first],
  ['moved', ({ moved }) => moved],
];

export class NotebookCard {
  readonly #lab: Lab;
  readonly #say: (sentence: string) => void;
  readonly #notebook = new Notebook();

  constructor(lab: Lab, say: (sentence: string) => void) {
    this.#lab = lab;
    this.#say = say;
    byId('notebook').hidden = false;
    const name = byId<HTMLInputElement>('state-name');
    byId('keep-state').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#notebook.keep(
        lab.view,
        name.value.trim() || `State ${this.#notebook.kept.length + 1}`,
        this.#axis,
      );
      name.value = '';
      this.#draw();
    });
    byId('notebook-html').addEventListener('click', () =>
      save(
        'notebook.html',
        notebookHtml(this.#notebook.file, location.href.replace(/#.*$/, '')),
        'text/html',
      ),
    );
    byId('notebook-json').addEventListener('click', () =>
      save('notebook.json', `${JSON.stringify(this.#notebook.file, null, 1)}\n`, 'application/json'),
    );
    const picker = byId<HTMLInputElement>('notebook-file');
    picker.addEventListener('change', () => {
      const [file] = picker.files ?? [];
      picker.value = '';
      if (file) void this.open(file);
    });
    this.show(lab.view);
  }

  show(view: View): void {
    byId<HTMLButtonElement>('keep-go').disabled = !view.current.study;
    if (this.#notebook.look(view, this.#axis, new Date())) this.#draw();
  }

  /** A saved notebook: its lines, and the state that it ends with. */
  async open(file: File): Promise<void> {
    try {
      this.#notebook.take(parseNotebook(await file.text()));
    } catch (error) {
      this.#say((error as Error).message);
      return;
    }
    this.#draw();
    const last = this.#notebook.entries.at(-1);
    if (last) this.#go(last.state);
  }

  readonly #axis = (neuron: NeuronId) => this.#lab.valuesOf(neuron).axis;

  #go(state: string): void {
    void this.#lab.go({ ...START, ...fromHash(state) });
  }

  #draw(): void {
    const { entries, kept } = this.#notebook;
    byId('done').replaceChildren(
      ...entries
        .map(({ did, state, when }) =>
          el(
            'li',
            {},
            el('button', {
              text: did,
              on: { click: () => this.#go(state) },
              attributes: { type: 'button', title: `${when.slice(11, 19)} UTC: go back to it` },
            }),
          ),
        )
        .reverse(),
    );
    byId('states').hidden = kept.length === 0;
    const heads = kept.map((one) =>
      el(
        'th',
        { attributes: { scope: 'col' } },
        el('button', {
          class: 'name',
          text: one.name,
          on: { click: () => this.#go(one.state) },
          attributes: { type: 'button' },
        }),
        el('button', {
          class: 'quiet',
          text: '×',
          on: {
            click: () => {
              this.#notebook.drop(one);
              this.#draw();
            },
          },
          attributes: { type: 'button', 'aria-label': `Leave ${one.name} out` },
        }),
      ),
    );
    byId('states').replaceChildren(
      el('thead', {}, el('tr', {}, el('td'), ...heads)),
      el(
        'tbody',
        {},
        ...ROWS.map(([name, of]) =>
          el(
            'tr',
            {},
            el('th', { text: name, attributes: { scope: 'row' } }),
            ...kept.map((one) => el('td', { text: of(one) })),
          ),
        ),
      ),
    );
  }
}
