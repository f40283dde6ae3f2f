/** A against B: two words, two sentences or both, and on the map of the difference what each neuron does for the one and not for the other. */

import { strongest } from '../../../neurgrad/index.ts';
import { byId, el } from './dom.ts';
import { figure, signed, word } from './format.ts';
import type { Lab } from './lab.ts';
import { NeuronMap } from './map.ts';
import type { ComparedBy, Side } from './protocol.ts';
import { scaleOf } from './scale.ts';
import { type NeuronId, nameOf, type Versus } from './state.ts';
import type { View } from './view.ts';

/** Neurons listed for each side. */
const LISTED = 5;

const NAMES: Readonly<Record<ComparedBy, string>> = { prob: 'p', log_odds: 'log-odds', logit: 'logit' };

/** What the two values say, in a sentence. */
export function compared(
  of: ComparedBy,
  [a, b]: readonly [Pick<Side, 'target' | 'value'>, Pick<Side, 'target' | 'value'>],
): string {
  const told = ({ target, value }: Pick<Side, 'target' | 'value'>) =>
    `${NAMES[of]} of ${word(target)} is ${figure(value, 4)}`;
  const difference = a.value - b.value;
  return `A: ${told(a)}. B: ${told(b)}. A less B: ${signed(difference, 4)}.`;
}

/** NeurGrad of A's value less B's. */
export const differenceOf = ([a, b]: readonly [
  Pick<Side, 'neurgrad'>,
  Pick<Side, 'neurgrad'>,
]): Float64Array => a.neurgrad.map((value, i) => value - b.neurgrad[i]!);

export class CompareCard {
  readonly #lab: Lab;
  readonly #take: (neuron: NeuronId) => void;
  readonly #map: NeuronMap;
  /** What was last asked for: of this study, with that. */
  #asked: { readonly study: View['study']; readonly versus: Versus | null } = { study: null, versus: null };

  constructor(lab: Lab, take: (neuron: NeuronId) => void) {
    this.#lab = lab;
    this.#take = take;
    byId('versus').hidden = false;
    this.#map = new NeuronMap(
      { frame: byId('versus-map'), tooltip: byId('versus-tip'), spoken: byId('versus-spoken') },
      { onSelect: take, onLayer: () => {} },
    );
    byId('versus-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const versus: Versus = {
        text: this.#field('versus-text').value.trim(),
        word: this.#field('versus-word').value.trim(),
        of: byId<HTMLSelectElement>('versus-of').value as ComparedBy,
      };
      if (versus.text === '' && versus.word === '') this.#field('versus-word').focus();
      else lab.look({ versus });
    });
    byId('versus-end').addEventListener('click', () => lab.look({ versus: null }));
    this.show(lab.view);
  }

  #field(id: string): HTMLInputElement {
    return byId<HTMLInputElement>(id);
  }

  show({ state, study, current }: View): void {
    const { versus } = state;
    this.#field('versus-text').placeholder = state.text;
    this.#field('versus-word').placeholder = study ? word(study.target) : '';
    this.#field('versus-go').disabled = !current.study;
    byId('versus-end').hidden = versus === null;
    if (!current.study || (this.#asked.study === study && this.#asked.versus === versus)) return;
    this.#asked = { study, versus };
    if (versus === null) {
      byId('versus-found').hidden = true;
      return;
    }
    this.#field('versus-text').value = versus.text;
    this.#field('versus-word').value = versus.word;
    byId<HTMLSelectElement>('versus-of').value = versus.of;
    void this.#ask(study, versus);
  }

  async #ask(study: View['study'], versus: Versus): Promise<void> {
    const sides = await this.#lab.compare(versus);
    const { card } = this.#lab.view;
    if (this.#asked.study !== study || this.#asked.versus !== versus) return;
    byId('versus-found').hidden = sides === null;
    if (sides === null || !card) return;
    const { layers, width } = card;
    const values = differenceOf(sides);
    byId('versus-said').textContent = compared(versus.of, sides);
    this.#map.show({
      layers,
      width,
      values,
      quantity: 'difference',
      activation: sides[0].activation,
      neurgrad: values,
      scale: scaleOf('p999', values),
      order: 'number',
    });
    const { positive, negative } = strongest(values, LISTED);
    const fill = (id: string, flat: readonly number[]) =>
      byId(id).replaceChildren(
        ...flat.map((at) => {
          const neuron = { layer: Math.floor(at / width), index: at % width };
          return el(
            'li',
            {},
            el(
              'button',
              { on: { click: () => this.#take(neuron) }, attributes: { type: 'button' } },
              el('span', { class: 'name', text: nameOf(neuron) }),
              el('span', { class: 'number', text: signed(values[at]!) }),
            ),
          );
        }),
      );
    fill('versus-a', positive);
    fill('versus-b', negative);
  }
}
