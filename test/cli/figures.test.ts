/**
 * Figures as files: what each must say, its type at the printed width, its PDF opened by poppler, its data read back.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chartFigure, toChart } from '../../bench/chart.ts';
import type { Report } from '../../bench/rows.ts';
import { accuraciesFigure, accuracyBySize } from '../../cli/figures/accuracy.ts';
import { FigureBook, figureSvg } from '../../cli/figures/book.ts';
import { captionOf, type Figure, POINTS, WIDTHS } from '../../cli/figures/figure.ts';
import { polarityByLayer } from '../../cli/figures/layers.ts';
import { lineOf } from '../../cli/figures/line.ts';
import { mapFigure } from '../../cli/figures/map.ts';
import { citation } from '../../cli/figures/source.ts';
import { textWidth, wrapped } from '../../cli/figures/text.ts';
import { html } from '../../cli/html.ts';
import { version } from '../../cli/package.ts';
import { renderReport } from '../../cli/report.ts';
import { reportPage, writePage } from '../../cli/reportPage.ts';
import { exampleReport } from './exampleReport.ts';

const told = (name: string) => ({
  name,
  label: `the ${name}`,
  caption: `What the ${name} shows`,
  n: 'n = 20 test prompts',
  interval: 'Bands: 95% over prompts',
});
const interval = [0.4, 0.7] as const;
const share = { value: 0.5, interval: { low: 0.4, high: 0.6 }, reason: null, count: 20, effective: 9 };

const benchmarks = JSON.parse(readFileSync('bench/results/lavapipe-2-cores.json', 'utf8')) as Report;

/** Kinds that the demo's report does not have. */
const others: Figure[] = [
  accuracyBySize(
    told('accuracy'),
    [
      {
        name: 'Polar',
        colour: '#b5491f',
        points: [1, 2, 4, 8].map((size) => ({
          size,
          accuracy: 0.5 + size / 40,
          interval,
          chance: [0.2, 0.3],
        })),
        chosen: { size: 8, accuracy: 0.7 },
      },
    ],
    { guessing: 0.25, own: 0.4 },
  ),
  accuraciesFigure(
    told('sets'),
    [{ name: 'polar 1', accuracy: 0.5, interval, chance: [0.2, 0.3] }],
    0.25,
    'random sets',
  ),
  polarityByLayer(
    told('layers'),
    [0, 1, 2].map((layer) => ({
      ...{ layer, tested: 10, linear: 8, positive: 4, negative: 4 },
      shares: { linear: share, positive: share, negative: share },
    })),
  ),
  mapFigure(
    told('map'),
    Array.from({ length: 1024 }, (_, i) => ({
      layer: Math.floor(i / 256),
      index: i % 256,
      value: Math.sin(i),
    })),
    { layers: 4, width: 256, signs: true, of: 'G_E' },
  ),
  chartFigure(benchmarks),
];

const page = renderReport(exampleReport());
const figures: [string, Figure][] = [...page.figures.drawn.map(({ figure }) => figure), ...others].map(
  (figure) => [figure.name, figure],
);

