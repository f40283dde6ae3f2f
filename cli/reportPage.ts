/** What all reports share: one page without scripts, its style inside, and the tiles at its top. */

import { type Html, html, raw } from './html.ts';
import { reportStyle } from './reportStyle.ts';

/** @param about the line at the foot. @returns the text of the file. */
export function reportPage(title: string, main: Html, about: string): string {
  return html`<!doctype html>
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
<footer>neurgrad ${about}</footer>
</body>
</html>
`.text;
}

/** A number in large, and what it is. */
export const tile = (value: string, label: string): Html =>
  html`<li><strong>${value}</strong><span>${label}</span></li>`;
