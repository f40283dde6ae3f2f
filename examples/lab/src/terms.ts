/** A word of explanation for every symbol and control, opened where the word stands. */

import { byId, el } from './dom.ts';

export interface Term {
  readonly name: string;
  readonly says: string;
}

/** In the order of the page. docs/glossary.md has the same. */
export const TERMS: Readonly<Record<string, Term>> = {
  sentence: {
    name: 'Sentence',
    says: 'What the model reads. A masked model fills in the one mask; another one goes on after the last token.',
  },
  target: {
    name: 'Target word',
    says: 'The word whose probability p everything on the page is about. Empty: the model’s own answer.',
  },
  tokens: {
    name: 'Tokens',
    says: 'The pieces that the model reads. The framed one is where neurons are looked at and moved; “asked” marks where the model answers, “unknown” a piece that its vocabulary does not have.',
  },
  answer: {
    name: 'Answer',
    says: 'Probabilities of the likeliest words. The bar is p now, the tick where it stood with nothing moved.',
  },
  neuron: {
    name: 'Neuron',
    says: 'One unit of a layer’s feed-forward network, named by layer and number, from 0: L3.N308.',
  },
  activation: {
    name: 'Activation a',
    says: 'The number that a neuron has for this sentence at this token. Moving a neuron adds to it.',
  },
  gradient: {
    name: 'Gradient G_C',
    says: 'dp/da by backpropagation: how fast p of the target changes as the activation rises, at the point where it is. Its rounding is what float32 may have added.',
  },
  neurgrad: {
    name: 'NeurGrad',
    says: 'The estimate of a neuron’s effect for a shift of 1, without moving it: the gradient along the shift’s axis. Positive: it works for the target. Dashed in the curve.',
  },
  site: {
    name: 'Site',
    says: 'Which number of the feed-forward network is looked at and moved: before or after its activation function, or after the gate. The first choice is the paper’s for this model.',
  },
  shift: {
    name: 'Axis of shifts',
    says: 'Plain: right is up, a shift of 1 adds 1 to the activation. Outward, the paper’s: right is away from 0, so that a neuron below 0 is lowered, and NeurGrad takes that sign.',
  },
  scale: {
    name: 'Scale',
    says: 'Where colours are full: few neurons are a hundred times as strong as most, so the scale may be cut below them, or count in powers of ten.',
  },
  order: {
    name: 'Order',
    says: 'Neurons of a layer by their number, or the strongest of what is shown first.',
  },
  check: {
    name: 'Check',
    says: 'Moves the listed neurons, and as many drawn at random, by up to ±2 and fits their slopes. Where |r| is below .95, one number does not describe a neuron.',
  },
  hand: {
    name: 'In hand',
    says: 'Neurons that you move. Numbers at a slider’s ends are activations; the mark in the middle is the neuron as the model has it.',
  },
  steer: {
    name: 'Steer',
    says: 'Moves as few of the strongest neurons as it takes, each within ±2, until the target has the probability that you wish.',
  },
  curve: {
    name: 'Curve',
    says: 'p of the target measured at many shifts of one neuron, with nothing else moved. The band is ±2, within which the green line is fitted.',
  },
  slope: {
    name: 'Slope G_E',
    says: 'The measured effect of a shift of 1: least squares through the start, within ±2. Halves are the slopes below and above 0: how much the curve bends. Green in the curve.',
  },
  r: {
    name: 'r',
    says: 'Correlation of p with the shift within ±2: ±1 for a straight line. The paper calls |r| ≥ .95 linear.',
  },
  linear: {
    name: 'Linear range',
    says: 'The largest range of shifts over which |r| stays at .95 or above, as far as was swept.',
  },
  versus: {
    name: 'A against B',
    says: 'The same number of two words or two sentences, and on the map NeurGrad of A’s less that of B’s: what works for the one and not for the other. Log-odds are log p/(1 − p); the difference of two words’ logits is that of their log probabilities.',
  },
  notebook: {
    name: 'Notebook',
    says: 'What you asked, moved and swept, written by itself; press a line to go back to it. Kept states stand side by side. Saved as HTML or JSON it opens again when it is dropped on the page.',
  },
};

/** A word that explains itself when it is pressed. */
export function termButton(term: string, name = TERMS[term]!.name): HTMLButtonElement {
  return el('button', { class: 'term', text: name, attributes: { type: 'button', 'data-term': term } });
}

/** Explains every word marked with `data-term`, now and later. */
export function explainTerms(all: (term: string) => void): void {
  const box = byId('explain');
  document.addEventListener('click', ({ target }) => {
    const button = (target as Element).closest<HTMLElement>('[data-term]');
    const term = button && TERMS[button.dataset.term!];
    if (!button || !term) return;
    box.replaceChildren(
      el('strong', { text: term.name }),
      el('p', { text: term.says }),
      el('button', {
        class: 'quiet',
        text: 'All words',
        on: {
          click: () => {
            box.hidePopover();
            all(button.dataset.term!);
          },
        },
        attributes: { type: 'button' },
      }),
    );
    box.showPopover();
    const [at, own] = [button.getBoundingClientRect(), box.getBoundingClientRect()];
    const below =
      at.bottom + 6 + own.height < innerHeight ? at.bottom + 6 : Math.max(6, at.top - own.height - 6);
    box.style.left = `${Math.max(6, Math.min(at.left, innerWidth - own.width - 6))}px`;
    box.style.top = `${below}px`;
  });
}
