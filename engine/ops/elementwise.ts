/**
 * Elementwise operations with NumPy broadcasting, each with its gradient beside it.
 */

import {
  type ActivationName,
  activationBackward as activationBackwardKernel,
  type BinaryLayout,
  type BinaryName,
  binary,
  givesIntegers,
  type IntegerBinaryName,
  integerBinary,
  linearGrid,
  select,
  TANH_CUBIC,
  TANH_LINEAR,
  takesIntegers,
  type UnaryName,
  unary,
} from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { checkOptions, checkValue, like, one, optionsSchema, positive } from '../options.ts';
import { composed } from '../scope.ts';
import { commonRows } from '../storage.ts';
import {
  checkNumber,
  checkTensor,
  checkTensors,
  empty,
  full,
  integers,
  neededBy,
  noGrad,
  oneDevice,
  operation,
  showShape,
  sizeOf,
  Tensor,
  zeros,
} from '../tensor.ts';
import { sumTo } from './reduce.ts';
import { broadcastTo } from './shape.ts';
import { throughTwin } from './twin.ts';

/** What broadcasting needs to know of an operand. */
type Shaped = Pick<Tensor, 'shape' | 'rank'>;

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, i) => size === b[i]);

/** What operands are of, all alike: f32, or u32 where the operation `takes` integers. @throws UserError, ShapeError, DeviceError */
function numberOf(op: string, takes: boolean, ...tensors: Tensor[]): 'f32' | 'u32' {
  for (const t of tensors) checkTensor(op, 'an operand', t);
  oneDevice(op, ...tensors);
  const { dtype } = tensors[0]!;
  if (takes && dtype === 'u32' && tensors.every((t) => t.dtype === 'u32')) return 'u32';
  for (const t of tensors)
    if (t.dtype !== 'f32')
      throw new ShapeError(
        op,
        `needs f32, got ${t.dtype} ${showShape(t)}${takes && t.dtype === 'u32' ? ' beside another dtype; toF32() or toU32() makes them alike' : t.dtype === 'u32' ? '; use toF32()' : ''}`,
      );
  return 'f32';
}

/** A kernel's function of each element, whose scalars are s and t, without recording. */
export function runUnary(name: UnaryName, x: Tensor, s = 0, t = 0): Tensor {
  checkTensor(name, 'x', x, ['f32']);
  const y = empty(x.device, x.shape);
  const row = [
    { storage: x.storage, rowLength: 1 },
    { storage: y.storage, rowLength: 1 },
  ];
  for (const [begin, end] of commonRows(name, x.size, row)) {
    const n = end - begin;
    if (n === 0) continue;
    x.device.dispatch(
      unary(name),
      [x.storage.window(begin, end), y.storage.window(begin, end)],
      [n, s, t],
      linearGrid(Math.ceil(n / 4)),
      n,
    );
  }
  return y;
}

/** x * scale + shift. */
export function affine(x: Tensor, scale: number, shift: number): Tensor {
  checkNumber('affine', 'scale', scale);
  checkNumber('affine', 'shift', shift);
  return operation('affine', [x], runUnary('affine', x, scale, shift), [], (dy) => [affine(dy, scale, 0)]);
}
/** -x. */
export function neg(x: Tensor): Tensor {
  checkTensor('neg', 'x', x);
  return affine(x, -1, 0);
}

/** numerator / x + shift. */
export function reciprocal(x: Tensor, numerator = 1): Tensor {
  checkNumber('reciprocal', 'numerator', numerator);
  const y = runUnary('reciprocal', x, numerator, 0);
  // A quotient twice: x² is out of float32's range long before the derivative is.
  return operation('reciprocal', [x], y, [x], (dy, [x]) => [
    mul(dy, mul(reciprocal(x!, -numerator), reciprocal(x!))),
  ]);
}

/** An elementwise function whose derivative is given as an operation of its argument. */
export function unaryOp(name: UnaryName, derivative: ((x: Tensor) => Tensor) | null): (x: Tensor) => Tensor {
  return (x) =>
    operation(
      name,
      [x],
      runUnary(name, x),
      [x],
      derivative && ((dy, saved) => [mul(dy, derivative(saved[0]!))]),
    );
}

