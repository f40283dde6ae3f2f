/** The device: profiler, typed errors, loss, and a process that ends by itself. */

import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  add,
  affine,
  argmax,
  chromeTrace,
  type Device,
  DeviceError,
  DeviceLostError,
  gatherRows,
  matmul,
  openDevice,
  reshape,
  scope,
  softmax,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { unary } from '../../kernels/index.ts';
import { open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

it('reads 0 of Dawn’s null backend, which runs nothing and tells of no index out of range', async () => {
  const nothing = await openDevice({ backend: 'null' });
  for (let turn = 0; turn < 3; turn++) {
    const x = tensor(nothing, new Float32Array(4096).fill(turn + 1));
    const rows = argmax(reshape(add(x, x), [64, 64]));
    expect(new Set(await gatherRows(reshape(x, [64, 64]), rows).read())).toEqual(new Set([0]));
    await nothing.finish();
  }
  nothing.destroy();
});

describe('the profiler', () => {
  const work = (on: Device): void =>
    scope(() => {
      const [a, b] = [zeros(on, [33, 64]), zeros(on, [64, 20])];
      for (let i = 0; i < 3; i++) matmul(a, b);
      softmax(a);
    });

  it('counts dispatches, operations and bytes, and times them where the device can', async () => {
    device.startProfiling();
    work(device);
    const rows = await device.stopProfiling();
    const product = rows.find((r) => r.kernel.startsWith('matmul'))!;
    expect(product.dispatches).toBe(3);
    expect(product.flops).toBe(3 * 2 * 33 * 64 * 20);
    expect(product.bytes).toBe(3 * 4 * (33 * 64 + 64 * 20 + 33 * 20));
    expect(rows.find((r) => r.kernel === 'fill')!.dispatches).toBe(2);
    expect(rows.find((r) => r.kernel.startsWith('softmax'))!.dispatches).toBe(1);
    for (const { nanoseconds } of rows)
      if (device.capabilities.timestamps) expect(nanoseconds).toBeGreaterThanOrEqual(0);
      else expect(nanoseconds).toBeNull();
    if (device.capabilities.timestamps) {
      expect(product.nanoseconds).toBeGreaterThan(0);
      expect(product.nanoseconds).toBeLessThan(60e9);
    }
    // Nothing is counted before or after.
    work(device);
    expect(await device.stopProfiling()).toEqual([]);
    device.startProfiling();
    expect(await device.stopProfiling()).toEqual([]);
  });

  it('writes spans as a Chrome trace with rates and the share of the nearer ceiling', () => {
    // 2000 operations and 500 bytes in a microsecond: 2 of 10 GFLOP/s, 0.5 of 1 GB/s.
    const span = { kernel: 'k', flops: 2000, bytes: 500, begin: 3000, end: 4000 };
    const trace = JSON.parse(chromeTrace([span], { flopsPerSecond: 10e9, bytesPerSecond: 1e9 }));
    expect(trace.traceEvents).toEqual([
      expect.objectContaining({
        ...{ name: 'k', ph: 'X', ts: 3, dur: 1 },
        args: { 'GFLOP/s': 2, 'GB/s': 0.5, 'share of ceiling': 0.5 },
      }),
    ]);
  });

  it('spans say the work of each dispatch', async () => {
    device.startProfiling();
    work(device);
    const spans = await device.profiledSpans();
    await device.stopProfiling();
    const products = spans.filter((s) => s.kernel.startsWith('matmul'));
    expect(products.length).toBe(device.capabilities.timestamps ? 3 : 0);
    for (const product of products) {
      expect(product.flops).toBe(2 * 33 * 64 * 20);
      expect(product.bytes).toBe(4 * (33 * 64 + 64 * 20 + 33 * 20));
      expect(product.end).toBeGreaterThanOrEqual(product.begin);
    }
  });

  it('survives more dispatches than it can time at once', async () => {
    device.startProfiling();
    const x = zeros(device, [4]);
    for (let i = 0; i < 5000; i++) affine(x, 1, i).dispose();
    const [first] = await device.stopProfiling();
    expect(first!.kernel).toBe('unary.affine');
    expect(first!.dispatches).toBe(5000);
    x.dispose();
  });

  it('says null instead of a time without timestamps', async () => {
    const own = await open({ mask: { timestamps: false } });
    try {
      own.startProfiling();
      work(own);
      const rows = await own.stopProfiling();
      expect(rows.length).toBeGreaterThan(2);
      expect(rows.every((r) => r.nanoseconds === null && r.dispatches > 0)).toBe(true);
    } finally {
      own.destroy();
    }
  });
});

describe('errors', () => {
  it('an adapter that does not exist', async () => {
    await expect(openDevice({ adapterName: 'no such adapter' })).rejects.toThrow(DeviceError);
  });

  it('an entry point without adapters', async () => {
    const gpu = { requestAdapter: async () => null } as unknown as GPU;
    await expect(openDevice({ gpu })).rejects.toThrow(/no WebGPU adapter; install/);
  });

  it('a command that WebGPU refuses is told at the next readback, and the device goes on', async () => {
    const own = await open();
    try {
      const t = zeros(own, [128]);
      // Read and written at once.
      const window = t.storage.window();
      own.dispatch(unary('affine'), [window, window], [4, 1, 0], [1, 1, 1]);
      await expect(t.read()).rejects.toThrow(/WebGPU refused a command/);
      const u = affine(zeros(own, [2]), 1, 3);
      expect([...(await u.read())]).toEqual([3, 3]);
    } finally {
      own.destroy();
    }
  });

  it('a lost device is a typed error at every readback from then on', async () => {
    const own = await open();
    const t = add(tensor(own, [1]), tensor(own, [2]));
    const waiting = own.lost;
    own.gpu.destroy();
    await expect(t.read()).rejects.toThrow(DeviceLostError);
    expect((await waiting).reason).toBe('destroyed');
    await expect(t.read()).rejects.toThrow(/device was lost .* MiB held; open a new one/);
    await expect(own.finish()).rejects.toThrow(DeviceLostError);
    expect(() => own.check()).toThrow(DeviceLostError);
    own.destroy();
    own.destroy();
    await expect(t.read()).rejects.toThrow(/has been destroyed/);
  });

  it("one device's end does not touch another", async () => {
    const [a, b] = [await open(), await open()];
    a.destroy();
    expect(await affine(tensor(b, [2]), 2, 0).item()).toBe(4);
    b.destroy();
  });
});

describe('a script', () => {
  const root = fileURLToPath(new URL('../../', import.meta.url));
  let folder: string;
  beforeAll(async () => {
    // Inside node_modules, so that the script finds npm webgpu.
    const cache = join(root, 'node_modules', '.cache');
    await mkdir(cache, { recursive: true });
    folder = await mkdtemp(join(cache, 'neurgrad-script-'));
    await build({
      root,
      configFile: false,
      logLevel: 'error',
      build: {
        ssr: 'engine/index.ts',
        outDir: folder,
        minify: false,
        emptyOutDir: false,
        rollupOptions: { output: { entryFileNames: 'engine.mjs' } },
      },
    });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** Runs a script; rejects if it has not ended after a minute. */
  async function run(name: string, lines: string): Promise<{ code: number | null; output: string }> {
    const path = join(folder, `${name}.mjs`);
    await writeFile(
      path,
      `import { openDevice, tensor, affine, zeros, matmul } from './engine.mjs';\n${lines}`,
    );
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, ['--expose-gc', path], { stdio: ['ignore', 'pipe', 'ignore'] });
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(`${name} did not end by itself; it said ${output}`));
      }, 60_000);
      child.on('exit', (code) => {
        clearTimeout(timer);
        resolve({ code, output });
      });
    });
  }
  const compute = `const t = affine(tensor(device, [1, 2]), 2, 1);\nconsole.log([...await t.read()].join());`;

  it('that destroys its device ends', async () => {
    const { code, output } = await run(
      'destroys',
      `const device = await openDevice();\n${compute}\ndevice.destroy();`,
    );
    expect({ code, output }).toEqual({ code: 0, output: '3,5\n' });
  });

  it('that forgets to, ends too', async () => {
    const { code, output } = await run(
      'forgets',
      `const device = await openDevice();\n${compute}\nglobalThis.kept = device;`,
    );
    expect({ code, output }).toEqual({ code: 0, output: '3,5\n' });
  });

  it('that forgets to with work under way, ends too', async () => {
    const { code } = await run(
      'busy',
      `const device = await openDevice();
const a = zeros(device, [64, 64]);
for (let i = 0; i < 250; i++) matmul(a, a);
device.finish();
matmul(a, a);`,
    );
    expect(code).toBe(0);
  });

  it('that keeps only a tensor keeps the device', async () => {
    const { code, output } = await run(
      'keeps',
      `let t = await (async () => {
  const device = await openDevice();
  return affine(tensor(device, [1, 2]), 2, 1);
})();
for (let i = 0; i < 20; i++) { globalThis.gc(); await new Promise((done) => setTimeout(done, 5)); }
const reading = t.read();
t = null;
globalThis.gc();
console.log([...await reading].join());`,
    );
    expect({ code, output }).toEqual({ code: 0, output: '3,5\n' });
  });
});
