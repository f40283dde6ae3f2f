/**
 * What is looked at before a dispatch is recorded: that a name still means the same text, that there are as many windows and
 * parameters as the kernel has, of their types. WebGPU itself would read whatever lies there.
 */

import {
  type Kernel,
  MAX_GROUPS,
  MAX_PARAMS,
  type ParameterPassing,
  type ParameterValues,
  type ScalarType,
  TEXEL,
  wgsl,
} from '../kernels/index.ts';
import { KernelError } from './errors.ts';
import { ALIGNMENT, type Window } from './memory.ts';
import { show } from './options.ts';

const SCALARS: readonly ScalarType[] = ['u32', 'i32', 'f32'];

/** What of a kernel is compiled, part by part. */
export const textOf = ({
  body,
  bindings,
  params,
  workgroup,
  enable,
  off,
}: Kernel): Record<string, string> => ({
  body,
  bindings: JSON.stringify(bindings.map(({ name, element, access }) => [name, element, access])),
  parameters: JSON.stringify(Object.entries(params)),
  workgroup: JSON.stringify(workgroup),
  extensions: JSON.stringify([enable ?? [], off ?? []]),
});

/** @throws KernelError where a kernel is not what was compiled under its name. */
export function checkSame(kernel: Kernel, compiled: Readonly<Record<string, string>>): void {
  const now = textOf(kernel);
  const changed = Object.keys(now).filter((part) => now[part] !== compiled[part]);
  if (changed.length > 0)
    throw new KernelError(
      kernel.name,
      `its ${changed.join(' and ')} differ from what was compiled under this name before; give each variant a name of its own`,
    );
}

/** @throws KernelError for a kernel that no device takes. */
export function checkKernel({ name, bindings, params }: Kernel, mostBindings: number): void {
  const types = Object.entries(params);
  if (types.length > MAX_PARAMS)
    throw new KernelError(name, `${types.length} parameters, of which a kernel may have ${MAX_PARAMS}`);
  for (const [parameter, type] of types)
    if (!SCALARS.includes(type))
      throw new KernelError(name, `parameter ${parameter} is of type ${type}; give ${SCALARS.join(', ')}`);
  if (bindings.length > mostBindings)
    throw new KernelError(name, `${bindings.length} bindings, of which this device has ${mostBindings}`);
}

const isWindow = (window: unknown): boolean => typeof (window as Window | null)?.buffer?.gpu === 'object';

/** @throws KernelError for what is no kernel, and where there are more windows, or fewer, than it has bindings. */
export function checkCount(kernel: Kernel, windows: readonly Window[]): void {
  const { name, bindings } = kernel ?? {};
  if (typeof name !== 'string' || !Array.isArray(bindings) || typeof kernel.body !== 'string')
    throw new KernelError(
      String(name ?? ''),
      'is no kernel: { name, bindings, params, workgroup, body } (docs/extending.md)',
    );
  if (!Array.isArray(windows) || !windows.every(isWindow))
    throw new KernelError(
      name,
      `its windows are ${show(windows)}; give a list of them, which a tensor's storage.window() gives`,
    );
  if (windows.length !== bindings.length)
    throw new KernelError(
      name,
      `${windows.length} windows for ${bindings.length} bindings (${bindings.map((b) => b.name).join(', ')})`,
    );
}

/** @throws KernelError where a window is none of its buffer. */
export function checkWindows({ name, bindings }: Kernel, windows: readonly Window[], most: number): void {
  windows.forEach(({ buffer, offset, size }, i) => {
    const wrong = (what: string): KernelError =>
      new KernelError(name, `window ${i} (${bindings[i]!.name}): ${what}`);
    if ('texture' in buffer !== (bindings[i]!.element === TEXEL))
      throw wrong(`is a ${'texture' in buffer ? 'texture' : 'buffer'}, but the kernel binds the other`);
    if ('texture' in buffer) return;
    if (!Number.isInteger(offset) || offset < 0 || offset % ALIGNMENT !== 0)
      throw wrong(`begins at byte ${offset}; must be a multiple of ${ALIGNMENT}`);
    if (!Number.isInteger(size) || size <= 0 || size % 4 !== 0)
      throw wrong(`has ${size} bytes; must be a multiple of 4 above 0`);
    if (offset + size > buffer.bytes)
      throw wrong(`bytes ${offset} to ${offset + size} of a buffer of ${buffer.bytes}`);
    if (size > most) throw wrong(`has ${size} bytes, of which a binding of this device has ${most}`);
  });
}

/** @throws KernelError for a grid that no device takes. */
export function checkGrid(name: string, grid: readonly [number, number, number]): void {
  if (!Array.isArray(grid))
    throw new KernelError(name, `its grid is ${show(grid)}; give three whole numbers of workgroups`);
  if (grid.length !== 3 || !grid.every((n) => Number.isInteger(n) && n >= 0 && n <= MAX_GROUPS))
    throw new KernelError(
      name,
      `a grid of [${grid.join(', ')}] workgroups; give three whole numbers of at most ${MAX_GROUPS}`,
    );
}

/** Views of the bytes that parameters are laid down in. */
export interface ParameterViews {
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
}

/** Lays parameters down in the kernel's order. @throws KernelError for one that is missing, surplus or not of its type. */
export function placeParameters(
  name: string,
  params: readonly (readonly [string, ScalarType])[],
  given: ParameterValues,
  views: ParameterViews,
): void {
  const listed = (): string => params.map(([parameter, type]) => `${parameter} ${type}`).join(', ') || 'none';
  if (typeof given !== 'object' || given === null)
    throw new KernelError(name, `its parameters are ${show(given)}; it takes ${listed()}`);
  const values = Array.isArray(given) ? (given as readonly number[]) : null;
  const count = values ? values.length : Object.keys(given).length;
  const byName = given as Readonly<Record<string, number>>;
  if (!values) {
    const missing = params.find(([parameter]) => !Object.hasOwn(byName, parameter));
    if (missing) throw new KernelError(name, `parameter ${missing[0]} is missing; it takes ${listed()}`);
    const surplus = Object.keys(byName).find((key) => !params.some(([parameter]) => parameter === key));
    if (surplus !== undefined)
      throw new KernelError(name, `has no parameter ${surplus}; it takes ${listed()}`);
  }
  if (count !== params.length)
    throw new KernelError(name, `${count} parameters for ${params.length}; it takes ${listed()}`);
  for (let i = 0; i < count; i++) {
    const [parameter, type] = params[i]!;
    const value = values ? values[i]! : byName[parameter]!;
    const fits =
      type === 'f32' ? typeof value === 'number' : value === (type === 'u32' ? value >>> 0 : value | 0);
    if (!fits) throw new KernelError(name, `parameter ${parameter} is ${String(value)}, which is no ${type}`);
    views[type][i] = value;
  }
}

/** A compiler's complaint in one line, with the line of the kernel that it is about. */
export function compileFault(kernel: Kernel, passing: ParameterPassing, complaint: string): string {
  const place = /:(\d+):\d+ error: (.*)/.exec(complaint);
  if (!place) return `does not compile: ${complaint.split('\n')[0]}`;
  const lines = wgsl(kernel, passing).split('\n');
  const line = lines[Number(place[1]) - 1]?.trim() ?? '';
  return `does not compile: ${place[2]} in "${line}"`;
}
