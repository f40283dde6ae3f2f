/**
 * Conflicts in workgroup memory: wavefronts that a warp's accesses take on 32 banks of 4 bytes, NVIDIA's and AMD's layout, counted
 * from the addresses that the kernel itself works out, lane by lane.
 */

import type { Launch } from './evaluate.ts';
import { run } from './interpret.ts';
import type { Program } from './program.ts';
import type { Instruction } from './spirv.ts';

export const LANES = 32;
const BANKS = 32;
const WORD = 4;
/** Barriers after which a kernel's slabs repeat themselves. */
const BARRIERS = 8;
/** Instructions of a warp that a processor works on at once: the multiply-adds of a cycle are of so many warps. */
const WARPS_AT_ONCE = 4;

/** Wavefronts, in two readings between which hardware lies. */
export interface Wavefronts {
  /** 128 bytes of neighbouring lanes at a time: of 16-byte accesses, those of eight lanes. */
  readonly served: number;
  /** Lanes that read the same word share it over the whole warp. */
  readonly merged: number;
}

/** Most different words in one bank. */
function conflicts(addresses: readonly (number | undefined)[], bytes: number): number {
  const banks = new Map<number, Set<number>>();
  for (const address of addresses)
    if (address !== undefined)
      for (let word = address / WORD; word < (address + bytes) / WORD; word++) {
        const bank = Math.floor(word) % BANKS;
        banks.set(bank, (banks.get(bank) ?? new Set()).add(Math.floor(word)));
      }
  return Math.max(0, ...[...banks.values()].map((words) => words.size));
}

/** @param addresses bytes, by lane; nothing of a lane that has no part in it. @param bytes of each lane. */
export function wavefronts(addresses: readonly (number | undefined)[], bytes: number): Wavefronts {
  const together = Math.max(1, Math.min(LANES, (BANKS * WORD) / bytes));
  let served = 0;
  for (let first = 0; first < addresses.length; first += together)
    served += conflicts(addresses.slice(first, first + together), bytes);
  return { served, merged: conflicts(addresses, bytes) };
}

/** Wavefronts for each cycle of multiply-adds, of loads and stores together. */
export interface Traffic {
  readonly reads: Wavefronts;
  readonly stores: Wavefronts;
}

/** Of a kernel's first and last warp. @param program prepared traced. @returns null without multiply-adds, or where a run does not end. */
export function traffic(program: Program, launch: Launch): Traffic | null {
  if (program.shared.size === 0) return null;
  const { workgroup } = program.module;
  const warps = Math.ceil((workgroup[0] * workgroup[1] * workgroup[2]) / LANES);
  const sums = { reads: { served: 0, merged: 0 }, stores: { served: 0, merged: 0 } };
  let cycles = 0;
  for (const warp of new Set([0, warps - 1])) {
    const accesses = new Map<
      Instruction,
      { bytes: number; writes: boolean; turns: (number | undefined)[][] }
    >();
    let fma = 0;
    for (let lane = 0; lane < LANES; lane++) {
      const turns = new Map<Instruction, number>();
      const counts = run(program, launch, {
        invocation: warp * LANES + lane,
        barriers: BARRIERS,
        onAccess: (from, address, bytes, writes) => {
          const turn = turns.get(from) ?? 0;
          turns.set(from, turn + 1);
          const access = accesses.get(from) ?? { bytes, writes, turns: [] };
          accesses.set(from, access);
          access.turns[turn] ??= Array<number | undefined>(LANES).fill(undefined);
          access.turns[turn][lane] = address;
        },
      });
      if (!counts) return null;
      fma = Math.max(fma, counts.fma);
    }
    cycles += fma / WARPS_AT_ONCE;
    for (const { bytes, writes, turns } of accesses.values())
      for (const addresses of turns) {
        const { served, merged } = wavefronts(addresses, bytes);
        const sum = writes ? sums.stores : sums.reads;
        sum.served += served;
        sum.merged += merged;
      }
  }
  if (cycles === 0) return null;
  const per = ({ served, merged }: Wavefronts): Wavefronts => ({
    served: served / cycles,
    merged: merged / cycles,
  });
  return { reads: per(sums.reads), stores: per(sums.stores) };
}
