/** A link whose model is a file or folder that is not here: what is said, and what can be done. */

import { KNOWN_MODELS, type KnownModel } from '../../../models/known.ts';
import { megabytes } from './format.ts';
import type { Remedy } from './view.ts';

export interface Missing {
  readonly sentence: string;
  readonly remedies: readonly Remedy[];
}

/** @param model as in a state: `gguf:…` or `folder:…`. */
export function missing(
  model: string,
  pick: (kind: 'gguf' | 'folder') => void,
  fetch: (known: KnownModel) => void,
): Missing {
  const [, kind, name = ''] = /^(\w+):(.*)$/s.exec(model) ?? [];
  const known = KNOWN_MODELS.find(({ hub }) => hub?.file === name);
  const look: Remedy = known
    ? { label: `Fetch it from the Hub (${megabytes(known.bytes)})`, act: () => fetch(known) }
    : {
        label: 'Look for it on the Hub',
        act: {
          href: `https://huggingface.co/models?search=${encodeURIComponent(name.replace(/[.-][^.-]*\.gguf$/i, ''))}`,
        },
      };
  const what = kind === 'gguf' ? 'file' : 'folder';
  return {
    sentence: `This link was made with the ${what} “${name}” on someone's computer, and it is not in this browser: choose yours to see the same${known ? `, or fetch it (${known.hub!.id}, ${known.licence})` : ''}.`,
    remedies: [{ label: `Choose the ${what}…`, act: () => pick(kind === 'gguf' ? 'gguf' : 'folder') }, look],
  };
}
