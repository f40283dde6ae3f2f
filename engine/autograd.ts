/**
 * Reverse-mode differentiation over the tape: walk the nodes from the newest to the oldest, pull each one's cotangent back
 * to its inputs, add where paths meet: an operation may add in its own kernel. The whole of it is `grad`.
 */

import { GradientError, ShapeError } from './errors.ts';
import { narrowInto } from './halves.ts';
import { add } from './ops/elementwise.ts';
import { toF32 } from './ops/matmul.ts';
import { checkOptions, flag, one, optionsSchema } from './options.ts';
import { scope } from './scope.ts';
import {
  checkTensorList,
  checkTensors,
  empty,
  full,
  type Node,
  oneDevice,
  Tensor,
  type Track,
  tensorField,
  withRecording,
  zeros,
} from './tensor.ts';

/** How a backward is done, and what becomes of its tape. */
export interface GradOptions {
  /** Cotangent of the output, of its shape; default 1 for an output of size 1. */
  readonly cotangent?: Tensor;
  /** Record the backward itself, so that its results can be differentiated. Implies `retainTape`. */
  readonly createGraph?: boolean;
  /** Keep the tape, to go back from the same output again. */
  readonly retainTape?: boolean;
  /** What to return for an input that the output does not depend on: an error by default. */
  readonly unconnected?: 'error' | 'zero';
}

const gradOptions = optionsSchema<GradOptions>(
  {
    cotangent: tensorField,
    createGraph: flag,
    retainTape: flag,
    unconnected: one(['error', 'zero']),
  },
  { retainGraph: 'retainTape', gradOutputs: 'cotangent', allowUnused: 'unconnected' },
);

/**
 * Gradients of `output` (contracted with the cotangent) with respect to `of`, a tensor or a list of them, in their shapes: f32, but f16 for an f16
 * input, where what is too large becomes infinite (f32 with `createGraph`).
 * @throws GradientError where an operation on the way has no gradient, an input is not connected, or what the tape has saved was changed
 * in place since.
 * @example
 * ```ts
 * import { grad, mul, openDevice, sum, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const x = tensor(device, [1, 2, 3]).requireGrad();
 * const [dx] = grad(sum(mul(mul(x, x), x)), [x], { createGraph: true });
 * const [ddx] = grad(sum(dx!), [x]);
 * console.log([...(await dx!.read())], [...(await ddx!.read())]); // → [ 3, 12, 27 ] [ 6, 12, 18 ]
 * device.destroy();
 * ```
 */
