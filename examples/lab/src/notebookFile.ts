/** A notebook as one file: JSON, or a page that anyone can read, with the same JSON in it. */

import * as v from 'valibot';
import { html, raw } from '../../../cli/html.ts';
import { figure } from './format.ts';
import { KIND, type NotebookFile } from './notebook.ts';

const text = v.string();
const p = v.pipe(v.number(), v.minValue(0), v.maxValue(1 + 1e-6));
const fileSchema = v.object({
  kind: v.literal(KIND),
  version: v.literal(1),
  entries: v.array(v.object({ when: text, did: text, state: text, before: p, after: p })),
  kept: v.array(
    v.object({
      name: text,
      state: text,
      model: text,
      text,
      target: text,
      before: p,
      after: p,
      first: text,
      moved: text,
    }),
  ),
});

const EMBEDDED = /<script type="application\/json" id="notebook">(.*?)<\/script>/s;

/** Reads either form. @throws Error, in a sentence, for what is no notebook. */
export function parseNotebook(content: string): NotebookFile {
  const json = EMBEDDED.exec(content)?.[1] ?? content;
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Error('This file is no notebook of the laboratory: there is no JSON in it.');
  }
  const result = v.safeParse(fileSchema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new Error(
    `This file is no notebook of the laboratory: ${v.getDotPath(issue) ?? 'its content'} is not what is expected there.`,
  );
}

const STYLE = `body{max-width:60rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:#1c222e}
table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{padding:.3rem .6rem;border-bottom:1px solid #e2e4e8;text-align:left;vertical-align:top}
td.number{text-align:right;font-variant-numeric:tabular-nums}time{color:#636c7b}`;

/** @param page address of the laboratory, for the links. */
export function notebookHtml(notebook: NotebookFile, page: string): string {
  const link = (state: string, name: string) => html`<a href="${page}#${state}">${name}</a>`;
  const kept = notebook.kept.map(
    (one) =>
      html`<tr><td>${link(one.state, one.name)}</td><td>${one.model}</td><td>${one.text}</td><td>${one.target}</td><td class="number">${figure(one.before, 6)}</td><td class="number">${figure(one.after, 6)}</td><td>${one.first}</td><td>${one.moved}</td></tr>\n`,
  );
  const lines = notebook.entries.map(
    (one) =>
      html`<tr><td><time datetime="${one.when}">${one.when.slice(0, 19).replace('T', ' ')}</time></td><td>${link(one.state, one.did)}</td><td class="number">${figure(one.after, 6)}</td></tr>\n`,
  );
  const states =
    kept.length === 0
      ? html``
      : html`<h2>States side by side</h2>
<table><thead><tr><th>state</th><th>model</th><th>sentence</th><th>target</th><th>p, nothing moved</th><th>p</th><th>answer</th><th>moved</th></tr></thead><tbody>
${kept}</tbody></table>`;
  // Nothing in it may end the script.
  const json = JSON.stringify(notebook).replace(/</g, '\\u003c');
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Notebook of the neurgrad laboratory</title><style>${raw(STYLE)}</style></head><body>
<h1>Notebook of the neurgrad laboratory</h1>
<p>Each line leads back to its state. Dropped on the laboratory, this file opens there again.</p>
${states}
<h2>What was done</h2>
<table><thead><tr><th>when (UTC)</th><th>what</th><th>p of the target</th></tr></thead><tbody>
${lines}</tbody></table>
<script type="application/json" id="notebook">${raw(json)}</script>
</body></html>
`.text;
}
