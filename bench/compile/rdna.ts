/** RDNA, the assembly of AMD's GPUs, as Mesa's RADV prints it. */

import { type Classified, type InstructionSet, jumpsOf } from './assembly.ts';
import type { SealLine } from './seals.ts';

const mnemonic = (line: string): string => line.split(/\s/, 1)[0]!;

/** A product of matrices, of all lanes together. */
const MATRICES = /^v_wmma_.*16x16x16/;
/** How numbers are rounded to f16, two a register. */
const ROUNDS = /^v_fma_mix(lo|hi)_f16 v\d+, 1\.0, v\d+, neg\(0\)/;

/** Multiply-adds of a lane; an instruction of RDNA3 may be two, joined by `::`. */
function multiplyAdds(line: string, wave: number): number {
  if (ROUNDS.test(line)) return 0;
  const one = (name: string): number => {
    if (/^v_(pk_fma|dot2|dual_dot2)/.test(name)) return 2;
    if (/^v_dot4/.test(name)) return 4;
    if (MATRICES.test(name)) return 16 ** 3 / wave;
    const fused = /^v_(dual_)?(fma|mad|mac)(c|ak|mk|_mix|_mixlo|_mixhi)?_(f32|f16|legacy_f32|dx9_zero_f32)/;
    return fused.test(name) ? 1 : 0;
  };
  return line.split('::').reduce((sum, part) => sum + one(part.trim()), 0);
}

const BYTES: Readonly<Record<string, number>> = {
  ubyte: 1,
  ushort: 2,
  u8: 1,
  u16: 2,
  d16: 2,
  dword: 4,
  dwordx2: 8,
  dwordx3: 12,
  dwordx4: 16,
  b32: 4,
  b64: 8,
  b96: 12,
  b128: 16,
};

function classify(line: string, wave: number): Classified {
  const name = mnemonic(line);
  const bytes = BYTES[name.split('_').find((part) => part in BYTES) ?? ''] ?? 4;
  if (/^s_(wait|delay_alu|clause|nop|sleep|set_inst|sendmsg)/.test(name))
    return { kind: 'waits', drains: /^s_waitcnt .*(vm|lgkm)cnt\(0\)/.test(line) ? 1 : 0 };
  if (/^s_(c?branch|setpc|swappc|endpgm)/.test(name)) return { kind: 'branches' };
  if (/^s_barrier/.test(name)) return { kind: 'barriers' };
  if (/^s_(buffer_)?load|^s_(dcache|gl1)/.test(name)) return { kind: 'smem' };
  if (name.startsWith('s_')) return { kind: 'salu' };
  if (name.startsWith('ds_'))
    return {
      kind: 'shared',
      sharedBytes: bytes * (/2addr|2st64|read2|write2|load_2|store_2/.test(name) ? 2 : 1),
    };
  if (name.startsWith('scratch_')) return { kind: 'vmem', scratch: 1 };
  if (/^(buffer|global|flat|tbuffer|image)_/.test(name))
    return { kind: 'vmem', ...(/load/.test(name) ? { loads: 1, loadBytes: bytes } : {}) };
  return { kind: 'valu', fmaOps: multiplyAdds(line, wave), matrixOps: MATRICES.test(name) ? 1 : 0 };
}

const seals = (line: string): SealLine[] =>
  line.split('::').map((part): SealLine => {
    const name = mnemonic(part.trim());
    // Only vector instructions write vector registers first; a store reads all it names.
    const registers = [...part.matchAll(/\bv(\d+)\b|\bv\[(\d+):(\d+)\]/g)].map(([, one, from, to]) =>
      one === undefined
        ? Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => `v${Number(from) + i}`)
        : [`v${one}`],
    );
    const stores = /store|write/.test(name);
    const [writes = [], reads] = stores ? [[], registers.flat()] : [registers[0], registers.slice(1).flat()];
    const xor = /^v_xor_b32/.test(name) && !/[ ,]-?(0x[0-9a-f]+|\d+)\b/.test(part);
    const kind = xor ? 'xor' : /^v_(dual_)?add_f32/.test(name) ? 'add' : 'other';
    return { kind, reads, writes, lanes: 1 };
  });

function read(text: string): ReturnType<InstructionSet['read']> {
  const code: string[] = [];
  const labels = new Map<string, number>();
  for (const raw of text.split('\n')) {
    const label = /^(BB\d+):/.exec(raw)?.[1];
    const repeated = /^\t\(then repeated (\d+) times\)/.exec(raw)?.[1];
    const line = raw.replace(/[;/]{1,2} .*$/, '').trim();
    if (label) labels.set(label, code.length);
    else if (repeated) code.push(...Array<string>(Number(repeated)).fill(code.at(-1)!));
    else if (/^[a-z]+_/.test(line)) code.push(line);
  }
  return { code, jumps: jumpsOf(code, labels, /^s_c?branch\w*\s+(BB\d+)/) };
}

export const RDNA: InstructionSet = { read, classify, seals, drains: true };
