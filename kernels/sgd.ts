/**
 * One step of stochastic gradient descent in place, with momentum (Sutskever et al. 2013, in PyTorch's form).
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { flag, takes } from './variant.ts';

/**
 * The gradient plus decay times the parameter; with `momentum` it is added, `share` times, to momentum times the velocity; with
 * ahead 1 the velocity is looked ahead along (Nesterov). Grid: linear over n / 4.
 */
export const sgd = shipped(makeSgd, takes('sgd', ['momentum', flag]));

function makeSgd(momentum: boolean): Kernel {
  return {
    name: `sgd${momentum ? '.momentum' : ''}`,
    bindings: [
      { name: 'gradient', element: 'vec4f', access: 'read' },
      { name: 'parameter', element: 'vec4f', access: 'read_write' },
      ...(momentum ? ([{ name: 'velocity', element: 'vec4f', access: 'read_write' }] as const) : []),
    ],
    params: { n: 'u32', rate: 'f32', decay: 'f32', momentum: 'f32', share: 'f32', ahead: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u >= p.n) { return; }
  let w = parameter[i];
  let g = gradient[i] + p.decay * w;
${
  momentum
    ? `  let v = p.momentum * velocity[i] + p.share * g;
  velocity[i] = v;
  parameter[i] = w - p.rate * select(v, g + p.momentum * v, p.ahead == 1u);`
    : '  parameter[i] = w - p.rate * g;'
}
}`,
  };
}
