/**
 * What activation functions and gated linear units (Shazeer 2020) do with several values of an element at once: act(gate) up, and
 * the cotangents back through it, in one pass over memory.
 */

import {
  ACTIVATION,
  ACTIVATIONS,
  type ActivationName,
  activationValue,
  GATED_NAMES,
  type GatedName,
  gateOf,
} from './activation.ts';
import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes, word } from './variant.ts';

const GATED = word(GATED_NAMES);

/** Results by name, WGSL of `n` elements of the operands, four at a time. Grid: linear over n / 4. */
const elementwise = (
  name: string,
  act: ActivationName,
  operands: readonly string[],
  results: Readonly<Record<string, string>>,
): Kernel => ({
  name,
  bindings: [
    ...operands.map((operand) => ({ name: operand, element: 'vec4f', access: 'read' }) as const),
    ...Object.keys(results).map(
      (result) => ({ name: result, element: 'vec4f', access: 'read_write' }) as const,
    ),
  ],
  params: { n: 'u32' },
  workgroup: [LINEAR_GROUP, 1, 1],
  body: `
${ACTIVATIONS[act].text.declarations}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u >= p.n) { return; }
  let x = a[i];
${Object.entries(results)
  .map(([result, value]) => `  ${result}[i] = ${value};`)
  .join('\n')}
}`,
});

/** da = dy act'(a) */
export const activationBackward = shipped(
  (act: ActivationName) =>
    elementwise(`${act}_backward`, act, ['a', 'dy'], { da: `dy[i] * (${ACTIVATIONS[act].text.derivative})` }),
  takes('activationBackward', ['act', ACTIVATION]),
);

/** y = act(a) up */
export const gated = shipped(
  (name: GatedName) => {
    const act = gateOf(name)!;
    return elementwise(`gated.${name}`, act, ['a', 'up'], { y: `(${activationValue(act)}) * up[i]` });
  },
  takes('gated', ['name', GATED]),
);

/** da = dy up act'(a), dup = dy act(a) */
export const gatedBackward = shipped(
  (name: GatedName) => {
    const act = gateOf(name)!;
    return elementwise(`gated_backward.${name}`, act, ['a', 'up', 'dy'], {
      da: `(dy[i] * up[i]) * (${ACTIVATIONS[act].text.derivative})`,
      dup: `dy[i] * (${activationValue(act)})`,
    });
  },
  takes('gatedBackward', ['name', GATED]),
);
