/** The window of models: bundled ones, those that this browser keeps, files, folders and the Hub. */

import { KNOWN_MODELS } from '../../../models/known.ts';
import { checkWeightDtype } from '../../../models/storage.ts';
import { visibleText } from '../../../models/visibleText.ts';
import { byId, el } from './dom.ts';
import { fromPicker } from './files.ts';
import { megabytes } from './format.ts';
import type { Lab } from './lab.ts';
import { BUNDLED, licenceOf, nameOfModel, sourceOf } from './models.ts';
import type { ModelSource } from './protocol.ts';

/** Makes the window live. */
export function chooser(lab: Lab): void {
  const dialog = byId<HTMLDialogElement>('models');
  const field = (id: string) => byId<HTMLInputElement>(id);
  const on = (id: string, event: string, act: (event: Event) => void) =>
    byId(id).addEventListener(event, act);
  const take = (source: ModelSource | null) => {
    dialog.close();
    if (source) void lab.choose(source);
  };

  async function listKept(): Promise<void> {
    const kept = await lab.kept().catch(() => []);
    byId('kept').replaceChildren(
      ...kept.map(({ model, bytes }) => {
        const name = visibleText(nameOfModel(model));
        return el(
          'li',
          {},
          el('button', {
            text: name,
            on: { click: () => take(sourceOf(model)) },
            attributes: { type: 'button' },
          }),
          el('span', { class: 'muted', text: megabytes(bytes) }),
          el('button', {
            class: 'quiet',
            text: 'Delete',
            on: { click: () => void lab.forget(model).then(listKept) },
            attributes: { type: 'button', 'aria-label': `Delete ${name} from this browser` },
          }),
        );
      }),
    );
    byId('kept-title').hidden = kept.length === 0;
  }

  /** A model on the menu. */
  const entry = (model: string, name: string, about: string): HTMLElement =>
    el(
      'button',
      { on: { click: () => take(sourceOf(model)) }, attributes: { type: 'button', 'data-model': model } },
      el('strong', { text: name }),
      el('span', { class: 'muted', text: about }),
    );

  byId('bundled').replaceChildren(
    ...BUNDLED.map(({ name, about }) => entry(name, name, `${about} ${licenceOf(name)}.`)),
  );
  byId('known').replaceChildren(
    ...KNOWN_MODELS.filter(({ hub }) => hub).map(({ name, model, parameters, licence, bytes, memory }) =>
      entry(
        `hub:${model}`,
        name,
        `${(parameters / 1e6).toFixed(0)} million parameters. ${licence}. ${megabytes(bytes)} to fetch; needs ${megabytes(memory.f32)} on the graphics device as float32, ${megabytes(memory.f16)} in 16 bits${memory.packed ? `, ${megabytes(memory.packed)} packed as in the file` : ''}.`,
      ),
    ),
  );
  on('choose', 'click', () => {
    dialog.showModal();
    void listKept();
  });
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  for (const id of ['folder', 'gguf'])
    on(id, 'change', () => {
      const source = fromPicker(field(id).files ?? []);
      field(id).value = '';
      take(source);
    });
  on('dtype', 'change', () => void lab.storeAs(checkWeightDtype(byId<HTMLSelectElement>('dtype').value)));
  on('hub', 'submit', (event) => {
    event.preventDefault();
    take(sourceOf(`hub:${field('hub-id').value.trim()}`, field('hub-token').value.trim()));
  });
}
