/** Kernels of one's own: one text a name, counts and types of what they are given, and whose fault it is where one fails. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  type Device,
  empty,
  KernelError,
  openDevice,
  record,
  scope,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { fill, type Kernel, linearGrid, memo } from '../../kernels/index.ts';
import { open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

/** y = an expression of x[i], the parameters and nothing else. */
const custom = (name: string, expression: string, more: Partial<Kernel> = {}) =>
  ({
    name,
    bindings: [
      { name: 'x', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', factor: 'f32' },
    workgroup: [64, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  if (gid.x >= p.n) { return; }
  y[gid.x] = ${expression};
}`,
    ...more,
  }) as const satisfies Kernel;

function apply(kernel: Kernel, x: Tensor, factor = 1, on = device): Tensor {
  const y = empty(on, x.shape);
  on.dispatch(kernel, [x.storage.window(), y.storage.window()], [x.size, factor], linearGrid(x.size));
  return y;
}
const read = async (t: Tensor): Promise<number[]> => [...(await t.read())];
const four = (on = device): Tensor => tensor(on, [1, 2, 3, 4]);

describe('one text a name', () => {
  const changes: [string, Partial<Kernel>][] = [
    ['body', { body: custom('', '3.0').body }],
    ['bindings', { bindings: [...custom('', '').bindings].reverse() }],
    ['parameters', { params: { factor: 'f32', n: 'u32' } }],
    ['workgroup', { workgroup: [32, 1, 1] }],
    ['extensions', { off: ['derivative_uniformity'] }],
  ];
  it.each(changes)('another %s is refused, and the first goes on', async (part, change) => {
    const first = custom(`own.same.${part}`, 'x[gid.x] * p.factor');
    expect(await read(apply(first, four(), 2))).toEqual([2, 4, 6, 8]);
    expect(() => apply({ ...first, ...change }, four())).toThrow(KernelError);
    expect(() => apply({ ...first, ...change }, four())).toThrow(
      new RegExp(`own.same.${part}": its ${part} differ`),
    );
    // The same text in another object is the same kernel.
    expect(await read(apply({ ...first }, four(), 3))).toEqual([3, 6, 9, 12]);
  });

  it("a kernel that is changed after it was compiled is another's text, too", async () => {
    const kernel: { -readonly [K in keyof Kernel]: Kernel[K] } = custom('own.mutable', 'x[gid.x] + 1.0');
    expect(await read(apply(kernel, four()))).toEqual([2, 3, 4, 5]);
    kernel.body = custom('', 'x[gid.x] + 2.0').body;
    expect(() => apply(kernel, four())).toThrow(/own.mutable": its body differ/);
  });

  it("neurgrad's own names are free to others", async () => {
    expect(await read(add(four(), four()))).toEqual([2, 4, 6, 8]);
    expect(await read(apply(custom('binary.add.same', 'x[gid.x] - 1.0'), four()))).toEqual([0, 1, 2, 3]);
    expect(await read(apply(custom('fill', 'x[gid.x] - 1.0'), four()))).toEqual([0, 1, 2, 3]);
    expect(await read(add(four(), four()))).toEqual([2, 4, 6, 8]);
  });
});

