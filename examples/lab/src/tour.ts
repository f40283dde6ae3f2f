/** A first visit in five steps, each done by the visitor: the next one comes when the page shows that it was. */

import { byId, el } from './dom.ts';
import type { View } from './view.ts';

export interface Step {
  readonly says: string;
  /** What it is done with, by id. */
  readonly at: string;
  /** Whether it is done, by what the page shows now and when the step began. */
  readonly done: (now: View, begin: View) => boolean;
}

export const STEPS: readonly Step[] = [
  {
    says: 'Press another of these sentences, or type one of your own above them. The answer is the model’s, computed here.',
    at: 'examples',
    done: (now, begin) => now.current.study && now.state.text !== begin.state.text,
  },
  {
    says: 'Each cell of the map is a neuron. Press the first of the strongest ones for the answer.',
    at: 'positive',
    done: (now, begin) =>
      now.state.selected !== null &&
      JSON.stringify(now.state.selected) !== JSON.stringify(begin.state.selected),
  },
  {
    says: 'Drag its slider to the left: the neuron’s activation falls. The bars follow, and a sentence says what that does.',
    at: 'hand',
    done: (now, begin) => now.distribution !== null && now.distribution.shifts !== begin.distribution?.shifts,
  },
  {
    says: 'Press Sweep: the answer at every shift of this neuron. The nearer to a line, the better one number describes it.',
    at: 'sweep',
    done: (now, begin) =>
      now.sweep !== null && now.sweep !== begin.sweep && now.sweep.curve.shifts.length > 50,
  },
  {
    says: 'Now the other way round: wish a probability, press Steer, and few neurons are moved until the answer has it.',
    at: 'steer',
    done: (now, begin) =>
      now.distribution !== null &&
      now.distribution.shifts !== begin.distribution?.shifts &&
      now.distribution.shifts === now.state.shifts,
  },
];

const END =
  'That is the laboratory. Copy link holds all that you see; words with a dotted line explain themselves; what you did stands in the notebook below.';

export class Tour {
  /** Which step; null: none. */
  #at: number | null = null;
  #begin: View | null = null;
  #view: View;

  constructor(view: View) {
    this.#view = view;
  }

  start(): void {
    this.#go(0);
  }

  show(view: View): void {
    this.#view = view;
    const step = this.#at === null ? undefined : STEPS[this.#at];
    if (step && this.#begin && step.done(view, this.#begin)) this.#go(this.#at! + 1);
  }

  #go(at: number | null): void {
    this.#at = at;
    this.#begin = this.#view;
    for (const element of document.querySelectorAll('.toured')) element.classList.remove('toured');
    const bar = byId('tour');
    bar.hidden = at === null;
    if (at === null) return;
    const step = STEPS[at];
    const button = (text: string, click: () => void) =>
      el('button', { class: 'quiet', text, on: { click }, attributes: { type: 'button' } });
    bar.replaceChildren(
      el('p', {
        text: step ? `${at + 1} of ${STEPS.length}. ${step.says}` : END,
        attributes: { role: 'status' },
      }),
      ...(step ? [button('Skip', () => this.#go(at + 1))] : []),
      button(step ? 'End' : 'Close', () => this.#go(null)),
    );
    if (!step) return;
    const target = byId(step.at);
    target.classList.add('toured');
    target.scrollIntoView({ block: 'center' });
  }
}
