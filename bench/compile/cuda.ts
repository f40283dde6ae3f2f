/**
 * SPIR-V of a compute shader in CUDA C++, block by block: values are variables, blocks labels, branches gotos. So NVIDIA's back
 * end gets the very shader that Dawn gives to a Vulkan driver, clamps and loop guards included, with the bounds checks that a
 * driver adds to buffers. The functions `op_…` are those of wgsl.cuh.
 */

import { Decoration, type Instruction, type Module, Op, type ShaderFunction, StorageClass } from './spirv.ts';

/** Named in order of the opcodes; `''` hands the operand on. */
const FUNCTIONS: Readonly<Record<number, string>> = {
  ...named(109, 'to_u to_i to_f to_f'),
  ...named(126, 'op_neg op_neg op_add op_add op_sub op_sub op_mul op_mul op_div op_sdiv op_div op_rem'),
  ...named(138, 'op_srem op_srem op_frem'),
  ...named(154, 'op_any op_all is_nan is_inf'),
  ...named(164, 'op_eq op_ne op_lor op_land op_not op_select'),
  ...named(170, 'op_eq op_ne op_gt op_sgt op_ge op_sge op_lt op_slt op_le op_sle'),
  ...named(180, 'op_eq op_eq op_ne op_ne op_lt op_lt op_gt op_gt op_le op_le op_ge op_ge'),
  ...named(194, 'op_shr op_sar op_shl op_or op_xor op_and op_inv'),
  ...named(202, 'op_ibits op_ubits op_brev op_popc'),
  142: 'op_scale',
  [Op.Dot]: 'op_dot',
  [Op.CopyObject]: '',
  [Op.VectorExtractDynamic]: 'at',
  [Op.VectorInsertDynamic]: 'with',
};
const EXTENDED: Readonly<Record<number, string>> = {
  ...named(1, 'op_round op_round op_trunc op_fabs op_sabs op_sign'),
  ...named(8, 'op_floor op_ceil op_fract'),
  ...named(13, 'op_sin op_cos'),
  21: 'op_tanh',
  ...named(26, 'op_pow op_exp op_log op_exp2 op_log2 op_sqrt op_rsqrt'),
  ...named(37, 'op_fmin op_min op_smin op_fmax op_max op_smax op_fclamp op_clamp op_sclamp'),
  50: 'op_fma',
  58: 'op_pack',
  62: 'op_unpack',
  ...named(79, 'op_fmin op_fmax op_fclamp'),
};
const ATOMIC: Readonly<Record<number, string>> = {
  229: 'atomicExch',
  234: 'atomicAdd',
  ...named(236, 'atomicMin atomicMin atomicMax atomicMax atomicAnd atomicOr atomicXor'),
};
const SHIFTS: ReadonlySet<number> = new Set([194, 195, 196]);

function named(first: number, names: string): Record<number, string> {
  return Object.fromEntries(names.split(' ').map((name, i) => [first + i, name]));
}

const triple = (name: string): string =>
  `{{${['x', 'y', 'z'].map((axis) => name.replaceAll('$', axis)).join(', ')}}}`;
const BUILT_INS: Readonly<Record<number, string>> = {
  24: triple('gridDim.$'),
  26: triple('blockIdx.$'),
  27: triple('threadIdx.$'),
  28: triple('blockIdx.$ * blockDim.$ + threadIdx.$'),
  29: 'threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)',
  36: '32',
  41: '(threadIdx.x & 31)',
};

/** What a pointer names: the text of the place, its type, and what holds where it lies inside its buffer. */
interface Place {
  readonly text: string;
  readonly type: number;
  readonly inside: string | null;
  readonly buffer: number;
}

/** What CUDA has no words for here: matrix units and subgroups. */
export class Untranslated extends Error {}