describe('what a dispatch is given', () => {
  const kernel = custom('own.checked', 'x[gid.x] * p.factor', {});
  const signed = custom('own.signed', 'f32(p.shift)', { params: { n: 'u32', shift: 'i32' } });
  const call = (params: readonly number[] | Record<string, number>, of: Kernel = kernel): Tensor => {
    const [x, y] = [four(), empty(device, [4])];
    device.dispatch(of, [x.storage.window(), y.storage.window()], params, [1, 1, 1]);
    return y;
  };

  it('parameters come in order or by name, whatever its order', async () => {
    expect(await read(call([4, 0.5]))).toEqual([0.5, 1, 1.5, 2]);
    expect(await read(call({ factor: 2, n: 4 }))).toEqual([2, 4, 6, 8]);
    expect(await read(call({ n: 4, shift: -7 }, signed))).toEqual([-7, -7, -7, -7]);
    const [x, y] = [four(), empty(device, [4])];
    const windows = [x.storage.window(), y.storage.window()];
    const typed = { ...kernel, params: { n: 'u32', factor: 'f32' } } as const satisfies Kernel;
    device.dispatch(typed, windows, { n: 4, factor: 3 }, [1, 1, 1]);
    // @ts-expect-error the compiler knows the names
    expect(() => device.dispatch(typed, windows, { n: 4, scale: 3 }, [1, 1, 1])).toThrow(KernelError);
    expect(await read(y)).toEqual([3, 6, 9, 12]);
  });

  it.each([
    ['too few', [4], /1 parameters for 2; it takes n u32, factor f32/],
    ['none', [], /0 parameters for 2/],
    ['too many', [4, 1, 9], /3 parameters for 2/],
    ['a name missing', { n: 4 }, /parameter factor is missing; it takes n u32, factor f32/],
    ['a name too many', { n: 4, factor: 1, bias: 2 }, /has no parameter bias/],
    ['a fraction as u32', [1.5, 1], /parameter n is 1.5, which is no u32/],
    ['a negative u32', [-1, 1], /parameter n is -1/],
    ['u32 beyond its range', { n: 2 ** 32, factor: 1 }, /parameter n is 4294967296/],
    ['NaN as u32', [Number.NaN, 1], /parameter n is NaN/],
    ['a text', [4, '2' as unknown as number], /parameter factor is 2, which is no f32/],
    ['undefined', { n: 4, factor: undefined as unknown as number }, /parameter factor is undefined/],
  ] as const)('%s is refused', (_, params, message) => {
    expect(() => call(params)).toThrow(KernelError);
    expect(() => call(params)).toThrow(message);
  });

  it('i32 has its own range', () => {
    expect(() => call([4, 2 ** 31], signed)).toThrow(/parameter shift is 2147483648, which is no i32/);
    expect(() => call([4, 0.5], signed)).toThrow(/no i32/);
  });

  it('windows are counted, and must lie in their buffers', async () => {
    const [x, y] = [four(), empty(device, [4])];
    const [from, to] = [x.storage.window(), y.storage.window()];
    const given = (...windows: (typeof from)[]) => device.dispatch(kernel, windows, [4, 1], [1, 1, 1]);
    expect(() => given(from)).toThrow(/1 windows for 2 bindings \(x, y\)/);
    expect(() => given(from, to, to)).toThrow(/3 windows for 2 bindings/);
    expect(() => given({ ...from, offset: 4 }, to)).toThrow(/window 0 \(x\): begins at byte 4/);
    expect(() => given(from, { ...to, size: 0 })).toThrow(/window 1 \(y\): has 0 bytes/);
    expect(() => given(from, { ...to, size: to.buffer.bytes + 4 })).toThrow(/of a buffer of/);
    for (const grid of [
      [65536, 1, 1],
      [0.5, 1, 1],
      [-1, 1, 1],
    ] as const)
      expect(() => device.dispatch(kernel, [from, to], [4, 1], grid)).toThrow(/a grid of/);
    // Nothing of it has reached the device.
    expect(await read(call([4, 5]))).toEqual([5, 10, 15, 20]);
  });

  it("neurgrad's own kernels are counted as well", () => {
    const window = empty(device, [4]).storage.window();
    expect(() => device.dispatch(fill(), [window], [4], [1, 1, 1])).toThrow(/1 parameters for 2/);
    expect(() => device.dispatch(fill(), [], [4, 0], [1, 1, 1])).toThrow(/0 windows for 1/);
  });

  it('more than 16 parameters, an unknown type', () => {
    const many = Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`p${i}`, 'u32' as const]));
    expect(() => call([], { ...kernel, name: 'own.many', params: many })).toThrow(/17 parameters/);
    const odd = { n: 'u64' } as unknown as Kernel['params'];
    expect(() => call([1], { ...kernel, name: 'own.odd', params: odd })).toThrow(/of type u64/);
  });
});

