/** What the page holds, as files. */

import { saveFile } from '../../../cli/figures/save.mjs';

/** What a figure can be saved as; a PDF of it is the command line's. */
export const ENDINGS = ['svg', 'png', 'csv'] as const;
export type Ending = (typeof ENDINGS)[number];

export function save(name: string, content: Blob | string, type = 'text/plain'): void {
  saveFile(
    name,
    typeof content === 'string' ? new Blob([content], { type: `${type};charset=utf-8` }) : content,
  );
}
