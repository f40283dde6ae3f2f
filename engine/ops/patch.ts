/**
 * Single elements set, added to or scaled: the operation under every patch point.
 */

import { linearGrid, PATCH_MODE, patch as patchKernel } from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { checkOptions, checkValue, like, one, optionsSchema, required, whole } from '../options.ts';
import { checkTensor, full, integers, operation, type Tensor, tensor, zeros } from '../tensor.ts';
import { affine, greater, mul, where } from './elementwise.ts';
import { gatherRows } from './rows.ts';
import { reshape } from './shape.ts';

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

/**
 * x with the patches applied in order. The gradient passes where a value was added to, scaled where scaled, not where set.
 * @param original whose signs `addOutward` follows; default x.
 */
export function patchElements(x: Tensor, patches: readonly ElementPatch[], original: Tensor = x): Tensor {
  checkTensor('patchElements', 'x', x, ['f32']);
  checkTensor('patchElements', 'original', original, ['f32']);
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
      [original, ...host, y].map((t) => t.storage.window()),
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

const modeField = one(Object.keys(PATCH_MODE) as (keyof typeof PATCH_MODE)[]);
const indexList = like<ArrayLike<number>>(
  (value) => value instanceof Uint32Array || (Array.isArray(value) && value.every(Number.isSafeInteger)),
  'a list of whole numbers',
);

/**
 * x with elements changed by numbers that are a tensor's: element at[i] is set to, added to or scaled by values[i]. Indices are flat, and
 * each stands once. Gradients of x as of {@link patchElements}; those of the values where they went.
 * @param original whose signs `addOutward` follows; default x.
 * @throws ShapeError for an index outside x or twice, and for another count of values.
 */
export function patchValues(
  x: Tensor,
  at: ArrayLike<number>,
  mode: keyof typeof PATCH_MODE,
  values: Tensor,
  original: Tensor = x,
): Tensor {
  checkValue('patchValues', 'mode', modeField, mode);
  checkTensor('patchValues', 'x', x, ['f32']);
  checkValue('patchValues', 'at', indexList, at);
  checkTensor('patchValues', 'values', values, ['f32']);
  checkTensor('patchValues', 'original', original, ['f32']);
  if (values.size !== at.length)
    throw new ShapeError('patchValues', `${values.size} values for ${at.length} elements`);
  if ([x, values, original].some((t) => t.storage.segments.length > 1))
    throw new ShapeError('patchValues', 'a tensor is split over several buffers');
  const seen = new Uint8Array(x.size);
  for (let i = 0; i < at.length; i++) {
    const here = at[i]!;
    if (!(here >= 0 && here < x.size))
      throw new ShapeError('patchValues', `element ${here} of [${x.shape.join(', ')}]`);
    if (seen[here]) throw new ShapeError('patchValues', `element ${here} stands twice`);
    seen[here] = 1;
  }
  const y = affine(x.detach(), 1, 0);
  const index = integers(x.device, at);
  if (at.length > 0) {
    const modes = integers(x.device, new Uint32Array(at.length).fill(PATCH_MODE[mode]));
    x.device.dispatch(
      patchKernel(),
      [original, index, modes, values, y].map((t) => t.storage.window()),
      [at.length],
      linearGrid(at.length),
    );
    modes.dispose();
  }
  const pick = (t: Tensor): Tensor => reshape(gatherRows(reshape(t, [t.size, 1]), at), values.shape);
  const result = operation('patchValues', [x, values], y, [x, values, original], (dy, saved, needs) => {
    const [before, given, signed] = saved as [Tensor, Tensor, Tensor];
    const dx = !needs[0]
      ? null
      : mode === 'set'
        ? patchValues(dy, at, 'set', zeros(dy.device, [at.length]))
        : mode === 'scale'
          ? patchValues(dy, at, 'scale', given)
          : dy;
    if (!needs[1]) return [dx, null];
    const arrived = pick(dy);
    if (mode === 'scale') return [dx, mul(arrived, pick(before))];
    if (mode !== 'addOutward') return [dx, arrived];
    const negative = greater(full(dy.device, values.shape, 0), pick(signed.detach()));
    return [dx, where(negative, affine(arrived, -1, 0), arrived)];
  });
  index.dispose();
  return result;
}
