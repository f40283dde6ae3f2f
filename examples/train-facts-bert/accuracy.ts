/** How many facts a model knows: the object ranked first at [MASK], each fact in one template. */

import { argmax } from '../../engine/index.ts';
import type { LanguageModel } from '../../models/index.ts';
import { batchInput, type Masked } from './facts.ts';

const ROWS = 256;

/** Share of masked sentences whose token is ranked first. */
export async function accuracy(model: LanguageModel, sentences: readonly Masked[]): Promise<number> {
  const sorted = [...sentences].sort((a, b) => a.ids.length - b.ids.length);
  let right = 0;
  for (let at = 0; at < sorted.length; at += ROWS) {
    const batch = sorted.slice(at, at + ROWS);
    using run = model.run(batchInput(batch), {
      logits: batch.map(({ position }) => position),
      lastLayer: 'read',
    });
    using best = argmax(run.logits);
    const ids = await best.readIntegers();
    right += batch.filter(({ label }, i) => ids[i] === label).length;
  }
  return right / sentences.length;
}
