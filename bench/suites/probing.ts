/**
 * A probing prompt behind a shared prefix, against one full forward and one full backward for each of its candidates, on
 * a Llama of 12 layers x 768 with random weights. Prompts have 500 tokens of which the last 90 differ, and 4 candidates.
 * After timing, the gradients of one candidate by both ways must agree.
 */

import { siteHook } from '../../neurgrad/neuron.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { cachedReader, type ReadablePrompt, type ReadingConventions } from '../../probing/collect.ts';
import { LLAMA_12_TIED, onDevice, randomWeights } from '../network.ts';
import { demand, relativeDifference } from '../reference.ts';
import { interleave, median } from '../timing.ts';
import type { Suite } from './suite.ts';

const TOKENS = 500;
const DIFFERENT = 90;
const CANDIDATES = [263, 289, 274, 270];
const ITEMS = 8;

export const probingSuite: Suite = async ({ device, rounds, clock, small, only, progress }) => {
  const name = `${TOKENS} tokens, ${CANDIDATES.length} candidates`;
  if (!name.includes(only)) return [];
  progress(`probing ${name}`);
  const { sizes } = LLAMA_12_TIED.description;
  const model = onDevice(device, LLAMA_12_TIED, randomWeights(LLAMA_12_TIED));
  const random = seededRandom(3);
  const draw = (count: number): number[] =>
    Array.from({ length: count }, () => Math.floor(random() * sizes.vocabulary));
  const prefix = draw(TOKENS - DIFFERENT);
  const prompts = Array.from({ length: small ? 2 : ITEMS }, (): ReadablePrompt => {
    const ids = [...prefix, ...draw(DIFFERENT)];
    return { ids, position: ids.length - 1 };
  });
  const conventions: ReadingConventions = {
    site: 'pre_linear',
    of: 'prob',
    direction: 'plain',
    sign: '+',
  };
  const names = Array.from({ length: sizes.layers }, (_, layer) => siteHook(layer, 'pre_linear'));
  /** One full forward and one full backward to every neuron; the last layer's gradient at the last token. */
  const full = async ({ ids, position }: ReadablePrompt, target: number): Promise<Float32Array> => {
    using run = model.run(
      { ids: [ids] },
      { grad: { at: names, of: { of: 'prob', target: [target], position: [position] } }, logits: [position] },
    );
    const [, ...gradients] = await Promise.all([
      run.logits.read(),
      ...names.map((hook) => run.gradients.get(hook)!.read()),
    ]);
    return gradients.at(-1)!.slice(-sizes.width);
  };
  const reader = cachedReader(model, conventions);
  const read = async (count: number): Promise<void> =>
    void (await reader.read(prompts.slice(0, count), CANDIDATES, prefix));
  const times = await interleave(
    {
      batch: () => read(prompts.length),
      alone: () => read(1),
      full: async () => void (await full(prompts[0]!, CANDIDATES[1]!)),
    },
    Math.min(rounds, 3),
    clock,
  );
  const [reading] = await reader.read(prompts.slice(0, 1), CANDIDATES, prefix);
  const exact = await full(prompts[0]!, CANDIDATES[1]!);
  const first = (2 * sizes.layers - 1) * sizes.width;
  const error = relativeDifference(reading!.gradients.subarray(first, first + sizes.width), exact);
  reader.dispose();
  model.dispose();
  return [
    {
      suite: 'probing',
      shape: name,
      unit: 'ms a prompt',
      ours: times.batch.median / prompts.length,
      spread: times.batch.spread,
      figures: {
        'alone (ms)': times.alone.median,
        'full passes (ms)': times.full.median * CANDIDATES.length,
      },
      peers: {},
      ratio: median(
        times.batch.rounds.map((ms, i) => (times.full.rounds[i]! * CANDIDATES.length * prompts.length) / ms),
      ),
      ratioOf: 'full passes / ours',
      checked: demand(`probing ${name}`, error, 1e-3),
    },
  ];
};