describe('a figure', () => {
  it.each(figures)(
    '%s stands alone: axes, legend, caption, n, interval, type of 8 pt at its width',
    (_, figure) => {
      const text = figureSvg(figure);
      expect(text).not.toMatch(/var\(|currentColor|NaN|undefined|<style|<script/);
      const svg = parseHTML(text).document.querySelector('svg')!;
      expect(svg.getAttribute('width')).toBe(`${WIDTHS[figure.columns]}mm`);
      const [, , width, height] = svg.getAttribute('viewBox')!.split(' ').map(Number) as [
        number,
        number,
        number,
        number,
      ];
      // One unit is a point, so sizes of type are points.
      expect(width).toBeCloseTo(WIDTHS[figure.columns] * POINTS, 1);
      expect(Number.parseFloat(svg.getAttribute('height')!) * POINTS).toBeCloseTo(height, 0);
      const sizes = [svg, ...svg.querySelectorAll('[font-size]')].map((one) =>
        Number(one.getAttribute('font-size')),
      );
      expect(Math.min(...sizes)).toBeGreaterThanOrEqual(7.5);
      expect(text).not.toMatch(/font-size:|scale\(/);
      const said = (selector: string) =>
        [...svg.querySelectorAll(selector)].map(({ textContent }) => textContent);
      expect(said('.x-axis-label text')).toEqual([figure.plot.x!.label]);
      expect(said('.y-axis-label text')).toEqual(figure.plot.y!.label ? [figure.plot.y!.label] : []);
      expect(said('.legend text')).toEqual(figure.legend.map(({ label }) => label));
      const caption = said('.caption text').join(' ');
      expect(caption).toBe(captionOf(figure).replaceAll(/\s+/g, ' '));
      expect(caption).toMatch(/n = [\d,]+ /);
      expect(caption).toMatch(/95%|[Nn]o interval/);
      for (const line of said('.caption text')) expect(textWidth(line!, 8)).toBeLessThan(width);
      expect(figure.data.length).toBeGreaterThan(0);
    },
  );

  it('has no line beyond what a probability can be', () => {
    expect(lineOf(0.5, 0.125, [-10, 10], true)).toEqual([
      { shift: -4, value: 0 },
      { shift: 4, value: 1 },
    ]);
    expect(lineOf(0.5, 0.125, [-10, 10], false)[1].value).toBe(1.75);
  });

  it('breaks its caption into lines that fit, and a long word in pieces', () => {
    expect(wrapped('aa bb cc', textWidth('aa bb', 8), 8)).toEqual(['aa bb', 'cc']);
    expect(wrapped('aaaa', textWidth('aa', 8), 8)).toEqual(['aa', 'aa']);
  });

  it('has a name of its own in a report', () => {
    const book = new FigureBook({ neurgrad: '0', facts: {} });
    book.show(others[0]!);
    expect(() => book.show(others[0]!)).toThrow(
      'accuracy is no file’s name, or another figure’s'.replaceAll('’', "'"),
    );
  });

  it('of benchmarks is drawn from what was measured', () => {
    expect(readFileSync('docs/benchmarks.svg', 'utf8')).toBe(toChart(benchmarks));
  });

  it('is cited as CITATION.cff says', () => {
    const cff = readFileSync('CITATION.cff', 'utf8');
    expect(cff).toContain(`version: ${version}`);
    for (const part of /\. (neurgrad), .*“(.*)”/.exec(citation(version))!.slice(1))
      expect(cff).toContain(part);
  });
});

describe('its files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'neurgrad-figures-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  beforeAll(() => writePage(join(folder, 'report.html'), page));

  it('are an SVG, a PDF and a CSV each, the same when made again', async () => {
    expect(readdirSync(folder).sort()).toEqual(['figures', 'report.html']);
    expect(readdirSync(join(folder, 'figures')).sort()).toEqual(
      page.figures.drawn
        .flatMap(({ figure: { name } }) => [`${name}.csv`, `${name}.pdf`, `${name}.svg`])
        .sort(),
    );
    const one = async () => {
      const book = new FigureBook(page.figures.source);
      book.show(others[0]!);
      return book.files(folder);
    };
    expect(await one()).toEqual(await one());
  });

  it('hold data that read back the same under a head of where it is from', () => {
    const lines = readFileSync(join(folder, 'figures/curve-L3.N0.csv'), 'utf8').trimEnd().split('\n');
    const head = lines.filter((line) => line.startsWith('#')).join('\n');
    for (const said of [
      '# neurgrad: 0.0.0',
      'ab'.repeat(32),
      '# conventions: site post',
      '# n: n = 101',
      '# cite: ',
    ])
      expect(head).toContain(said);
    const rows = lines.filter((line) => !line.startsWith('#')).map((line) => line.split(','));
    expect(rows[0]).toEqual(['shift', 'p(paris)']);
    const [neuron] = exampleReport().study.sweep.neurons;
    expect(rows.slice(1).map(([shift, p]) => [Number(shift), Number(p)])).toEqual(
      neuron!.shifts.map((shift, i) => [shift, neuron!.p[i]]),
    );
  });

  const poppler = spawnSync('pdftoppm', ['-v']).error === undefined;
  if (!poppler) console.error('\n*** PDFs are NOT opened: install poppler-utils ***\n');
  it.runIf(poppler)('open as PDF at 85 mm with their type inside and their words to be found', () => {
    const pdf = join(folder, 'figures/agreement.pdf');
    const info = execFileSync('pdfinfo', [pdf], { encoding: 'utf8' });
    expect(Number(/Page size: +([\d.]+)/.exec(info)![1]) / POINTS).toBeCloseTo(85, 1);
    expect(execFileSync('pdffonts', [pdf], { encoding: 'utf8' })).toMatch(
      /DejaVuSansCondensed.* yes yes yes /,
    );
    const words = execFileSync('pdftotext', ['-layout', pdf, '-'], { encoding: 'utf8' });
    expect(words).toContain('measured slope G_E');
    expect(words).toContain('Brackets: 95% over neurons.');
    const picture = execFileSync('pdftoppm', ['-r', '30', pdf], { maxBuffer: 1e8 });
    // Not blank: colours of the marks are there.
    expect(new Set(picture.subarray(20)).size).toBeGreaterThan(20);
  });

  it('go when their page is written anew without them, unless another page or the user has them', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'neurgrad-figures-'));
    try {
      const [sizes, sets] = others as [Figure, Figure];
      const write = (file: string, ...shown: Figure[]): Promise<void> => {
        const book = new FigureBook({ neurgrad: '0', facts: {} });
        const main = shown.map((figure) => book.show(figure));
        return writePage(join(folder, file), reportPage('test', html`${main}`, '0', book));
      };
      const there = (): string[] =>
        readdirSync(join(folder, 'figures'))
          .filter((name) => !name.endsWith('.csv') && !name.endsWith('.pdf'))
          .sort();
      await write('report.html', sizes, sets);
      writeFileSync(join(folder, 'figures', 'mine.svg'), '');
      await write('other.html', sets);
      expect(there()).toEqual(['accuracy.svg', 'mine.svg', 'sets.svg']);
      await write('report.html');
      expect(there()).toEqual(['mine.svg', 'sets.svg']);
      await write('other.html', sizes);
      expect(readdirSync(join(folder, 'figures')).sort()).toEqual([
        ...['accuracy.csv', 'accuracy.pdf', 'accuracy.svg', 'mine.svg'],
      ]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
