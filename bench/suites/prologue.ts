/**
 * Norms as prologues of the products that read them, against norms whose rows are written, on the forward of a Llama of 12
 * layers x 768: one row, as in decoding, and 128. The results must agree bit for bit before they are timed.
 */

import { LLAMA_12_TIED, onDevice, randomWeights } from '../network.ts';
import type { Row } from '../rows.ts';
import { interleave, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

const { sizes } = LLAMA_12_TIED.description;
const RESULT = `blocks.${sizes.layers - 1}.hook_resid_post`;

export const prologueSuite: Suite = async ({ device, rounds, clock, small, only, progress }) => {
  progress('prologue: drawing a Llama');
  const model = onDevice(device, LLAMA_12_TIED, randomWeights(LLAMA_12_TIED));
  const rows: Row[] = [];
  for (const [length, times] of small
    ? [[1, 4]]
    : [
        [1, 16],
        [128, 1],
      ]) {
    const name = `norms of ${length} x ${sizes.hidden}`;
    if (!name.includes(only)) continue;
    progress(name);
    const ids = [Array.from({ length: length! }, (_, i) => (7919 * (i + 1)) % sizes.vocabulary)];
    const residual = async (fusedNorm: boolean): Promise<Float32Array> => {
      using run = model.run({ ids }, { logits: 'none', capture: [RESULT], fusedNorm });
      return run.captures.get(RESULT)!.read();
    };
    const [plain, prologue] = [await residual(false), await residual(true)];
    if (!plain.every((value, i) => value === prologue[i])) throw new Error(`${name}: the two ways differ`);
    const time = (fusedNorm: boolean) => async (): Promise<void> => {
      for (let i = 0; i < times!; i++) await residual(fusedNorm);
    };
    const taken = await interleave({ plain: time(false), prologue: time(true) }, rounds, clock);
    rows.push({
      suite: 'prologue',
      shape: name,
      unit: 'ms forward',
      ours: taken.plain.median / times!,
      spread: taken.plain.spread,
      figures: { 'as prologues (ms)': taken.prologue.median / times! },
      peers: {},
      ratio: ratioOf(taken.plain, taken.prologue),
      ratioOf: 'written / prologue',
      checked: 'the same bits',
    });
  }
  model.dispose();
  return rows;
};
