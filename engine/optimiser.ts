/**
 * AdamW (Loshchilov & Hutter 2019): decoupled weight decay, bias-corrected moments, parameters updated in place.
 *
 * Settings hold for all parameters or for groups of them (no decay on biases and norms, a smaller rate for embeddings).
 * What a checkpoint needs is `steps` and `moments`; `restore` puts them back, and training goes on to the same bits.
 */

import { adamw, linearGrid } from '../kernels/index.ts';
import { ShapeError, UserError } from './errors.ts';
import {
  between,
  checkOptions,
  checkValue,
  type Field,
  flag,
  like,
  list,
  optionsSchema,
  required,
} from './options.ts';
import { commonRows, type Storage } from './storage.ts';
import { checkTensor, full, oneDevice, showShape, Tensor, tensorField, zeros } from './tensor.ts';

/** Settings of all parameters; {@link ParameterGroup} has those of some. */
export interface AdamWOptions {
  /** Learning rate; default 1e-3. `AdamW.rate` may be changed between steps. */
  readonly rate?: number;
  readonly beta1?: number;
  readonly beta2?: number;
  readonly eps?: number;
  /** Weight decay per step and unit of rate; default 0.01, of {@link Adam} 0. */
  readonly decay?: number;
  /** Whether the decay is a part of the gradient and so of the moments, as in Adam; default false. */
  readonly coupled?: boolean;
}

/** Parameters with settings of their own; what is left out is as in the optimiser's options. */
export interface ParameterGroup extends Omit<AdamWOptions, 'rate' | 'coupled'> {
  readonly parameters: readonly Tensor[];
  /** f16 tensors in the order of the parameters, which each update sets to them, rounded: what a model in f16 computes with. */
  readonly copies?: readonly Tensor[];
  /** Times the optimiser's rate; default 1. */
  readonly rateFactor?: number;
}

const notBelow0 = between(0, Number.MAX_VALUE, 'a finite number, 0 or more');
const belowOne: Field<number> = like(
  (x) => typeof x === 'number' && x >= 0 && x < 1,
  'a number from 0 to below 1',
);
const rateField = notBelow0;
const tensors = list(tensorField, 'a list of tensors');
const FOREIGN = {
  lr: 'rate',
  learningRate: 'rate',
  betas: 'beta1',
  epsilon: 'eps',
  weightDecay: 'decay',
} as const;
const common = { beta1: belowOne, beta2: belowOne, eps: notBelow0, decay: notBelow0 };
const adamWOptions = optionsSchema<AdamWOptions>({ rate: rateField, coupled: flag, ...common }, FOREIGN);
const groupOptions = optionsSchema<ParameterGroup>(
  { parameters: required(tensors), copies: tensors, rateFactor: notBelow0, ...common },
  { ...FOREIGN, lr: 'rateFactor', rate: 'rateFactor', learningRate: 'rateFactor', params: 'parameters' },
);
const parameterList = list(
  like(
    (value) => value instanceof Tensor || (typeof value === 'object' && value !== null),
    'a tensor or a group: { parameters, … }',
  ),
  'a list of tensors, or of groups: [{ parameters, … }]',
);

/** First and second moment of one parameter, in its shape. */
export type Moments = readonly [Tensor, Tensor];

type Settings = Required<Omit<ParameterGroup, 'parameters' | 'copies'>>;

interface Slot {
  readonly parameter: Tensor;
  readonly copy: Tensor | undefined;
  readonly settings: Settings;
  moments: Moments;
}

/** @throws ShapeError for parameters that are not f32, or are there twice, and for copies that are not theirs. */
function checkGroup(
  parameters: readonly Tensor[],
  copies: readonly Tensor[] | undefined,
  taken: Set<Storage>,
): void {
  for (const parameter of parameters) {
    checkTensor('AdamW', 'parameters', parameter, ['f32']);
    if (taken.has(parameter.storage))
      throw new ShapeError('AdamW', `parameter ${showShape(parameter)} is there twice`);
    taken.add(parameter.storage);
  }
  if (!copies || copies.length === 0) return;
  if (copies.length !== parameters.length)
    throw new ShapeError('AdamW', `${copies.length} copies for ${parameters.length} parameters`);
  copies.forEach((copy, i) => {
    checkTensor('AdamW', 'copies', copy, ['f16']);
    if (copy.size !== parameters[i]!.size)
      throw new ShapeError('AdamW', `copy ${showShape(copy)} of parameter ${showShape(parameters[i]!)}`);
  });
}

/**
 * The optimiser; parameters are updated in place.
 * @example
 * ```ts
 * import { AdamW, grad, mul, openDevice, scope, sum, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const w = tensor(device, [1, -2], [2], 'weights').requireGrad();
 * const optimiser = new AdamW([{ parameters: [w], decay: 0 }], { rate: 0.1 });
 * for (let step = 0; step < 50; step++) scope(() => optimiser.step(grad(sum(mul(w, w)), [w])));
 * console.log((await w.read()).every((value) => Math.abs(value) < 0.1)); // → true
 * optimiser.dispose();
 * device.destroy();
 * ```
 */
export class AdamW {
  /** Learning rate of the next step. */
  rate: number;
  readonly #slots: readonly Slot[];
  readonly #coupled: boolean;
  #steps = 0;

