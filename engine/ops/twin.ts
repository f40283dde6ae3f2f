/**
 * Gradients of fused kernels that are themselves gradients: every such kernel has a twin composed of primitive operations,
 * which is its reference in the tests, and its derivative is the derivative of the twin.
 */

import { grad } from '../autograd.ts';
import { type Pullback, recordingIsOn, type Tensor, withRecording } from '../tensor.ts';
import { reshape } from './shape.ts';

/** Cotangent `which` of the inputs of a function from that of its result, in the function's own operations. */
export function cotangentTwin(
  of: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  dy: Tensor,
  which: number,
): Tensor {
  const recorded = recordingIsOn();
  return withRecording(true, () => {
    const values = inputs.map((t, i) => (i === which && !t.track ? t.detach().requireGrad() : t));
    const [found] = grad(of(...values), [values[which]!], { cotangent: dy, createGraph: true });
    return recorded ? found! : found!.detach();
  });
}

/**
 * The pullback of an operation known by its twin. The twin takes the saved tensors, of which none is missing; the first `count`
 * are the operation's inputs.
 */
export function throughTwin(count: number, twin: (...saved: Tensor[]) => Tensor): Pullback {
  return (dy, kept, needs) => {
    const saved = kept as readonly Tensor[];
    const again = recordingIsOn();
    return withRecording(true, () => {
      // Each input enters the twin as a value of its own: where one input was computed from another, differentiating
      // with respect to the latter must not go through the former, whose share comes by its own pullback.
      const values = saved.map((t, i) => {
        if (i >= count || !needs[i]) return again ? t : t.detach();
        return again && t.track ? reshape(t, t.shape) : t.detach().requireGrad();
      });
      const y = twin(...values);
      const wanted = values.slice(0, count).filter((_, i) => needs[i]);
      const gradients = grad(y, wanted, { cotangent: dy, createGraph: again, unconnected: 'zero' });
      let next = 0;
      return values.slice(0, count).map((_, i) => (needs[i] ? gradients[next++]! : null));
    });
  };
}
