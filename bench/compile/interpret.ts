/**
 * How often one invocation of a shader runs each block, and what that amounts to: SPIR-V interpreted with the parameters and the
 * grid of a real dispatch.
 *
 * Integers and booleans are computed, from parameters and built-ins; floats, buffers and workgroup memory read as 0 and stores
 * to them are dropped, as they hardly ever decide how often a loop turns. What no branch depends on is not even run.
 */

import { type Seals, sealsOf } from './seals.ts';
import {
  type Block,
  bytesOf,
  Decoration,
  FMA,
  type Instruction,
  instructions,
  isFloat,
  lanesOf,
  type Module,
  Op,
  pointee,
  type Scalar,
  type ShaderFunction,
  StorageClass,
  strideOf,
  zero,
} from './spirv.ts';

/** What one run of a block does, of one invocation. */
interface Cost {
  /** Operations on numbers of a lane, addresses included; multiply-adds. */
  alu: number;
  fma: number;
  loads: number;
  stores: number;
  /** Of workgroup memory. */
  sharedLoads: number;
  sharedStores: number;
  sharedBytes: number;
  barriers: number;
  /** Numbers of chunk sums that are sealed, and added sealed (seals.ts). */
  seals: number;
  sealedAdds: number;
  /** Numbers stored to buffers. */
  outputs: number;
}

const noCost = (): Cost => ({
  alu: 0,
  fma: 0,
  loads: 0,
  stores: 0,
  sharedLoads: 0,
  sharedStores: 0,
  sharedBytes: 0,
  barriers: 0,
  seals: 0,
  sealedAdds: 0,
  outputs: 0,
});

/** What a whole run does. */
export interface Counts extends Readonly<Cost> {
  /** Operations outside of loops that hold multiply-adds. */
  readonly cold: number;
  /** How often a wave waits for buffers, and for workgroup memory: once for all loads between two turns of a loop, or barriers. */
  readonly rounds: number;
  readonly sharedRounds: number;
  /** Bytes accessed, by binding. */
  readonly bytes: ReadonlyMap<number, number>;
}

/** A value from those that there are, where control came from the block `from`. */
type Evaluate = (values: readonly Value[], from: number, launch: Launch) => Value;

interface Prepared extends Instruction {
  readonly evaluate: Evaluate | null;
  /** Bytes that it accesses of workgroup memory. */
  readonly bytes: number | undefined;
}

interface PreparedBlock extends Omit<Block, 'code'> {
  /** What is run of it. */
  readonly code: readonly Prepared[];
  readonly cost: Cost;
  readonly bytes: Map<number, number>;
  /** A wave waits anew for what it loads here. */
  readonly renews: boolean;
  /** Whether the innermost loop around it holds multiply-adds. */
  readonly loop: { fma: boolean } | null;
}

/** A shader made ready to be run. */
export interface Program {
  readonly module: Module;
  /** Of a subgroup. */
  readonly lanes: number;
  readonly functions: ReadonlyMap<number, PreparedFunction>;
  /** Where each variable of workgroup memory begins. */
  readonly shared: ReadonlyMap<number, number>;
  /** Values that never change, by id. */
  readonly fixed: ReadonlyMap<number, Value>;
  /** Pointers that are the same in every turn. */
  readonly pointers: readonly (readonly [id: number, evaluate: Evaluate])[];
}

type PreparedFunction = Omit<ShaderFunction, 'blocks'> & { readonly blocks: readonly PreparedBlock[] };

const ACCESS: ReadonlySet<number> = new Set([
  ...[Op.Load, Op.Store, Op.CooperativeMatrixLoad, Op.CooperativeMatrixStore],
  ...Array.from({ length: Op.AtomicXor - Op.AtomicLoad + 1 }, (_, i) => Op.AtomicLoad + i),
]);
const WRITES: ReadonlySet<number> = new Set([Op.Store, Op.AtomicStore, Op.CooperativeMatrixStore]);
const CONTROL: ReadonlySet<number> = new Set([
  ...[Op.FunctionCall, Op.Branch, Op.BranchConditional, Op.Switch, Op.Return, Op.ReturnValue, Op.Unreachable],
]);
/** Conversions, arithmetic, comparisons and bits, and what subgroups do. */
const isArithmetic = (op: number): boolean =>
  (op >= 109 && op <= 122) || (op >= 126 && op <= 203) || (op >= 333 && op <= 366);

