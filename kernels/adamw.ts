/**
 * One step of AdamW (Loshchilov & Hutter 2019) in place: parameter, first and second moment in one pass over memory.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { PACKINGS } from './packing.ts';
import { NARROW_F16 } from './quantise.ts';
import { shipped } from './shipped.ts';
import { flag, takes, variant, word } from './variant.ts';

export interface AdamWVariant {
  /** How the gradient is stored. */
  readonly gradient: 'f32' | 'f16';
  /** Write the parameter rounded to f16, too. */
  readonly copy: boolean;
  /** The decay is a part of the gradient: Adam. */
  readonly coupled: boolean;
}

const ADAMW = variant<AdamWVariant>({ gradient: word(['f32', 'f16']), copy: flag, coupled: flag });

/**
 * The gradient is multiplied by factor[0]; where that is 0 nothing changes. `correction1`, `correction2`: 1 / (1 - beta^step).
 * Grid: linear over n / 4.
 */
export const adamw = shipped(makeAdamw, takes('adamw', ['variant', ADAMW]));

function makeAdamw({ gradient, copy, coupled }: AdamWVariant): Kernel {
  const half = gradient === 'f16';
  return {
    name: `${coupled ? 'adam' : 'adamw'}.${gradient}${copy ? '.copy' : ''}`,
    bindings: [
      { name: 'factor', element: 'f32', access: 'read' },
      { name: 'gradient', element: half ? 'vec2u' : 'vec4f', access: 'read' },
      { name: 'parameter', element: 'vec4f', access: 'read_write' },
      { name: 'first', element: 'vec4f', access: 'read_write' },
      { name: 'second', element: 'vec4f', access: 'read_write' },
      ...(copy ? ([{ name: 'rounded', element: 'vec2u', access: 'read_write' }] as const) : []),
    ],
    params: {
      n: 'u32',
      rate: 'f32',
      beta1: 'f32',
      beta2: 'f32',
      eps: 'f32',
      decay: 'f32',
      correction1: 'f32',
      correction2: 'f32',
    },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${half ? PACKINGS.f16.declarations : ''}
${
  copy
    ? `${NARROW_F16}
fn word(x: f32, y: f32) -> u32 { return narrow_bits(bitcast<u32>(x)) | (narrow_bits(bitcast<u32>(y)) << 16u); }`
    : ''
}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u >= p.n || factor[0] == 0.0) { return; }
  let g = ${half ? 'widen4(gradient[i])' : 'gradient[i]'} * factor[0]${coupled ? ' + p.decay * parameter[i]' : ''};
  let m = p.beta1 * first[i] + (1.0 - p.beta1) * g;
  let v = p.beta2 * second[i] + (1.0 - p.beta2) * g * g;
  first[i] = m;
  second[i] = v;
  let w = parameter[i]${coupled ? '' : ' * (1.0 - p.rate * p.decay)'} - p.rate * (m * p.correction1) / (sqrt(v * p.correction2) + p.eps);
  parameter[i] = w;
${copy ? '  rounded[i] = vec2u(word(w.x, w.y), word(w.z, w.w));' : ''}
}`,
  };
}
