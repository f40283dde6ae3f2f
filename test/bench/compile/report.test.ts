/** From the layer's lines to phases, from phases to an estimate, from two reports to what changed; and how a missing compiler is told. */

import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { FamilyReport, Kernel } from '../../../bench/compile/analyse.ts';
import { changes } from '../../../bench/compile/changes.ts';
import type { Counts } from '../../../bench/compile/interpret.ts';
import { type Compiled, readPipeline } from '../../../bench/compile/mesa.ts';
import { estimate, GPUS } from '../../../bench/compile/model.ts';
import { readRecording } from '../../../bench/compile/record.ts';
import { passes, toText } from '../../../bench/compile/report.ts';

describe('a recording', () => {
  const recording = readRecording(
    [
      'P a1 00ff Dawn_ShaderModule_matmul.f32',
      'P b2 01ff Dawn_ShaderModule_copy',
      ...[
        'D a1 2 1 1 01000000 64 128',
        'S 3',
        'M twice',
        'D a1 4 1 1 02000000 64 128',
        'D a1 4 1 1 02000000 64 128',
      ],
      ...['C 16', 'S 5', 'D b2 1 1 1 - 32', 'S 1', 'M', 'D b2 9 9 9 -', 'S 2', 'E refused', ''],
    ].join('\n'),
  );

  it('names pipelines by their labels, and has the first dispatch of each', () => {
    expect([...recording.pipelines]).toEqual([
      ['00ff', 'matmul.f32'],
      ['01ff', 'copy'],
    ]);
    expect(recording.launches.get('00ff')).toMatchObject({ grid: [2, 1, 1], bound: [64, 128] });
    expect([...recording.launches.get('00ff')!.parameters]).toEqual([1, 0, 0, 0]);
    expect(recording.launches.get('01ff')).toMatchObject({ grid: [1, 1, 1], bound: [32] });
    expect(recording.errors).toEqual(['refused']);
  });

  it('counts what lies inside of a phase', () => {
    expect(recording.phases).toHaveLength(1);
    expect(recording.phases[0]).toMatchObject({
      name: 'twice',
      dispatches: 3,
      submits: 2,
      barriers: 6,
      copies: 1,
    });
    expect(recording.phases[0]!.streams.map(({ hash, times }) => [hash, times])).toEqual([
      ['00ff', 2],
      ['01ff', 1],
    ]);
  });
});

const compiled: Compiled = readPipeline('Wave: 64\nInstructions: 1\nVGPRs: 32\n\nBB0:\n\ts_endpgm\n');
const counts: Counts = {
  ...{
    alu: 0,
    fma: 0,
    loads: 0,
    stores: 0,
    sharedLoads: 0,
    sharedStores: 0,
    sharedBytes: 0,
    barriers: 0,
    cold: 0,
  },
  ...{ seals: 0, sealedAdds: 0, outputs: 0, rounds: 0, sharedRounds: 0, bytes: new Map() },
};

describe('the model', () => {
  const kernel = { ...compiled, workgroup: [64, 1, 1] as const };
  it('takes a dispatch that does nothing for its launch', () => {
    expect(estimate(GPUS.h200, kernel, counts, { grid: [1, 1, 1], bound: [] })).toEqual({
      time: 3,
      limit: 'launch',
    });
  });
  it('takes bytes that are touched once for bandwidth', () => {
    const once = { ...counts, bytes: new Map([[0, 16]]) };
    const { time, limit } = estimate(GPUS.h200, kernel, once, { grid: [2 ** 20, 1, 1], bound: [2 ** 30] });
    expect(limit).toBe('memory');
    expect(time).toBeCloseTo(2 ** 30 / 4800e3, 6);
  });
  it('has no more bytes than are bound', () => {
    const again = { ...counts, bytes: new Map([[0, 16]]) };
    const { time } = estimate(GPUS.h200, kernel, again, { grid: [2 ** 20, 1, 1], bound: [2 ** 20] });
    // All threads load from the caches of 132 processors.
    expect(time).toBeCloseTo(2 ** 30 / (132 * 64) / 1980, 3);
  });
});

