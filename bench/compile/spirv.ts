/**
 * A SPIR-V module of one compute shader, as Dawn makes it of WGSL: types, constants, variables and functions by id, block by block.
 *
 * Numbers are those of the specification (https://registry.khronos.org/SPIR-V/specs/unified1/SPIRV.html).
 */

/** Instructions that are told apart by name. */
export const Op = {
  ExtInst: 12,
  EntryPoint: 15,
  ExecutionMode: 16,
  TypeVoid: 19,
  TypeBool: 20,
  TypeInt: 21,
  TypeFloat: 22,
  TypeVector: 23,
  TypeArray: 28,
  TypeRuntimeArray: 29,
  TypeStruct: 30,
  TypePointer: 32,
  ConstantTrue: 41,
  ConstantFalse: 42,
  Constant: 43,
  ConstantComposite: 44,
  ConstantNull: 46,
  Function: 54,
  FunctionParameter: 55,
  FunctionEnd: 56,
  FunctionCall: 57,
  Variable: 59,
  Load: 61,
  Store: 62,
  AccessChain: 65,
  InBoundsAccessChain: 66,
  ArrayLength: 68,
  Decorate: 71,
  MemberDecorate: 72,
  VectorExtractDynamic: 77,
  VectorInsertDynamic: 78,
  VectorShuffle: 79,
  CompositeConstruct: 80,
  CompositeExtract: 81,
  CompositeInsert: 82,
  CopyObject: 83,
  FConvert: 115,
  Bitcast: 124,
  FAdd: 129,
  Dot: 148,
  Any: 154,
  All: 155,
  Select: 169,
  BitwiseXor: 198,
  ControlBarrier: 224,
  MemoryBarrier: 225,
  AtomicLoad: 227,
  AtomicStore: 228,
  AtomicCompareExchange: 230,
  AtomicXor: 242,
  Phi: 245,
  LoopMerge: 246,
  SelectionMerge: 247,
  Label: 248,
  Branch: 249,
  BranchConditional: 250,
  Switch: 251,
  Return: 253,
  ReturnValue: 254,
  Unreachable: 255,
  GroupNonUniformElect: 333,
  GroupNonUniformBroadcast: 337,
  GroupNonUniformBroadcastFirst: 338,
  GroupNonUniformShuffle: 345,
  TypeCooperativeMatrix: 4456,
  CooperativeMatrixLoad: 4457,
  CooperativeMatrixStore: 4458,
  CooperativeMatrixMulAdd: 4459,
} as const;

/** Storage classes. */
export const StorageClass = {
  Input: 1,
  Uniform: 2,
  Workgroup: 4,
  Private: 6,
  Function: 7,
  PushConstant: 9,
  StorageBuffer: 12,
} as const;

/** Decorations. */
export const Decoration = { ArrayStride: 6, BuiltIn: 11, Binding: 33, Offset: 35 } as const;

/** Of the extended instructions for shaders. */
export const FMA = 50;

export interface Instruction {
  readonly op: number;
  /** Id of the result's type, and of the result; 0 where there is none. */
  readonly type: number;
  readonly id: number;
  readonly args: readonly number[];
}

export interface Block {
  readonly label: number;
  readonly code: Instruction[];
}

export interface ShaderFunction {
  /** Of what it returns. */
  readonly type: number;
  readonly params: number[];
  readonly blocks: Block[];
  /** Place in `blocks` by label. */
  readonly at: Map<number, number>;
}

export interface Type {
  readonly op: number;
  readonly args: readonly number[];
}

/** A constant as the interpreter has it: floats are 0. */
export type Scalar = number | boolean;
export type Constant = Scalar | readonly Constant[];

export interface Module {
  readonly types: ReadonlyMap<number, Type>;
  /** Type of a result, by its id. */
  readonly typeOf: ReadonlyMap<number, number>;
  readonly constants: ReadonlyMap<number, Constant>;
  /** The instructions that make constants. */
  readonly literals: ReadonlyMap<number, Instruction>;
  /** Global variables: the pointer's type. */
  readonly variables: ReadonlyMap<number, { readonly type: number; readonly storage: number }>;
  readonly functions: ReadonlyMap<number, ShaderFunction>;
  /** The variable that a pointer leads into. */
  readonly base: ReadonlyMap<number, number>;
  /** Value of a decoration; `member`: of a structure. */
  readonly decoration: (id: number, kind: number, member?: number) => number | undefined;
  /** Invocations of a workgroup. */
  readonly workgroup: readonly [number, number, number];
  /** The function that runs. */
  readonly entry: number;
}

