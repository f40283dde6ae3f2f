/**
 * Activation functions: a record each, of WGSL for the kernels and float64 for the host.
 *
 * All are x s(x) with s a distribution function, so that f(x + d) - f(x) = d s(x) + (x + d) (s(x + d) - s(x)): where that step
 * of s is worked out without cancellation, the change has all its digits, however small d is.
 */

import { LOGISTIC, LOGISTIC_STEP, NORMAL_DISTRIBUTION } from './math.ts';
import { word } from './variant.ts';

export type ActivationName = 'gelu' | 'gelu_tanh' | 'silu';
/** Linear units by their gate (Shazeer 2020, GLU Variants Improve Transformer). */
export type GatedName = 'geglu' | 'geglu_tanh' | 'swiglu';

/** WGSL; expressions are in `x: vec4f`. */
export interface ActivationText {
  /** Functions that the others call. */
  readonly declarations: string;
  /** s(x) */
  readonly distribution: string;
  /** f'(x) */
  readonly derivative: string;
  /** Declares `distribution_step(x, d, s)`: s(x + d) - s(x), s being s(x). */
  readonly step: string;
}

export interface Activation {
  /** Its names in config.json files; those of one function differ by roundings at most. */
  readonly names: readonly string[];
  /** The linear unit whose gate it is. */
  readonly gated: GatedName;
  readonly text: ActivationText;
  /** Operations of a change, about, for the profiler. */
  readonly operations: number;
  /** f(x) */
  value(x: number): number;
  /** f'(x) */
  derivative(x: number): number;
  /** f(x + d) - f(x) */
  change(x: number, d: number): number;
}

/** The host's value and change, from s and its step. */
const fromDistribution = (
  distribution: (x: number) => number,
  step: (x: number, d: number, s: number) => number,
): Pick<Activation, 'value' | 'change'> => ({
  value: (x) => x * distribution(x),
  change: (x, d) => {
    const s = distribution(x);
    return d * s + (x + d) * step(x, d, s);
  },
});

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

/** For a small step the integral of the density. */
const normalStep = (x: number, d: number, s: number): number =>
  Math.abs(d) < 1e-3
    ? GAUSS.reduce((sum, [u, w]) => sum + w * Math.exp(-((x + u * d) ** 2) / 2), 0) *
      (d / Math.sqrt(2 * Math.PI))
    : normalDistribution(x + d) - s;

const logistic = (x: number): number => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

/** logistic(v) - logistic(u), v = u + e: logistic(v) logistic(-u) (1 - e^-e). */
const logisticStep = (u: number, v: number, e: number): number =>
  -Math.sign(e) * Math.expm1(-Math.abs(e)) * logistic(Math.max(u, v)) * logistic(-Math.min(u, v));

/** Of GELU's tanh form: (1 + tanh(w)) / 2 = logistic(2 w), and 2 w = TANH_LINEAR x + TANH_CUBIC x^3. */
export const TANH_LINEAR: number = 2 * Math.sqrt(2 / Math.PI);
export const TANH_CUBIC: number = TANH_LINEAR * 0.044715;
const cubic = (x: number): number => x * (TANH_LINEAR + TANH_CUBIC * x * x);