const kernel = (label: string, more: Partial<Kernel> = {}): Kernel => ({
  ...compiled,
  label,
  hash: label,
  workgroup: [64, 1, 1],
  text: { seals: 0, adds: 0 },
  order: null,
  fault: null,
  traffic: null,
  ...more,
});
const report = (...kernels: Kernel[]): FamilyReport => ({
  family: 'navi31',
  kernels,
  phases: [],
  errors: [],
  untranslated: [],
});

describe('what is told', () => {
  it('says where no kernel folds chunks', () => {
    const text = toText([report(kernel('matmul.a'))], 5, false);
    expect(text).toContain('navi31: no kernel folds chunks yet');
    expect(text).toContain('navi31: none of 1 kernels spills');
  });

  it('names what was undone, what has no chunks and what spills', () => {
    const order = 'sealed';
    const fault = 'chunks are undone';
    const good = [
      kernel('matmul.a', { order }),
      kernel('matmul.gemv', { order: 'handed on' }),
      kernel('matmul.units.d', { order: 'units' }),
    ];
    expect(passes([report(...good)])).toBe(true);
    expect(passes([report(...good, kernel('matmul.b', { order, fault }))])).toBe(false);
    expect(passes([report(...good, kernel('matmul.c', { order: 'one chain' }))])).toBe(false);
    expect(passes([report(kernel('matmul.c', { order: 'one chain' }))])).toBe(true);
    const told = toText(
      [
        report(
          ...good,
          kernel('matmul.b', { order, fault, spills: 7 }),
          kernel('matmul.c', { order: 'one chain' }),
        ),
      ],
      5,
      false,
    );
    expect(told).toContain(
      '1 of 2 kernels that seal chunks add every sum sealed, 1 hand them to another lane',
    );
    expect(told).toContain('matmul.b chunks are undone');
    expect(told).toContain('matmul.c sums K in one chain');
    expect(told).toContain('1 of 5 kernels spill registers: matmul.b (7)');
  });

  it('says what a product of matrices takes, by family, and what was undone there', () => {
    const rounded = kernel('matmul.units.f32', { order: 'units' });
    const units = {
      ...rounded,
      hot: { ...rounded.whole, issued: 147, matrixOps: 32, fma: 32, fmaOps: 2048 },
      registers: 180,
    };
    const none = { ...report(rounded), family: 'dg2' };
    const told = toText([report(units), none], 5, false);
    expect(told).toMatch(/matmul\.units\.f32 │\s*4\.6 \(147 \/ 32\) 180 │\s*– │/);
    expect(told).not.toContain('hottest loop of');
    const fault = 'chunks are undone';
    expect(passes([report({ ...units, fault })])).toBe(false);
    expect(toText([report({ ...units, fault })], 5, false)).toContain('matmul.units.f32 chunks are undone');
  });

  it('compares with an earlier report', () => {
    const text = changes(
      [report(kernel('a'), kernel('gone'))],
      [report(kernel('a', { registers: 40 }), kernel('b'))],
    );
    expect(text).toMatch(/a\s*│ -\s*│ registers\s*│\s*32 │\s*40/);
    expect(text).toContain('gone: gone');
    expect(text).toContain('new: b');
  });
});

describe('npm run isa', () => {
  const isa = (env: Record<string, string>, ...args: string[]) =>
    spawnSync(process.execPath, ['dist/bench/compile/main.js', ...args], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });

  it.each([
    ['a compiler', { PATH: '/nowhere' }, ['--family', 'navi31'], /gcc is missing|needs Linux/],
    ['nvcc', { NVCC: '/nowhere/nvcc' }, ['--family', 'sm_90'], /no nvcc: set NVCC/],
    ['a family', {}, ['--family', 'voodoo2'], /no "voodoo2"; there are navi31/],
    ['a file', {}, ['--family', 'navi31', 'nowhere.wgsl'], /nowhere\.wgsl: no WGSL file/],
  ] as const)('says in one line that there is no such thing: %s', (_, env, args, message) => {
    const { status, stderr } = isa(env, ...args);
    expect(stderr.trim()).toMatch(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(2);
  });
});