/** @param traced also keeps what says which words of workgroup memory are accessed. */
export function prepare(module: Module, lanes: number, traced = false): Program {
  const seals = sealsOf(module);
  const code = instructions(module);
  const accesses = new Map(
    code
      .map((x) => [x, pointee(module, x.args[0] ?? 0)] as const)
      .filter(([{ op }, { storage }]) => ACCESS.has(op) && storage === StorageClass.Workgroup)
      .map(([x, { type }]) => [x, bytesOf(module, type, lanes)] as const),
  );
  const kept = needed(module, traced ? new Set(accesses.keys()) : new Set());
  // What is float is 0 throughout, and pointers to parameters are worked out once.
  const floats = code.filter(({ op, type, id }) => id > 0 && op !== Op.Variable && isFloat(module, type));
  const fixed = new Map<number, Value>([
    ...([...module.constants] as [number, Value][]),
    ...floats.map(({ id, type }) => [id, copy(zero(module, type))] as const),
  ]);
  const still = new Set(
    code.filter(
      ({ op, args }) => isChain(op) && args.every((a, i) => (i === 0 ? module.variables : fixed).has(a)),
    ),
  );
  const pointers = [...still].map((x) => [x.id, compile(module, x)!] as const);
  const runs = (x: Instruction): boolean =>
    kept.has(x) && !still.has(x) && (!fixed.has(x.id) || accesses.has(x) || x.op === Op.FunctionCall);
  const functions = new Map(
    [...module.functions].map(([id, f]) => {
      const open: { merge: number; fma: boolean }[] = [];
      const blocks = f.blocks.map(({ label, code: all }): PreparedBlock => {
        while (open.at(-1)?.merge === label) open.pop();
        const merge = all.find(({ op }) => op === Op.LoopMerge);
        if (merge) open.push({ merge: merge.args[0]!, fma: false });
        const [cost, bytes] = [noCost(), new Map<number, number>()];
        for (const instruction of all) addCost(module, lanes, seals, instruction, cost, bytes);
        const loop = open.at(-1) ?? null;
        if (loop && cost.fma > 0) loop.fma = true;
        const renews = merge !== undefined || cost.barriers > 0;
        const code = all
          .filter(runs)
          .map((x) => ({ ...x, evaluate: compile(module, x), bytes: accesses.get(x) }));
        return { label, code, cost, bytes, renews, loop };
      });
      return [id, { ...f, blocks }] as const;
    }),
  );
  const shared = new Map<number, number>();
  let end = 0;
  for (const [id, { type, storage }] of module.variables)
    if (storage === StorageClass.Workgroup) {
      shared.set(id, end);
      end += 16 * Math.ceil(bytesOf(module, module.types.get(type)!.args[1]!, lanes) / 16);
    }
  return { module, lanes, functions, shared, fixed, pointers };
}

const isChain = (op: number): boolean => op === Op.AccessChain || op === Op.InBoundsAccessChain;

/** The instructions that decide branches: a float is 0 whatever it is made of. */
function needed(module: Module, traced: ReadonlySet<Instruction>): ReadonlySet<Instruction> {
  const code = instructions(module);
  const made = new Map(code.filter(({ id }) => id > 0).map((x) => [x.id, x]));
  const baseOf = (id: number): number => module.base.get(id) ?? id;
  const stores = new Map<number, Instruction[]>();
  for (const x of code)
    if (x.op === Op.Store) {
      const into = baseOf(x.args[0]!);
      stores.set(into, [...(stores.get(into) ?? []), x]);
    }
  const kept = new Set(code.filter(({ op }) => CONTROL.has(op)));
  const open = [...kept].flatMap(({ args }) => args);
  if (traced.size > 0)
    for (const x of code)
      if (x.op === Op.ControlBarrier || traced.has(x)) {
        kept.add(x);
        open.push(x.args[0]!);
      }
  const ids = new Set<number>();
  while (open.length > 0) {
    const id = open.pop()!;
    const x = made.get(id);
    if (!x || ids.has(id)) continue;
    ids.add(id);
    kept.add(x);
    if (x.op !== Op.FunctionCall && isFloat(module, x.type)) continue;
    open.push(...x.args);
    const reads = [Op.Load, Op.AccessChain, Op.InBoundsAccessChain].some((op) => op === x.op);
    if (reads || x.op === Op.Variable)
      for (const store of stores.get(reads ? baseOf(x.args[0]!) : id) ?? []) open.push(...store.args);
  }
  for (const x of code) if (x.op === Op.Store && ids.has(baseOf(x.args[0]!))) kept.add(x);
  return kept;
}

