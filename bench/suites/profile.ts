/**
 * Where the time of a BERT-base forward and backward goes, by kernel: GPU time from timestamp queries, rates, and the
 * share of the nearer of the machine's two ceilings. `--trace FILE` writes every dispatch for chrome://tracing.
 */

import { chromeTrace, measureCeiling, ratesOf } from '../../engine/index.ts';
import { BERT_BASE, onDevice, randomWeights } from '../network.ts';
import type { Row } from '../rows.ts';
import type { Suite } from './suite.ts';

export const profileSuite: Suite = async ({ device, rounds, trace, progress }) => {
  progress('profile of BERT-base 1 x 16');
  const ceiling = await measureCeiling(device, rounds);
  const model = onDevice(device, BERT_BASE, randomWeights(BERT_BASE));
  const at = Array.from({ length: model.sizes.layers }, (_, layer) => `blocks.${layer}.mlp.hook_post`);
  const run = async (): Promise<void> => {
    using result = model.run(
      { ids: [Array.from({ length: 16 }, (_, i) => 1000 + 7 * i)] },
      { logits: [8], grad: { at, of: { of: 'logprob', target: [1000], position: [8] } } },
    );
    await result.logits.read();
    await device.finish();
  };
  await run();
  device.startProfiling();
  await run();
  if (trace) trace(chromeTrace(await device.profiledSpans(), ceiling));
  const profile = await device.stopProfiling();
  model.dispose();
  const total = profile.reduce((sum, row) => sum + (row.nanoseconds ?? 0), 0);
  return profile.map((row): Row => {
    const { gflops, gbytes, share } = ratesOf(row, ceiling);
    return {
      suite: 'profile',
      shape: row.kernel,
      unit: 'ms',
      ours: (row.nanoseconds ?? Number.NaN) / 1e6,
      spread: null,
      figures: {
        dispatches: row.dispatches,
        ...(gflops === null || gbytes === null || share === null
          ? {}
          : {
              '% of the time': (100 * row.nanoseconds!) / total,
              'GFLOP/s': gflops,
              'GB/s': gbytes,
              '% of ceiling': 100 * share,
            }),
      },
      peers: {},
      ratio: null,
      ratioOf: '',
      checked: 'model suite',
    };
  });
};
