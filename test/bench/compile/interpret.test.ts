/** SPIR-V as Dawn made it of the WGSL beside it in samples/: what one invocation does, what is sealed, and its words in CUDA. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toCuda } from '../../../bench/compile/cuda.ts';
import type { Launch } from '../../../bench/compile/evaluate.ts';
import { run } from '../../../bench/compile/interpret.ts';
import { prepare } from '../../../bench/compile/program.ts';
import { sealsInText } from '../../../bench/compile/seals.ts';
import { type Module, parseModule } from '../../../bench/compile/spirv.ts';

const module = (name: string): Module =>
  parseModule(readFileSync(new URL(`samples/${name}.spv`, import.meta.url)));
const launch = (...parameters: number[]): Launch => ({
  grid: [16, 1, 1],
  parameters: new Uint8Array(Uint32Array.from(parameters).buffer),
  bound: [65536, 65536],
});

describe('an invocation of tile.wgsl', () => {
  it('turns as often as its parameter says', () => {
    const counts = run(prepare(module('tile'), 64), launch(10, 1000))!;
    expect(counts).toMatchObject({ fma: 160, loads: 10, stores: 1, outputs: 4, barriers: 20, rounds: 10 });
    expect(counts).toMatchObject({ sharedLoads: 10, sharedStores: 10, sharedBytes: 320, sharedRounds: 10 });
    expect([...counts.bytes].sort()).toEqual([
      [0, 160],
      [1, 16],
    ]);
  });

  it('stores nothing outside of its rows', () => {
    // The first one of the middle workgroup is number 512.
    expect(run(prepare(module('tile'), 64), launch(1, 512))!.stores).toBe(0);
    expect(run(prepare(module('tile'), 64), launch(1, 513))!.stores).toBe(1);
    expect(run(prepare(module('tile'), 64), launch(1, 513), { invocation: 1 })!.stores).toBe(0);
  });

  it('says which words it accesses', () => {
    const seen: [number, number, boolean][] = [];
    run(prepare(module('tile'), 32, true), launch(2, 0), {
      invocation: 33,
      onAccess: (_, address, bytes, writes) => seen.push([address, bytes, writes]),
    });
    const turn = [
      [33 * 16, 16, true],
      [2 * 16, 16, false],
    ];
    expect(seen).toEqual([...turn, ...turn]);
  });

  it('ends at a barrier where it is told to, and is given up where it would not end', () => {
    expect(run(prepare(module('tile'), 64), launch(1e9, 0))).toBeNull();
    expect(run(prepare(module('tile'), 64, true), launch(1e9, 0), { barriers: 8 })!.fma).toBe(64);
  });
});

describe('seals', () => {
  it.each([
    ['sealed', 4],
    ['called', 4],
    ['bare', 0],
    ['tile', 0],
  ] as const)('of %s.wgsl are %i', (name, count) => {
    expect(sealsInText(module(name))).toEqual({ seals: count, adds: count });
  });

  it('are met once a chunk and output', () => {
    // Three chunks, since 64 * 2 < 150.
    const counts = run(prepare(module('sealed'), 64), launch(150, 0))!;
    expect(counts).toMatchObject({ seals: 12, sealedAdds: 12, outputs: 4, fma: 24 });
    expect(run(prepare(module('called'), 64), launch(150, 0))).toMatchObject({ seals: 12, outputs: 4 });
  });
});

describe('CUDA', () => {
  it('has every block, the bounds of buffers, and barriers', () => {
    const text = toCuda(module('tile'));
    expect(text).toContain('__launch_bounds__(64)');
    expect(text.match(/__syncthreads\(\)/g)).toHaveLength(2);
    expect(text).toMatch(/load\(v\d+\.m0\.v\[v\d+\], v\d+ < n\d+\)/);
    expect(text).toMatch(/__shared__ Arr<Vec<f32, 4>, 64u>/);
    expect(text.match(/op_fma\(/g)).toHaveLength(4);
  });

  it('calls functions', () => {
    expect(toCuda(module('called')).match(/ = op_cast<f32>\(fn|= fn\d+\(v/g)).toHaveLength(4);
  });
});

it('takes SPIR-V alone', () => {
  expect(() => parseModule(new Uint8Array(20))).toThrow('no SPIR-V');
});