function addCost(
  module: Module,
  lanes: number,
  seals: Seals,
  { op, type, id, args }: Instruction,
  cost: Cost,
  bytes: Map<number, number>,
): void {
  cost.seals += seals.seals.get(id) ?? 0;
  cost.sealedAdds += seals.adds.get(id) ?? 0;
  if (ACCESS.has(op)) {
    const to = pointee(module, args[0]!);
    const what =
      op === Op.CooperativeMatrixLoad
        ? type
        : op === Op.CooperativeMatrixStore
          ? module.typeOf.get(args[1]!)!
          : to.type;
    const size = bytesOf(module, what, lanes);
    const writes = WRITES.has(op);
    if (to.storage === StorageClass.StorageBuffer || to.storage === StorageClass.Uniform) {
      cost[writes ? 'stores' : 'loads']++;
      if (writes) cost.outputs += size / 4;
      const binding = module.decoration(module.base.get(args[0]!) ?? args[0]!, Decoration.Binding) ?? -1;
      bytes.set(binding, (bytes.get(binding) ?? 0) + size);
    } else if (to.storage === StorageClass.Workgroup) {
      cost[writes ? 'sharedStores' : 'sharedLoads']++;
      cost.sharedBytes += size;
    }
  } else if (op === Op.ExtInst) cost[args[1] === FMA ? 'fma' : 'alu'] += lanesOf(module, type);
  else if (op === Op.CooperativeMatrixMulAdd) {
    const size = (matrix: number, at: number): number =>
      Number(module.constants.get(module.types.get(module.typeOf.get(matrix)!)!.args[at]!));
    cost.fma += (size(args[0]!, 2) * size(args[0]!, 3) * size(args[1]!, 3)) / lanes;
  } else if (op === Op.Dot) cost.fma += lanesOf(module, module.typeOf.get(args[0]!)!);
  else if (op === Op.ControlBarrier) cost.barriers++;
  else if (op === Op.AccessChain || op === Op.InBoundsAccessChain) {
    const storage = module.types.get(type)!.args[0]!;
    if (storage === StorageClass.StorageBuffer || storage === StorageClass.Workgroup) cost.alu++;
  } else if (isArithmetic(op)) cost.alu += lanesOf(module, type);
  else if (op === Op.BranchConditional || op === Op.Switch) cost.alu++;
}

/** A dispatch. */
export interface Launch {
  readonly grid: readonly [number, number, number];
  /** The parameters, as immediates. */
  readonly parameters: Uint8Array;
  /** Bytes bound, by binding. */
  readonly bound: readonly number[];
}

/** One access to workgroup memory; `from`: the instruction. */
export type OnAccess = (from: Instruction, address: number, bytes: number, writes: boolean) => void;

/** Which invocation runs, and how far. By default the first one of the middle workgroup, to its end. */
export interface Where {
  readonly invocation?: number;
  readonly onAccess?: OnAccess;
  /** Ends the run at this many barriers. */
  readonly barriers?: number;
}

/** Where a value lies: `cell` holds it, if it is one that is computed. */
interface Pointer {
  readonly cell: { value: Value } | null;
  readonly path: readonly number[];
  /** In workgroup memory. */
  readonly address: number;
}
type Value = Scalar | Pointer | Value[];

const MOST_STEPS = 3e6;
/** Thrown at the barrier where the run ends, and where it takes too long. */
class Halt extends Error {
  readonly early: boolean;
  constructor(early: boolean) {
    super();
    this.early = early;
  }
}

