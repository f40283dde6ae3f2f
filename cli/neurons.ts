/** `--neurons`: which neurons of each prompt, by name, by place, by their NeurGrad, or drawn. */

import { type NeuronSelection, type NeuronSpace, selectNeurons } from '../neurgrad/index.ts';
import { withFiles } from '../neurgrad/study/textFile.ts';

/** @param text as the option has it; a word `@FILE` stands for what is in that file. @throws UserError as {@link selectNeurons}. */
export function readSelection(
  text: string,
  space: NeuronSpace,
  { site, seed }: { readonly site: string; readonly seed: number },
): NeuronSelection {
  return selectNeurons(withFiles(text), space, { site, seed });
}
