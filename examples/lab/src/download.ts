/** What the page shows, as files: PNG, SVG, CSV and JSON. */

import type { NeuronCurve } from '../../../neurgrad/index.ts';
import { el } from './dom.ts';
import type { Study } from './protocol.ts';

export function save(name: string, content: Blob | string, type = 'text/plain'): void {
  const blob = typeof content === 'string' ? new Blob([content], { type: `${type};charset=utf-8` }) : content;
  const href = URL.createObjectURL(blob);
  el('a', { attributes: { href, download: name } }).click();
  // Some browsers read the address only after the click's event is over.
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** One line a neuron, in numbers that read back the same. */
export function neuronsCsv({ activation, gradient, neurgrad, noise }: Study, width: number): string {
  const lines = ['layer,neuron,activation,gradient,neurgrad,noise'];
  const columns = [activation, gradient, neurgrad, noise];
  for (let flat = 0; flat < activation.length; flat++) {
    lines.push([Math.floor(flat / width), flat % width, ...columns.map((values) => values[flat])].join(','));
  }
  return `${lines.join('\n')}\n`;
}

export function sweepCsv(curve: NeuronCurve): string {
  return `${['shift,p', ...curve.shifts.map((shift, i) => `${shift},${curve.p[i]}`)].join('\n')}\n`;
}

/** The figure on its own: the page's colours written in, a background behind it. */
export function standaloneSvg(figure: SVGSVGElement): string {
  const copy = figure.cloneNode(true) as SVGSVGElement;
  const style = getComputedStyle(document.documentElement);
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  copy.style.fontFamily = 'system-ui, sans-serif';
  copy.style.background = style.getPropertyValue('--card').trim();
  const text = new XMLSerializer().serializeToString(copy);
  return text.replace(/var\((--[\w-]+)\)/g, (_, name: string) => style.getPropertyValue(name).trim());
}
