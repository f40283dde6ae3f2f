/**
 * Assembly as three compilers printed it, of the WGSL beside it in samples/ (`npm run isa -- --keep samples samples/*.wgsl`): counts of
 * the hottest loop and of the whole, by hand, and sealed sums, which a compiler keeps, against bare ones, which Mesa's do not.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readAssembly } from '../../../bench/compile/assembly.ts';
import { GEN } from '../../../bench/compile/gen.ts';
import { readPipeline } from '../../../bench/compile/mesa.ts';
import { RDNA } from '../../../bench/compile/rdna.ts';
import { SASS } from '../../../bench/compile/sass.ts';
import { undone } from '../../../bench/compile/seals.ts';

const sample = (name: string): string => readFileSync(new URL(`samples/${name}`, import.meta.url), 'utf8');

describe('what Mesa saved', () => {
  it('is read as statistics and loops, on RDNA', () => {
    const { wave, registers, spills, workgroupBytes, loops, hot } = readPipeline(sample('tile.navi31.isa'));
    expect({ wave, registers, spills, workgroupBytes, loops }).toEqual({
      wave: 64,
      registers: 24,
      spills: 0,
      workgroupBytes: 1024,
      loops: 1,
    });
    // A workgroup of one wave needs no barriers. A turn: one quad is loaded, stored and read again, and four times four multiply-adds follow.
    expect(hot).toMatchObject({
      fmaOps: 16,
      loads: 1,
      loadBytes: 16,
      shared: 2,
      sharedBytes: 32,
      barriers: 0,
    });
    expect(hot!.drains).toBeGreaterThan(0);
  });

  it('is read on Gen, where a message goes over two lines', () => {
    const { wave, spills, hot } = readPipeline(sample('sealed.dg2.isa'));
    expect({ wave, spills }).toEqual({ wave: 16, spills: 0 });
    expect(hot).toMatchObject({ fmaOps: 4, loads: 4, loadBytes: 64, scratch: 0, drains: null });
  });

  it('is refused where the driver cannot disassemble', () => {
    expect(() => readPipeline('Wave: 64\nInstructions: 40\n\n(no assembly)\n')).toThrow('does not know');
  });
});

it('reads SASS, the loop unrolled over two chunks or not', () => {
  const { hot, loops } = readAssembly(sample('sealed.sm_90.sass'), SASS, 32);
  expect(loops).toBe(1);
  expect(hot!.fmaOps % 8).toBe(0);
  expect(hot!.loadBytes / hot!.loads).toBe(16);
});

describe('sealed sums', () => {
  const four = { seals: 4, adds: 4 };
  it.each(['navi31', 'dg2'])('come out of the compiler of %s, bare ones do not', (family) => {
    const sealed = readPipeline(sample(`sealed.${family}.isa`)).seals;
    const bare = readPipeline(sample(`bare.${family}.isa`));
    expect(sealed).toEqual(four);
    expect(undone(four, sealed)).toBeNull();
    expect(bare.seals).toEqual({ seals: 0, adds: 0 });
    expect(undone(four, bare.seals)).toContain('chunks are undone');
    // One chain through the total: what the seal is for.
    expect(bare.hot!.fmaOps).toBe(8);
  });

  it('come out of nvcc, once in each copy of the loop', () => {
    const { seals } = readAssembly(sample('sealed.sm_90.sass'), SASS, 32);
    expect(seals.adds % 4).toBe(0);
    expect(seals.adds).toBeGreaterThanOrEqual(4);
    expect(undone(four, seals)).toBeNull();
  });

  const rdna = (...lines: string[]) =>
    readAssembly(lines.map((line) => `\t${line}`).join('\n'), RDNA, 64).seals;

  it('are told from swizzled addresses and from sums of something else', () => {
    expect(rdna('v_xor_b32_e32 v1, 16, v1', 'v_add_f32_e32 v2, v2, v1')).toEqual({ seals: 0, adds: 0 });
    expect(rdna('v_xor_b32_e32 v1, s4, v1', 'v_add_nc_u32_e32 v2, v2, v1')).toEqual({ seals: 1, adds: 0 });
    expect(rdna('v_xor_b32_e32 v1, s4, v1', 'v_mov_b32_e32 v1, 0', 'v_add_f32_e32 v2, v2, v1').adds).toBe(0);
    expect(rdna('v_xor_b32_e32 v1, s4, v1', 'ds_store_b32 v0, v1', 'v_add_f32_e32 v2, v1, v2').adds).toBe(1);
  });

  it('count two in an instruction that is two', () => {
    const two = 'v_dual_add_f32 v4, v4, v1 :: v_dual_add_f32 v5, v5, v2';
    expect(rdna('v_xor_b32_e32 v1, s4, v1', 'v_xor_b32_e32 v2, s4, v2', two).adds).toBe(2);
  });

  it('count half a number for half a wave', () => {
    const half = [
      'xor(16)         g10<1>UD        g20<1,1,0>UD    g2.1<0,1,0>UD',
      'add(16)         g30<1>F         g30<1,1,0>F     g10<1,1,0>F',
    ];
    expect(readAssembly(half.join('\n'), GEN, 32).seals).toEqual({ seals: 0.5, adds: 0.5 });
  });
});

it('counts products of matrices apart from how their factors are rounded, on RDNA', () => {
  const text = [
    ...[
      'BB1:',
      '\tv_fma_mixlo_f16 v2, 1.0, v8, neg(0) op_sel_hi:[0,0,1]',
      '\tv_fma_mixhi_f16 v2, v1, v9, v2',
    ],
    ...['\tv_wmma_f32_16x16x16_f16 v[16:19], v[0:7], v[8:15], v[16:19]', '\ts_cbranch_scc1 BB1'],
  ].join('\n');
  expect(readAssembly(text, RDNA, 64).hot).toMatchObject({ issued: 4, matrixOps: 1, fma: 2, fmaOps: 65 });
});

describe('loops', () => {
  const set = { ...RDNA };
  it('leave out the loops inside of them, and a deeper one is hotter', () => {
    const text = [
      ...['BB1:', '\tv_mul_f32_e32 v0, v1, v2', '\tv_fma_f32 v0, v1, v2, v0', '\tv_fma_f32 v0, v1, v2, v0'],
      ...['BB2:', '\tv_fma_f32 v3, v1, v2, v3', '\ts_cbranch_scc1 BB2', '\ts_cbranch_scc1 BB1', '\ts_endpgm'],
    ].join('\n');
    const { loops, hot, hotText, whole } = readAssembly(text, set, 64);
    expect(loops).toBe(2);
    expect(hotText).toBe('v_fma_f32 v3, v1, v2, v3\ns_cbranch_scc1 BB2');
    expect(hot).toMatchObject({ issued: 2, fma: 1, fmaOps: 1, branches: 1 });
    expect(whole).toMatchObject({ issued: 7, fma: 3, valu: 4 });
  });

  it('are none where nothing jumps back', () => {
    expect(
      readAssembly('\ts_cbranch_scc1 BB3\n\tv_mov_b32_e32 v0, 0\nBB3:\n\ts_endpgm', set, 64),
    ).toMatchObject({ loops: 0, hot: null });
  });
});
