/**
 * Activation checkpointing (Chen et al. 2016): a part of the model keeps only its input and runs again in the backward.
 * Memory for one more forward.
 */

import { grad } from './autograd.ts';
import { GradientError } from './errors.ts';
import { callback, checkValue } from './options.ts';
import { drawing, drawingAgain } from './random.ts';
import { scope } from './scope.ts';
import {
  changedSince,
  checkTensorList,
  checkTensors,
  noGrad,
  operation,
  recordingIsOn,
  type Tensor,
  trackedReads,
  withRecording,
} from './tensor.ts';

/**
 * fn(x), with nothing saved but x. `parameters` are the other tensors that `fn` reads and whose gradients are wanted.
 * `fn` must compute the same each time; what it draws from a `Generator` it draws again. Its gradient has no gradient of its own. @throws GradientError where `fn` reads another
 * tensor whose gradient is wanted, which would be lost.
 * @example
 * ```ts
 * import { gelu, grad, linear, openDevice, recompute, sum, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const x = tensor(device, [1, 2], [1, 2]);
 * const w = tensor(device, [1, 0, 0, 1], [2, 2]).requireGrad();
 * const y = recompute((t) => gelu(linear(t, w)), x, [w]);
 * console.log(grad(sum(y), [w])[0]!.shape); // → [ 2, 2 ]
 * device.destroy();
 * ```
 */
export function recompute(fn: (x: Tensor) => Tensor, x: Tensor, parameters: readonly Tensor[] = []): Tensor {
  checkValue('recompute', 'fn', callback(), fn);
  checkTensors('recompute', { x });
  checkTensorList('recompute', 'parameters', parameters);
  const [[y, drawn], read] = trackedReads(() => drawing(() => noGrad(() => scope(() => fn(x)))));
  const named = new Set([x, ...parameters].map((t) => t.track));
  const lost = [...read].filter((track) => !named.has(track)).length;
  if (lost > 0 && recordingIsOn()) {
    y.dispose();
    throw new GradientError(
      `recompute: the function reads ${lost} tracked tensor${lost > 1 ? 's' : ''} not among its parameters; name or detach() ${lost > 1 ? 'them' : 'it'}`,
    );
  }
  const versions = parameters.map(({ storage }) => storage.version);
  return operation('recompute', [x, ...parameters], y, [x], (dy, saved, needs) => {
    if (parameters.some(({ storage }, i) => storage.version !== versions[i])) throw changedSince('recompute');
    if (recordingIsOn()) throw new GradientError('recompute has no gradient of its gradient');
    return withRecording(true, () =>
      scope(() => {
        const again = saved[0]!.detach().requireGrad();
        const inputs = [again, ...parameters];
        const wanted = inputs.filter((_, i) => needs[i]);
        const y = drawingAgain(drawn, () => fn(again));
        const found = grad(y, wanted, { cotangent: dy.detach(), unconnected: 'zero' });
        let next = 0;
        return inputs.map((_, i) => (needs[i] ? found[next++]! : null));
      }),
    );
  });
}
