/**
 * A shader made ready to be run by interpret.ts: what a run of each block costs, and of its instructions those that decide where
 * control goes; what no branch depends on is not even run.
 */

import { compile, copy, type Evaluate, type Value } from './evaluate.ts';
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
  type ShaderFunction,
  StorageClass,
  zero,
} from './spirv.ts';

/** What one run of a block does, of one invocation. */
export interface Cost {
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

export const noCost = (): Cost => ({
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

interface Prepared extends Instruction {
  readonly evaluate: Evaluate | null;
  /** Bytes that it accesses of workgroup memory. */
  readonly bytes: number | undefined;
}

export interface PreparedBlock extends Omit<Block, 'code'> {
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
export const WRITES: ReadonlySet<number> = new Set([Op.Store, Op.AtomicStore, Op.CooperativeMatrixStore]);
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