/** @throws Untranslated that names the instruction */
export function toCuda(module: Module): string {
  const names = new Names(module);
  const places = new Map<number, Place>();
  const [shared, own, parameters, begin]: [string[], string[], string[][], string[]] = [[], [], [], []];
  for (const [id, { type: pointer, storage }] of module.variables) {
    const type = module.types.get(pointer)!.args[1]!;
    const text = names.type(type);
    const buffer = storage === StorageClass.StorageBuffer || storage === StorageClass.Uniform;
    places.set(id, { text: `v${id}`, type, inside: null, buffer: buffer ? id : 0 });
    if (storage === StorageClass.Workgroup) shared.push(`__shared__ ${text} v${id};`);
    else if (storage === StorageClass.PushConstant)
      parameters.push([`${text} p${id}`, `v${id}(p${id})`, `const ${text} &v${id};`, `p${id}`]);
    else if (buffer)
      parameters.push([
        `${text} *p${id}, u32 n${id}_`,
        `v${id}(*p${id}), n${id}(n${id}_)`,
        `${text} &v${id}; const u32 n${id};`,
        `p${id}, n${id}_`,
      ]);
    else own.push(`${text} v${id};`);
    if (storage === StorageClass.Input)
      begin.push(`k.v${id} = ${BUILT_INS[module.decoration(id, Decoration.BuiltIn) ?? -1] ?? '{}'};`);
  }
  const structures = [...module.types]
    .filter(([, { op }]) => op === Op.TypeStruct)
    .map(([id, { args }]) => `struct S${id} { ${args.map((a, n) => `${names.type(a)} m${n};`).join(' ')} };`);
  const functions = [...module.functions].map(([id, f]) => {
    const params = f.params.map((p) => `${names.type(module.typeOf.get(p)!)} v${p}`).join(', ');
    return `  __device__ __forceinline__ ${names.type(f.type)} fn${id}(${params}) {\n${body(names, places, f)}\n  }`;
  });
  const list = (at: number): string => parameters.map((p) => p[at]).join(', ');
  return `#include "wgsl.cuh"
${structures.join('\n')}
${shared.join('\n')}
struct Kernel {
  ${[...parameters.map((p) => p[2]), ...own].join('\n  ')}
  __device__ Kernel(${list(0)})${parameters.length > 0 ? ' : ' : ''}${list(1)} {}
${functions.join('\n')}
};
extern "C" __global__ void __launch_bounds__(${module.workgroup.reduce((a, b) => a * b)}) kernel(${list(0)}) {
  Kernel k(${list(3)});
  ${begin.join('\n  ')}
  k.fn${module.entry}();
}
`;
}

/** Types and values as CUDA writes them. */
class Names {
  readonly module: Module;

  constructor(module: Module) {
    this.module = module;
  }

  type(id: number): string {
    const { op, args } = this.module.types.get(id)!;
    const [first = 0, second = 0] = args;
    switch (op) {
      case Op.TypeVoid:
        return 'void';
      case Op.TypeBool:
        return 'bool';
      case Op.TypeInt:
        return second ? 'i32' : 'u32';
      case Op.TypeFloat:
        return first === 16 ? 'f16' : 'f32';
      case Op.TypeVector:
        return `Vec<${this.type(first)}, ${second}>`;
      case Op.TypeArray:
        return `Arr<${this.type(first)}, ${this.module.constants.get(second)}u>`;
      case Op.TypeRuntimeArray:
        return `Arr<${this.type(first)}, 1u>`;
      case Op.TypeStruct:
        return `S${id}`;
      default:
        throw new Untranslated(`type ${op} has no translation`);
    }
  }

  typeOf(id: number): number {
    return this.module.typeOf.get(id)!;
  }

