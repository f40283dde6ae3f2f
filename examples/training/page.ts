/**
 * A page that shows a training as it goes: curves as SVG, no scripts, reloaded by the browser while the training runs.
 */

import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { writeWhole } from '../../engine/disk.ts';

interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

export interface Figure {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
  /** Draw x on a logarithmic scale; it must then be above 0. */
  readonly logX?: boolean;
  readonly yDomain?: readonly [number, number];
}

const WIDTH = 640;
const HEIGHT = 300;

/** Names at the ends of their curves, moved down where two would lie on each other. */
function labels(
  series: readonly Series[],
  yDomain?: readonly [number, number],
): { name: string; end: Point; dy: number }[] {
  const ys = series.flatMap(({ points }) => points.map(({ y }) => y));
  const [low, high] = yDomain ?? [Math.min(...ys), Math.max(...ys)];
  const top = ({ y }: Point): number => (1 - (y - low) / (high - low || 1)) * (HEIGHT - 50);
  let next = Number.NEGATIVE_INFINITY;
  return series
    .flatMap(({ name, points }) => (points.length > 0 ? [{ name, end: points.at(-1)! }] : []))
    .sort((a, b) => top(a.end) - top(b.end))
    .map(({ name, end }) => {
      const at = Math.max(top(end), next);
      next = at + 13;
      return { name, end, dy: at - top(end) };
    });
}

/** A line chart as SVG text, fit for a page and for a file of its own. */
export function figureSvg({ title, x, y, series, logX = false, yDomain }: Figure): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const points = series.flatMap(({ name, points }) => points.map((point) => ({ ...point, name })));
  const figure = Plot.plot({
    document: document as unknown as Document,
    ariaLabel: title,
    style: { background: 'white', color: 'black' },
    width: WIDTH,
    height: HEIGHT,
    marginRight: 110,
    x: { label: x, type: logX ? 'log' : 'linear' },
    y: { label: y, grid: true, ...(yDomain ? { domain: [...yDomain] } : {}) },
    color: { domain: series.map(({ name }) => name) },
    marks: [
      Plot.line(points, { x: 'x', y: 'y', z: 'name', stroke: 'name', strokeWidth: 1.8 }),
      ...labels(series, yDomain).map(({ name, end, dy }) =>
        Plot.text([end], { x: 'x', y: 'y', text: () => name, textAnchor: 'start', dx: 6, dy }),
      ),
    ],
  });
  figure.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return figure.outerHTML;
}

/** Writes the page. `running`: reload every 10 seconds. */
export function writePage(path: string, title: string, figures: readonly Figure[], running: boolean): void {
  const escapeHtml = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  const sections = figures
    .filter(({ series }) => series.some(({ points }) => points.length > 0))
    .map((figure) => `<h2>${escapeHtml(figure.title)}</h2>\n${figureSvg(figure)}`);
  const page = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${escapeHtml(title)}</title>
${running ? '<meta http-equiv="refresh" content="10">' : ''}
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}h2{font-size:1rem}svg{max-width:100%;height:auto}</style>
<h1>${escapeHtml(title)}</h1>
${sections.join('\n')}
</html>
`;
  writeWhole(path, page);
}

/** Means of about `count` stretches of a noisy series, so that the page stays small. */
export function thinned(points: Series['points'], count = 200): Series['points'] {
  const size = Math.max(1, Math.ceil(points.length / count));
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const part = points.slice(i * size, (i + 1) * size);
    return { x: part.at(-1)!.x, y: part.reduce((sum, { y }) => sum + y, 0) / part.length };
  });
}
