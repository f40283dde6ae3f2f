/** Wavefronts of workgroup memory on layouts whose conflicts are counted by hand, and of a kernel that works its addresses out. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LANES, traffic, wavefronts } from '../../../bench/compile/banks.ts';
import { prepare } from '../../../bench/compile/program.ts';
import { parseModule } from '../../../bench/compile/spirv.ts';

const warp = (address: (lane: number) => number | undefined): (number | undefined)[] =>
  Array.from({ length: LANES }, (_, lane) => address(lane));

describe('wavefronts', () => {
  it.each([
    ['words side by side', (lane: number) => 4 * lane, 4, 1, 1],
    ['one word for all', () => 400, 4, 1, 1],
    ['every other word', (lane: number) => 8 * lane, 4, 2, 2],
    ['one bank', (lane: number) => 128 * lane, 4, 32, 32],
    ['a pitch of 33 words', (lane: number) => 132 * lane, 4, 1, 1],
    ['pairs side by side', (lane: number) => 8 * lane, 8, 2, 2],
    ['quads side by side', (lane: number) => 16 * lane, 16, 4, 4],
    ['one quad for all', () => 16, 16, 4, 1],
    // Eight lanes meet four groups of banks, twice each.
    ['two neighbouring quads a lane, the first', (lane: number) => 32 * (lane % 8), 16, 8, 2],
    ['quads a column apart', (lane: number) => 16 * (lane % 8), 16, 4, 1],
    ['quads in one group of banks', (lane: number) => 128 * lane, 16, 32, 32],
    ['nobody', () => undefined, 4, 0, 0],
  ] as const)('of %s', (_, address, bytes, served, merged) => {
    expect(wavefronts(warp(address), bytes)).toEqual({ served, merged });
  });

  it('are those of the lanes that take part', () => {
    expect(
      wavefronts(
        warp((lane) => (lane < 4 ? 128 * lane : undefined)),
        4,
      ).served,
    ).toBe(4);
  });
});

it('are counted from the addresses of tile.wgsl, for each cycle of its multiply-adds', () => {
  const module = parseModule(readFileSync(new URL('samples/tile.spv', import.meta.url)));
  const launch = {
    grid: [1, 1, 1] as const,
    parameters: new Uint8Array(Uint32Array.from([100, 64]).buffer),
    bound: [],
  };
  // A turn of a warp: 16 multiply-adds are 4 cycles; 32 quads in order are stored in 4 wavefronts, every other one is read in 8.
  expect(traffic(prepare(module, LANES, true), launch)).toEqual({
    stores: { served: 1, merged: 1 },
    reads: { served: 2, merged: 2 },
  });
});
