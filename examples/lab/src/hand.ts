/** Neurons in hand: the selected one and all that are shifted, each with a slider. */

import { el } from './dom.ts';
import { figure, signed } from './format.ts';
import { type NeuronId, nameOf, sameNeuron } from './state.ts';

export interface InHand extends NeuronId {
  readonly shift: number;
  readonly activation: number;
  /** The activation at this shift. */
  readonly now: number;
  readonly neurgrad: number;
  /** What a shift of 1 adds to the activation: -1 where the axis runs down. */
  readonly axis: 1 | -1;
}

/** Reach of a slider. */
const REACH = 10;

interface Row {
  readonly item: HTMLLIElement;
  readonly slider: HTMLInputElement;
  readonly from: HTMLElement;
  readonly value: HTMLElement;
  /** Activations at the slider's two ends. */
  readonly ends: readonly [HTMLElement, HTMLElement];
}

export interface HandEvents {
  readonly onShift: (neuron: NeuronId, shift: number) => void;
  readonly onSelect: (neuron: NeuronId) => void;
  readonly onRemove: (neuron: NeuronId) => void;
}

export class Hand {
  readonly #list: HTMLUListElement;
  readonly #events: HandEvents;
  readonly #rows = new Map<string, Row>();

  constructor(list: HTMLUListElement, events: HandEvents) {
    this.#list = list;
    this.#events = events;
  }

  show(neurons: readonly InHand[], selected: NeuronId | null): void {
    const names = neurons.map(nameOf);
    for (const [name, row] of this.#rows) {
      if (names.includes(name)) continue;
      row.item.remove();
      this.#rows.delete(name);
    }
    neurons.forEach((neuron, at) => {
      const row = this.#rows.get(nameOf(neuron)) ?? this.#add(neuron);
      const active = sameNeuron(neuron, selected);
      row.item.classList.toggle('selected', active);
      const shown = String(neuron.shift);
      if (row.slider.value !== shown) row.slider.value = shown;
      row.slider.setAttribute(
        'aria-valuetext',
        `activation ${figure(neuron.now)}, shift ${signed(neuron.shift)}`,
      );
      row.from.textContent = signed(neuron.neurgrad);
      row.ends.forEach((end, right) => {
        end.textContent = figure(neuron.activation + neuron.axis * (right ? REACH : -REACH));
      });
      row.value.textContent =
        neuron.shift === 0
          ? figure(neuron.activation)
          : `${figure(neuron.activation)} → ${figure(neuron.now)}`;
      if (this.#list.children[at] !== row.item)
        this.#list.insertBefore(row.item, this.#list.children[at] ?? null);
    });
  }

  /** Puts the keyboard on a neuron's slider. */
  focus(neuron: NeuronId): void {
    this.#rows.get(nameOf(neuron))?.slider.focus({ preventScroll: true });
  }

  #add({ layer, index }: NeuronId): Row {
    const neuron = { layer, index };
    const name = nameOf(neuron);
    const { onShift, onSelect, onRemove } = this.#events;
    const slider = el('input', {
      on: {
        input: () => onShift(neuron, Math.round(Number(slider.value) * 20) / 20),
        dblclick: () => onShift(neuron, 0),
      },
      attributes: {
        type: 'range',
        min: -REACH,
        max: REACH,
        step: 'any',
        'aria-label': `Activation of ${name}`,
      },
    });
    // `any` lets a steered value stand as it is; keys then need a step of their own.
    slider.addEventListener('keydown', (event) => {
      const steps: Record<string, number> = {
        ArrowLeft: -0.1,
        ArrowDown: -0.1,
        ArrowRight: 0.1,
        ArrowUp: 0.1,
        PageUp: 1,
        PageDown: -1,
      };
      const step = steps[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const next = Math.round((Number(slider.value) + step) * 10) / 10;
      onShift(neuron, Math.max(-REACH, Math.min(REACH, next)) + 0);
    });
    const from = el('span', { class: 'muted', attributes: { title: 'NeurGrad' } });
    const value = el('output', { class: 'number' });
    const ends = [el('span'), el('span')] as const;
    const item = el(
      'li',
      { attributes: { 'data-neuron': name } },
      el('button', {
        class: 'name',
        text: name,
        on: { click: () => onSelect(neuron) },
        attributes: { type: 'button', title: 'look at this neuron' },
      }),
      from,
      value,
      el('button', {
        class: 'quiet remove',
        text: '×',
        on: { click: () => onRemove(neuron) },
        attributes: { type: 'button', 'aria-label': `Put ${name} back`, title: 'put back' },
      }),
      el('span', { class: 'slide' }, slider),
      el('span', { class: 'slide-ends muted' }, ...ends),
    );
    const row = { item, slider, from, value, ends };
    this.#rows.set(name, row);
    return row;
  }
}
