/** What all reports share: one page with its style inside, the tiles at its top, its figures and how to cite it. */

import { dirname, join } from 'node:path';
import { makeFolder } from '../engine/disk.ts';
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

/** A page and the files of its figures, to be written together; makes the folder of these. @param path of the page. */
export async function reportFiles(
  path: string,
  { html, figures }: ReportPage,
): Promise<[path: string, content: string | Uint8Array][]> {
  const files = await figures.files(dirname(path));
  if (files.length > 0) makeFolder(join(dirname(path), FIGURES));
  return [...files, [path, html]];
}

/** A number in large, and what it is. */
export const tile = (value: string, label: string): Html =>
  html`<li><strong>${value}</strong><span>${label}</span></li>`;
