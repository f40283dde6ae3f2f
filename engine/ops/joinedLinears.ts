/**
 * Linear layers that read the same rows, such as those of queries, keys and values: their weights lie one behind the other in one
 * buffer, so that layers of one size are a batch of products, and of a lone row all layers are one product. Every output has the
 * bits of its layer by itself. Each weight stays a tensor of its own.
 */

import { isQuantised } from '../../kernels/index.ts';
import { ALIGNMENT } from '../memory.ts';
import { disown } from '../scope.ts';
import { bytesOf } from '../storage.ts';
import { empty, sizeOf, Tensor } from '../tensor.ts';
import { linear, linearKernel, recordLinear, stackedLinears } from './matmul.ts';

/** Weight [N, K] and perhaps bias [N]. */
export interface LinearLayer {
  readonly weight: Tensor;
  readonly bias?: Tensor | undefined;
}

/** Layers from `first` on, of one product: weight and bias as it reads them. */
interface Group {
  readonly first: number;
  readonly count: number;
  readonly weight: Tensor;
  readonly bias: Tensor | null;
}

/** One tensor with the elements of all, and each as a part of it; null where they cannot lie in one buffer. */
function join(tensors: readonly Tensor[]): { whole: Tensor; parts: Tensor[] } | null {
  const [first] = tensors as [Tensor];
  const { device, dtype } = first;
  const alike = tensors.every(
    (t) =>
      t.dtype === dtype &&
      t.track === null &&
      t.storage.segments.length === 1 &&
      t.shape.slice(1).join() === first.shape.slice(1).join(),
  );
  if (!alike) return null;
  const whole = empty(
    device,
    [tensors.reduce((rows, t) => rows + t.dim(0), 0), ...first.shape.slice(1)],
    dtype,
    'weights',
  );
  const parts: Tensor[] = [];
  let begin = 0;
  for (const { storage, shape } of tensors) {
    const part = whole.storage.part(begin, storage.elements);
    if (!part) {
      for (const t of [whole, ...parts]) t.dispose();
      return null;
    }
    const size = storage.elements * bytesOf(dtype);
    device.queue.copy({ ...storage.window(), size }, { ...part.window(), size });
    parts.push(new Tensor(part, shape));
    begin += storage.elements;
  }
  for (const t of [whole, ...parts]) disown(t);
  return { whole, parts };
}

/** `count` layers of the same size as one tensor [count, ...]. */
function stacked({ storage }: Tensor, begin: number, count: number, each: Tensor): Tensor | null {
  const part = storage.part(begin, count * each.storage.elements);
  return part && new Tensor(part, [count, ...each.shape]);
}

/** See the head of this file. */
export class JoinedLinears implements Disposable {
  /** The layers, their weights and biases now parts of the joined ones. */
  readonly layers: readonly LinearLayer[];
  readonly #weight: Tensor;
  readonly #bias: Tensor | null;
  readonly #groups: readonly Group[];

  private constructor(layers: readonly LinearLayer[], weight: Tensor, bias: Tensor | null) {
    this.layers = layers;
    this.#weight = weight;
    this.#bias = bias;
    const groups: Group[] = [];
    let row = 0;
    for (let first = 0; first < layers.length; ) {
      const { weight: w, bias: b } = layers[first]!;
      let count = 1;
      while (layers[first + count]?.weight.dim(0) === w.dim(0)) count++;
      const elements = w.storage.elements / w.dim(0);
      const weights = count > 1 && !isQuantised(w.dtype) ? stacked(weight, row * elements, count, w) : null;
      const biases = weights && bias && b ? stacked(bias, row, count, b) : null;
      if (weights) {
        for (const t of [weights, biases]) if (t) disown(t);
        groups.push({ first, count, weight: weights, bias: biases });
      }
      row += count * w.dim(0);
      first += count;
    }
    this.#groups = groups;
  }

  /**
   * Moves weights and biases into one buffer each: the given tensors are the caller's still, to be disposed of. Null where they
   * differ in format, are cut over several buffers or would be, or are being trained.
   */
  static of(layers: readonly LinearLayer[]): JoinedLinears | null {
    const biases = layers.flatMap(({ bias }) => bias ?? []);
    if (biases.length > 0 && biases.length < layers.length) return null;
    const weight = join(layers.map((layer) => layer.weight));
    const bias = weight && biases.length > 0 ? join(biases) : null;
    if (!weight || (biases.length > 0 && !bias)) {
      for (const t of weight ? [weight.whole, ...weight.parts] : []) t.dispose();
      return null;
    }
    const moved = weight.parts.map((part, i) => ({ weight: part, ...(bias ? { bias: bias.parts[i] } : {}) }));
    return new JoinedLinears(moved, weight.whole, bias?.whole ?? null);
  }

  /** The layers' outputs for x [..., K]. */
  apply(x: Tensor): Tensor[] {
    const { layers } = this;
    const rows = sizeOf(x.shape.slice(0, -1));
    const outputs: Tensor[] = [];
    const make = (first: number, count: number, product: () => Tensor): void => {
      const sizes = layers.slice(first, first + count).map(({ weight }) => rows * weight.dim(0));
      if (sizes.slice(0, -1).some((size) => (4 * size) % ALIGNMENT !== 0)) return;
      const y = product();
      let begin = 0;
      sizes.forEach((size, i) => {
        const part = y.storage.part(begin, size);
        if (part) outputs[first + i] = new Tensor(part, [...x.shape.slice(0, -1), size / rows]);
        begin += size;
      });
      y.dispose();
    };
    if (rows === 1)
      make(0, layers.length, () => linearKernel(x, this.#weight, this.#bias ?? undefined, PLAIN));
    else if (rows > 1)
      for (const { first, count, weight, bias } of this.#groups)
        make(first, count, () => {
          const flat = x.view([rows, x.dim(-1)], null);
          const y = stackedLinears(flat, weight, bias);
          flat.dispose();
          return y;
        });
    return layers.map(({ weight, bias }, i) => {
      const y = outputs[i];
      return y ? recordLinear(y, x, weight, bias) : linear(x, weight, bias);
    });
  }

  /** Frees what lies in the joined buffers, the layers' parts among it. */
  dispose(): void {
    const groups = this.#groups.flatMap(({ weight, bias }) => [weight, bias]);
    for (const t of [this.#weight, this.#bias, ...groups, ...this.layers.flatMap((l) => [l.weight, l.bias])])
      t?.dispose();
  }
  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

const PLAIN = { op: 'none' } as const;