/** @returns null where the run does not end in time. */
export function run(program: Program, launch: Launch, where: Where = {}): Counts | null {
  const { module } = program;
  const size = module.workgroup;
  const group = launch.grid.map((n) => n >> 1);
  const index = where.invocation ?? 0;
  const local = [
    index % size[0],
    Math.floor(index / size[0]) % size[1],
    Math.floor(index / size[0] / size[1]),
  ];
  const builtIns: Readonly<Record<number, Value>> = {
    24: [...launch.grid],
    25: [...size],
    26: group,
    27: local,
    28: group.map((g, axis) => g * size[axis]! + local[axis]!),
    29: index,
    36: program.lanes,
    38: Math.ceil((size[0] * size[1] * size[2]) / program.lanes),
    40: Math.floor(index / program.lanes),
    41: index % program.lanes,
  };
  // No function calls itself: all share one list of values.
  const values: Value[] = [];
  for (const [id, value] of program.fixed) values[id] = value;
  for (const [id, { type: pointer, storage }] of module.variables) {
    const type = module.types.get(pointer)!.args[1]!;
    let cell: { value: Value } | null = null;
    if (storage === StorageClass.Input)
      cell = { value: builtIns[module.decoration(id, Decoration.BuiltIn) ?? -1] ?? 0 };
    else if (storage === StorageClass.PushConstant)
      cell = { value: fromBytes(module, type, launch.parameters, 0) };
    else if (storage === StorageClass.Private) cell = { value: copy(zero(module, type)) };
    values[id] = { cell, path: [], address: program.shared.get(id) ?? 0 };
  }
  for (const [id, evaluate] of program.pointers) values[id] = evaluate(values, 0, launch);
  const runs = new Map<PreparedBlock, number>();
  let [steps, barriers, rounds, sharedRounds] = [0, 0, 0, 0];
  let [waited, sharedWaited] = [false, false];

  const enter = (block: PreparedBlock): void => {
    runs.set(block, (runs.get(block) ?? 0) + 1);
    if (block.renews) waited = sharedWaited = false;
    if (block.cost.loads > 0 && !waited) {
      rounds++;
      waited = true;
    }
    if (block.cost.sharedLoads > 0 && !sharedWaited) {
      sharedRounds++;
      sharedWaited = true;
    }
  };

  const call = (id: number): Value => {
    const f = program.functions.get(id)!;
    let [from, block] = [0, f.blocks[0]];
    while (block) {
      enter(block);
      let next = 0;
      for (const x of block.code) {
        const { op, args, evaluate } = x;
        if (++steps > MOST_STEPS) throw new Halt(false);
        if (x.bytes !== undefined)
          where.onAccess?.(x, (values[args[0]!] as Pointer).address, x.bytes, WRITES.has(op));
        if (evaluate) values[x.id] = evaluate(values, from, launch);
        else if (op === Op.Store) store(values[args[0]!] as Pointer, values[args[1]!] ?? 0);
        else if (op === Op.Branch) next = args[0]!;
        else if (op === Op.BranchConditional) next = values[args[0]!] ? args[1]! : args[2]!;
        else if (op === Op.Switch) {
          next = args[1]!;
          for (let i = 2; i < args.length; i += 2) if (args[i] === values[args[0]!]) next = args[i + 1]!;
        } else if (op === Op.ReturnValue) return values[args[0]!] ?? 0;
        else if (op === Op.Return || op === Op.Unreachable) return 0;
        else if (op === Op.FunctionCall) {
          const called = program.functions.get(args[0]!)!;
          for (const [i, param] of called.params.entries()) values[param] = values[args[i + 1]!] ?? 0;
          values[x.id] = call(args[0]!);
        } else if (op === Op.ControlBarrier && ++barriers === where.barriers) throw new Halt(true);
      }
      from = block.label;
      block = f.blocks[f.at.get(next) ?? -1];
    }
    return 0;
  };
  try {
    call(module.entry);
  } catch (halt) {
    if (!(halt instanceof Halt)) throw halt;
    if (!halt.early) return null;
  }
  const total = noCost();
  const bytes = new Map<number, number>();
  let cold = 0;
  for (const [block, times] of runs) {
    for (const key of Object.keys(total) as (keyof Cost)[]) total[key] += times * block.cost[key];
    if (!block.loop?.fma) cold += times * block.cost.alu;
    for (const [at, n] of block.bytes) bytes.set(at, (bytes.get(at) ?? 0) + times * n);
  }
  return { ...total, cold, rounds, sharedRounds, bytes };
}

const copy = (value: unknown): Value => (Array.isArray(value) ? value.map(copy) : (value as Value));

/** Integers of a structure, a vector or an array, as they lie in memory. */
function fromBytes(module: Module, type: number, bytes: Uint8Array, at: number): Value {
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

function store({ cell, path }: Pointer, value: Value): void {
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
function compile(module: Module, x: Instruction): Evaluate | null {
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