export function grad(output: Tensor, of: Tensor | readonly Tensor[], options: GradOptions = {}): Tensor[] {
  checkOptions('grad', gradOptions, options);
  checkTensors('grad', { output });
  const inputs = of instanceof Tensor ? [of] : of;
  checkTensorList('grad', 'inputs', inputs);
  const { createGraph = false, retainTape = createGraph, unconnected = 'error' } = options;
  if (!options.cotangent && output.size !== 1)
    throw new GradientError(`an output of shape [${output.shape.join(', ')}] needs a cotangent`);
  if (options.cotangent && options.cotangent.size !== output.size)
    throw new ShapeError(
      'grad',
      `cotangent [${options.cotangent.shape.join(', ')}] for output [${output.shape.join(', ')}]`,
    );
  oneDevice('grad', output, ...inputs, options.cotangent);
  const wanted = new Map<Track, Tensor>();
  for (const input of inputs) {
    if (!input.track)
      throw new GradientError('an input was not marked with requireGrad() before it was used');
    wanted.set(input.track, input);
  }
  const halved = new Set(createGraph ? [] : inputs.flatMap((t) => (t.dtype === 'f16' ? [t.track!] : [])));
  const route = nodesBetween(output.track, wanted);
  // A node that is done with gives up those before it, which may have no other use: their turn is still to come.
  for (const { node } of route) node.retain();
  try {
    return withRecording(createGraph, () =>
      scope(() => {
        const cotangents = new Map<Track, Tensor>();
        if (output.track) {
          const seed = options.cotangent ?? full(output.device, output.shape, 1);
          cotangents.set(output.track, seed.view(output.shape, seed.track));
        }
        for (const { node, track } of route) {
          const cotangent = cotangents.get(track);
          if (!cotangent) continue;
          if (!node.pullback) throw new GradientError(`${node.op} has no gradient`);
          const pullback = node.pullback;
          const needs = node.inputs.map((t) => t !== null && (wanted.has(t) || route.tracks.has(t)));
          const taken = new Set<Track>();
          const arrived = (i: number): Tensor | null => {
            const input = node.inputs[i];
            const plain = input && needs[i] && !createGraph && !halved.has(input);
            if (!plain || node.inputs.indexOf(input) !== node.inputs.lastIndexOf(input)) return null;
            const before = cotangents.get(input);
            if (before) taken.add(input);
            return before ?? null;
          };
          const parts = scope(() => pullback(cotangent, node.saved, needs, arrived), createGraph);
          node.inputs.forEach((input, i) => {
            const part = parts[i];
            if (!input || !needs[i]) return;
            if (!part) throw new GradientError(`${node.op} has no gradient for its input ${i}`);
            const before = cotangents.get(input);
            cotangents.set(
              input,
              halved.has(input)
                ? scope(() => toF16(before ? add(toF32(before), part) : part))
                : before && !taken.has(input)
                  ? add(before, part)
                  : part.view(part.shape, part.track),
            );
            if (!createGraph) before?.dispose();
          });
          // A pullback may hand the same tensor to several inputs, or its own cotangent on.
          if (!createGraph) for (const part of parts) if (part !== cotangent) part?.dispose();
          if (!createGraph && !wanted.has(track)) cotangent.dispose();
          if (!retainTape) node.dispose('grad');
        }
        return inputs.map((input) => {
          const found = cotangents.get(input.track!);
          if (found) return found.view(input.shape, found.track);
          if (unconnected === 'zero') return zeros(input.device, input.shape);
          throw new GradientError(
            'the output does not depend on an input, or was computed where nothing is recorded: under noGrad(), or by a streamed model',
          );
        });
      }, createGraph),
    );
  } finally {
    for (const { node } of route) node.release();
  }
}

/** Rounded to f16; what is too large becomes infinite, so that it is noticed. */
function toF16(x: Tensor): Tensor {
  const y = empty(x.device, x.shape, 'f16');
  narrowInto(x.storage, y.storage, { infinite: true });
  return y;
}

/** Nodes on a path from the output to a wanted value, newest first, and the tracks of their outputs. */
function nodesBetween(
  output: Track | null,
  wanted: ReadonlyMap<Track, Tensor>,
): { node: Node; track: Track }[] & { tracks: ReadonlySet<Track> } {
  const leads = new Map<Track, boolean>();
  const stack: Track[] = output ? [output] : [];
  // Depth first without recursion: a track is settled once all its inputs are.
  while (stack.length > 0) {
    const track = stack.at(-1)!;
    if (leads.has(track)) {
      stack.pop();
      continue;
    }
    const inputs = (track.node?.inputs ?? []).filter((t): t is Track => t !== null);
    const open = inputs.filter((t) => !leads.has(t));
    if (open.length > 0) {
      stack.push(...open);
      continue;
    }
    leads.set(
      track,
      inputs.some((t) => wanted.has(t) || leads.get(t) === true),
    );
    stack.pop();
  }
  const tracks = new Set<Track>();
  const route: { node: Node; track: Track }[] = [];
  for (const [track, on] of leads) {
    if (!on || !track.node) continue;
    tracks.add(track);
    route.push({ node: track.node, track });
  }
  route.sort((a, b) => b.node.id - a.node.id);
  return Object.assign(route, { tracks });
}
