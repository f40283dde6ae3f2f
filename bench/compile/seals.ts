/**
 * Chunks of a product's K are summed apart, and compilers without `precise` undo that: they fold a chunk's sum into the chain of
 * the total. So a sum is sealed before it is added, `total += bitcast<f32>(bitcast<u32>(chunk) ^ p.zero)`, with a zero that only
 * the host knows. Here is counted how many numbers a shader seals and adds sealed, in its SPIR-V and in what compilers made of it:
 * an addition whose operand comes out of such an XOR cannot have lost its chunk. Sums that another lane left in workgroup memory
 * need no seal: no compiler sees through the barrier between.
 */

import {
  type Instruction,
  instructions,
  isFloat,
  lanesOf,
  type Module,
  Op,
  pointee,
  StorageClass,
} from './spirv.ts';

/** Numbers sealed, and added sealed, by the id of the instruction's result. */
export interface Seals {
  readonly seals: ReadonlyMap<number, number>;
  readonly adds: ReadonlyMap<number, number>;
}

/** How many numbers are sealed, and added sealed. */
export interface Sealed {
  readonly seals: number;
  readonly adds: number;
}

/** What hands on the components of its operands. */
const HANDS_ON: ReadonlySet<number> = new Set([
  Op.CompositeConstruct,
  Op.CompositeExtract,
  Op.VectorShuffle,
  Op.CopyObject,
  Op.Bitcast,
]);

/** Results that are made of `first` by taking apart and putting together, in order of the text. */
function spread(code: readonly Instruction[], first: ReadonlySet<number>): Set<number> {
  const found = new Set(first);
  for (const { op, id, args } of code) if (HANDS_ON.has(op) && args.some((a) => found.has(a))) found.add(id);
  return found;
}

export function sealsOf(module: Module): Seals {
  const code = instructions(module);
  const parameter = (pointer: number): boolean => {
    const { storage } = pointee(module, pointer);
    return storage === StorageClass.PushConstant || storage === StorageClass.Uniform;
  };
  const loads = code.filter(({ op, args }) => op === Op.Load && parameter(args[0]!));
  const parameters = spread(code, new Set(loads.map(({ id }) => id)));
  const casts = code.filter(
    ({ op, args }) => op === Op.Bitcast && isFloat(module, module.typeOf.get(args[0]!) ?? 0),
  );
  const bits = spread(code, new Set(casts.map(({ id }) => id)));
  const seals = new Map(
    code
      .filter(
        ({ op, args }) =>
          op === Op.BitwiseXor && args.some((a) => bits.has(a)) && args.some((a) => parameters.has(a)),
      )
      .map(({ id, type }) => [id, lanesOf(module, type)] as const),
  );
  let sealed = spread(code, new Set(seals.keys()));
  // A function that seals hands its value to who called it.
  for (const [id, { blocks }] of module.functions)
    if (blocks.some((b) => b.code.some((x) => x.op === Op.ReturnValue && sealed.has(x.args[0]!)))) {
      const calls = code.filter(({ op, args }) => op === Op.FunctionCall && args[0] === id);
      sealed = spread(code, new Set([...sealed, ...calls.map((x) => x.id)]));
    }
  const adds = code.filter(({ op, args }) => op === Op.FAdd && args.some((a) => sealed.has(a)));
  return { seals, adds: new Map(adds.map(({ id, type }) => [id, lanesOf(module, type)])) };
}

/** Numbers that the text seals and adds sealed, each function as often as it is called. */
export function sealsInText(module: Module): Sealed {
  const { seals, adds } = sealsOf(module);
  const within = (id: number): [number, number] => {
    const sum: [number, number] = [0, 0];
    for (const x of module.functions.get(id)!.blocks.flatMap(({ code }) => code)) {
      const [s, a] =
        x.op === Op.FunctionCall ? within(x.args[0]!) : [seals.get(x.id) ?? 0, adds.get(x.id) ?? 0];
      sum[0] += s;
      sum[1] += a;
    }
    return sum;
  };
  const [sealed, added] = within(module.entry);
  return { seals: sealed, adds: added };
}

/** Whether a shader adds floats that lay in workgroup memory. */
export function addsFromWorkgroup(module: Module): boolean {
  const code = instructions(module);
  const loads = code.filter(
    ({ op, args }) => op === Op.Load && pointee(module, args[0]!).storage === StorageClass.Workgroup,
  );
  const loaded = spread(code, new Set(loads.map(({ id }) => id)));
  return code.some(({ op, args }) => op === Op.FAdd && args.some((a) => loaded.has(a)));
}

/** A line of assembly, as far as seals are concerned: registers that it reads and writes. */
export interface SealLine {
  readonly kind: 'xor' | 'add' | 'other';
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  /** Numbers of a lane. */
  readonly lanes: number;
}

/** The same in assembly, line by line: an XOR of two registers, and the float additions of what it gave. */
export function sealsInAssembly(lines: Iterable<SealLine>): Sealed {
  const sealed = new Set<string>();
  const found = { seals: 0, adds: 0 };
  for (const { kind, reads, writes, lanes } of lines) {
    if (kind === 'add' && reads.some((r) => sealed.has(r))) found.adds += lanes;
    for (const register of writes) sealed.delete(register);
    if (kind !== 'xor') continue;
    found.seals += lanes;
    for (const register of writes) sealed.add(register);
  }
  return found;
}

/** What is wrong with how a kernel's chunks came out of a compiler; null where every sum that its text seals is added sealed. */
export function undone(text: Sealed, compiled: Sealed): string | null {
  // Half a wave counts half a number.
  const [seals, adds] = [Math.round(compiled.seals), Math.round(compiled.adds)];
  if (seals >= text.seals && adds >= text.adds) return null;
  return `seals ${text.seals} numbers and adds ${text.adds} of them in its text, ${seals} and ${adds} in the assembly: chunks are undone`;
}
