/**
 * Gated linear units, act(gate) up (Shazeer 2020), on a tape: one kernel, and one for both cotangents, with the bits of the
 * operations apart. The tape keeps gate and up, not act(gate).
 */

import {
  type GatedName,
  gatedBackward,
  gated as gatedKernel,
  gateOf,
  linearGrid,
} from '../../kernels/index.ts';
import type { Kernel } from '../../kernels/kernel.ts';
import { ShapeError } from '../errors.ts';
import { commonRows } from '../storage.ts';
import { empty, operation, type Tensor } from '../tensor.ts';
import { activationDerivatives, activationFunctions, mul } from './elementwise.ts';
import { throughTwin } from './twin.ts';

function dispatch(op: string, kernel: Kernel, tensors: readonly [Tensor, ...Tensor[]]): void {
  const operands = tensors.map(({ storage }) => ({ storage, rowLength: 1 }));
  for (const [begin, end] of commonRows(op, tensors[0].size, operands))
    tensors[0].device.dispatch(
      kernel,
      tensors.map((t) => t.storage.window(begin, end)),
      [end - begin],
      linearGrid(Math.ceil((end - begin) / 4)),
      end - begin,
    );
}

/** act(gate) up. @throws ShapeError where they are not f32 of one shape */
export function gated(name: GatedName, gate: Tensor, up: Tensor): Tensor {
  if (gate.dtype !== 'f32' || gate.shape.join() !== up.shape.join())
    throw new ShapeError('gated', `${name} of ${gate} and ${up}`);
  const y = empty(gate.device, gate.shape);
  dispatch('gated', gatedKernel(name), [gate, up, y]);
  return operation('gated', [gate, up], y, [gate, up], (dy, saved, needs) => {
    const [gate, up] = saved as [Tensor, Tensor];
    const [ofGate, ofUp] = backward(name, gate, up, dy);
    return [needs[0] ? ofGate : null, needs[1] ? ofUp : null];
  });
}

function backward(name: GatedName, gate: Tensor, up: Tensor, dy: Tensor): [Tensor, Tensor] {
  const act = gateOf(name)!;
  const inputs = [gate, up, dy] as const;
  const [ofGate, ofUp] = [empty(gate.device, gate.shape), empty(gate.device, gate.shape)];
  dispatch('gatedBackward', gatedBackward(name), [...inputs, ofGate, ofUp]);
  return [
    operation(
      'gatedBackward',
      inputs,
      ofGate,
      inputs,
      throughTwin(3, (gate, up, dy) => mul(mul(dy!, up!), activationDerivatives[act](gate!))),
    ),
    operation(
      'gatedBackward',
      [gate, dy],
      ofUp,
      [gate, dy],
      throughTwin(2, (gate, dy) => mul(dy!, activationFunctions[act](gate!))),
    ),
  ];
}
