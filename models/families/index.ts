/** The families of this package, by `model_type`. */

import { bert } from './bert.ts';
import type { Family } from './family.ts';
import { gemma2, gemma3 } from './gemma.ts';
import { gpt2 } from './gpt2.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { neox } from './neox.ts';
import { olmo2 } from './olmo2.ts';
import { phi3 } from './phi3.ts';
import { qwen2, qwen3 } from './qwen.ts';

const families = {
  bert,
  gemma2,
  gemma3_text: gemma3,
  gpt2,
  gpt_neox: neox,
  llama,
  mistral,
  olmo2,
  phi3,
  qwen2,
  qwen3,
} as const satisfies Record<string, Family>;

/** `model_type` of one of {@link FAMILIES}. */
export type FamilyName = keyof typeof families;
/** By `model_type`. */
export const FAMILIES: { readonly [Name in FamilyName]: Family } = families;
