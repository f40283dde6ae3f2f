/**
 * Losses: what a model's output is from what it should be, as one number (or one an element, with `reduction: 'none'`). Cross-entropy of
 * classes is `crossEntropy`.
 */

import { ShapeError } from './errors.ts';
import { abs, add, affine, exp, log, maximum, mul, neg, square, sub, where } from './ops/elementwise.ts';
import { log1p, softplus } from './ops/functions.ts';
import { lessEqual } from './ops/logic.ts';
import { mean, sum } from './ops/reduce.ts';
import { checkOptions, flag, one, optionsSchema, positive } from './options.ts';
import { composed } from './scope.ts';
import { checkTensor, oneDevice, showShape, type Tensor } from './tensor.ts';

/** How the losses of elements become one. */
export interface LossOptions {
  /** Default 'mean'. */
  readonly reduction?: 'mean' | 'sum' | 'none';
}
const reduction = one(['mean', 'sum', 'none']);
const lossOptions = optionsSchema<LossOptions>({ reduction });

const reduced = (x: Tensor, how: 'mean' | 'sum' | 'none' = 'mean'): Tensor =>
  how === 'none' ? x : how === 'sum' ? sum(x) : mean(x);

/** @throws UserError, ShapeError unless both are f32 of one shape: a target that would be broadcast is nearly always a mistake. */
function checkPair(op: string, x: Tensor, target: Tensor): void {
  checkTensor(op, 'x', x, ['f32']);
  checkTensor(op, 'target', target, ['f32']);
  oneDevice(op, x, target);
  if (x.shape.join() !== target.shape.join())
    throw new ShapeError(op, `${showShape(x)} for target ${showShape(target)}`);
}

/** (x - target)². @throws UserError, ShapeError */
export function mseLoss(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  checkOptions('mseLoss', lossOptions, options);
  checkPair('mseLoss', x, target);
  return composed(() => reduced(square(sub(x, target)), options.reduction));
}

/** |x - target|. @throws UserError, ShapeError */
export function l1Loss(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  checkOptions('l1Loss', lossOptions, options);
  checkPair('l1Loss', x, target);
  return composed(() => reduced(abs(sub(x, target)), options.reduction));
}

/** Where {@link huberLoss} bends. */
export interface HuberOptions extends LossOptions {
  /** Default 1. */
  readonly delta?: number;
}
const huberOptions = optionsSchema<HuberOptions>({ reduction, delta: positive }, { beta: 'delta' });

/** d² / 2 for |d| up to delta, delta (|d| - delta / 2) beyond, d = x - target (Huber 1964). @throws UserError, ShapeError */
export function huberLoss(x: Tensor, target: Tensor, options: HuberOptions = {}): Tensor {
  checkOptions('huberLoss', huberOptions, options);
  checkPair('huberLoss', x, target);
  const { delta = 1 } = options;
  return composed(() => {
    const size = abs(sub(x, target));
    const each = where(
      lessEqual(size, delta),
      affine(square(size), 0.5, 0),
      affine(size, delta, -(delta ** 2) / 2),
    );
    return reduced(each, options.reduction);
  });
}

/**
 * -(t log x + (1 - t) log(1 - x)) of probabilities x; logarithms are not below -100, as in PyTorch. From logits {@link binaryCrossEntropyWithLogits} is more accurate.
 * @throws UserError, ShapeError
 */
export function binaryCrossEntropy(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  checkOptions('binaryCrossEntropy', lossOptions, options);
  checkPair('binaryCrossEntropy', x, target);
  return composed(() => {
    const yes = mul(target, maximum(log(x), -100));
    const no = mul(affine(target, -1, 1), maximum(log1p(neg(x)), -100));
    return reduced(neg(add(yes, no)), options.reduction);
  });
}

/**
 * The same of probabilities sigmoid(x): t log(1 + e^-x) + (1 - t) log(1 + e^x), without overflow and with the digits of what is nearly certain.
 * @throws UserError, ShapeError
 */
export function binaryCrossEntropyWithLogits(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  checkOptions('binaryCrossEntropyWithLogits', lossOptions, options);
  checkPair('binaryCrossEntropyWithLogits', x, target);
  return composed(() => {
    const yes = mul(target, softplus(neg(x)));
    const no = mul(affine(target, -1, 1), softplus(x));
    return reduced(add(yes, no), options.reduction);
  });
}

/** How {@link klDiv} reads its target and takes its mean. */
export interface KlDivOptions {
  /** Default 'mean', over elements; 'batchmean' is over the first axis alone, the divergence of a row. */
  readonly reduction?: 'mean' | 'batchmean' | 'sum' | 'none';
  /** Whether the target is of logarithms, too; default false. */
  readonly logTarget?: boolean;
}
const klDivOptions = optionsSchema<KlDivOptions>({
  reduction: one(['mean', 'batchmean', 'sum', 'none']),
  logTarget: flag,
});

/**
 * t (log t - x): the divergence (Kullback & Leibler 1951) of target probabilities t from those whose logarithms are x; 0 where t is 0.
 * @throws UserError, ShapeError
 */
export function klDiv(x: Tensor, target: Tensor, options: KlDivOptions = {}): Tensor {
  checkOptions('klDiv', klDivOptions, options);
  checkPair('klDiv', x, target);
  const { reduction: how = 'mean', logTarget = false } = options;
  return composed(() => {
    // log 0 would make 0 times an infinity: where t is 0, log 1.
    const none = lessEqual(target, 0);
    const logs = logTarget ? target : log(where(none, 1, target));
    const t = logTarget ? exp(target) : target;
    const each = mul(t, sub(logs, x));
    const kept = logTarget ? each : where(none, 0, each);
    if (how !== 'batchmean') return reduced(kept, how);
    return affine(sum(kept), 1 / (x.shape[0] ?? 1), 0);
  });
}
