/** The families of this package, by `model_type`. */

import { bert } from './bert.ts';
import type { Family } from './family.ts';
import { llama } from './llama.ts';

export const FAMILIES: { readonly bert: Family; readonly llama: Family } = { bert, llama };
/** `model_type` of one of {@link FAMILIES}. */
export type FamilyName = keyof typeof FAMILIES;