/** e^x. */
export const exp: (x: Tensor) => Tensor = unaryOp('exp', (x) => exp(x));
/** Natural logarithm; -Infinity at 0, NaN below. */
export const log: (x: Tensor) => Tensor = unaryOp('log', (x) => reciprocal(x));
/** Square root. */
export const sqrt: (x: Tensor) => Tensor = unaryOp('sqrt', (x) => affine(rsqrt(x), 0.5, 0));
/** 1 / sqrt(x) */
export const rsqrt: (x: Tensor) => Tensor = unaryOp('rsqrt', (x) => {
  const r = rsqrt(x);
  return mul(mul(affine(r, -0.5, 0), r), r);
});
/** |x|; its gradient at 0 is 0. */
export const abs: (x: Tensor) => Tensor = unaryOp('abs', (x) => sign(x));
/** -1, 0 or 1, NaN of NaN; its gradient is 0. */
export const sign: (x: Tensor) => Tensor = unaryOp('sign', (x) => zeros(x.device, x.shape));
/** Sine of radians, of any size; NaN of an infinity. */
export const sin: (x: Tensor) => Tensor = unaryOp('sin', (x) => cos(x));
/** Cosine of radians, of any size; NaN of an infinity. */
export const cos: (x: Tensor) => Tensor = unaryOp('cos', (x) => neg(sin(x)));
/** Hyperbolic tangent; it and its derivative keep their relative accuracy near 0 and in both tails. */
export const tanh: (x: Tensor) => Tensor = unaryOp('tanh', (x) => {
  // 1 - tanh² would cancel in the tails.
  const twice = affine(x, 2, 0);
  return affine(mul(sigmoid(twice), sigmoid(neg(twice))), 4, 0);
});
/**
 * cap tanh(scale x / cap): scores and logits within ±cap, nearly scale x where that is small (Gemma Team 2024, "Gemma 2", section 2).
 * @throws UserError for a cap that is not above 0
 */
export function softcap(x: Tensor, cap: number, scale = 1): Tensor {
  checkTensor('softcap', 'x', x);
  checkValue('softcap', 'cap', positive, cap);
  checkNumber('softcap', 'scale', scale);
  return operation('softcap', [x], runUnary('softcap', x, scale / cap, cap), [x], (dy, [x]) => [
    mul(dy, softcapDerivative(x!, cap, scale)),
  ]);
}
/** scale sech²(scale x / cap). */
export function softcapDerivative(x: Tensor, cap: number, scale: number): Tensor {
  const y = runUnary('softcap_derivative', x, scale / cap, scale);
  return operation('softcapDerivative', [x], y, [x], (dy, [x]) => [
    mul(
      dy,
      mul(affine(softcap(x!, cap, scale), (-2 * scale) / cap ** 2, 0), softcapDerivative(x!, cap, scale)),
    ),
  ]);
}
/** The error function; derivative 2 / sqrt(pi) exp(-x^2). */
export const erf: (x: Tensor) => Tensor = unaryOp('erf', (x) =>
  affine(exp(neg(square(x))), 2 / Math.sqrt(Math.PI), 0),
);
/** 1 / (1 + e^-x), exact in both tails. */
export const sigmoid: (x: Tensor) => Tensor = unaryOp('sigmoid', (x) => mul(sigmoid(x), sigmoid(neg(x))));

/** An activation function and its derivative, from the derivative of that. */
function activation(name: ActivationName, second: (x: Tensor) => Tensor): Activation {
  const derivative = unaryOp(`${name}_derivative`, second);
  const value = (x: Tensor): Tensor =>
    operation(name, [x], runUnary(name, x), [x], (dy, saved) => [
      activationBackward(name, derivative, saved[0]!, dy),
    ]);
  return { value, derivative };
}
interface Activation {
  readonly value: (x: Tensor) => Tensor;
  readonly derivative: (x: Tensor) => Tensor;
}

/** dy act'(x) in one kernel. */
function activationBackward(
  name: ActivationName,
  derivative: Activation['derivative'],
  x: Tensor,
  dy: Tensor,
): Tensor {
  const dx = empty(x.device, x.shape);
  const operands = [x, dy, dx].map(({ storage }) => ({ storage, rowLength: 1 }));
  for (const [begin, end] of commonRows(name, x.size, operands))
    x.device.dispatch(
      activationBackwardKernel(name),
      operands.map(({ storage }) => storage.window(begin, end)),
      [end - begin],
      linearGrid(Math.ceil((end - begin) / 4)),
      2 * (end - begin),
    );
  return operation(
    'activationBackward',
    [x, dy],
    dx,
    [x, dy],
    throughTwin(2, (x, dy) => mul(dy!, derivative(x!))),
  );
}

