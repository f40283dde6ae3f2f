/**
 * Matrix products of a transformer's sizes, A [M, K] times B, on tensors that already lie on the device.
 *
 * Ours is measured with B as checkpoints store it ([N, K]) and the other way round; a peer computes the plain product
 * A B, its native order. Enough products are queued in one go that the wait at the end does not count. What fills a GPU, and
 * the matrix units, are measured on one; elsewhere their rows say that they are not.
 */

import { matmul, packPanels, scope, type Tensor, tensor } from '../../engine/index.ts';
import { demand, type Layout, matmulError, randomNumbers } from '../reference.ts';
import { notMeasured, type Row } from '../rows.ts';
import { interleave, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

type Shape = readonly [m: number, n: number, k: number];

function shapes(small: boolean): Shape[] {
  const grid: Shape[] = (small ? [16, 128] : [16, 128, 512]).flatMap((m) =>
    (small ? [768, 3072] : [768, 2304, 3072]).flatMap((n) => [768, 3072].map((k): Shape => [m, n, k])),
  );
  return [...grid, [1, 4096, 4096], [16, 30522, 768]];
}
const LARGE = [4096, 8192].map((n): Shape => [n, n, n]);
const nameOf = ([m, n, k]: Shape): string => `${m} x ${n} x ${k}`;

/** Products queued in one timed go: about 0.4 GFLOP of work; 8 of those that only a GPU is given. */
const repeats = ([m, n, k]: Shape): number =>
  m > 1000 ? 8 : Math.min(20, Math.max(1, Math.round(4e8 / (2 * m * n * k))));

export const matmulSuite: Suite = async ({ device, peers, rounds, clock, small, only, progress }) => {
  const rows: Row[] = [];
  const { software } = device.info;
  const large = LARGE.filter((shape) => nameOf(shape).includes(only));
  for (const shape of [...shapes(small), ...(software ? [] : large)]) {
    const [m, n, k] = shape;
    const name = nameOf(shape);
    if (!name.includes(only)) continue;
    progress(`matmul ${name}`);
    const count = repeats(shape);
    const left = randomNumbers(m * k, 1);
    const right = randomNumbers(k * n, 2);
    const a = tensor(device, left, [m, k]);
    const stored = {
      nt: tensor(device, right, [n, k], 'weights'),
      nn: tensor(device, right, [k, n], 'weights'),
    };
    for (const w of Object.values(stored)) packPanels(w);
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
  if (software)
    rows.push(
      ...large.map((shape) => notMeasured('matmul', nameOf(shape), 'ms', 'no GPU, a software adapter')),
    );
  for (const shape of large)
    for (const precision of ['f16', 'split-f16'] as const) rows.push(await onMatrixUnits(shape, precision));
  return rows;

  /** The same product on matrix units, beside itself in f32. */
  async function onMatrixUnits(shape: Shape, precision: 'f16' | 'split-f16'): Promise<Row> {
    const suite = 'matrix units';
    const [m, n, k] = shape;
    const name = `${nameOf(shape)}, ${precision}`;
    if (software) return notMeasured(suite, name, 'GFLOP/s', 'no GPU, a software adapter');
    if (!device.capabilities.matrixUnit)
      return notMeasured(suite, name, 'GFLOP/s', 'this adapter has no matrix units');
    progress(`${suite} ${name}`);
    const [left, right] = [randomNumbers(m * k, 1), randomNumbers(k * n, 2)];
    const a = tensor(device, left, [m, k]);
    const b = tensor(device, right, [n, k]);
    const product = (of: 'f32' | typeof precision): Tensor => matmul(a, b, { transB: true, precision: of });
    const count = repeats(shape);
    const run = (of: 'f32' | typeof precision) => async (): Promise<void> => {
      for (let i = 0; i < count; i++) product(of).dispose();
      await device.finish();
    };
    const times = await interleave({ units: run(precision), f32: run('f32') }, rounds, clock);
    const c = product(precision);
    const error = matmulError(left, right, await c.read(), 'nt', { m, n, k });
    for (const t of [a, b, c]) t.dispose();
    device.pool.trim();
    const gflops = (ms: number): number => (2 * m * n * k * count) / ms / 1e6;
    return {
      suite,
      shape: name,
      unit: 'GFLOP/s',
      ours: gflops(times.units.median),
      spread: times.units.spread,
      figures: { 'f32 (GFLOP/s)': gflops(times.f32.median) },
      peers: {},
      ratio: ratioOf(times.f32, times.units),
      ratioOf: 'f32 / ours',
      // Factors of f16 have 11 bits; split ones about 22.
      checked: demand(name, error, precision === 'f16' ? 2e-3 : 1e-5),
    };
  }
};
