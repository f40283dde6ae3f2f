/**
 * One figure for every surface: a paper's column, a page, a file. It is drawn at its printed size, in points, with 8 pt type, and
 * brings its legend and a caption that says how many and how sure, so that it is understood where it is found alone.
 */

import * as Plot from '@observablehq/plot';
import { LIGHT } from './palette.ts';
import { textWidth, wrapped } from './text.ts';

/** Millimetres: one column of a journal, and both. */
export const WIDTHS = { 1: 85, 2: 178 } as const;

/** Points in a millimetre. */
export const POINTS = 72 / 25.4;

/** Size of all type, in points. */
export const TYPE = 8;

/** What is told of a figure in words. */
export interface Told {
  /** Of its files, without an ending: letters, digits, `.`, `_`, `-`. */
  readonly name: string;
  /** What it is, in a few words: the title that a screen reader says. */
  readonly label: string;
  /** Sentences. */
  readonly caption: string;
  /** What is counted: `n = 12 neurons of one prompt`. */
  readonly n: string;
  /** What the intervals are, or why there are none; with spaces where nothing is estimated at all. */
  readonly interval: string;
}

/** A line of the legend. */
export interface Key {
  readonly label: string;
  readonly colour: string;
  readonly mark: 'dot' | 'line' | 'dashes' | 'dots' | 'band' | 'bar';
}

export type Cell = string | number | null;

/** A figure before it is drawn. */
export interface Figure extends Told {
  /** Columns of a journal that it spans. */
  readonly columns: keyof typeof WIDTHS;
  /** Of the plot alone, without legend and caption, in points. */
  readonly height: number;
  readonly legend: readonly Key[];
  /** Sizes, style and document are the exporter's; colours are plain values. */
  readonly plot: Omit<Plot.PlotOptions, 'width' | 'height' | 'style' | 'document' | 'ariaLabel'>;
  /** What is drawn, a row a mark, under the names of its columns. */
  readonly data: readonly Readonly<Record<string, Cell>>[];
}

/** A figure with its caption under it, and where that begins. Lengths in points. */
export interface Drawing {
  readonly svg: SVGSVGElement;
  readonly width: number;
  readonly height: number;
  /** Height without the caption: what a page shows that sets the caption itself. */
  readonly picture: number;
}

const SVG = 'http://www.w3.org/2000/svg';
const FONTS = 'Arial, Helvetica, "Liberation Sans", "DejaVu Sans Condensed", "DejaVu Sans", sans-serif';
/** From line to line. */
const LEADING = 10;
const MARGIN = 2;
const SWATCH = 12;

type Attributes = Readonly<Record<string, string | number>>;

/** All that is said under a figure. */
export const captionOf = ({ caption, n, interval }: Told): string =>
  [caption, n, interval]
    .filter((part) => part !== '')
    .map((part) => (/[.!?]$/.test(part) ? part : `${part}.`))
    .join(' ');

/** Draws a figure into `document`, of a browser or of linkedom. */
export function drawFigure(figure: Figure, document: Document): Drawing {
  const width = WIDTHS[figure.columns] * POINTS;
  const make = (name: string, attributes: Attributes, text?: string): SVGElement => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const legend = legendOf(figure.legend, width, make);
  const lines = wrapped(captionOf(figure), width - 2 * MARGIN, TYPE);
  const picture = legend.height + figure.height;
  const height = round(picture + LEADING * (lines.length + 0.6));
  const svg = make('svg', {
    xmlns: SVG,
    width: `${WIDTHS[figure.columns]}mm`,
    height: `${round(height / POINTS)}mm`,
    viewBox: `0 0 ${round(width)} ${height}`,
    role: 'img',
    'aria-label': figure.label,
    'font-family': FONTS,
    'font-size': TYPE,
    fill: LIGHT.ink,
    'text-anchor': 'middle',
  }) as SVGSVGElement;
  const plot = make('g', { class: 'plot', transform: `translate(0,${legend.height})` });
  plot.append(...inPoints(figure, width, document).childNodes);
  const caption = make('g', {
    class: 'caption',
    'text-anchor': 'start',
    transform: `translate(${MARGIN},${picture})`,
  });
  for (const [i, line] of lines.entries())
    caption.append(make('text', { y: round(LEADING * (i + 1.2)) }, line));
  svg.append(make('desc', {}, captionOf(figure)), legend.group, plot, caption);
  return { svg, width, height, picture };
}

/** The legend's entries in rows. */
function legendOf(
  keys: readonly Key[],
  width: number,
  make: (name: string, attributes: Attributes, text?: string) => SVGElement,
): { group: SVGElement; height: number } {
  const group = make('g', { class: 'legend', 'text-anchor': 'start' });
  let [x, row] = [MARGIN, 0];
  for (const { label, colour, mark } of keys) {
    const length = SWATCH + 4 + textWidth(label, TYPE);
    if (x > MARGIN && x + length > width - MARGIN) [x, row] = [MARGIN, row + 1];
    const entry = make('g', { transform: `translate(${round(x)},${round(LEADING * (row + 0.7))})` });
    if (mark === 'dot') entry.append(make('circle', { cx: SWATCH / 2, cy: 0, r: 2.5, fill: colour }));
    else if (mark === 'band' || mark === 'bar')
      entry.append(make('rect', { x: 0, y: -3, width: SWATCH, height: 6, fill: colour }));
    else {
      const dashes = { line: {}, dashes: { 'stroke-dasharray': '3 2' }, dots: { 'stroke-dasharray': '1 2' } };
      entry.append(
        make('path', { d: `M0,0H${SWATCH}`, stroke: colour, 'stroke-width': 1.4, ...dashes[mark] }),
      );
    }
    entry.append(make('text', { x: SWATCH + 4, y: 2.8 }, label));
    group.append(entry);
    x += length + 10;
  }
  return { group, height: keys.length === 0 ? 0 : LEADING * (row + 1) + 3 };
}

/** Plot's own picture, made fit to stand alone and beside others in one page. */
function inPoints({ name, height, plot }: Figure, width: number, document: Document): SVGElement {
  const axis = { tickSize: 3, tickPadding: 2, labelArrow: 'none' } as const;
  const drawn = Plot.plot({
    marginTop: 16,
    marginRight: 10,
    marginBottom: 27,
    ...plot,
    document,
    width: round(width),
    height,
    style: { fontSize: `${TYPE}px` },
    x: { ...axis, ...plot.x },
    y: { ...axis, ...plot.y },
  }) as unknown as SVGElement;
  drawn.querySelector('style')?.remove();
  for (const element of drawn.querySelectorAll('*')) {
    for (const attribute of [...element.attributes]) {
      const { name: key, value } = attribute;
      if (value === 'currentColor') element.setAttribute(key, LIGHT.ink);
      else if (key === 'id' || key === 'clip-path')
        // Names of one page's figures must differ, and be the same in each run.
        element.setAttribute(key, value.replace(/plot-clip-\d+/, `clip-${name}`));
      else if (key === 'aria-label') {
        element.setAttribute('class', value.replaceAll(' ', '-'));
        element.removeAttribute(key);
      } else if (key === 'aria-hidden') element.removeAttribute(key);
      else if (/^(d|transform|[xyr]|[xyc][xy12]|width|height)$/.test(key))
        element.setAttribute(
          key,
          value.replace(/-?\d+\.\d{3,}(e-?\d+)?/g, (number) => String(round(Number(number)))),
        );
    }
  }
  return drawn;
}

const round = (value: number): number => Math.round(value * 100) / 100;
