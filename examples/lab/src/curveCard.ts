/** The curve of the selected neuron with what was measured of it: each number with how far it can be trusted. */

import { linearRange } from '../../../neurgrad/index.ts';
import { byId, el } from './dom.ts';
import { ENDINGS } from './download.ts';
import { figure, signed, word } from './format.ts';
import type { Lab } from './lab.ts';
import { FIT_RANGE, slopeNoise, slopesOfHalves } from './lines.ts';
import { nameOf, sameNeuron } from './state.ts';
import { termButton } from './terms.ts';
import type { View } from './view.ts';

/** Below it the sign of an activation, and with it the outward axis, is hardly one. */
const SMALL = 1e-3;

interface Fact {
  /** In the glossary. */
  readonly term: string;
  readonly name: string;
  readonly value: string;
  /** How far it can be trusted. */
  readonly note?: string;
  /** How its line is drawn. */
  readonly line?: 'estimate' | 'fit';
}

export class CurveCard {
  readonly #lab: Lab;
  /** Draws; it is fetched after the first answer. */
  #draw: typeof import('./curve.ts').drawCurve | null = null;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  async load(): Promise<void> {
    if (this.#draw) return;
    this.#draw = (await import('./later.ts')).drawCurve;
    this.show(this.#lab.view);
  }

  show(view: View): void {
    const { state, study, sweep, current } = view;
    const { selected } = state;
    byId<HTMLButtonElement>('sweep').disabled = !selected || !current.study;
    for (const ending of ENDINGS) byId(`curve-${ending}`).hidden = !sweep;
    if (!selected || !study) {
      byId('curve-title').textContent = 'Curve';
      byId('plot').replaceChildren(
        el('p', { class: 'muted hint', text: 'Select a neuron to see how the answer follows it.' }),
      );
      byId('facts').replaceChildren();
      return;
    }
    this.#plot(view);
    byId('facts').replaceChildren(
      ...this.#facts(view).map(({ term, name, value, note, line }) =>
        el(
          'div',
          {},
          el('dt', { class: line ?? '' }, termButton(term, name)),
          el('dd', { class: 'number', text: value }),
          note ? el('dd', { class: 'trust', text: note }) : null,
        ),
      ),
    );
  }

  #plot({ state, study, sweep, distribution, trace }: View): void {
    const selected = state.selected!;
    const host = byId('plot');
    const p = distribution?.predictions.find(({ id }) => id === study!.target.id)?.p ?? study!.p;
    const target = word(study!.target);
    const others = state.shifts.some((one) => !sameNeuron(one, selected));
    // Where p was read, which the slider may have left.
    const at = distribution?.shifts ?? [];
    const alone = at.every((one) => sameNeuron(one, selected));
    const name = `${nameOf(selected)}${others ? ' alone' : ''}`;
    byId('curve-title').textContent = `p(“${target}”) against ${name}`;
    if (!this.#draw) return void this.load();
    host.replaceChildren(
      this.#draw(
        {
          label: `Probability of ${target} against the shift of ${name}`,
          p: study!.p,
          neurgrad: this.#lab.valuesOf(selected).neurgrad,
          range: FIT_RANGE,
          sweep: sweep?.curve ?? null,
          trace: others ? [] : trace,
          now: others || !alone ? null : { shift: at[0]?.shift ?? 0, p },
        },
        Math.max(260, host.clientWidth),
      ),
    );
  }

  #facts({ state, sweep }: View): readonly Fact[] {
    const { activation, gradient, neurgrad, noise } = this.#lab.valuesOf(state.selected!);
    const rounding = Math.abs(gradient) <= noise ? ' (noise)' : '';
    const outward = state.direction === 'outward';
    const curve = sweep?.curve ?? null;
    const halves = curve && slopesOfHalves(curve.shifts, curve.changes, FIT_RANGE);
    return [
      {
        term: 'activation',
        name: 'activation',
        value: figure(activation, 4),
        ...(outward && Math.abs(activation) < SMALL ? { note: 'sign rests on |a| < 1e-3' } : {}),
      },
      {
        term: 'gradient',
        name: 'gradient G_C',
        value: signed(gradient, 4),
        note: `± ${figure(noise, 2)} rounding`,
      },
      { term: 'neurgrad', name: 'NeurGrad', value: `${signed(neurgrad, 4)}${rounding}`, line: 'estimate' },
      {
        term: 'slope',
        name: 'slope G_E',
        value: curve ? signed(curve.slope, 4) : '–',
        ...(curve && halves
          ? {
              note: `halves ${signed(halves[0])} to ${signed(halves[1])}; ± ${figure(slopeNoise(curve.shifts, curve.noise, FIT_RANGE), 2)} rounding`,
            }
          : {}),
        line: 'fit',
      },
      { term: 'r', name: 'r within ±2', value: curve ? signed(curve.r, 5) : '–' },
      { term: 'linear', name: 'linear range', value: curve ? rangeOf(curve) : '–' },
    ];
  }
}

/** How far a curve is straight, as far as it was swept. */
function rangeOf({
  flat,
  shifts,
  changes,
}: {
  flat: boolean;
  shifts: readonly number[];
  changes: readonly number[];
}): string {
  if (flat) return 'flat';
  const reach = linearRange(shifts, changes);
  if (reach === 0) return 'none';
  const all = reach >= Math.max(...shifts.map(Math.abs)) - 1e-9;
  return `±${figure(reach, 2)}${all ? ' or more' : ''}`;
}
