/**
 * A kernel is WGSL text plus everything needed to run it: bindings in order, scalar parameters, workgroup size.
 *
 * Kernels are plain functions of typed variant parameters to this record; they hold no GPU state. The same body serves two
 * ways of passing parameters: immediates (push constants) where the device has them, else a uniform buffer.
 */

import { checkArguments, word } from './variant.ts';

export type ScalarType = 'u32' | 'i32' | 'f32';

/** Element of a binding that is no array but a texture of four f32 a texel, which a kernel reads or writes by texels. */
export const TEXEL = 'rgba32float';

export interface Binding {
  readonly name: string;
  /** WGSL element type of the array, e.g. `f32`, `vec4f`, `u32`; or {@link TEXEL}. */
  readonly element: string;
  /** `read_write` texels are written alone. */
  readonly access: 'read' | 'read_write';
}

/** Scalar parameters by name, in order. */
export type KernelParams = Readonly<Record<string, ScalarType>>;

export interface Kernel<Params extends KernelParams = KernelParams> {
  /** Unique over all kernels and variants of one author: pipelines are cached by it, and another text under it is refused. */
  readonly name: string;
  /** WGSL extensions to enable, e.g. `subgroups`; the caller sees to it that the device has them. */
  readonly enable?: readonly string[];
  /** WGSL diagnostics to switch off, with the reason beside them. */
  readonly off?: readonly string[];
  readonly bindings: readonly Binding[];
  /** Scalar parameters in order, at most 16 (64 bytes of immediates); read as `p.name` in the body. */
  readonly params: Params;
  readonly workgroup: readonly [number, number, number];
  /** Declarations and a `fn main` without attributes' `@compute @workgroup_size`, which `wgsl` adds. */
  readonly body: string;
}

/**
 * Builds each variant once: writing a long text for every dispatch would cost more than the dispatch. `key` tells variants
 * apart; by default, their arguments as JSON.
 */
export function memo<Args extends unknown[]>(
  make: (...args: Args) => Kernel,
  key: (...args: Args) => string = (...args) => JSON.stringify(args),
): (...args: Args) => Kernel {
  const made = new Map<string, Kernel>();
  return (...args) => {
    const at = key(...args);
    let kernel = made.get(at);
    if (!kernel) {
      kernel = make(...args);
      made.set(at, kernel);
    }
    return kernel;
  };
}

/** Values of a kernel's parameters: by name, or in the kernel's order. */
export type ParameterValues<Params extends KernelParams = KernelParams> =
  | readonly number[]
  | { readonly [Name in keyof Params]: number };

/** How parameters reach the kernel. */
export type ParameterPassing = 'immediate' | 'uniform';
const PASSING = word<ParameterPassing>(['immediate', 'uniform']);

/** Most scalars a kernel may take: 64 bytes, what every device with immediates offers. */
export const MAX_PARAMS = 16;

/** Workgroups along x before a linear grid wraps into y: the limit every WebGPU device has. */
export const MAX_GROUPS = 65535;

/** Invocations in a workgroup of a one-dimensional kernel. */
export const LINEAR_GROUP = 64;

/** WGSL of the index of this invocation in a grid made by {@link linearGrid}. */
export const LINEAR_INDEX = `gid.x + gid.y * ${MAX_GROUPS * LINEAR_GROUP}u`;

/** WGSL of the index of this workgroup in a grid made by {@link groupGrid}. */
export const GROUP_INDEX = `wid.x + wid.y * ${MAX_GROUPS}u`;

/** Grid for `count` invocations of a one-dimensional kernel. */
export function linearGrid(count: number): [number, number, number] {
  return groupGrid(Math.ceil(count / LINEAR_GROUP));
}

/** Grid for `groups` workgroups, wrapped into y beyond the limit of x. */
export function groupGrid(groups: number): [number, number, number] {
  return [Math.min(groups, MAX_GROUPS), Math.max(1, Math.ceil(groups / MAX_GROUPS)), 1];
}

/** The complete WGSL module of a kernel. @throws KernelError for another way of passing. */
export function wgsl(kernel: Kernel, passing: ParameterPassing): string {
  checkArguments({ kernel: kernel.name, args: [['passing', PASSING]] }, [passing]);
  const names = Object.entries(kernel.params);
  const lines = (kernel.enable ?? []).map((extension) => `enable ${extension};`);
  for (const diagnostic of kernel.off ?? []) lines.push(`diagnostic(off, ${diagnostic});`);
  if (names.length > 0) {
    lines.push(`struct Params { ${names.map(([name, type]) => `${name}: ${type}`).join(', ')} }`);
    lines.push(
      passing === 'immediate'
        ? 'var<immediate> p: Params;'
        : `@group(0) @binding(${kernel.bindings.length}) var<uniform> p: Params;`,
    );
  }
  kernel.bindings.forEach((b, i) => {
    lines.push(
      b.element === TEXEL
        ? `@group(0) @binding(${i}) var ${b.name}: texture_storage_2d<${TEXEL}, ${b.access === 'read' ? 'read' : 'write'}>;`
        : `@group(0) @binding(${i}) var<storage, ${b.access}> ${b.name}: array<${b.element}>;`,
    );
  });
  const entry = `@compute @workgroup_size(${kernel.workgroup.join(', ')})\nfn main(`;
  lines.push(kernel.body.trim().replace('fn main(', entry));
  return `${lines.join('\n')}\n`;
}
