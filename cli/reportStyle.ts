/** The report's look: quiet, readable from 360 px to wide, light and dark by the reader's setting, light on paper. */

import { asVariables, DARK, LIGHT, repainted } from './figures/palette.ts';

const COLOURS = `
:root { ${asVariables(LIGHT)} }
@media screen and (prefers-color-scheme: dark) {
  :root { ${asVariables(DARK)} }
  ${repainted}
}`;

export const reportStyle = `
${COLOURS}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding: 56px 0 8px; }
.eyebrow { margin: 0; color: var(--muted); font-size: 13px; letter-spacing: .06em; }
h1 { margin: 10px 0 16px; font-size: clamp(26px, 5vw, 42px); line-height: 1.18; font-weight: 650; letter-spacing: -.015em; overflow-wrap: anywhere; }
mark { background: var(--mark); color: inherit; padding: 0 .18em; border-radius: .15em; }
.lead { max-width: 68ch; font-size: clamp(16px, 2vw, 18px); margin: 0 0 24px; }
.meta, footer { color: var(--muted); font-size: 13px; }
h2 { margin: 0 0 14px; font-size: 21px; font-weight: 620; letter-spacing: -.005em; }
h3 { margin: 22px 0 10px; font-size: 15px; font-weight: 600; }
h3 small { color: var(--muted); font-weight: 400; margin-left: .5em; }
section { padding: 36px 0 8px; border-top: 1px solid var(--line); margin-top: 32px; }
section p { max-width: 72ch; margin: 0 0 8px; }
.tiles { list-style: none; padding: 0; margin: 0 0 12px; display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tiles strong { display: block; font-size: 26px; font-weight: 640; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--muted); font-size: 13px; line-height: 1.35; display: block; margin-top: 4px; }
figure { margin: 0; min-width: 0; }
figure.wide { max-width: 880px; }
/* Drawn with 8 pt type for 85 or 178 mm: shown at most half as large again. */
figure svg { display: block; width: 100%; height: auto; max-width: 480px; }
figure.wide svg { max-width: none; min-width: 500px; }
figure .caption { display: none; }
.sideways { overflow-x: auto; }
.save { margin: 2px 0 0; font-size: 12.5px; }
.save a { display: inline-block; padding: 4px 10px 4px 0; color: var(--muted); }
.save a[hidden] { display: none; }
.save a:hover, .save a:focus-visible { color: var(--ink); }
figcaption { color: var(--muted); font-size: 13px; line-height: 1.45; margin-top: 8px; }
.pair { display: grid; gap: 28px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); margin-bottom: 24px; }
.grid { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
.grid figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px 4px; }
.grid figcaption { font-size: 12.5px; font-variant-numeric: tabular-nums; }
/* A wide table takes the window's width, centred on the text, before it scrolls. */
.scroll { position: relative; left: 50%; width: fit-content; min-width: 100%; max-width: calc(100vw - 56px); transform: translateX(-50%); overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px 6px 0; text-align: left; border-bottom: 1px solid var(--line); font-weight: 400; white-space: nowrap; }
thead th { color: var(--muted); font-size: 12.5px; }
th.number, td.number { text-align: right; }
td.polarity { text-align: center; }
tr.positive th, tr.positive .polarity { color: var(--positive); }
tr.negative th, tr.negative .polarity { color: var(--negative); }
.bars { max-width: 640px; }
.bars th { width: 1%; padding-right: 18px; }
.bars td.number { width: 1%; padding-right: 0; }
.bars i { display: block; height: 12px; min-width: 2px; border-radius: 3px; background: var(--muted); opacity: .55; }
.bars .target th { font-weight: 600; }
.bars .target i { background: var(--positive); opacity: 1; }
details { margin-top: 16px; }
summary { cursor: pointer; color: var(--muted); font-size: 14px; }
code { font: .88em/1.4 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: 160px 1fr; gap: 8px 20px; font-size: 14px; margin: 0; }
dt { color: var(--muted); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
footer { max-width: 1080px; margin: 40px auto 0; padding: 18px 20px 40px; border-top: 1px solid var(--line); }
@media (max-width: 560px) {
  header { padding-top: 32px; }
  dl { grid-template-columns: 1fr; gap: 2px; }
  dd { margin-bottom: 10px; }
}
/* Forced colours would paint all bars alike; figures keep those they are drawn in, on white. */
@media (forced-colors: active) {
  figure svg { forced-color-adjust: none; background: white; }
  .bars i { forced-color-adjust: none; background: CanvasText; opacity: 1; }
  .bars .target i { background: Highlight; }
}
/* Paper does not scroll: tables become small there, and cells wrap. */
@media print {
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .save, details:not([open]) { display: none; }
  .scroll { position: static; width: auto; max-width: none; transform: none; overflow: visible; }
  .sideways { overflow: visible; }
  figure.wide svg { min-width: 0; }
  table { font-size: 10px; }
  thead th { font-size: 9px; }
  th, td { white-space: normal; padding-right: 6px; }
}
`;
