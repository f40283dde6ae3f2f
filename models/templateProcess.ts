/**
 * A chat template at work. It is a program by whoever made the model, and may go on for ever or fill the memory; so it runs in
 * a process with bounds. A page has no processes: there a template runs in place, and the browser ends the page's own worker
 * at most.
 */

import { Template } from '@huggingface/jinja';
import { hasNodeModules } from '../engine/runtime.ts';
import { addressOf, boundedRunner } from './boundedProcess.ts';

/** What a template is given, by name. */
export type TemplateValues = Readonly<Record<string, unknown>>;

/** Many times what a template of a few pages takes, the start of the process included. */
const SECONDS = 5;
const MEBIBYTES = 256;
/** Characters that a template may write beside what it is given: a tokenizer takes a second for them, and hours for a gigabyte. */
const LARGEST_TEXT = 2 ** 18;

const PROGRAM = `
const { readFileSync } = process.getBuiltinModule('fs');
const { library, source, values, most } = JSON.parse(readFileSync(0, 'utf8'));
let answer;
try {
  const { Template, default: common } = await import(library);
  const template = new (Template ?? common.Template)(source);
  const text = values === null ? '' : template.render(values);
  answer = text.length > most ? { reason: 'it writes ' + text.length + ' characters' } : { text };
} catch (error) {
  answer = { reason: String(error.message) };
}
process.stdout.write(JSON.stringify(answer));
`;

/**
 * Runs templates: the text of `source` with `values`, or, where they are null, only a look whether it can be read.
 * @throws Error that says why not.
 */
export async function templateRunner(): Promise<(source: string, values: TemplateValues | null) => string> {
  if (!hasNodeModules())
    return (source, values) => {
      const template = new Template(source);
      return values ? template.render(values) : '';
    };
  const run = await boundedRunner();
  const library = await addressOf('@huggingface/jinja');
  return (source, values) => {
    const most = LARGEST_TEXT + 4 * JSON.stringify(values).length;
    // A character is six bytes of JSON at most.
    const bounds = { seconds: SECONDS, mebibytes: MEBIBYTES, answer: 6 * most + 1000 };
    const input = JSON.stringify({ library, source, values, most });
    const answer = JSON.parse(run(PROGRAM, input, bounds)) as { text: string } | { reason: string };
    if ('reason' in answer) throw new Error(answer.reason);
    return answer.text;
  };
}
