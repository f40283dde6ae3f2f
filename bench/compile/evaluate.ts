/**
 * Values of an invocation, and what runs for each SPIR-V instruction that makes one. Integers and booleans are computed; a pointer
 * into workgroup memory is its address.
 */

import {
  bytesOf,
  Decoration,
  type Instruction,
  isFloat,
  lanesOf,
  type Module,
  Op,
  pointee,
  type Scalar,
  strideOf,
  zero,
} from './spirv.ts';

/** A dispatch. */
export interface Launch {
  readonly grid: readonly [number, number, number];
  /** The parameters, as immediates. */
  readonly parameters: Uint8Array;
  /** Bytes bound, by binding. */
  readonly bound: readonly number[];
}

/** Where a value lies: `cell` holds it, if it is one that is computed. */
export interface Pointer {
  readonly cell: { value: Value } | null;
  readonly path: readonly number[];
  /** In workgroup memory. */
  readonly address: number;
}
export type Value = Scalar | Pointer | Value[];

/** A value from those that there are, where control came from the block `from`. */
export type Evaluate = (values: readonly Value[], from: number, launch: Launch) => Value;

export const copy = (value: unknown): Value => (Array.isArray(value) ? value.map(copy) : (value as Value));

/** Integers of a structure, a vector or an array, as they lie in memory. */
export function fromBytes(module: Module, type: number, bytes: Uint8Array, at: number): Value {
  const { op, args } = module.types.get(type)!;
  const element = (i: number, from: number): Value => fromBytes(module, args[i]!, bytes, from);
  if (op === Op.TypeStruct)
    return args.map((_, i) => element(i, at + (module.decoration(type, Decoration.Offset, i) ?? 4 * i)));
  if (op === Op.TypeVector) return Array.from({ length: args[1]! }, (_, i) => element(0, at + 4 * i));
  if (op === Op.TypeArray) {
    const stride = strideOf(module, type, 1);
    const length = Number(module.constants.get(args[1]!));
    return Array.from({ length }, (_, i) => element(0, at + i * stride));
  }
  if (op !== Op.TypeInt || at + 4 > bytes.length) return 0;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at, true);
}

export function store({ cell, path }: Pointer, value: Value): void {
  if (!cell) return;
  if (path.length === 0) {
    cell.value = copy(value);
    return;
  }
  let at = cell.value;
  for (const i of path.slice(0, -1)) at = (at as Value[])[i]!;
  (at as Value[])[path.at(-1)!] = copy(value);
}

const u = (x: number): number => x >>> 0;
const i = (x: number): number => x | 0;
type Operation = (...values: number[]) => Scalar;

/** Integers are kept as unsigned numbers. */
const OPERATIONS: Readonly<Record<number, Operation>> = {
  126: (a) => u(-a!), // SNegate
  128: (a, b) => u(a! + b!),
  130: (a, b) => u(a! - b!),
  132: (a, b) => u(Math.imul(a!, b!)),
  134: (a, b) => (b ? Math.floor(a! / b) : 0), // UDiv
  135: (a, b) => (b ? u(i(a!) / i(b)) : 0), // SDiv
  137: (a, b) => (b ? a! % b : 0), // UMod
  138: (a, b) => (b ? u(i(a!) % i(b)) : 0), // SRem
  139: (a, b) => (b ? u(i(a!) % i(b)) : 0), // SMod
  164: (a, b) => a === b, // LogicalEqual
  165: (a, b) => a !== b,
  166: (a, b) => Boolean(a) || Boolean(b),
  167: (a, b) => Boolean(a) && Boolean(b),
  168: (a) => !a,
  170: (a, b) => a === b, // IEqual
  171: (a, b) => a !== b,
  172: (a, b) => a! > b!, // UGreaterThan, then signed, and so on
  173: (a, b) => i(a!) > i(b!),
  174: (a, b) => a! >= b!,
  175: (a, b) => i(a!) >= i(b!),
  176: (a, b) => a! < b!,
  177: (a, b) => i(a!) < i(b!),
  178: (a, b) => a! <= b!,
  179: (a, b) => i(a!) <= i(b!),
  180: (a, b) => a === b, // of floats
  181: (a, b) => a === b,
  182: (a, b) => a !== b,
  183: (a, b) => a !== b,
  184: (a, b) => a! < b!,
  185: (a, b) => a! < b!,
  186: (a, b) => a! > b!,
  187: (a, b) => a! > b!,
  188: (a, b) => a! <= b!,
  189: (a, b) => a! <= b!,
  190: (a, b) => a! >= b!,
  191: (a, b) => a! >= b!,
  194: (a, b) => a! >>> b!, // ShiftRightLogical
  195: (a, b) => u(i(a!) >> b!),
  196: (a, b) => u(a! << b!),
  197: (a, b) => u(a! | b!),
  198: (a, b) => u(a! ^ b!),
  199: (a, b) => u(a! & b!),
  200: (a) => u(~a!),
};
const EXTENDED: Readonly<Record<number, Operation>> = {
  5: (a) => u(Math.abs(i(a!))), // SAbs
  38: (a, b) => Math.min(a!, b!), // UMin, SMin, UMax, SMax, UClamp, SClamp
  39: (a, b) => u(Math.min(i(a!), i(b!))),
  41: (a, b) => Math.max(a!, b!),
  42: (a, b) => u(Math.max(i(a!), i(b!))),
  44: (x, a, b) => Math.min(Math.max(x!, a!), b!),
  45: (x, a, b) => u(Math.min(Math.max(i(x!), i(a!)), i(b!))),
};

