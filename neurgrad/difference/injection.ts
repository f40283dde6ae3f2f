/**
 * What a shift at a site adds to the neuron's output, exactly (docs/conventions.md#sites, docs/science.md#rank-1-injection): the factor of its column of the output weights.
 *
 * In float64 on the host, from the base values before the non-linearity: one number a row.
 */

import { ACTIVATIONS, type ActivationName } from '../../kernels/activation.ts';
import type { Site } from '../../models/model.ts';

/** What neurons do between their weights: z = f(pre), or f(pre) up where f gates. */
export interface FeedForward {
  readonly activation: ActivationName;
  readonly gated: boolean;
}

/** Change of the value that the output weights read, for a shift d at `site`; `up` counts where f gates. */
export function injection(
  { activation, gated }: FeedForward,
  site: Site,
  pre: number,
  up: number,
  d: number,
): number {
  if (site === 'post') return d;
  const { value, change } = ACTIVATIONS[activation];
  if (site === 'pre_linear') return d * value(pre);
  const moved = site === 'act' ? d : change(pre, d);
  return gated ? up * moved : moved;
}

/**
 * How uncertain {@link injection} is, relative to itself, where `pre` and `up` are uncertain by a share of their layer's root
 * mean squares: a factor on that share. Large where f(pre) or up is near 0; 0 for a shift of the output weights' own input.
 */
export function injectionCondition(
  feedForward: FeedForward,
  site: Site,
  at: { readonly pre: number; readonly up: number },
  scale: { readonly pre: number; readonly up: number },
  d: number,
): number {
  const value = (pre: number, up: number): number => injection(feedForward, site, pre, up, d);
  const whole = Math.abs(value(at.pre, at.up));
  if (whole === 0) return 0;
  const step = 1e-3;
  const [dPre, dUp] = [step * scale.pre, step * scale.up];
  const along = Math.abs(value(at.pre + dPre, at.up) - value(at.pre - dPre, at.up));
  const across = Math.abs(value(at.pre, at.up + dUp) - value(at.pre, at.up - dUp));
  return (along + across) / (2 * step * whole);
}

/** dz/da at a site whose value is a, z the input of the output weights, of a neuron whose values are `pre` and, where f gates, `up`. */
export function outputDerivative(
  { activation, gated }: FeedForward,
  site: Site,
  { pre, up }: { readonly pre: number; readonly up: number },
  a: number,
): number {
  if (site === 'post') return 1;
  const { value, derivative } = ACTIVATIONS[activation];
  if (site === 'pre_linear') return value(pre);
  const along = site === 'act' ? 1 : derivative(a);
  return gated ? up * along : along;
}

/** Site of the other value that {@link outputDerivative} reads at a site, beside the site's own. */
export function besideSite({ gated }: FeedForward, site: Site): 'pre' | 'pre_linear' | null {
  if (!gated || site === 'post') return null;
  return site === 'pre_linear' ? 'pre' : 'pre_linear';
}

/** {@link outputDerivative} of a layer's neurons, their activations times `alpha`. `beside`: values at {@link besideSite}. */
export function outputDerivatives(
  feedForward: FeedForward,
  site: Site,
  activation: Float32Array,
  beside: Float32Array | undefined,
  alpha = 1,
): Float64Array {
  return Float64Array.from(activation, (a, i) => {
    const other = beside?.[i] ?? 0;
    return outputDerivative(feedForward, site, { pre: other, up: other }, alpha * a);
  });
}