/** min(x², limit), beyond which the tails are 0 in float32 and x² may be infinite. */
const boundedSquare = (x: Tensor, limit: number): Tensor => minimum(square(x), full(x.device, [], limit));

const activations: Readonly<Record<ActivationName, Activation>> = {
  /** f''(x) = phi(x) (2 - x²) */
  gelu: activation('gelu', (x) => {
    const s = boundedSquare(x, 1e4);
    return mul(affine(exp(affine(s, -0.5, 0)), 1 / Math.sqrt(2 * Math.PI), 0), affine(s, -1, 2));
  }),
  /** With s = sigmoid(u), u = TANH_LINEAR x + TANH_CUBIC x³: f'' = s' (2 u' + x u'' + x u'² (1 - 2 s)), s' = s (1 - s). */
  gelu_tanh: activation('gelu_tanh', (x) => {
    const xx = boundedSquare(x, 256);
    const u = mul(x, affine(xx, TANH_CUBIC, TANH_LINEAR));
    const s = sigmoid(u);
    const slope = affine(xx, 3 * TANH_CUBIC, TANH_LINEAR);
    const density = mul(s, sigmoid(neg(u)));
    const bend = mul(mul(mul(density, x), mul(slope, slope)), affine(s, -2, 1));
    return add(mul(density, affine(xx, 12 * TANH_CUBIC, 2 * TANH_LINEAR)), bend);
  }),
  /** f'' = s' (2 + x (1 - 2 s)), s = sigmoid(x) */
  silu: activation('silu', (x) => {
    const s = sigmoid(x);
    return mul(mul(s, sigmoid(neg(x))), affine(mul(x, affine(s, -2, 1)), 1, 2));
  }),
};

const { gelu: ofGelu, gelu_tanh: ofTanh, silu: ofSilu } = activations;
/** The activation functions that kernels/activation.ts describes, by name. */
export const activationFunctions: Readonly<Record<ActivationName, (x: Tensor) => Tensor>> = {
  gelu: ofGelu.value,
  gelu_tanh: ofTanh.value,
  silu: ofSilu.value,
};
/** Their derivatives. */
export const activationDerivatives: typeof activationFunctions = {
  gelu: ofGelu.derivative,
  gelu_tanh: ofTanh.derivative,
  silu: ofSilu.derivative,
};

/** Which GELU. */
export interface GeluOptions {
  /**
   * As in PyTorch. `none` (default): x Phi(x), Phi the normal distribution function. `tanh`: the approximation
   * x (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))) / 2, which config files call `gelu_new` or `gelu_pytorch_tanh`.
   */
  readonly approximate?: 'none' | 'tanh';
}
const geluOptions = optionsSchema<GeluOptions>({ approximate: one(['none', 'tanh']) });
/** Gaussian error linear unit (Hendrycks & Gimpel 2016). @throws UserError for an option that there is not. */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  checkOptions('gelu', geluOptions, options);
  return activationFunctions[options.approximate === 'tanh' ? 'gelu_tanh' : 'gelu'](x);
}
/** x sigmoid(x) (Elfwing et al. 2018). */
export const silu: (x: Tensor) => Tensor = activationFunctions.silu;

/** x². */
export function square(x: Tensor): Tensor {
  checkTensor('square', 'x', x);
  return mul(x, x);
}

/** The shape that two shapes broadcast to. @throws ShapeError */
export function broadcastShape(op: string, a: Shaped, b: Shaped): number[] {
  const rank = Math.max(a.rank, b.rank);
  return Array.from({ length: rank }, (_, i) => {
    const p = a.shape[i - rank + a.rank] ?? 1;
    const q = b.shape[i - rank + b.rank] ?? 1;
    if (p !== q && p !== 1 && q !== 1)
      throw new ShapeError(op, `shapes ${showShape(a)} and ${showShape(b)} do not broadcast`);
    return p === 1 ? q : p;
  });
}