/** By component, where the values are vectors. */
function each(f: Operation, values: readonly Value[]): Value {
  const [first] = values;
  if (!Array.isArray(first)) return f(...(values as number[]));
  return first.map((_, at) => f(...(values.map((v) => (Array.isArray(v) ? v[at] : v)) as number[])));
}

/** An operation as what runs for it. */
function operate(f: Operation, operands: readonly number[], vector: boolean): Evaluate {
  const [a = 0, b = 0, c = 0] = operands;
  if (vector)
    return (v) =>
      each(
        f,
        operands.map((operand) => v[operand] ?? 0),
      );
  return (v) => f(v[a] as number, v[b] as number, v[c] as number);
}

/** The place of an element, and in workgroup memory its address. */
function chain(module: Module, { args }: Instruction): Evaluate {
  const [base = 0, ...indices] = args;
  const moving: (readonly [index: number, stride: number])[] = [];
  let { type } = pointee(module, base);
  let fixed = 0;
  for (const index of indices) {
    const { op, args: parts } = module.types.get(type)!;
    const constant = module.constants.get(index);
    if (op === Op.TypeStruct) {
      fixed += module.decoration(type, Decoration.Offset, Number(constant)) ?? 0;
      type = parts[Number(constant)]!;
    } else {
      const stride = op === Op.TypeVector ? bytesOf(module, parts[0]!, 1) : strideOf(module, type, 1);
      if (constant === undefined) moving.push([index, stride]);
      else fixed += Number(constant) * stride;
      type = parts[0]!;
    }
  }
  return (v) => {
    const { cell, path, address } = v[base] as Pointer;
    let at = address + fixed;
    for (const [index, stride] of moving) at += (v[index] as number) * stride;
    return { cell, path: cell ? [...path, ...indices.map((i) => v[i] as number)] : path, address: at };
  };
}

/** What runs for an instruction that makes a value; null of the others. */
export function compile(module: Module, x: Instruction): Evaluate | null {
  const { op, type, id, args } = x;
  if (id === 0 || op === Op.FunctionCall) return null;
  const [first = 0, second = 0] = args;
  const nothing = copy(zero(module, type));
  switch (op) {
    case Op.Variable: {
      const target = module.types.get(type)!.args[1]!;
      const dead = isFloat(module, target);
      return (v) => {
        const value = second ? v[second] : zero(module, target);
        return { cell: dead ? null : { value: copy(value) }, path: [], address: 0 };
      };
    }
    case Op.AccessChain:
    case Op.InBoundsAccessChain:
      return chain(module, x);
    case Op.Load:
      return (v) => {
        const { cell, path } = v[first] as Pointer;
        let value: Value | undefined = cell?.value;
        for (const at of path) value = (value as Value[] | undefined)?.[at];
        return value === undefined ? nothing : copy(value);
      };
    case Op.Phi:
      return (v, from) => v[args[args.findIndex((a, i) => i % 2 === 1 && a === from) - 1]!] ?? 0;
    case Op.ArrayLength: {
      const array = module.types.get(pointee(module, first).type)!.args[second]!;
      const [binding, stride] = [
        module.decoration(first, Decoration.Binding) ?? -1,
        strideOf(module, array, 1),
      ];
      return (_v, _from, { bound }) => Math.floor((bound[binding] ?? 0) / stride);
    }
    case Op.CompositeConstruct: {
      const vector = module.types.get(type)!.op === Op.TypeVector;
      return (v) =>
        args.flatMap((a) => {
          const value = v[a] ?? 0;
          return vector && Array.isArray(value) ? value : [value];
        });
    }
    case Op.CompositeExtract: {
      const path = args.slice(1);
      return (v) => path.reduce<Value>((value, at) => (value as Value[])[at] ?? 0, v[first] ?? 0);
    }
    case Op.CompositeInsert: {
      const [path, last] = [args.slice(2, -1), args.at(-1)!];
      return (v) => {
        const whole = copy(v[second]);
        let at = whole as Value[];
        for (const member of path) at = at[member] as Value[];
        at[last] = v[first] ?? 0;
        return whole;
      };
    }
    case Op.VectorShuffle:
      return (v) => {
        const both = [...(v[first] as Value[]), ...(v[second] as Value[])];
        return args.slice(2).map((at) => both[at] ?? 0);
      };
    case Op.VectorExtractDynamic:
      return (v) => (v[first] as Value[])[v[second] as number] ?? 0;
    case Op.CopyObject:
      return (v) => v[first] ?? 0;
    case Op.Select:
      return operate((c, a, b) => (c ? a! : b!), args, lanesOf(module, type) > 1);
    case Op.Bitcast: {
      const float = isFloat(module, module.typeOf.get(first) ?? type);
      return (v) => (float ? nothing : (v[first] ?? 0));
    }
    case Op.Any:
      return (v) => (v[first] as Value[]).some(Boolean);
    case Op.All:
      return (v) => (v[first] as Value[]).every(Boolean);
    case Op.GroupNonUniformElect:
      return () => true;
    case Op.GroupNonUniformBroadcast:
    case Op.GroupNonUniformBroadcastFirst:
    case Op.GroupNonUniformShuffle:
      return (v) => v[second] ?? 0;
  }
  const f = op === Op.ExtInst ? EXTENDED[second] : OPERATIONS[op];
  const vector = lanesOf(module, type) > 1;
  return f ? operate(f, op === Op.ExtInst ? args.slice(2) : args, vector) : () => nothing;
}
