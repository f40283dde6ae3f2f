/**
 * One forward and one backward to every neuron (what NeurGrad needs) of BERT-base and of a Llama of its size, beside the
 * autodiff of peers that have one. Engines check each other: the middle layer's gradient at all tokens. With `--peers`
 * minutes pass before the first time: jax-js compiles a shader for each of its fused kernels.
 */

import type { RunOptions } from '../../models/model.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { BERT_BASE, LLAMA_12, onDevice, randomWeights } from '../network.ts';
import { demand, relativeDifference } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

export const backwardSuite: Suite = async ({ device, peers, rounds, clock, only, progress }) => {
  const rows: Row[] = [];
  for (const [label, config, batch, length] of [
    ['BERT-base', BERT_BASE, 1, 16],
    ['Llama 12 x 768', LLAMA_12, 1, 40],
  ] as const) {
    const name = `${label}, ${batch} x ${length}`;
    if (!name.includes(only)) continue;
    progress(`backward ${name}`);
    const { causal, sizes } = config.description;
    const host = randomWeights(config);
    const model = onDevice(device, config, host);
    const random = seededRandom(length);
    const ids = Array.from({ length: batch }, () =>
      Array.from({ length }, () => Math.floor(random() * sizes.vocabulary)),
    );
    const position = ids.map(() => (causal ? length - 1 : length >> 1));
    const target = ids.map((row) => row[0]!);
    const at = Array.from({ length: sizes.layers }, (_, layer) => `blocks.${layer}.mlp.hook_post`);
    const options: RunOptions = { grad: { at, of: { of: 'logprob', target, position } }, logits: position };
    const pass = async (asked: RunOptions): Promise<void> => {
      using run = model.run({ ids }, asked);
      await run.logits.read();
      await device.finish();
    };
    const jobs = await Promise.all(
      peers.flatMap((peer) =>
        peer.gradients
          ? [peer.gradients(config, host, ids, position, target).then((job) => ({ peer, job }))]
          : [],
      ),
    );
    using run = model.run({ ids }, options);
    const gradient = await run.gradients.get(at[sizes.layers >> 1]!)!.read();
    const checked: string[] = [];
    for (const { peer, job } of jobs)
      checked.push(
        `${peer.name}: ${demand(`${peer.name} ${name}`, relativeDifference(await job.result(), gradient), 1e-4)}`,
      );
    const times = await interleave(
      {
        both: () => pass(options),
        alone: () => pass({ logits: position }),
        ...Object.fromEntries(jobs.map(({ peer, job }) => [peer.name, job.run])),
      } as Record<string, () => Promise<void>>,
      rounds,
      clock,
    );
    const ratios = jobs.map(({ peer }) => ratioOf(times[peer.name]!, times.both!));
    rows.push({
      suite: 'backward',
      shape: name,
      unit: 'ms forward + backward',
      ours: times.both!.median,
      spread: times.both!.spread,
      figures: { 'forward alone (ms)': times.alone!.median },
      peers: Object.fromEntries(jobs.map(({ peer }) => [`${peer.name} (ms)`, times[peer.name]!.median])),
      ratio: ratios.length > 0 ? Math.min(...ratios) : null,
      ratioOf: 'best GPU peer / ours',
      checked: checked.join(', ') || 'test/golden',
    });
    for (const { job } of jobs) job.dispose();
    model.dispose();
    device.pool.trim();
  }
  return rows;
};