/** By their names here. */
export const ACTIVATIONS: Readonly<Record<ActivationName, Activation>> = {
  /** x Phi(x) (Hendrycks & Gimpel 2016). */
  gelu: {
    names: ['gelu', 'gelu_python'],
    gated: 'geglu',
    text: {
      declarations: NORMAL_DISTRIBUTION,
      distribution: 'phi_cdf(x)',
      derivative: 'phi_cdf(x) + x * phi_density(x)',
      // For |d| <= 1 by four nodes of Gauss-Legendre (error below 1e-7 d); for larger d the difference itself loses nothing.
      step: `
fn distribution_step(x: vec4f, d: vec4f, s: vec4f) -> vec4f {
  let area = d * (0.17392742257 * (phi_density(x + 0.06943184420 * d) + phi_density(x + 0.93056815580 * d))
    + 0.32607257743 * (phi_density(x + 0.33000947821 * d) + phi_density(x + 0.66999052179 * d)));
  var step = area;
  if (any(abs(d) > vec4f(1.0))) { step = select(phi_cdf(x + d) - s, area, abs(d) <= vec4f(1.0)); }
  return step;
}`,
    },
    operations: 60,
    ...fromDistribution(normalDistribution, normalStep),
    derivative: (x) => normalDistribution(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  },
  /** x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, the approximation of the same paper. */
  gelu_tanh: {
    names: ['gelu_new', 'gelu_pytorch_tanh', 'gelu_python_tanh', 'gelu_fast', 'gelu_accurate'],
    gated: 'geglu_tanh',
    text: {
      // Beyond 16 the tails are 0 in float32, also times the largest x.
      declarations: `${LOGISTIC}
fn cubic(x: vec4f) -> vec4f { return x * (${TANH_LINEAR} + ${TANH_CUBIC} * min(x * x, vec4f(256.0))); }
fn cubic_density(x: vec4f) -> vec4f {
  let slope = ${TANH_LINEAR} + ${3 * TANH_CUBIC} * min(x * x, vec4f(256.0));
  return slope * (sigmoid4(cubic(x)) * sigmoid4(-cubic(x)));
}`,
      distribution: 'sigmoid4(cubic(x))',
      derivative: 'sigmoid4(cubic(x)) + x * cubic_density(x)',
      // The argument's change is a polynomial of terms of one sign.
      step: `${LOGISTIC_STEP}
fn distribution_step(x: vec4f, d: vec4f, s: vec4f) -> vec4f {
  let middle = x + 0.5 * d;
  let e = d * (${TANH_LINEAR} + ${TANH_CUBIC} * (3.0 * min(middle * middle, vec4f(256.0)) + 0.25 * d * d));
  return logistic_step(cubic(x), cubic(x + d), e);
}`,
    },
    operations: 60,
    ...fromDistribution(
      (x) => logistic(cubic(x)),
      (x, d) => {
        const e = d * (TANH_LINEAR + TANH_CUBIC * (3 * (x + d / 2) ** 2 + (d * d) / 4));
        return logisticStep(cubic(x), cubic(x + d), e);
      },
    ),
    derivative: (x) => {
      const s = logistic(cubic(x));
      return s + x * ((TANH_LINEAR + 3 * TANH_CUBIC * x * x) * (s * logistic(-cubic(x))));
    },
  },
  /** x logistic(x) (Elfwing et al. 2018). */
  silu: {
    names: ['silu', 'swish'],
    gated: 'swiglu',
    text: {
      declarations: LOGISTIC,
      distribution: 'sigmoid4(x)',
      derivative: 'sigmoid4(x) * (1.0 + x * sigmoid4(-x))',
      step: `${LOGISTIC_STEP}
fn distribution_step(x: vec4f, d: vec4f, s: vec4f) -> vec4f { return logistic_step(x, x + d, d); }`,
    },
    operations: 40,
    ...fromDistribution(logistic, (x, d) => logisticStep(x, x + d, d)),
    derivative: (x) => logistic(x) * (1 + x * logistic(-x)),
  },
};

export const ACTIVATION_NAMES = Object.keys(ACTIVATIONS) as ActivationName[];
export const ACTIVATION = word(ACTIVATION_NAMES);

const GATES: ReadonlyMap<string, ActivationName> = new Map(
  ACTIVATION_NAMES.map((name) => [ACTIVATIONS[name].gated, name]),
);
export const GATED_NAMES: readonly GatedName[] = ACTIVATION_NAMES.map((name) => ACTIVATIONS[name].gated);
/** The activation of the gate of a linear unit so called. */
export const gateOf = (name: string): ActivationName | undefined => GATES.get(name);

/** WGSL of f(x). */
export const activationValue = (name: ActivationName): string => `x * ${ACTIVATIONS[name].text.distribution}`;

/** WGSL of `change(x, d)`: f(x + d) - f(x). */
export function activationChange(name: ActivationName): string {
  const { declarations, distribution, step } = ACTIVATIONS[name].text;
  return `${declarations}${step}
fn change(x: vec4f, d: vec4f) -> vec4f {
  let s = ${distribution};
  return d * s + (x + d) * distribution_step(x, d, s);
}`;
}
