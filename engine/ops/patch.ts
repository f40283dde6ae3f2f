/**
 * Single elements set, added to or scaled: the operation under every patch point.
 */

import { linearGrid, PATCH_MODE, patch as patchKernel } from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { checkOptions, checkValue, like, one, optionsSchema, required, whole } from '../options.ts';
import { checkTensor, integers, operation, type Tensor, tensor } from '../tensor.ts';
import { affine } from './elementwise.ts';

/** One change to one element, by its flat index. */
export interface ElementPatch {
  readonly at: number;
  readonly mode: keyof typeof PATCH_MODE;
  readonly value: number;
}

const patchOptions = optionsSchema<ElementPatch>({
  at: required(whole()),
  mode: required(one(Object.keys(PATCH_MODE) as (keyof typeof PATCH_MODE)[])),
  value: required(like((value) => typeof value === 'number', 'a number')),
});

const patchList = like<readonly ElementPatch[]>(Array.isArray, 'a list of patches: [{ at, mode, value }]');

/** x with the patches applied in order. The gradient passes where a value was added to, scaled where scaled, not where set. */
export function patchElements(x: Tensor, patches: readonly ElementPatch[]): Tensor {
  checkTensor('patchElements', 'x', x, ['f32']);
  checkValue('patchElements', 'patches', patchList, patches);
  for (const p of patches) {
    checkOptions('patchElements', patchOptions, p);
    if (!(p.at < x.size)) throw new ShapeError('patch', `element ${p.at} of [${x.shape.join(', ')}]`);
  }
  if (x.storage.segments.length > 1)
    throw new ShapeError('patch', 'the tensor is split over several buffers');
  const y = affine(x.detach(), 1, 0);
  // Indices within a dispatch are distinct; a second patch of an element waits for the next round.
  let rest = patches;
  while (rest.length > 0) {
    const seen = new Set<number>();
    const later: ElementPatch[] = [];
    const round = rest.filter((p) => {
      if (seen.has(p.at)) {
        later.push(p);
        return false;
      }
      seen.add(p.at);
      return true;
    });
    const host = [
      integers(
        x.device,
        round.map((p) => p.at),
      ),
      integers(
        x.device,
        round.map((p) => PATCH_MODE[p.mode]),
      ),
      tensor(
        x.device,
        round.map((p) => p.value),
      ),
    ] as const;
    x.device.dispatch(
      patchKernel(),
      [x, ...host, y].map((t) => t.storage.window()),
      [round.length],
      linearGrid(round.length),
    );
    for (const t of host) t.dispose();
    rest = later;
  }
  // What was set passes 0 on, whatever comes: 0 times an infinity would be NaN.
  const backward = patches
    .filter((p) => p.mode === 'set' || p.mode === 'scale')
    .map((p): ElementPatch => (p.mode === 'set' ? { at: p.at, mode: 'set', value: 0 } : p));
  return operation('patch', [x], y, [], (dy) => [backward.length > 0 ? patchElements(dy, backward) : dy]);
}
