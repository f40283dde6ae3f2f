/** A neuron, or a layer, by the name that it is typed by. */

import type { ModelCard } from './protocol.ts';
import type { NeuronId } from './state.ts';

/** A layer is a neuron without an index. */
export type Found = NeuronId | { readonly layer: number; readonly index: null };

/** @returns a sentence where the model has none such. */
export function findIn({ layers, width }: Pick<ModelCard, 'layers' | 'width'>, name: string): Found | string {
  const match = /^L(\d+)(?:\.?N(\d+))?$/i.exec(name.trim());
  if (!match) return `“${name}” is not a neuron: write one like L2.N137, or a layer like L2.`;
  const layer = Number(match[1]);
  const index = match[2] === undefined ? null : Number(match[2]);
  if (layer >= layers) return `This model has the layers L0 to L${layers - 1}.`;
  if ((index ?? 0) >= width) return `A layer of this model has the neurons N0 to N${width - 1}.`;
  return { layer, index } as Found;
}
