/**
 * The factor on gradients of one training step: clipping by global norm (Pascanu et al. 2013) and the loss's scale taken back
 * (Micikevicius et al. 2018), or 0 where the gradients are not finite.
 */

import type { Kernel } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/** Of `squares` [1], the sum of all squares: y = [factor, norm]. By its bits: compilers may assume that numbers are finite. */
export const clipFactor = shipped((): Kernel => {
  return {
    name: 'clip.factor',
    bindings: [
      { name: 'squares', element: 'u32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { limit: 'f32', scale: 'f32' },
    workgroup: [1, 1, 1],
    body: `
fn main() {
  let finite = (squares[0] & 0x7f800000u) != 0x7f800000u;
  let norm = sqrt(bitcast<f32>(select(0u, squares[0], finite))) / p.scale;
  y[0] = select(0.0, min(1.0, p.limit / (norm + 1e-6)) / p.scale, finite);
  y[1] = norm;
}`,
  };
}, takes('clipFactor'));
