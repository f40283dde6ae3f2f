/** What all reports share: one page with its style inside, the tiles at its top, its figures and how to cite it. */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Content, makeFolder, remove, writeTogether } from '../engine/disk.ts';
import { FIGURES, type FigureBook, saveScript } from './figures/book.ts';
import { citation } from './figures/source.ts';
import { type Html, html, raw } from './html.ts';
import { reportStyle } from './reportStyle.ts';

/** A page and the figures in it. */
export interface ReportPage {
  readonly html: string;
  readonly figures: FigureBook;
}

/** @param about the line at the foot. */
export function reportPage(title: string, main: Html, about: string, figures: FigureBook): ReportPage {
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>neurgrad: ${title}</title>
<style>${raw(reportStyle)}</style>
</head>
<body>
<main>
${main}
</main>
<footer><p>How to cite: ${citation(figures.source.neurgrad)}</p><p>neurgrad ${about}</p></footer>
<script type="module">
${raw(saveScript)}
saveFromPage();
</script>
</body>
</html>
`;
  return { html: page.text, figures };
}

/**
 * Writes a page, the files of its figures and `more` together. Then removes the figures of the page that was there before, as far as
 * neither this page nor another one beside it shows them.
 * @param path of the page. @throws UserError naming the path where the disk refuses.
 */
export async function writePage(
  path: string,
  { html, figures }: ReportPage,
  more: readonly (readonly [path: string, content: Content])[] = [],
): Promise<void> {
  const folder = dirname(path);
  const before = figureFiles(earlierPage(path));
  const files = await figures.files(folder);
  if (files.length > 0) makeFolder(join(folder, FIGURES));
  writeTogether([...more, ...files, [path, html]]);
  const shown = figureFiles(html);
  const left = [...before].filter((name) => !shown.has(name));
  if (left.length === 0) return;
  const others = readdirSync(folder)
    .filter((name) => /\.html?$/i.test(name))
    .map((name) => figureFiles(earlierPage(join(folder, name))));
  for (const name of left) if (!others.some((other) => other.has(name))) remove(join(folder, FIGURES, name));
}

/** Empty where there is none: a pipe is not read. */
const earlierPage = (path: string): string =>
  statSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path, 'utf8') : '';

/** Names of the files that a page's links lead to; a PNG is made in the page alone. */
const figureFiles = (page: string): ReadonlySet<string> =>
  new Set(
    [...page.matchAll(/href="([\w-]+)\/([\w.-]+\.(?:svg|pdf|csv))"/g)]
      .filter(([, folder]) => folder === FIGURES)
      .map(([, , name]) => name!),
  );

/** A number in large, and what it is. */
export const tile = (value: string, label: string): Html =>
  html`<li><strong>${value}</strong><span>${label}</span></li>`;