  value(id: number): string {
    const found = this.module.literals.get(id);
    if (!found) return `v${id}`;
    const { op, type, args } = found;
    const [bits = 0] = args;
    if (op === Op.ConstantTrue || op === Op.ConstantFalse) return String(op === Op.ConstantTrue);
    if (op === Op.ConstantComposite) return this.construct(type, args);
    if (op !== Op.Constant) return `${this.type(type)}{}`;
    return {
      u32: `${bits}u`,
      i32: `(i32)${bits}u`,
      f16: `__ushort_as_half(${bits})`,
      f32: `__uint_as_float(${bits}u)`,
    }[this.type(type)]!;
  }

  construct(type: number, args: readonly number[]): string {
    const { op } = this.module.types.get(type)!;
    const parts = args.flatMap((a) => {
      const from = this.module.types.get(this.typeOf(a))!;
      if (op !== Op.TypeVector || from.op !== Op.TypeVector) return [this.value(a)];
      return Array.from({ length: from.args[1]! }, (_, n) => `${this.value(a)}.v[${n}]`);
    });
    const list = parts.join(', ');
    return op === Op.TypeStruct ? `${this.type(type)}{${list}}` : `${this.type(type)}{{${list}}}`;
  }

  /** The place of an element inside `text`, and its type. */
  element(text: string, type: number, index: number | undefined, named: string): [string, number] {
    const { op, args } = this.module.types.get(type)!;
    return op === Op.TypeStruct ? [`${text}.m${index}`, args[index!]!] : [`${text}.v[${named}]`, args[0]!];
  }

  members(text: string, type: number, path: readonly number[]): string {
    return path.reduce<[string, number]>(([t, u], n) => this.element(t, u, n, String(n)), [text, type])[0];
  }

  /** Type of the variable that holds a result; none for places. */
  variable({ op, type }: Instruction): string {
    const { op: kind, args } = this.module.types.get(type)!;
    if (op === Op.Variable) return this.type(args[1]!);
    return kind === Op.TypePointer || kind === Op.TypeVoid ? '' : this.type(type);
  }
}

function body(names: Names, places: Map<number, Place>, f: ShaderFunction): string {
  const lines: string[] = [];
  for (const x of f.blocks.flatMap(({ code }) => code))
    if (x.id && names.variable(x)) lines.push(`${names.variable(x)} v${x.id};`);
  // Phis take their values all at once.
  const go = (from: number, to: number): string => {
    const phis = f.blocks[f.at.get(to)!]!.code.filter(({ op }) => op === Op.Phi);
    const taken = phis.map(
      (x) => [x, x.args[x.args.findIndex((a, i) => i % 2 === 1 && a === from) - 1]!] as const,
    );
    const before = taken.map(([x, v]) => `${names.type(x.type)} t${x.id} = ${names.value(v)};`);
    return `{ ${[...before, ...taken.map(([x]) => `v${x.id} = t${x.id};`)].join(' ')} goto L${to}; }`;
  };
  for (const { label, code } of f.blocks) {
    lines.push(`L${label}:;`);
    for (const x of code) {
      const [first = 0, second = 0, third = 0] = x.args;
      if (x.op === Op.Branch) lines.push(go(label, first));
      else if (x.op === Op.BranchConditional)
        lines.push(`if (${names.value(first)}) ${go(label, second)} else ${go(label, third)}`);
      else if (x.op === Op.Switch) {
        for (let n = 2; n < x.args.length; n += 2)
          lines.push(`if (${names.value(first)} == ${x.args[n]}) ${go(label, x.args[n + 1]!)}`);
        lines.push(go(label, second));
      } else if (x.op === Op.Return) lines.push('return;');
      else if (x.op === Op.ReturnValue) lines.push(`return ${names.value(first)};`);
      else if (x.op === Op.Unreachable) lines.push('__builtin_unreachable();');
      else if (x.op !== Op.Phi) lines.push(statement(names, places, x));
    }
  }
  return lines
    .filter(Boolean)
    .map((line) => `    ${line}`)
    .join('\n');
}

