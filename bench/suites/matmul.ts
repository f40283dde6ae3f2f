/**
 * Matrix products of a transformer's sizes, A [M, K] times B, on tensors that already lie on the device.
 *
 * Ours is measured with B as checkpoints store it ([N, K]) and the other way round; a peer computes the plain product
 * A B, its native order. Enough products are queued in one go that the wait at the end does not count.
 */

import { matmul, scope, type Tensor, tensor } from '../../engine/index.ts';
import { demand, type Layout, matmulError, randomNumbers } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

type Shape = readonly [m: number, n: number, k: number];

function shapes(small: boolean, software: boolean): Shape[] {
  const grid: Shape[] = (small ? [16, 128] : [16, 128, 512]).flatMap((m) =>
    (small ? [768, 3072] : [768, 2304, 3072]).flatMap((n) => [768, 3072].map((k): Shape => [m, n, k])),
  );
  // What fills a GPU would take minutes on a processor.
  const large: Shape[] = small || software ? [] : [4096, 8192].map((n): Shape => [n, n, n]);
  return [...grid, [1, 4096, 4096], [16, 30522, 768], ...large];
}

/** Products queued in one timed go: about 0.4 GFLOP of work. */
const repeats = ([m, n, k]: Shape): number => Math.min(20, Math.max(1, Math.round(4e8 / (2 * m * n * k))));

export const matmulSuite: Suite = async ({ device, peers, rounds, clock, small, only, progress }) => {
  const rows: Row[] = [];
  for (const shape of shapes(small, device.info.software)) {
    const [m, n, k] = shape;
    const name = `${m} x ${n} x ${k}`;
    if (!name.includes(only)) continue;
    progress(`matmul ${name}`);
    const count = repeats(shape);
    const left = randomNumbers(m * k, 1);
    const right = randomNumbers(k * n, 2);
    const a = tensor(device, left, [m, k]);
    const stored = { nt: tensor(device, right, [n, k]), nn: tensor(device, right, [k, n]) };
    const product = (layout: Layout): Tensor => matmul(a, stored[layout], { transB: layout === 'nt' });
    const ours = (layout: Layout) => async (): Promise<void> => {
      scope(() => {
        for (let i = 0; i < count; i++) product(layout).dispose();
      });
      await device.finish();
    };
    const prepared = await Promise.all(
      peers.map(async (peer) => ({ peer, job: await peer.matmul(left, right, { m, n, k }, count) })),
    );
    const contenders: Record<string, () => Promise<void>> = { nt: ours('nt'), nn: ours('nn') };
    for (const { peer, job } of prepared) contenders[peer.name] = job.run;
    const times = await interleave(contenders, rounds, clock);
    let worst = 0;
    for (const layout of ['nt', 'nn'] as const) {
      const c = product(layout);
      worst = Math.max(worst, matmulError(left, right, await c.read(), layout, { m, n, k }));
      c.dispose();
    }
    const checked = demand(`matmul ${name}`, worst, 1e-5);
    for (const { peer, job } of prepared) {
      demand(`${peer.name} ${name}`, matmulError(left, right, await job.result(), 'nn', { m, n, k }), 1e-4);
      job.dispose();
    }
    for (const t of [a, stored.nt, stored.nn]) t.dispose();
    const ratios = peers.filter((peer) => peer.gpu).map((peer) => ratioOf(times[peer.name]!, times.nt!));
    const gflops = (ms: number): number => (2 * m * n * k * count) / ms / 1e6;
    rows.push({
      suite: 'matmul',
      shape: name,
      unit: 'ms',
      ours: times.nt!.median / count,
      spread: times.nt!.spread,
      figures: { 'ours GFLOP/s': gflops(times.nt!.median), 'with B [K, N]': gflops(times.nn!.median) },
      peers: Object.fromEntries(
        peers.map((peer) => [`${peer.name} GFLOP/s`, gflops(times[peer.name]!.median)]),
      ),
      ratio: ratios.length > 0 ? Math.min(...ratios) : null,
      ratioOf: 'best GPU peer / ours',
      checked,
    });
    device.pool.trim();
  }
  return rows;
};