/** A kernel's function of two elements, broadcast, without recording; of integers where both operands are. `op` is its name in errors. */
export function runBinary(name: BinaryName, a: Tensor, b: Tensor, op: string = name): Tensor {
  const integers = takesIntegers(name) && numberOf(op, true, a, b) === 'u32';
  if (!takesIntegers(name)) numberOf(op, false, a, b);
  const kernel = (layout: BinaryLayout) =>
    integers ? integerBinary(name as IntegerBinaryName, layout) : binary(name, layout);
  const shape = broadcastShape(op, a, b);
  const y = empty(a.device, shape, integers && givesIntegers(name as IntegerBinaryName) ? 'u32' : 'f32');
  const n = y.size;
  if (n === 0) return y;
  if (sameShape(a.shape, b.shape)) {
    const operands = [a, b, y].map((t) => ({ storage: t.storage, rowLength: 1 }));
    for (const [begin, end] of commonRows(op, n, operands)) {
      const windows = [a, b, y].map((t) => t.storage.window(begin, end));
      const count = end - begin;
      a.device.dispatch(kernel('same'), windows, [count, 0], linearGrid(Math.ceil(count / 4)), count);
    }
    return y;
  }
  // One operand repeated along the leading axes of the other: a bias, a scalar.
  const trailing = (small: Tensor, large: Tensor): boolean =>
    large.size === n && small.shape.every((size, i) => size === large.shape[i - small.rank + large.rank]);
  for (const [small, large, side] of [
    [b, a, 'B'],
    [a, b, 'A'],
  ] as const) {
    const scalar = small.size === 1 && large.size === n;
    if (!scalar && (!trailing(small, large) || small.size % 4 !== 0)) continue;
    const rowLength = scalar ? 1 : small.size;
    if ([large, y].some((t) => t.storage.segments.some((s) => s.begin % rowLength !== 0))) continue;
    const operands = [large, y].map((t) => ({ storage: t.storage, rowLength }));
    for (const [begin, end] of commonRows(op, n / rowLength, operands)) {
      const whole = small.storage.window();
      const part = large.storage.window(begin * rowLength, end * rowLength);
      const count = (end - begin) * rowLength;
      a.device.dispatch(
        kernel(`${scalar ? 'scalar' : 'repeat'}${side}`),
        [
          ...(side === 'B' ? [part, whole] : [whole, part]),
          y.storage.window(begin * rowLength, end * rowLength),
        ],
        [count, small.size],
        linearGrid(Math.ceil(count / 4)),
        count,
      );
    }
    return y;
  }
  const axes = stridedAxes(shape, [a, b]);
  if (axes.sizes.length > 4 || [a, b, y].some((t) => t.storage.segments.length > 1)) {
    // Many interleaved axes, or operands in several buffers: materialise, which is always possible.
    y.dispose();
    return noGrad(() => {
      const made = [a, b].map((t) => (sameShape(t.shape, shape) ? t.detach() : broadcastTo(t, shape)));
      const result = runBinary(name, made[0]!, made[1]!, op);
      for (const t of made) t.dispose();
      return result;
    });
  }
  while (axes.sizes.length < 4) {
    axes.sizes.unshift(1);
    for (const s of axes.strides) s.unshift(0);
  }
  const [, d2, d3, d4] = axes.sizes as [number, number, number, number];
  const [sa, sb] = axes.strides as [number[], number[]];
  a.device.dispatch(
    kernel('strided'),
    [a.storage.window(), b.storage.window(), y.storage.window()],
    [n, d4, d3, d2, ...sa, ...sb],
    linearGrid(n),
    n,
  );
  return y;
}

/** Strides of broadcast operands over an output shape (0 = repeated), neighbouring axes merged where all allow it. */
export function stridedAxes(
  shape: readonly number[],
  operands: readonly Shaped[],
): { sizes: number[]; strides: number[][] } {
  const full = operands.map((t) => {
    let stride = 1;
    const strides = new Array<number>(shape.length).fill(0);
    for (let i = t.rank - 1; i >= 0; i--) {
      const size = t.shape[i]!;
      strides[i - t.rank + shape.length] = size === 1 ? 0 : stride;
      stride *= size;
    }
    return strides;
  });
  const sizes: number[] = [];
  const strides: number[][] = operands.map(() => []);
  shape.forEach((size, i) => {
    if (size === 1) return;
    const last = sizes.length - 1;
    const merges = last >= 0 && full.every((s, t) => strides[t]![last] === s[i]! * size);
    if (merges) {
      sizes[last]! *= size;
      full.forEach((s, t) => {
        strides[t]![last] = s[i]!;
      });
    } else {
      sizes.push(size);
      full.forEach((s, t) => {
        strides[t]!.push(s[i]!);
      });
    }
  });
  return { sizes, strides };
}