const WITHOUT_RESULT: ReadonlySet<number> = new Set([
  ...[0, 3, 4, 5, 6, 8, 10, 14, 15, 16, 17, 317, 331, 332],
  ...[Op.Store, 63, Op.Decorate, Op.MemberDecorate, Op.CooperativeMatrixStore],
  ...[Op.ControlBarrier, Op.MemoryBarrier, Op.AtomicStore, Op.LoopMerge, Op.SelectionMerge],
  ...[Op.Branch, Op.BranchConditional, Op.Switch, 252, Op.Return, Op.ReturnValue, Op.Unreachable],
]);
const WITHOUT_TYPE: ReadonlySet<number> = new Set([
  ...[7, 11, Op.TypeVoid, Op.TypeBool, Op.TypeInt, Op.TypeFloat, Op.TypeVector, 24, Op.TypeArray],
  ...[Op.TypeRuntimeArray, Op.TypeStruct, Op.TypePointer, 33, Op.Label, Op.TypeCooperativeMatrix],
]);
/** Of the lines of a block, those that only serve debuggers. */
const IDLE: ReadonlySet<number> = new Set([0, 8, 317]);
const LOCAL_SIZE = 17;
const MAGIC = 0x07230203;

/** @throws Error for what is no SPIR-V. */
export function parseModule(bytes: Uint8Array): Module {
  const words = new Uint32Array(new Uint8Array(bytes).buffer);
  if (words[0] !== MAGIC) throw new Error('no SPIR-V module');
  const types = new Map<number, Type>();
  const typeOf = new Map<number, number>();
  const constants = new Map<number, Constant>();
  const literals = new Map<number, Instruction>();
  const variables = new Map<number, { type: number; storage: number }>();
  const functions = new Map<number, ShaderFunction>();
  const base = new Map<number, number>();
  const decorations = new Map<string, number>();
  let workgroup: [number, number, number] = [1, 1, 1];
  let entry = 0;
  let inside: ShaderFunction | null = null;
  let block: Block | null = null;
  for (let at = 5; at < words.length; at += words[at]! >>> 16) {
    const op = words[at]! & 0xffff;
    const operands = [...words.subarray(at + 1, at + (words[at]! >>> 16))];
    if (WITHOUT_RESULT.has(op)) {
      const [first = 0, second = 0, third = 0, fourth = 0] = operands;
      if (op === Op.Decorate) decorations.set(`${first}.${second}`, third);
      else if (op === Op.MemberDecorate) decorations.set(`${first}.${third}.${second}`, fourth);
      else if (op === Op.EntryPoint) entry = second;
      else if (op === Op.ExecutionMode && second === LOCAL_SIZE)
        workgroup = [third, fourth, operands[4] ?? 1];
      else if (block && !IDLE.has(op)) block.code.push({ op, type: 0, id: 0, args: operands });
      continue;
    }
    const typed = !WITHOUT_TYPE.has(op);
    const [type = 0, id = 0, ...args] = typed ? operands : [0, ...operands];
    const instruction: Instruction = { op, type, id, args };
    if (typed) typeOf.set(id, type);
    if (op === Op.Function) {
      inside = { type, params: [], blocks: [], at: new Map() };
      functions.set(id, inside);
    } else if (op === Op.FunctionParameter) inside?.params.push(id);
    else if (op === Op.FunctionEnd) inside = block = null;
    else if (op === Op.Label) {
      block = { label: id, code: [] };
      inside?.at.set(id, inside.blocks.length);
      inside?.blocks.push(block);
    } else if (block) {
      if (op === Op.AccessChain || op === Op.InBoundsAccessChain)
        base.set(id, base.get(args[0]!) ?? args[0]!);
      block.code.push(instruction);
    } else if (op === Op.Variable) variables.set(id, { type, storage: args[0]! });
    else if (!typed) types.set(id, { op, args });
    else {
      literals.set(id, instruction);
      const value = constantOf(types, constants, instruction);
      if (value !== undefined) constants.set(id, value);
    }
  }
  const decoration = (id: number, kind: number, member?: number): number | undefined =>
    decorations.get(member === undefined ? `${id}.${kind}` : `${id}.${kind}.${member}`);
  return { types, typeOf, constants, literals, variables, functions, base, decoration, workgroup, entry };
}

