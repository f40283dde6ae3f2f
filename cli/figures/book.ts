/** The figures of one report: shown in its page with links that save them, and written beside it. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { type Html, html, raw } from '../html.ts';
import { packageRoot } from '../package.ts';
import { figureCsv } from './csv.ts';
import { captionOf, type Drawing, drawFigure, type Figure } from './figure.ts';
import type { Source } from './source.ts';

/** Folder beside a page. */
export const FIGURES = 'figures';

/** A file's name of words. */
export const fileName = (...words: readonly (string | number)[]): string =>
  words
    .join('-')
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .replaceAll(/^[-.]+|-+$/g, '');

/** Text of the script by which pages save their figures. */
export const saveScript: string = readFileSync(join(packageRoot, 'cli', 'figures', 'save.mjs'), 'utf8');

const newDocument = (): Document =>
  parseHTML('<!doctype html><html><body></body></html>').document as unknown as Document;

/** A figure as SVG, to be a file of its own. */
export const figureSvg = (figure: Figure): string => `${drawFigure(figure, newDocument()).svg.outerHTML}\n`;

/** A figure as drawn. */
export interface Kept {
  readonly figure: Figure;
  readonly drawing: Drawing;
}

export class FigureBook {
  readonly source: Source;
  readonly #document = newDocument();
  readonly #kept = new Map<string, Kept>();

  constructor(source: Source) {
    this.source = source;
  }

  /** The figure in the page, to be written beside it by {@link files}. */
  show(figure: Figure): Html {
    const { name } = figure;
    if (fileName(name) !== name || this.#kept.has(name))
      throw new Error(`FigureBook: ${name} is no file's name, or another figure's`);
    const drawing = drawFigure(figure, this.#document);
    this.#kept.set(name, { figure, drawing });
    const { svg, width, height, picture } = drawing;
    const shown = svg.cloneNode(true) as SVGSVGElement;
    shown.setAttribute('viewBox', `0 0 ${Math.round(width * 100) / 100} ${picture}`);
    shown.setAttribute('data-height', String(height));
    const wide = figure.columns === 2;
    // A PNG is made in the page alone, and a PDF only beside it.
    const link = (ending: 'svg' | 'pdf' | 'png' | 'csv'): Html =>
      html`<a href="${FIGURES}/${name}.${ending}" download="${name}.${ending}"${raw(ending === 'png' ? ' hidden' : '')} aria-label="${ending.toUpperCase()} of ${figure.label}"${raw(ending === 'pdf' ? '' : ` data-save="${ending}"`)}>${ending.toUpperCase()}</a>`;
    return html`<figure${raw(wide ? ' class="wide"' : '')} data-name="${name}">${
      wide
        ? html`<div class="sideways" role="group" aria-label="${figure.label}" tabindex="0">${raw(shown.outerHTML)}</div>`
        : raw(shown.outerHTML)
    }<figcaption>${captionOf(figure)}</figcaption>
<p class="save">${[link('svg'), link('pdf'), link('png'), link('csv')]}</p><pre class="data" hidden>
${figureCsv(figure, this.source)}</pre></figure>`;
  }

  /** In the order of the page. */
  get drawn(): readonly Kept[] {
    return [...this.#kept.values()];
  }

  /** SVG, PDF and CSV of every figure, to be written beside `page`'s folder. */
  async files(folder: string): Promise<[path: string, content: string | Uint8Array][]> {
    if (this.#kept.size === 0) return [];
    // Not loaded by commands that draw nothing.
    const { figurePdf } = await import('./pdf.ts');
    const font = new Uint8Array(
      readFileSync(createRequire(import.meta.url).resolve('dejavu-fonts-ttf/ttf/DejaVuSansCondensed.ttf')),
    );
    const found: [string, string | Uint8Array][] = [];
    for (const [name, { figure, drawing }] of this.#kept) {
      const at = (ending: string): string => join(folder, FIGURES, `${name}.${ending}`);
      const text = `${drawing.svg.outerHTML}\n`;
      const about = { title: figure.label, subject: captionOf(figure) };
      found.push([at('svg'), text]);
      found.push([at('pdf'), await figurePdf(text, drawing, about, font)]);
      found.push([at('csv'), figureCsv(figure, this.source)]);
    }
    return found;
  }
}