  /**
   * Parameters, or groups of them. Made, as the parameters, outside of any scope that ends before training does.
   * @throws UserError for an option that there is not, or a value that it cannot have.
   */
  constructor(parameters: readonly Tensor[] | readonly ParameterGroup[], options: AdamWOptions = {}) {
    checkOptions('AdamW', adamWOptions, options);
    checkValue('AdamW', 'parameters', parameterList, parameters);
    const { rate = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.01 } = options;
    this.rate = rate;
    this.#coupled = options.coupled ?? false;
    const groups = parameters.map((p): ParameterGroup => {
      if (p instanceof Tensor) return { parameters: [p] };
      checkOptions('AdamW: a group', groupOptions, p);
      return p;
    });
    const taken = new Set<Storage>();
    for (const { parameters, copies } of groups) checkGroup(parameters, copies, taken);
    this.#slots = groups.flatMap(({ parameters, copies, ...own }) => {
      const settings = {
        beta1: own.beta1 ?? beta1,
        beta2: own.beta2 ?? beta2,
        eps: own.eps ?? eps,
        decay: own.decay ?? decay,
        rateFactor: own.rateFactor ?? 1,
      };
      return parameters.map(
        (parameter, i): Slot => ({
          parameter,
          copy: copies?.[i],
          settings,
          moments: [
            zeros(parameter.device, parameter.shape, 'weights'),
            zeros(parameter.device, parameter.shape, 'weights'),
          ],
        }),
      );
    });
  }

  /** Steps taken. */
  get steps(): number {
    return this.#steps;
  }

  /** In the order of the parameters, group after group; the optimiser's own tensors, not copies. */
  get moments(): readonly Moments[] {
    return this.#slots.map(({ moments }) => moments);
  }

  /** Goes on from a checkpoint; takes over the tensors. @throws ShapeError, UserError where `steps` is no natural number */
  restore(steps: number, moments: readonly Moments[]): void {
    if (moments.length !== this.#slots.length)
      throw new ShapeError('AdamW', `${moments.length} moments for ${this.#slots.length} parameters`);
    this.#slots.forEach(({ parameter }, i) => {
      for (const t of moments[i]!) {
        checkTensor('AdamW', 'a moment', t, ['f32']);
        if (t.shape.join() !== parameter.shape.join())
          throw new ShapeError('AdamW', `moment ${showShape(t)} for parameter ${showShape(parameter)}`);
      }
    });
    if (!Number.isSafeInteger(steps) || steps < 0)
      throw new UserError('checkpoint', `AdamW: ${steps} steps taken is not a whole number`);
    this.dispose();
    this.#slots.forEach((slot, i) => {
      slot.moments = moments[i]!;
    });
    this.#steps = steps;
  }

  /**
   * One update; gradients (f32 or f16) in the order of the parameters.
   * @param factor what they are multiplied by, its first element: {@link clipFactor}. Where it is 0 nothing changes on the
   * device; call {@link takeBack} when that is known.
   * @throws ShapeError, DeviceError, OutOfMemoryError; nothing has changed then, and the step does not count.
   */
  step(gradients: readonly Tensor[], factor?: Tensor): void {
    checkValue('AdamW.step', 'rate', rateField, this.rate);
    checkValue('AdamW.step', 'gradients', tensors, gradients);
    if (factor !== undefined) {
      checkTensor('AdamW.step', 'factor', factor, ['f32']);
      if (factor.size < 1) throw new ShapeError('AdamW.step', `factor ${showShape(factor)} has no element`);
    }
    if (gradients.length !== this.#slots.length)
      throw new ShapeError('AdamW', `${gradients.length} gradients for ${this.#slots.length} parameters`);
    const step = this.#steps + 1;
    // All is looked at before anything is changed: a step that fails has not been taken.
    const updates = this.#slots.map(({ parameter, copy, settings, moments }, i) => {
      const gradient = gradients[i]!;
      checkTensor('AdamW.step', 'gradients', gradient, ['f32', 'f16']);
      oneDevice('AdamW', parameter, gradient, ...moments, copy, factor);
      if (gradient.size !== parameter.size)
        throw new ShapeError(
          'AdamW',
          `gradient ${showShape(gradient)} for parameter ${showShape(parameter)}`,
        );
      const operands = [gradient, parameter, ...moments, ...(copy ? [copy] : [])].map(({ storage }) => ({
        storage,
        rowLength: 1,
      }));
      const { beta1, beta2, eps, decay, rateFactor } = settings;
      return {
        kernel: adamw({
          gradient: gradient.dtype === 'f16' ? 'f16' : 'f32',
          copy: copy !== undefined,
          coupled: this.#coupled,
        }),
        operands,
        ranges: commonRows('AdamW', parameter.size, operands),
        params: [
          this.rate * rateFactor,
          ...[beta1, beta2, eps, decay],
          1 / (1 - beta1 ** step),
          1 / (1 - beta2 ** step),
        ],
      };
    });
    const device = this.#slots[0]?.parameter.device;
    const times = factor ?? (device && full(device, [1], 1));
    for (const { kernel, operands, ranges, params } of updates)
      for (const [begin, end] of ranges)
        device!.dispatch(
          kernel,
          [times!.storage.window(0, 1), ...operands.map((o) => o.storage.window(begin, end))],
          [end - begin, ...params],
          linearGrid(Math.ceil((end - begin) / 4)),
          14 * (end - begin),
        );
    if (!factor) times?.dispose();
    this.#steps = step;
  }

  /** The last step had the factor 0: it does not count. */
  takeBack(): void {
    this.#steps--;
  }

  /** Frees the moments. */
  dispose(): void {
    for (const { moments } of this.#slots) for (const t of moments) t.dispose();
  }
}

/** Adam (Kingma & Ba 2015): {@link AdamW} with no decay by default, and what there is a part of the gradient, as PyTorch's Adam. */
export class Adam extends AdamW {
  /** As of {@link AdamW}. @throws UserError */
  constructor(parameters: readonly Tensor[] | readonly ParameterGroup[], options: AdamWOptions = {}) {
    checkOptions('Adam', adamWOptions, options);
    super(parameters, { decay: 0, coupled: true, ...options });
  }
}
