/**
 * BERT-base end to end: a forward pass to the logits of one position a row, and the same with one backward to the
 * activations of all 36,864 neurons at every token (what NeurGrad needs).
 *
 * After timing: logits against float64 on the host; the gradient against float64's directional derivative; and a row of a
 * batch against the same row alone, bit for bit.
 */

import type { Tensor } from '../../engine/index.ts';
import type { ModelInput, RunOptions } from '../../models/model.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { BERT_BASE, bertReference, onDevice, randomWeights } from '../network.ts';
import { demand, randomNumbers } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

const logSoftmaxAt = (logits: Float64Array, id: number): number => {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return logits[id]! - top - Math.log(logits.reduce((sum, z) => sum + Math.exp(z - top), 0));
};

export const modelSuite: Suite = async ({ device, peers, rounds, clock, small, only, progress }) => {
  progress('model: drawing BERT-base');
  const host = randomWeights(BERT_BASE);
  const model = onDevice(device, BERT_BASE, host);
  const names = Array.from({ length: model.sizes.layers }, (_, layer) => `blocks.${layer}.mlp.hook_post`);
  const rows: Row[] = [];
  const sizes: [number, number][] = small
    ? [
        [1, 16],
        [8, 16],
      ]
    : [
        [1, 16],
        [32, 16],
        [8, 128],
      ];
  for (const [batch, length] of sizes) {
    const name = `BERT-base ${batch} x ${length}`;
    if (!name.includes(only)) continue;
    progress(`model ${name}`);
    const random = seededRandom(batch * length);
    const ids = Array.from({ length: batch }, () =>
      Array.from({ length }, () => Math.floor(random() * model.sizes.vocabulary)),
    );
    const position = ids.map(() => length >> 1);
    const target = ids.map((row) => row[0]!);
    const input: ModelInput = { ids };
    const backward = (count: number): RunOptions => ({
      grad: {
        at: names,
        of: { of: 'logprob', target: target.slice(0, count), position: position.slice(0, count) },
      },
      logits: position.slice(0, count),
    });
    const time = (options: RunOptions) => async (): Promise<void> => {
      using run = model.run(input, options);
      await run.logits.read();
      await device.finish();
    };
    const jobs = await Promise.all(
      peers.flatMap((peer) =>
        peer.bert ? [peer.bert(host, ids, position).then((job) => ({ peer, job }))] : [],
      ),
    );
    const contenders: Record<string, () => Promise<void>> = {
      forward: time({ logits: position }),
      both: time(backward(batch)),
    };
    for (const { peer, job } of jobs) contenders[peer.name] = job.run;
    const times = await interleave(contenders, small ? Math.min(rounds, 3) : rounds, clock);

    progress(`model ${name}: checking`);
    using many = model.run(input, backward(batch));
    using one = model.run({ ids: [ids[0]!] }, backward(1));
    const logits = (await many.logits.read()).subarray(0, model.sizes.vocabulary);
    const alone = await one.logits.read();
    if (logits.some((value, i) => value !== alone[i]))
      throw new Error(`${name}: a row alone differs from the batch's`);
    const reference = bertReference(BERT_BASE, host, ids[0]!, position[0]!);
    const error = (values: ArrayLike<number>): number =>
      reference.reduce(
        (worst, z, i) => (Math.abs(values[i]! - z) <= worst ? worst : Math.abs(values[i]! - z)),
        0,
      );
    const checked = [demand(`${name} logits`, error(logits), 1e-3)];
    if (length <= 16)
      checked.push(`gradient ${await checkGradient(name, one.gradients.get(names[5]!)!, ids[0]!)}`);
    const peerTimes: Record<string, number> = {};
    for (const { peer, job } of jobs) {
      demand(`${peer.name} ${name}`, error(await job.result()), 1e-2);
      job.dispose();
      peerTimes[`${peer.name} forward (ms)`] = times[peer.name]!.median;
    }
    const flops = 2 * batch * length * (model.sizes.layers * 12 * model.sizes.hidden ** 2);
    const best = jobs
      .filter(({ peer }) => peer.gpu)
      .map(({ peer }) => ratioOf(times[peer.name]!, times.forward!));
    rows.push({
      suite: 'model',
      shape: name,
      unit: 'ms forward',
      ours: times.forward!.median,
      spread: times.forward!.spread,
      figures: {
        'forward GFLOP/s': flops / times.forward!.median / 1e6,
        'with backward (ms)': times.both!.median,
        '(forward + backward) / forward': ratioOf(times.both!, times.forward!),
      },
      peers: peerTimes,
      ratio: best.length > 0 ? Math.min(...best) : null,
      ratioOf: 'best GPU peer / ours',
      checked: checked.join(', '),
    });

    /** The gradient of one layer along a random direction, against float64's central difference. */
    async function checkGradient(what: string, gradient: Tensor, row: readonly number[]): Promise<string> {
      const values = await gradient.read();
      const direction = Float64Array.from(randomNumbers(values.length, 9));
      const along = values.reduce((sum, g, i) => sum + g * direction[i]!, 0);
      const size = Math.sqrt(values.reduce((sum, g) => sum + g * g, 0));
      const h = 1e-5;
      const [up, down] = [h, -h].map((step) =>
        logSoftmaxAt(
          bertReference(BERT_BASE, host, row, position[0]!, {
            shift: { layer: 5, by: direction.map((d) => d * step) },
          }),
          target[0]!,
        ),
      ) as [number, number];
      return demand(`${what} gradient`, Math.abs((up - down) / (2 * h) - along) / size, 1e-3);
    }
  }
  model.dispose();
  return rows;
};