function statement(names: Names, places: Map<number, Place>, { op, type, id, args }: Instruction): string {
  const { module } = names;
  const value = (a: number | undefined): string => names.value(a!);
  const set = (text: string): string => `v${id} = ${text};`;
  const [first = 0, second = 0] = args;
  if (op === Op.Variable) {
    places.set(id, { text: `v${id}`, type: module.types.get(type)!.args[1]!, inside: null, buffer: 0 });
    return args[1] ? set(value(args[1])) : '';
  }
  if (op === Op.AccessChain || op === Op.InBoundsAccessChain) {
    const base = places.get(first)!;
    let { text, type: at, inside } = base;
    for (const index of args.slice(1)) {
      if (module.types.get(at)!.op === Op.TypeRuntimeArray) inside = `${value(index)} < n${base.buffer}`;
      [text, at] = names.element(text, at, module.literals.get(index)?.args[0], value(index));
    }
    places.set(id, { text, type: at, inside, buffer: base.buffer });
    return '';
  }
  const place = places.get(first);
  if (place) {
    const { text, inside } = place;
    const volatile = `*(volatile ${names.type(place.type)} *)&${text}`;
    if (op === Op.Load) return set(inside ? `load(${text}, ${inside})` : text);
    if (op === Op.Store) return `${inside ? `if (${inside}) ` : ''}${text} = ${value(second)};`;
    if (op === Op.AtomicLoad) return set(volatile);
    if (op === Op.AtomicStore) return `${volatile} = ${value(args[3])};`;
    if (op === Op.AtomicCompareExchange)
      return set(`atomicCAS(&${text}, ${value(args[5])}, ${value(args[4])})`);
    if (ATOMIC[op]) return set(`${ATOMIC[op]}(&${text}, ${value(args[3])})`);
  }
  switch (op) {
    case Op.LoopMerge:
    case Op.SelectionMerge:
      return '';
    case Op.ControlBarrier:
      return '__syncthreads();';
    case Op.MemoryBarrier:
      return '__threadfence_block();';
    case Op.ArrayLength:
      return set(`n${first}`);
    case Op.CompositeConstruct:
      return set(names.construct(type, args));
    case Op.CompositeExtract:
      return set(names.members(value(first), names.typeOf(first), args.slice(1)));
    case Op.CompositeInsert:
      return `${set(value(second))} ${names.members(`v${id}`, type, args.slice(2))} = ${value(first)};`;
    case Op.VectorShuffle: {
      const length = module.types.get(names.typeOf(first))!.args[1]!;
      const of = (n: number): string =>
        n < length ? `${value(first)}.v[${n}]` : `${value(second)}.v[${n - length}]`;
      return set(`${names.type(type)}{{${args.slice(2).map(of).join(', ')}}}`);
    }
    case Op.Bitcast:
      return set(`op_cast<${names.type(type)}>(${value(first)})`);
    case Op.FConvert:
      return set(`${names.type(type).includes('f16') ? 'to_h' : 'to_f'}(${value(first)})`);
    case Op.ExtInst: {
      const name = EXTENDED[second];
      if (!name) throw new Untranslated(`extended instruction ${second} has no translation`);
      return set(`${name}(${args.slice(2).map(value).join(', ')})`);
    }
    case Op.FunctionCall: {
      const called = `fn${first}(${args.slice(1).map(value).join(', ')})`;
      return names.type(type) === 'void' ? `${called};` : set(called);
    }
  }
  const name = FUNCTIONS[op];
  if (name === undefined) throw new Untranslated(`instruction ${op} has no translation`);
  const texts = args.map(value);
  if (SHIFTS.has(op)) texts[1] = `op_cast<${names.type(names.typeOf(first))}>(${texts[1]})`;
  const text = `${name}(${texts.join(', ')})`;
  const asIs = module.types.get(type)!.op === Op.TypeBool || op === Op.VectorExtractDynamic;
  return set(asIs ? text : `op_cast<${names.type(type)}>(${text})`);
}
