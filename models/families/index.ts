/** The families of this package, by `model_type`. */

import { bert } from './bert.ts';
import { distilbert } from './distilbert.ts';
import type { Family } from './family.ts';
import { gemma2, gemma3 } from './gemma.ts';
import { gpt2 } from './gpt2.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { modernbert } from './modernbert.ts';
import { neox } from './neox.ts';
import { olmo2 } from './olmo2.ts';
import { phi3 } from './phi3.ts';
import { qwen2, qwen3 } from './qwen.ts';
import { camembert, roberta, xlmRoberta } from './roberta.ts';

const families = {
  bert,
  camembert,
  distilbert,
  gemma2,
  gemma3_text: gemma3,
  gpt2,
  gpt_neox: neox,
  llama,
  mistral,
  modernbert,
  olmo2,
  phi3,
  qwen2,
  qwen3,
  roberta,
  'xlm-roberta': xlmRoberta,
} as const satisfies Record<string, Family>;

/** `model_type` of one of {@link FAMILIES}. */
export type FamilyName = keyof typeof families;
/** By `model_type`. */
export const FAMILIES: { readonly [Name in FamilyName]: Family } = families;