const operand = like((value) => value instanceof Tensor || typeof value === 'number', 'a tensor or a number');

/** An operation of which one operand is a number. @throws UserError where one is neither, or none a tensor. */
export function withNumber(
  op: string,
  a: Tensor | number,
  b: Tensor | number,
  run: (a: Tensor, b: Tensor) => Tensor,
): Tensor {
  checkValue(op, 'a', operand, a);
  checkValue(op, 'b', operand, b);
  const given = a instanceof Tensor ? a : b;
  if (!(given instanceof Tensor)) checkTensors(op, { b });
  const { device, dtype } = given as Tensor;
  const scalars = [a, b].map((t) =>
    t instanceof Tensor ? t : dtype === 'u32' ? integers(device, t, []) : full(device, [], t),
  );
  try {
    return run(scalars[0]!, scalars[1]!);
  } finally {
    for (const t of scalars) if (t !== a && t !== b) t.dispose();
  }
}

/** a + b, broadcast; the gradient of a repeated operand is summed. @throws ShapeError */
export function add(a: Tensor | number, b: Tensor | number): Tensor {
  if (!(a instanceof Tensor && b instanceof Tensor)) return withNumber('add', a, b, add);
  const [p, q] = [a.shape, b.shape];
  return operation('add', [a, b], runBinary('add', a, b), [], (dy, _, needs) => [
    needs[0] ? sumTo(dy, p) : null,
    needs[1] ? sumTo(dy, q) : null,
  ]);
}

/** a - b, broadcast. @throws ShapeError */
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  if (!(a instanceof Tensor && b instanceof Tensor)) return withNumber('sub', a, b, sub);
  const [p, q] = [a.shape, b.shape];
  return operation('sub', [a, b], runBinary('sub', a, b), [], (dy, _, needs) => [
    needs[0] ? sumTo(dy, p) : null,
    needs[1] ? sumTo(neg(dy), q) : null,
  ]);
}

/** a b elementwise, broadcast. @throws ShapeError */
export function mul(a: Tensor | number, b: Tensor | number): Tensor {
  if (!(a instanceof Tensor && b instanceof Tensor)) return withNumber('mul', a, b, mul);
  const [p, q] = [a.shape, b.shape];
  const saved = [neededBy(a, b), neededBy(b, a)];
  return operation('mul', [a, b], runBinary('mul', a, b), saved, (dy, [a, b], needs) => [
    needs[0] ? sumTo(mul(dy, b!), p) : null,
    needs[1] ? sumTo(mul(dy, a!), q) : null,
  ]);
}

/** a / b elementwise, broadcast. @throws ShapeError */
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  if (!(a instanceof Tensor && b instanceof Tensor)) return withNumber('div', a, b, div);
  const [p, q] = [a.shape, b.shape];
  return operation('div', [a, b], runBinary('div', a, b), [neededBy(a, b), b], (dy, [a, b], needs) => [
    needs[0] ? sumTo(div(dy, b!), p) : null,
    // Divided twice: b² is out of float32's range long before the derivative is.
    needs[1] ? sumTo(neg(mul(dy, div(div(a!, b!), b!))), q) : null,
  ]);
}

/**
 * The larger of two elements, NaN where either is. The gradient goes to the larger operand, or to the one that is NaN; to the
 * first where they are equal. @throws ShapeError
 */
export function maximum(a: Tensor | number, b: Tensor | number): Tensor {
  if (!(a instanceof Tensor && b instanceof Tensor)) return withNumber('maximum', a, b, maximum);
  return operation('maximum', [a, b], runBinary('maximum', a, b), [a, b], (dy, [a, b], needs) => {
    const second = runBinary('above', b!, a!);
    const nothing = zeros(dy.device, []);
    return [
      needs[0] ? sumTo(where(second, nothing, dy), a!.shape) : null,
      needs[1] ? sumTo(where(second, dy, nothing), b!.shape) : null,
    ];
  });
}

