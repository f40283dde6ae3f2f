/**
 * What a shift at a site adds to the neuron's output, exactly (SPEC 2, 9.1): the factor of its column of the output weights.
 *
 * In float64 on the host, from the base values before the non-linearity: one number a row.
 */

import type { Site } from '../../models/model.ts';

/** Standard normal distribution function in float64: series of all-positive terms near 0, continued fraction in the tails. */
export function normalDistribution(x: number): number {
  const z = Math.abs(x) * Math.SQRT1_2;
  let upper: number;
  if (z < 2.5) {
    // erf(z) = 2/sqrt(pi) e^(-z^2) sum 2^n z^(2n+1) / (2n+1)!!
    let term = z;
    let sum = z;
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * z * z) / (2 * n + 1);
      sum += term;
    }
    upper = 0.5 - (Math.exp(-z * z) * sum) / Math.sqrt(Math.PI);
  } else {
    // erfc(z) = e^(-z^2) / sqrt(pi) / (z + (1/2)/(z + (2/2)/(z + ...)))
    let tail = z;
    for (let n = 60; n >= 1; n--) tail = z + n / 2 / tail;
    upper = (0.5 * Math.exp(-z * z)) / (Math.sqrt(Math.PI) * tail);
  }
  return x < 0 ? upper : 1 - upper;
}

/** Gauss-Legendre nodes on [0, 1] and weights, four points. */
const GAUSS = [
  [0.06943184420297371, 0.17392742256872692],
  [0.33000947820757187, 0.3260725774312731],
  [0.6699905217924281, 0.3260725774312731],
  [0.9305681557970262, 0.17392742256872692],
] as const;

/** gelu(x + d) - gelu(x) */
export function geluChange(x: number, d: number): number {
  const below = normalDistribution(x);
  const step =
    Math.abs(d) < 1e-3
      ? GAUSS.reduce((sum, [u, w]) => sum + w * Math.exp(-((x + u * d) ** 2) / 2), 0) *
        (d / Math.sqrt(2 * Math.PI))
      : normalDistribution(x + d) - below;
  return d * below + (x + d) * step;
}

const logistic = (x: number): number => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

/** x s(x), s the logistic function. */
export const silu = (x: number): number => x * logistic(x);

/** silu(x + d) - silu(x) */
export function siluChange(x: number, d: number): number {
  const step =
    -Math.sign(d) * Math.expm1(-Math.abs(d)) * logistic(Math.max(x, x + d)) * logistic(-Math.min(x, x + d));
  return d * logistic(x) + (x + d) * step;
}

/** d gelu(x) / dx */
export const geluDerivative = (x: number): number =>
  normalDistribution(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);

/** d silu(x) / dx */
export const siluDerivative = (x: number): number => logistic(x) * (1 + x * logistic(-x));

/** Change of the value that the output weights read, for a shift d at `site`. `up` is Llama's only. */
export function injection(
  architecture: 'bert' | 'llama',
  site: Site,
  pre: number,
  up: number,
  d: number,
): number {
  if (site === 'post') return d;
  if (architecture === 'bert') return geluChange(pre, d);
  if (site === 'pre_linear') return d * silu(pre);
  return up * (site === 'act' ? d : siluChange(pre, d));
}

/**
 * How uncertain {@link injection} is, relative to itself, where `pre` and `up` are uncertain by a share of their layer's root
 * mean squares: a factor on that share. Large where silu(g) or u is near 0; 0 for a shift of the output weights' own input.
 */
export function injectionCondition(
  architecture: 'bert' | 'llama',
  site: Site,
  at: { readonly pre: number; readonly up: number },
  scale: { readonly pre: number; readonly up: number },
  d: number,
): number {
  const value = (pre: number, up: number): number => injection(architecture, site, pre, up, d);
  const whole = Math.abs(value(at.pre, at.up));
  if (whole === 0) return 0;
  const step = 1e-3;
  const [dPre, dUp] = [step * scale.pre, step * scale.up];
  const along = Math.abs(value(at.pre + dPre, at.up) - value(at.pre - dPre, at.up));
  const across = Math.abs(value(at.pre, at.up + dUp) - value(at.pre, at.up - dUp));
  return (along + across) / (2 * step * whole);
}

/** dz/da at a site whose value is a, z the input of the output weights, of a neuron whose values are `pre` and, in Llama, `up`. */
export function outputDerivative(
  architecture: 'bert' | 'llama',
  site: Site,
  { pre, up }: { readonly pre: number; readonly up: number },
  a: number,
): number {
  if (site === 'post') return 1;
  if (architecture === 'bert') return geluDerivative(a);
  if (site === 'pre_linear') return silu(pre);
  return site === 'act' ? up : up * siluDerivative(a);
}

/** Site of the other value that {@link outputDerivative} reads at a site, beside the site's own. */
export function besideSite(architecture: 'bert' | 'llama', site: Site): 'pre' | 'pre_linear' | null {
  if (architecture === 'bert' || site === 'post') return null;
  return site === 'pre_linear' ? 'pre' : 'pre_linear';
}

/** {@link outputDerivative} of a layer's neurons, their activations times `alpha`. `beside`: values at {@link besideSite}. */
export function outputDerivatives(
  architecture: 'bert' | 'llama',
  site: Site,
  activation: Float32Array,
  beside: Float32Array | undefined,
  alpha = 1,
): Float64Array {
  return Float64Array.from(activation, (a, i) => {
    const other = beside?.[i] ?? 0;
    return outputDerivative(architecture, site, { pre: other, up: other }, alpha * a);
  });
}
