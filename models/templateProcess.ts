/**
 * A chat template at work. It is a program by whoever made the model, and may go on for ever or fill the memory; so it runs in
 * a process of its own, which is ended where it takes too much: running out of memory takes threads down with all others. A
 * page has no processes: there a template runs in place, and the browser ends the page's own worker at most.
 */

import { Template } from '@huggingface/jinja';

/** What a template is given, by name. */
export type TemplateValues = Readonly<Record<string, unknown>>;

/** Many times what a template of a few pages takes, the start of the process included. */
const SECONDS = 5;
const MEBIBYTES = 256;
/** Characters that a template may write beside what it is given: a tokenizer takes a second for them, and hours for a gigabyte. */
const LARGEST_TEXT = 2 ** 18;

/** A text, as a file would have one name before it is compiled and another after. */
const PROGRAM = `
const { library, source, values, most } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
let answer;
try {
  const template = new (require(library).Template)(source);
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
  if (typeof process === 'undefined' || process.versions?.node === undefined)
    return (source, values) => {
      const template = new Template(source);
      return values ? template.render(values) : '';
    };
  const { spawnSync } = await import('node:child_process');
  const { createRequire } = await import('node:module');
  const library = createRequire(import.meta.url).resolve('@huggingface/jinja');
  return (source, values) => {
    const most = LARGEST_TEXT + 4 * JSON.stringify(values).length;
    const flags = [`--max-old-space-size=${MEBIBYTES}`, '--input-type=commonjs', '--eval', PROGRAM];
    const { status, error, stdout } = spawnSync(process.execPath, flags, {
      input: JSON.stringify({ library, source, values, most }),
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '' },
      timeout: 1000 * SECONDS,
      killSignal: 'SIGKILL',
      // A character is six bytes of JSON at most.
      maxBuffer: 6 * most + 1000,
    });
    if ((error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT')
      throw new Error(`it takes more than ${SECONDS} seconds`);
    if (error) throw error;
    if (status !== 0) throw new Error(`it takes more than ${MEBIBYTES} MiB of memory`);
    const answer = JSON.parse(stdout) as { text: string } | { reason: string };
    if ('reason' in answer) throw new Error(answer.reason);
    return answer.text;
  };
}