/** The smaller of two elements, NaN where either is; gradients as of {@link maximum}. @throws ShapeError */
export function minimum(a: Tensor | number, b: Tensor | number): Tensor {
  if (!(a instanceof Tensor && b instanceof Tensor)) return withNumber('minimum', a, b, minimum);
  if (a.dtype === 'u32') return runBinary('minimum', a, b);
  return neg(maximum(neg(a), neg(b)));
}

/** A comparison, which jumps or stays: its gradient is 0. `op` is its name in errors. */
export function compare(
  name: 'greater' | 'greater_equal' | 'equal',
  a: Tensor | number,
  b: Tensor | number,
  op: string = name,
): Tensor {
  if (!(a instanceof Tensor && b instanceof Tensor))
    return withNumber(op, a, b, (a, b) => compare(name, a, b, op));
  const [p, q] = [a.shape, b.shape];
  return operation(name, [a, b], runBinary(name, a, b, op), [], (dy, _, needs) => [
    needs[0] ? zeros(dy.device, p) : null,
    needs[1] ? zeros(dy.device, q) : null,
  ]);
}
/** 1 where a > b, else 0, also beside a NaN; its gradient is 0. */
export const greater = (a: Tensor | number, b: Tensor | number): Tensor => compare('greater', a, b);
/** 1 where a == b, else 0, also beside a NaN; its gradient is 0. */
export const equal = (a: Tensor | number, b: Tensor | number): Tensor => compare('equal', a, b);
/** 1 where a == b or both are NaN, without recording: which elements a maximum is among. */
export const same = (a: Tensor, b: Tensor): Tensor => runBinary('same', a, b);

/**
 * condition != 0 ? a : b, all of one broadcast shape; a and b are alike f32 or u32; the condition's gradient is 0.
 * @throws ShapeError
 */
export function where(condition: Tensor, a: Tensor | number, b: Tensor | number): Tensor {
  checkTensor('where', 'condition', condition);
  if (typeof a === 'number' || typeof b === 'number') {
    const other = [a, b].find((t) => t instanceof Tensor);
    const scalars = [a, b].map((t) =>
      typeof t !== 'number'
        ? t
        : other?.dtype === 'u32'
          ? integers(condition.device, t, [])
          : full(condition.device, [], t),
    );
    try {
      return where(condition, scalars[0]!, scalars[1]!);
    } finally {
      for (const t of scalars) if (t !== a && t !== b) t.dispose();
    }
  }
  // A mask of integers may have the bit alone that is a number's sign.
  if (condition.dtype === 'u32') {
    const mask = condition;
    return composed(() => where(runBinary('greater', mask, integers(mask.device, 0, [])), a, b));
  }
  numberOf('where', false, condition);
  numberOf('where', true, a, b);
  oneDevice('where', condition, a, b);
  let shape = broadcastShape('where', a, b);
  shape = broadcastShape('where', condition, { shape, rank: shape.length });
  const [p, q] = [a.shape, b.shape];
  const y = noGrad(() => runSelect(condition, a, b, shape));
  return operation('where', [condition, a, b], y, [condition], (dy, [condition], needs) => {
    const nothing = zeros(dy.device, []);
    return [
      needs[0] ? zeros(dy.device, condition!.shape) : null,
      needs[1] ? sumTo(where(condition!, dy, nothing), p) : null,
      needs[2] ? sumTo(where(condition!, nothing, dy), q) : null,
    ];
  });
}

function runSelect(condition: Tensor, a: Tensor, b: Tensor, shape: readonly number[]): Tensor {
  const operands = [condition, a, b].map((t) =>
    sameShape(t.shape, shape) ? t.detach() : broadcastTo(t, shape),
  );
  const y = empty(a.device, shape, a.dtype);
  const all = [...operands, y];
  for (const [begin, end] of commonRows(
    'where',
    sizeOf(shape),
    all.map((t) => ({ storage: t.storage, rowLength: 1 })),
  )) {
    const n = end - begin;
    a.device.dispatch(
      select(),
      all.map((t) => t.storage.window(begin, end)),
      [n],
      linearGrid(Math.ceil(n / 4)),
      n,
    );
  }
  for (const t of operands) t.dispose();
  return y;
}
