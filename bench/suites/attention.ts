/**
 * Attention forward and backward: products with the pattern kept, and kernels that keep none. Values are checked against
 * float64 at sampled queries, gradients of one path against the other's, before they are timed.
 */

import {
  attention,
  grad,
  integers,
  prefixAttention,
  scope,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { demand, randomNumbers, relativeDifference } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

const SIZE = 64;

interface Shape {
  readonly name: string;
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly causal?: boolean;
  /** Every second row of the batch, or the only one, has a quarter of its keys hidden. */
  readonly padded?: boolean;
}

const square = (batch: number, tokens: number) => ({ batch, queries: tokens, keys: tokens });
const BASE = { heads: 12, keyHeads: 12 };

function shapes(small: boolean): Shape[] {
  const long = small ? 256 : 1024;
  return [
    { name: '1 x 16', ...square(1, 16), ...BASE },
    { name: '8 x 128', ...square(small ? 2 : 8, 128), ...BASE },
    { name: '8 x 128 padded', ...square(small ? 2 : 8, 128), ...BASE, padded: true },
    { name: `1 x ${long} causal`, ...square(1, long), ...BASE, causal: true },
    { name: `1 x ${long} causal, grouped`, ...square(1, long), heads: 12, keyHeads: 3, causal: true },
    { name: `decode row over ${4 * long}`, batch: 1, queries: 1, keys: 4 * long, heads: 12, keyHeads: 3 },
  ].map((shape) => (shape.batch === 2 ? { ...shape, name: shape.name.replace('8', '2') } : shape));
}

/** Keys of a batch row that its mask shows. */
const shown = ({ padded, keys }: Shape, batch: number): number =>
  padded && batch % 2 === 0 ? keys - (keys >> 2) : keys;

/** Largest error over sampled queries of y [batch, queries, heads, size]. */
function errorOf(
  shape: Shape,
  [q, k, v]: readonly [Float32Array, Float32Array, Float32Array],
  y: Float32Array,
): number {
  const { queries, keys, heads, keyHeads, causal } = shape;
  const random = seededRandom(5);
  let worst = 0;
  for (let sample = 0; sample < 20; sample++) {
    const row = Math.floor(random() * (q.length / SIZE));
    const [head, query] = [row % heads, Math.floor(row / heads) % queries];
    const batch = Math.floor(row / heads / queries);
    const length = Math.min(shown(shape, batch), causal ? query + keys - queries + 1 : keys);
    const keyHead = Math.floor(head / (heads / keyHeads));
    const seen = Array.from({ length }, (_, j) => ((batch * keys + j) * keyHeads + keyHead) * SIZE);
    const scores = seen.map((at) => {
      let sum = 0;
      for (let d = 0; d < SIZE; d++) sum += q[row * SIZE + d]! * k[at + d]!;
      return sum / Math.sqrt(SIZE);
    });
    const top = Math.max(...scores);
    const shares = scores.map((s) => Math.exp(s - top));
    const total = shares.reduce((a, b) => a + b, 0);
    for (let d = 0; d < SIZE; d++) {
      const exact = seen.reduce((sum, at, j) => sum + (shares[j]! / total) * v[at + d]!, 0);
      const error = Math.abs(exact - y[row * SIZE + d]!);
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

/** Of one path with the other's. */
const gradientsAgree = (name: string) => (products: Float32Array[], fused: Float32Array[]) =>
  demand(
    `gradients of attention ${name}`,
    Math.max(...products.map((values, i) => relativeDifference(fused[i]!, values))),
    1e-5,
  );

export const attentionSuite: Suite = async ({ device, rounds, clock, small, only, progress }) => {
  const rows: Row[] = [];
  const measure = async (
    what: string,
    once: (fused: boolean) => () => Tensor[],
    check: (products: Float32Array[], fused: Float32Array[]) => string,
  ): Promise<void> => {
    const results = async (fused: boolean): Promise<Float32Array[]> => {
      const tensors = scope(once(fused));
      const data = await Promise.all(tensors.map((t) => t.read()));
      for (const t of tensors) t.dispose();
      return data;
    };
    const checked = check(await results(false), await results(true));
    const time = (fused: boolean) => async (): Promise<void> => {
      scope(() => {
        for (const t of once(fused)()) t.dispose();
      });
      await device.finish();
    };
    const times = await interleave({ products: time(false), fused: time(true) }, rounds, clock);
    rows.push({
      suite: 'attention',
      shape: what,
      unit: 'ms, products',
      ours: times.products.median,
      spread: times.products.spread,
      figures: { 'one kernel (ms)': times.fused.median },
      peers: {},
      ratio: ratioOf(times.products, times.fused),
      ratioOf: 'products / one kernel',
      checked,
    });
  };
  for (const shape of shapes(small)) {
    const { name, batch, queries, keys, heads, keyHeads, causal = false, padded } = shape;
    if (!name.includes(only)) continue;
    progress(`attention ${name}`);
    const dims = [
      [batch, queries, heads, SIZE],
      [batch, keys, keyHeads, SIZE],
      [batch, keys, keyHeads, SIZE],
    ];
    const host = dims.map((d, seed) =>
      randomNumbers(
        d.reduce((a, b) => a * b),
        seed + 1,
      ),
    ) as [Float32Array, Float32Array, Float32Array];
    const inputs = host.map((data, i) => tensor(device, data, dims[i]!)) as [Tensor, Tensor, Tensor];
    const dy = tensor(device, randomNumbers(host[0].length, 4), dims[0]!);
    const hidden = Array.from({ length: batch * keys }, (_, i) =>
      i % keys < shown(shape, Math.floor(i / keys)) ? 1 : 0,
    );
    const mask = padded ? { keyMask: integers(device, hidden, [batch, keys]) } : {};
    const forward = (fused: boolean) => (): Tensor[] => [attention(...inputs, { causal, fused, ...mask })];
    const backward = (fused: boolean) => (): Tensor[] => {
      const tracked = inputs.map((t) => t.detach().requireGrad()) as [Tensor, Tensor, Tensor];
      return grad(attention(...tracked, { causal, fused, ...mask }), tracked, { cotangent: dy });
    };
    await measure(name, forward, ([products], [fused]) =>
      demand(
        `attention ${name}`,
        Math.max(errorOf(shape, host, products!), errorOf(shape, host, fused!)),
        1e-5,
      ),
    );
    if (queries > 1) await measure(`${name}, forward and backward`, backward, gradientsAgree(name));
    for (const t of [...inputs, dy, ...Object.values(mask)]) t.dispose();
  }

  for (const count of [1, 16]) {
    const length = small ? 1024 : 4096;
    const name = `${count} decode rows behind ${length}`;
    if (!name.includes(only)) continue;
    progress(`attention ${name}`);
    const [heads, keyHeads] = [12, 3];
    const dims = [
      [count, heads, SIZE],
      [count, keyHeads, SIZE],
      [count, keyHeads, SIZE],
      [keyHeads, length, SIZE],
      [keyHeads, length, SIZE],
    ];
    const host = dims.map(([a, b, c], seed) => randomNumbers(a! * b! * c!, 11 + seed));
    const tensors = host.map((data, i) => tensor(device, data, dims[i]!));
    const [q, k, v, keys, values] = tensors as [Tensor, Tensor, Tensor, Tensor, Tensor];
    /** Keys or values of the last row as one batch, its own last. */
    const seen = (shared: Float32Array, own: Float32Array): Float32Array =>
      Float32Array.from({ length: (length + 1) * keyHeads * SIZE }, (_, i) => {
        const [j, head, d] = [Math.floor(i / keyHeads / SIZE), Math.floor(i / SIZE) % keyHeads, i % SIZE];
        return j < length
          ? shared[(head * length + j) * SIZE + d]!
          : own[((count - 1) * keyHeads + head) * SIZE + d]!;
      });
    const alone = { name, batch: 1, queries: 1, keys: length + 1, heads, keyHeads };
    const last = [host[0]!.slice(-heads * SIZE), seen(host[3]!, host[1]!), seen(host[4]!, host[2]!)] as const;
    const forward = (fused: boolean) => (): Tensor[] => [
      prefixAttention(q, k, v, { keys, values }, { fused }),
    ];
    await measure(name, forward, ([products], [fused]) =>
      demand(
        `attention ${name}`,
        Math.max(...[products!, fused!].map((y) => errorOf(alone, last, y.slice(-heads * SIZE)))),
        1e-5,
      ),
    );
    const backward = (fused: boolean) => (): Tensor[] => {
      const own = [q, k, v].map((t) => t.detach().requireGrad()) as [Tensor, Tensor, Tensor];
      return grad(prefixAttention(...own, { keys, values }, { fused }), own, { cotangent: q });
    };
    await measure(`${name}, forward and backward`, backward, gradientsAgree(name));
    for (const t of tensors) t.dispose();
  }
  return rows;
};
