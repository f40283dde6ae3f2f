/**
 * Matrix units for adapters without: a kernel for them whose matrices are read, multiplied and stored number by number, and a
 * device that runs such kernels for the real ones. Only the text of the kernel is taken, so whatever it does with its matrices,
 * offsets and strides is done here, too.
 *
 * Drivers compile each call anew, for minutes in all. So products of matrices are a list that one loop goes through: a factor is where
 * it lies, which nothing overwrites before the next barrier.
 */

import type { Capabilities, Device } from '../../engine/device.ts';
import type { Kernel } from '../../kernels/index.ts';

const TYPES = /subgroup_matrix_(left|right|result)<(?:f16|f32), (\d+), (\d+)>/g;
const VARIABLE = /var (\w+): subgroup_matrix_result<[^>]*>;/g;
const LOAD =
  /^let (\w+) = subgroupMatrixLoad<subgroup_matrix_(?:left|right)<[^>]*>, (row|col)_major>\(&(\w+), (.*), (\w+)\);$/;
const MULTIPLY = /^(\w+) = subgroupMatrixMultiplyAccumulate\((\w+), (\w+), (\w+)\);$/;
const STORE = /subgroupMatrixStore<row_major>\(&(\w+), (.*), (\w+), ([\w.]+)\);/g;

/** Numbers names as they come. */
function numbering(): { of: (name: string) => number; names: () => string[] } {
  const known = new Map<string, number>();
  return {
    of: (name) => known.get(name) ?? known.set(name, known.size).size - 1,
    names: () => [...known.keys()],
  };
}

/** The kernel with `lanes` invocations of a subgroup that need not run in lockstep: each owns some numbers of every result. */
export function emulated(kernel: Kernel, lanes: number): Kernel {
  // Columns, then rows, as WGSL has them.
  const sizes = new Map(
    [...kernel.body.matchAll(TYPES)].map(([, of, c, r]) => [of!, [Number(c), Number(r)] as const]),
  );
  const [[depth, rows], [columns, depthB]] = [sizes.get('left')!, sizes.get('right')!];
  if (depth !== depthB || sizes.get('result')!.join() !== `${columns},${rows}`)
    throw new Error(`${kernel.name}: matrices that do not go together`);
  const held = (rows * columns) / lanes;
  const [factors, results, pairs] = [numbering(), numbering(), numbering()];
  const arrays = new Map<string, string>();
  const stores = new Set<string>();
  const tasks: string[] = [];
  let told = 0;
  const lines: string[] = [];
  for (const [, name] of kernel.body.matchAll(VARIABLE)) results.of(name!);
  for (const line of kernel.body.replace(VARIABLE, '').split('\n')) {
    const text = line.trim();
    const load = LOAD.exec(text);
    const multiply = MULTIPLY.exec(text);
    if (load) {
      const [, name, major, array, offset, stride] = load;
      arrays.set(name!, array!);
      const strides = major === 'row' ? `${stride}, 1u` : `1u, ${stride}`;
      lines.push(`factors[${factors.of(name!)}] = vec3u(${offset}, ${strides});`);
    } else if (multiply) {
      const [, into, a, b, onto] = multiply;
      if (into !== onto) throw new Error(`${kernel.name}: a sum that moves`);
      const pair = pairs.of(`${arrays.get(a!)} ${arrays.get(b!)}`);
      tasks.push(`vec4u(${factors.of(a!)}, ${factors.of(b!)}, ${results.of(into!)}, ${pair})`);
    } else {
      if (tasks.length > told) lines.push(`multiply(${told}u, ${tasks.length}u);`);
      told = tasks.length;
      lines.push(
        line.replace(STORE, (_, array: string, offset: string, value: string, stride: string) => {
          stores.add(array);
          return `store_${array}(${offset}, ${results.of(value)}u, ${stride});`;
        }),
      );
    }
  }
  const body = lines
    .join('\n')
    .replace('local_invocation_index) local: u32) {', (head) => `${head}\n  lane = local % ${lanes}u;`);
  if (/subgroup_?matrix/i.test(body)) throw new Error(`${kernel.name}: something is not emulated`);
  const products = pairs.names().map((pair, i) => {
    const [a, b] = pair.split(' ');
    return `if (task.w == ${i}u) { sum = fma(f32(${a}[at_a]), f32(${b}[at_b]), sum); }`;
  });
  const store = [...stores].map(
    (array) => `fn store_${array}(at: u32, result: u32, stride: u32) {
  for (var e = 0u; e < ${held}u + p.zero; e++) {
    let i = lane * ${held}u + e;
    ${array}[at + i / ${columns}u * stride + i % ${columns}u] = results[result * ${held}u + e];
  }
}`,
  );
  return {
    ...kernel,
    name: `emulated.${kernel.name}`,
    enable: ['f16'],
    off: [],
    body: `var<private> lane: u32;
var<private> factors: array<vec3u, ${factors.names().length}>;
var<private> results: array<f32, ${results.names().length * held}>;
var<private> tasks: array<vec4u, ${tasks.length}> = array<vec4u, ${tasks.length}>(${tasks.join(', ')});
fn multiply(begin: u32, end: u32) {
  for (var t = begin; t < end + p.zero; t++) {
    let task = tasks[t];
    let a = factors[task.x];
    let b = factors[task.y];
    for (var e = 0u; e < ${held}u + p.zero; e++) {
      let row = (lane * ${held}u + e) / ${columns}u;
      let column = (lane * ${held}u + e) % ${columns}u;
      var sum = results[task.z * ${held}u + e];
      for (var k = 0u; k < ${depth}u + p.zero; k++) {
        let at_a = a.x + row * a.y + k * a.z;
        let at_b = b.x + k * b.y + column * b.z;
        ${products.join('\n        ')}
      }
      results[task.z * ${held}u + e] = sum;
    }
  }
}
${store.join('\n')}
${body}`,
  };
}

const known = new Map<string, Kernel>();

/** Has `device` offer matrix units of this size, emulated. */
export function emulateUnits(
  device: Device,
  matrixUnit: NonNullable<Capabilities['matrixUnit']>,
  subgroupSize: number,
): void {
  const dispatch = device.dispatch.bind(device) as Device['dispatch'];
  const emulating: Device['dispatch'] = (kernel, ...rest) => {
    if (!kernel.name.startsWith('matmul.units.')) return dispatch(kernel, ...rest);
    const made = known.get(kernel.name) ?? emulated(kernel, subgroupSize);
    known.set(kernel.name, made);
    dispatch(made as typeof kernel, ...rest);
  };
  Object.assign(device, {
    capabilities: { ...device.capabilities, matrixUnit, subgroupSize },
    dispatch: emulating,
  });
}