function constantOf(
  types: ReadonlyMap<number, Type>,
  constants: ReadonlyMap<number, Constant>,
  { op, type, args }: Instruction,
): Constant | undefined {
  if (op === Op.ConstantTrue || op === Op.ConstantFalse) return op === Op.ConstantTrue;
  if (op === Op.Constant) return types.get(type)!.op === Op.TypeFloat ? 0 : args[0]!;
  if (op === Op.ConstantComposite) return args.map((a) => constants.get(a) ?? 0);
  return op === Op.ConstantNull ? zeroOf(types, constants, type) : undefined;
}

function zeroOf(
  types: ReadonlyMap<number, Type>,
  constants: ReadonlyMap<number, Constant>,
  type: number,
): Constant {
  const { op, args } = types.get(type)!;
  const element = (): Constant => zeroOf(types, constants, args[0]!);
  if (op === Op.TypeBool) return false;
  if (op === Op.TypeVector) return Array.from({ length: args[1]! }, element);
  if (op === Op.TypeArray) return Array.from({ length: Number(constants.get(args[1]!)) }, element);
  if (op === Op.TypeStruct) return args.map((member) => zeroOf(types, constants, member));
  return 0;
}

/** All zeros of a type; what has no length of its own is 0. */
export const zero = ({ types, constants }: Module, type: number): Constant => zeroOf(types, constants, type);

/** Numbers of a vector; 1 of a scalar. */
export function lanesOf({ types }: Module, type: number): number {
  const found = types.get(type);
  return found?.op === Op.TypeVector ? found.args[1]! : 1;
}

/** Whether a type holds floats alone. */
export function isFloat(module: Module, type: number): boolean {
  const found = module.types.get(type);
  if (!found) return false;
  const { op, args } = found;
  const holds = op === Op.TypeVector || op === Op.TypeArray || op === Op.TypeRuntimeArray;
  return op === Op.TypeFloat || (holds && isFloat(module, args[0]!));
}

/** Storage class of a pointer, and the type it points to. */
export function pointee(module: Module, pointer: number): { storage: number; type: number } {
  const type = module.variables.get(pointer)?.type ?? module.typeOf.get(pointer) ?? 0;
  const [storage = 0, target = 0] = module.types.get(type)?.args ?? [];
  return { storage, type: target };
}

/** Bytes of a value; `lanes` share a matrix of the subgroup. */
export function bytesOf(module: Module, type: number, lanes: number): number {
  const { op, args } = module.types.get(type)!;
  const count = (at: number): number => Number(module.constants.get(args[at]!));
  const element = (): number => bytesOf(module, args[0]!, lanes);
  if (op === Op.TypeBool) return 4;
  if (op === Op.TypeInt || op === Op.TypeFloat) return args[0]! / 8;
  if (op === Op.TypeVector) return args[1]! * element();
  if (op === Op.TypeArray) return count(1) * strideOf(module, type, lanes);
  if (op === Op.TypeCooperativeMatrix) return (count(2) * count(3) * element()) / lanes;
  if (op === Op.TypeStruct) return args.reduce((sum, member) => sum + bytesOf(module, member, lanes), 0);
  return 0;
}

/** Bytes from one element of an array to the next; of workgroup memory, where Tint says none, as WGSL lays it out. */
export function strideOf(module: Module, type: number, lanes: number): number {
  const said = module.decoration(type, Decoration.ArrayStride);
  if (said !== undefined) return said;
  const element = module.types.get(type)!.args[0]!;
  const bytes = bytesOf(module, element, lanes);
  return lanesOf(module, element) === 3 ? (bytes / 3) * 4 : bytes;
}

/** All instructions, in order. */
export const instructions = ({ functions }: Module): Instruction[] =>
  [...functions.values()].flatMap(({ blocks }) => blocks.flatMap(({ code }) => code));
