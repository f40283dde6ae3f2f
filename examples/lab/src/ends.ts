/** The strongest neurons for and against the target, random ones beside them, and what moving them says of each. */

import { drawWithoutReplacement, seededRandom } from '../../../neurgrad/index.ts';
import { byId, el } from './dom.ts';
import { figure, signed } from './format.ts';
import type { Lab } from './lab.ts';
import type { Measured } from './protocol.ts';
import { type NeuronId, nameOf } from './state.ts';
import type { View } from './view.ts';

/** Neurons listed on each side, and where more are wished. */
const FEW = 5;
const MORE = 25;
/** The same random neurons on every visit. */
const SEED = 1;
/** What the paper calls linear. */
const LINEAR_R = 0.95;

export class Ends {
  readonly #lab: Lab;
  readonly #take: (neuron: NeuronId) => void;
  #count = FEW;
  #measuring = false;
  /** Of the study that they were measured in, by name. */
  #measured: { readonly of: View['study']; readonly by: Map<string, Measured> } = { of: null, by: new Map() };

  constructor(lab: Lab, take: (neuron: NeuronId) => void) {
    this.#lab = lab;
    this.#take = take;
    byId('more').addEventListener('click', () => {
      this.#count = this.#count === FEW ? MORE : FEW;
      byId('more').textContent = this.#count === FEW ? 'Show more' : 'Show fewer';
      byId('more').setAttribute('aria-expanded', String(this.#count === MORE));
      this.show(lab.view);
    });
    this.#check.addEventListener('change', () => this.show(lab.view));
  }

  get #check(): HTMLSelectElement {
    return byId<HTMLSelectElement>('check');
  }

  show(view: View): void {
    const { study, card, state, current } = view;
    if (!study || !card) return;
    if (this.#measured.of !== study) this.#measured = { of: study, by: new Map() };
    for (const element of document.querySelectorAll('.within'))
      element.textContent = state.layer === null ? '' : ` in L${state.layer}`;
    const { positive, negative } = this.#lab.ends(this.#count);
    const random = this.#random(view);
    this.#list('positive', positive);
    this.#list('negative', negative);
    this.#list('random', random);
    if (this.#check.value === 'no' || !current.study) return;
    const missing = [...positive, ...negative, ...random].filter(
      (one) => !this.#measured.by.has(nameOf(one)),
    );
    if (missing.length > 0 && !this.#measuring) void this.#measure(study, missing);
  }

  /** The same number of neurons, of all layers or of the open one. */
  #random({ card, state }: View): NeuronId[] {
    const { layers, width } = card!;
    const from = state.layer === null ? 0 : state.layer * width;
    const size = state.layer === null ? layers * width : width;
    return drawWithoutReplacement(Math.min(this.#count, size), size, seededRandom(SEED)).map((at) => ({
      layer: Math.floor((from + at) / width),
      index: at % width,
    }));
  }

  async #measure(study: View['study'], neurons: readonly NeuronId[]): Promise<void> {
    this.#measuring = true;
    const found = await this.#lab.measure(neurons);
    this.#measuring = false;
    if (found === null) {
      // Cancelled: not asked for again by itself.
      this.#check.value = 'no';
    } else if (study === this.#measured.of) {
      for (const [i, neuron] of neurons.entries()) this.#measured.by.set(nameOf(neuron), found[i]!);
    }
    this.show(this.#lab.view);
  }

  #list(id: string, neurons: readonly NeuronId[]): void {
    const check = this.#check.value;
    const rows = neurons.flatMap((neuron) => {
      const name = nameOf(neuron);
      const measured = check === 'no' ? undefined : this.#measured.by.get(name);
      if (check === 'linear' && id !== 'random' && measured && Math.abs(measured.r) < LINEAR_R) return [];
      const button = el(
        'button',
        { on: { click: () => this.#take(neuron) }, attributes: { type: 'button' } },
        el('span', { class: 'name', text: name }),
        measured
          ? el('span', {
              class: 'measured muted',
              text: measured.flat ? 'flat' : `G_E ${signed(measured.slope)} r ${figure(measured.r, 2)}`,
            })
          : null,
        el('span', { class: 'number', text: signed(this.#lab.valuesOf(neuron).neurgrad) }),
      );
      return [el('li', {}, button)];
    });
    const hidden = neurons.length - rows.length;
    if (hidden > 0) rows.push(el('li', { class: 'muted', text: `${hidden} with |r| < .95 left out` }));
    byId(id).replaceChildren(...rows);
  }
}
