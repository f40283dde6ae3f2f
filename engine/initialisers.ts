/**
 * Random weights whose layers neither blow values up nor shrink them: Xavier (Glorot & Bengio 2010), for symmetric activations, and
 * Kaiming (He et al. 2015), for rectifiers. Shapes are [outputs, inputs, ...]: sizes of a kernel behind them count with both.
 */

import type { Device } from './device.ts';
import { ShapeError } from './errors.ts';
import { checkOptions, one, optionsSchema, positive } from './options.ts';
import { draw, type Seed } from './random.ts';
import { sizeOf, type Tensor } from './tensor.ts';

/** What an initialiser makes up for. */
export interface XavierOptions {
  /** What the activation does to a standard deviation; default 1. */
  readonly gain?: number;
}

/** As {@link XavierOptions}, whose gain is √2 by default, that of relu. */
export interface KaimingOptions extends XavierOptions {
  /** Whether values keep their size forwards, by the inputs of a unit (default), or gradients backwards, by its outputs. */
  readonly mode?: 'fanIn' | 'fanOut';
}

const FOREIGN = { nonlinearity: 'gain' } as const;
const xavierOptions = optionsSchema<XavierOptions>({ gain: positive }, FOREIGN);
const kaimingOptions = optionsSchema<KaimingOptions>(
  { gain: positive, mode: one(['fanIn', 'fanOut']) },
  FOREIGN,
);

type Initialiser<Options> = (
  device: Device,
  shape: readonly number[],
  seed: Seed,
  options?: Options,
) => Tensor;

/** Inputs and outputs of a unit. @throws ShapeError */
function fans(op: string, shape: readonly number[]): { fanIn: number; fanOut: number } {
  if (!Array.isArray(shape) || shape.length < 2)
    throw new ShapeError(op, `needs a shape [outputs, inputs, ...], got [${[shape].flat().join(', ')}]`);
  const each = sizeOf(shape.slice(2));
  return { fanIn: shape[1]! * each, fanOut: shape[0]! * each };
}

/** Of a standard deviation that follows from the options, in either distribution. */
const initialiser =
  <Options extends object>(
    op: string,
    uniform: boolean,
    check: (options: Options) => void,
    deviation: (fans: { fanIn: number; fanOut: number }, options: Options) => number,
  ): Initialiser<Options> =>
  (device, shape, seed, options = {} as Options) => {
    check(options);
    const std = deviation(fans(op, shape), options);
    // A uniform distribution of this deviation reaches √3 times as far.
    const bound = Math.sqrt(3) * std;
    return uniform
      ? draw(op, 'uniform', device, shape, seed, { s: -bound, t: 2 * bound }, 'weights')
      : draw(op, 'normal', device, shape, seed, { t: std }, 'weights');
  };

const xavier = (op: string, uniform: boolean): Initialiser<XavierOptions> =>
  initialiser(
    op,
    uniform,
    (options) => checkOptions(op, xavierOptions, options),
    ({ fanIn, fanOut }, { gain = 1 }) => gain * Math.sqrt(2 / Math.max(1, fanIn + fanOut)),
  );
const kaiming = (op: string, uniform: boolean): Initialiser<KaimingOptions> =>
  initialiser(
    op,
    uniform,
    (options) => checkOptions(op, kaimingOptions, options),
    (fans, { gain = Math.SQRT2, mode = 'fanIn' }) => gain / Math.sqrt(Math.max(1, fans[mode])),
  );

/** Uniform weights within ±gain √(6 / (inputs + outputs)). @throws UserError, ShapeError */
export const xavierUniform: Initialiser<XavierOptions> = xavier('xavierUniform', true);
/** Normal weights of deviation gain √(2 / (inputs + outputs)). @throws UserError, ShapeError */
export const xavierNormal: Initialiser<XavierOptions> = xavier('xavierNormal', false);
/** Uniform weights within ±gain √(3 / inputs). @throws UserError, ShapeError */
export const kaimingUniform: Initialiser<KaimingOptions> = kaiming('kaimingUniform', true);
/** Normal weights of deviation gain / √inputs. @throws UserError, ShapeError */
export const kaimingNormal: Initialiser<KaimingOptions> = kaiming('kaimingNormal', false);