describe.each(['immediate', 'uniform'] as const)(
  'a kernel that does not compile, parameters %s',
  (passing) => {
    let own: Device;
    beforeAll(async () => {
      own = await openDevice({ mask: { immediates: passing === 'immediate' } });
    });
    afterAll(() => own?.destroy());

    it.each([
      [
        'an unknown name',
        'x[gid.x] * nothing',
        /unresolved value 'nothing' in "y\[gid.x\] = x\[gid.x\] \* nothing;"/,
      ],
      ['a wrong type', 'vec2f(1.0)', /does not compile: .*vec2/],
      ['a missing bracket', '(x[gid.x]', /does not compile: expected/],
    ])('%s: its own fault, told once', async (what, expression, message) => {
      const good = four(own);
      const bad = custom(`own.bad.${what}`, expression);
      apply(bad, good, 1, own);
      const failed = own.finish();
      await expect(failed).rejects.toThrow(KernelError);
      await expect(failed).rejects.toThrow(message);
      await expect(failed).rejects.not.toThrow(/bug in neurgrad/);
      expect(await read(good)).toEqual([1, 2, 3, 4]);
      expect(await read(add(good, good))).toEqual([2, 4, 6, 8]);
      // Right under the same name, and wrong under it again.
      expect(await read(apply(custom(bad.name, 'x[gid.x] * p.factor'), good, 7, own))).toEqual([
        7, 14, 21, 28,
      ]);
    });

    it('takes nothing along that was recorded before, after and between', async () => {
      const x = four(own);
      const bad = custom('own.alone', 'x[gid.x] * nothing');
      const before = add(x, x);
      apply(bad, x, 1, own);
      const between = add(before, x);
      apply(bad, x, 1, own);
      apply(bad, x, 1, own);
      const after = add(between, x);
      await expect(after.read()).rejects.toThrow(/own.alone/);
      expect(await read(before)).toEqual([2, 4, 6, 8]);
      expect(await read(between)).toEqual([3, 6, 9, 12]);
      expect(await read(after)).toEqual([4, 8, 12, 16]);
      await own.finish();
    });

    it('what fits no device, and an entry point that is not there', async () => {
      const x = four(own);
      apply(custom('own.wide', '1.0', { workgroup: [4096, 1, 1] }), x, 1, own);
      await expect(own.finish()).rejects.toThrow(/own.wide": does not compile: .*workgroup/);
      apply(custom('own.entry', '', { body: 'fn other() {}' }), x, 1, own);
      await expect(own.finish()).rejects.toThrow(/own.entry": does not compile/);
      await own.finish();
    });

    it('what WebGPU refuses of a first dispatch is told as that kernel, too', async () => {
      const x = four(own);
      const window = x.storage.window();
      const doubles = custom('own.alias', 'x[gid.x]');
      own.dispatch(doubles, [window, window], [4, 1], [1, 1, 1]);
      const failed = own.finish();
      await expect(failed).rejects.toThrow(/own.alias": WebGPU refused its dispatch/);
      await own.finish();
      expect(await read(four(own))).toEqual([1, 2, 3, 4]);
      // It should have been written to.
      await expect(x.read()).rejects.toThrow(/own.alias": WebGPU refused its dispatch/);
    });

    it('in a recorded plan, fails by name at the replay', async () => {
      const x = four(own);
      const plan = record(own, () => scope(() => apply(custom('own.plan', 'nothing'), x, 1, own)));
      await expect(own.finish()).rejects.toThrow(/own.plan/);
      expect(() => plan.replay()).toThrow(/own.plan": does not compile/);
      plan.dispose();
      await own.finish();
    });
  },
);

it('variants of one kernel by memo()', async () => {
  const times = memo((k: number): Kernel => custom(`own.times.${k}`, `x[gid.x] * ${k}.0`));
  expect(await read(apply(times(2), four()))).toEqual([2, 4, 6, 8]);
  expect(await read(apply(times(3), four()))).toEqual([3, 6, 9, 12]);
  const careless = memo((k: number): Kernel => custom('own.times', `x[gid.x] * ${k}.0`));
  expect(await read(apply(careless(2), four()))).toEqual([2, 4, 6, 8]);
  expect(() => apply(careless(3), four())).toThrow(/own.times": its body differ/);
});

describe('what is no dispatch says so', () => {
  it.each<readonly [string, readonly unknown[], RegExp]>([
    ['no kernel', [undefined, [], [], [1, 1, 1]], /is no kernel: \{ name, bindings/],
    ['half a kernel', [{ name: 'own.half' }, [], [], [1, 1, 1]], /own.half": is no kernel/],
    ['no windows', ['kernel', undefined, [4, 1], [1, 1, 1]], /windows are undefined; give a list/],
    [
      'tensors for windows',
      ['kernel', ['tensor', 'tensor'], [4, 1], [1, 1, 1]],
      /windows are .*storage\.window\(\)/,
    ],
    ['one window', ['kernel', 'window', [4, 1], [1, 1, 1]], /windows are .*; give a list/],
    [
      'no parameters',
      ['kernel', ['window', 'window'], undefined, [1, 1, 1]],
      /parameters are undefined; it takes n u32/,
    ],
    [
      'a grid of a number',
      ['kernel', ['window', 'window'], [4, 1], 4],
      /grid is 4; give three whole numbers/,
    ],
    ['no grid', ['kernel', ['window', 'window'], [4, 1]], /grid is undefined; give three whole numbers/],
  ])('%s', async (_, given, message) => {
    const kernel = custom('own.said', 'x[gid.x] * p.factor');
    const x = four();
    const known: Readonly<Record<string, unknown>> = { kernel, tensor: x, window: x.storage.window() };
    const filled = (value: unknown): unknown =>
      Array.isArray(value) ? value.map(filled) : typeof value === 'string' ? known[value] : value;
    const call = (): unknown => device.dispatch(...(given.map(filled) as Parameters<Device['dispatch']>));
    expect(call).toThrow(KernelError);
    expect(call).toThrow(message);
    expect(await read(apply(kernel, x, 2))).toEqual([2, 4, 6, 8]);
  });
});
