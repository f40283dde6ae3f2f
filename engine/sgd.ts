/**
 * Stochastic gradient descent, plain or with momentum; parameters are updated in place. A checkpoint needs `steps` and `velocities`.
 */

import { linearGrid, sgd } from '../kernels/index.ts';
import { ShapeError } from './errors.ts';
import { between, checkOptions, checkValue, flag, list, optionsSchema, whole } from './options.ts';
import { commonRows, type Storage } from './storage.ts';
import { checkTensor, oneDevice, showShape, type Tensor, tensorField, zeros } from './tensor.ts';

/** Settings of {@link SGD}. */
export interface SGDOptions {
  /** Learning rate; default 1e-3. `SGD.rate` may be changed between steps. */
  readonly rate?: number;
  /** Share of the velocity that stays from step to step; default 0, none. */
  readonly momentum?: number;
  /** What of a gradient is held back from the velocity; default 0. */
  readonly dampening?: number;
  /** Look ahead along the velocity (Nesterov 1983); default false. */
  readonly nesterov?: boolean;
  /** Weight decay, a part of the gradient; default 0. */
  readonly decay?: number;
}

const notBelow0 = between(0, Number.MAX_VALUE, 'a finite number, 0 or more');
const sgdOptions = optionsSchema<SGDOptions>(
  { rate: notBelow0, momentum: notBelow0, dampening: between(0, 1), nesterov: flag, decay: notBelow0 },
  { lr: 'rate', learningRate: 'rate', weightDecay: 'decay' },
);
const tensors = list(tensorField, 'a list of tensors');

/**
 * The optimiser; parameters are updated in place, as PyTorch's SGD does it.
 * @example
 * ```ts
 * import { grad, openDevice, scope, SGD, square, sum, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const w = tensor(device, [1, -2], [2], 'weights').requireGrad();
 * const optimiser = new SGD([w], { rate: 0.1, momentum: 0.5 });
 * for (let step = 0; step < 50; step++) scope(() => optimiser.step(grad(sum(square(w)), [w])));
 * console.log((await w.read()).every((value) => Math.abs(value) < 1e-3)); // → true
 * optimiser.dispose();
 * device.destroy();
 * ```
 */
export class SGD {
  /** Learning rate of the next step. */
  rate: number;
  readonly #parameters: readonly Tensor[];
  readonly #settings: { momentum: number; dampening: number; nesterov: boolean; decay: number };
  #velocities: readonly Tensor[];
  #steps = 0;

  /**
   * Made, as the parameters, outside of any scope that ends before training does.
   * @throws UserError for an option that there is not, or a value that it cannot have; ShapeError for a parameter that is not f32, or is there twice.
   */
  constructor(parameters: readonly Tensor[], options: SGDOptions = {}) {
    checkOptions('SGD', sgdOptions, options);
    checkValue('SGD', 'parameters', tensors, parameters);
    const { rate = 1e-3, momentum = 0, dampening = 0, nesterov = false, decay = 0 } = options;
    if (nesterov && (momentum === 0 || dampening > 0))
      throw new ShapeError('SGD', 'nesterov needs a momentum, and no dampening');
    const taken = new Set<Storage>();
    for (const parameter of parameters) {
      checkTensor('SGD', 'parameters', parameter, ['f32']);
      if (taken.has(parameter.storage))
        throw new ShapeError('SGD', `parameter ${showShape(parameter)} is there twice`);
      taken.add(parameter.storage);
    }
    this.rate = rate;
    this.#parameters = [...parameters];
    this.#settings = { momentum, dampening, nesterov, decay };
    this.#velocities = momentum > 0 ? parameters.map((w) => zeros(w.device, w.shape, 'weights')) : [];
  }

  /** Steps taken. */
  get steps(): number {
    return this.#steps;
  }

  /** In the order of the parameters, in their shapes, none without momentum; the optimiser's own tensors, not copies. */
  get velocities(): readonly Tensor[] {
    return this.#velocities;
  }

  /** Goes on from a checkpoint; takes over the tensors. @throws ShapeError, UserError */
  restore(steps: number, velocities: readonly Tensor[]): void {
    checkValue('SGD.restore', 'steps', whole(), steps);
    checkValue('SGD.restore', 'velocities', tensors, velocities);
    if (velocities.length !== this.#velocities.length)
      throw new ShapeError('SGD.restore', `${velocities.length} velocities for ${this.#velocities.length}`);
    velocities.forEach((v, i) => {
      checkTensor('SGD.restore', 'velocities', v, ['f32']);
      if (v.shape.join() !== this.#parameters[i]!.shape.join())
        throw new ShapeError(
          'SGD.restore',
          `velocity ${showShape(v)} for parameter ${showShape(this.#parameters[i]!)}`,
        );
    });
    this.dispose();
    this.#velocities = [...velocities];
    this.#steps = steps;
  }

  /** One update; gradients (f32) in the order of the parameters. @throws ShapeError, DeviceError; nothing has changed then. */
  step(gradients: readonly Tensor[]): void {
    checkValue('SGD.step', 'rate', notBelow0, this.rate);
    checkValue('SGD.step', 'gradients', tensors, gradients);
    if (gradients.length !== this.#parameters.length)
      throw new ShapeError(
        'SGD.step',
        `${gradients.length} gradients for ${this.#parameters.length} parameters`,
      );
    const { momentum, dampening, nesterov, decay } = this.#settings;
    const share = this.#steps === 0 ? 1 : 1 - dampening;
    // All is looked at before anything is changed.
    const updates = this.#parameters.map((parameter, i) => {
      const gradient = gradients[i]!;
      checkTensor('SGD.step', 'gradients', gradient, ['f32']);
      oneDevice('SGD.step', parameter, gradient);
      if (gradient.shape.join() !== parameter.shape.join())
        throw new ShapeError(
          'SGD.step',
          `gradient ${showShape(gradient)} for parameter ${showShape(parameter)}`,
        );
      const velocity = this.#velocities[i];
      const operands = [gradient, parameter, ...(velocity ? [velocity] : [])].map(({ storage }) => ({
        storage,
        rowLength: 1,
      }));
      return { operands, ranges: commonRows('SGD', parameter.size, operands) };
    });
    for (const { operands, ranges } of updates)
      for (const [begin, end] of ranges)
        operands[0]!.storage.device.dispatch(
          sgd(momentum > 0),
          operands.map(({ storage }) => storage.window(begin, end)),
          { n: end - begin, rate: this.rate, decay, momentum, share, ahead: nesterov ? 1 : 0 },
          linearGrid(Math.ceil((end - begin) / 4)),
          6 * (end - begin),
        );
    this.#steps++;
  }

  /** Frees the velocities. */
  dispose(): void {
    for (const t of this.#velocities) t.dispose();
  }
}
