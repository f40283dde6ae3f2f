/**
 * How often one invocation of a shader runs each block, and what that amounts to: SPIR-V interpreted with the parameters and the
 * grid of a real dispatch.
 *
 * Integers and booleans are computed, from parameters and built-ins; floats, buffers and workgroup memory read as 0 and stores
 * to them are dropped, as they hardly ever decide how often a loop turns.
 */

import { copy, fromBytes, type Launch, type Pointer, store, type Value } from './evaluate.ts';
import { type Cost, noCost, type PreparedBlock, type Program, WRITES } from './program.ts';
import { Decoration, type Instruction, Op, StorageClass, zero } from './spirv.ts';

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

/** One access to workgroup memory; `from`: the instruction. */
export type OnAccess = (from: Instruction, address: number, bytes: number, writes: boolean) => void;

/** Which invocation runs, and how far. By default the first one of the middle workgroup, to its end. */
export interface Where {
  readonly invocation?: number;
  readonly onAccess?: OnAccess;
  /** Ends the run at this many barriers. */
  readonly barriers?: number;
}

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
