/**
 * Machine code as classes of instructions: of the whole kernel, and of its hottest loop. What is particular to a maker's
 * assembly stands in rdna.ts (AMD), gen.ts (Intel) and sass.ts (NVIDIA).
 */

import { type SealLine, sealsInAssembly } from './seals.ts';

/** What one instruction is. */
export interface Classified {
  readonly kind: 'valu' | 'salu' | 'smem' | 'vmem' | 'shared' | 'branches' | 'barriers' | 'waits';
  /** Multiply-adds of one lane. */
  readonly fmaOps?: number;
  /** Products of matrix units. */
  readonly matrixOps?: number;
  /** Loads from buffers; bytes of a lane. */
  readonly loads?: number;
  readonly loadBytes?: number;
  /** Of workgroup memory. */
  readonly sharedBytes?: number;
  /** Accesses to registers that were spilled to memory. */
  readonly scratch?: number;
  /** Waits until no load is under way. */
  readonly drains?: number;
}

/** Counts of instructions. */
export interface Mix {
  /** All but waits and hints. */
  issued: number;
  /** Vector and scalar arithmetic, scalar and vector memory, workgroup memory. */
  valu: number;
  salu: number;
  smem: number;
  vmem: number;
  shared: number;
  branches: number;
  barriers: number;
  waits: number;
  /** Instructions that carry multiply-adds, and how many of one lane they carry. */
  fma: number;
  fmaOps: number;
  /** Products of matrix units, also among the two above. */
  matrixOps: number;
  loads: number;
  loadBytes: number;
  sharedBytes: number;
  scratch: number;
  /** Null where the assembly does not tell. */
  drains: number | null;
}

export interface InstructionSet {
  /** Lines of code, and for each jump the lines that it leads from and to. */
  readonly read: (text: string) => {
    readonly code: readonly string[];
    readonly jumps: readonly (readonly [from: number, to: number])[];
  };
  /** @param wave lanes of a wave. */
  readonly classify: (line: string, wave: number) => Classified;
  readonly seals: (line: string, wave: number) => readonly SealLine[];
  /** Waits for all loads can be told. */
  readonly drains: boolean;
}

export interface Assembly {
  readonly whole: Mix;
  readonly loops: number;
  /** Of the hottest loop, without the loops inside of it; null where there is none. */
  readonly hot: Mix | null;
  readonly hotText: string;
  /** Numbers of a lane that are sealed, and added sealed (seals.ts). */
  readonly seals: { readonly seals: number; readonly adds: number };
}

/** How much more a loop counts for each loop around it. */
const TURNS = 16;

/** Machine code of one kernel. */
export function readAssembly(text: string, set: InstructionSet, wave: number): Assembly {
  const { code, jumps } = set.read(text);
  const mix = (lines: readonly string[]): Mix =>
    mixOf(
      lines.map((line) => set.classify(line, wave)),
      set.drains,
    );
  // Compilers lay a loop out in one piece: from the target of a jump back to the last such jump.
  const ends = new Map<number, number>();
  for (const [from, to] of jumps) if (to <= from) ends.set(to, Math.max(from, ends.get(to) ?? 0));
  const spans = [...ends].map(([begin, end]) => ({ begin, end }));
  const within = (a: (typeof spans)[number], b: (typeof spans)[number]): boolean =>
    a !== b && a.begin >= b.begin && a.end <= b.end;
  const loops = spans.map((span) => {
    const inner = spans.filter((other) => within(other, span));
    const lines = code.filter(
      (_, i) => i >= span.begin && i <= span.end && !inner.some(({ begin, end }) => i >= begin && i <= end),
    );
    return { lines, mix: mix(lines), depth: spans.filter((other) => within(span, other)).length };
  });
  const key = loops.some((loop) => loop.mix.fmaOps > 0) ? 'fmaOps' : 'issued';
  const heat = (loop: (typeof loops)[number]): number => loop.mix[key] * TURNS ** loop.depth;
  const hot = loops.reduce<(typeof loops)[number] | null>(
    (best, loop) => (best && heat(best) >= heat(loop) ? best : loop),
    null,
  );
  return {
    whole: mix(code),
    loops: loops.length,
    hot: hot?.mix ?? null,
    hotText: hot?.lines.join('\n') ?? '',
    seals: sealsInAssembly(code.flatMap((line) => set.seals(line, wave))),
  };
}

function mixOf(lines: readonly Classified[], drains: boolean): Mix {
  const mix: Mix = {
    issued: 0,
    valu: 0,
    salu: 0,
    smem: 0,
    vmem: 0,
    shared: 0,
    branches: 0,
    barriers: 0,
    waits: 0,
    fma: 0,
    fmaOps: 0,
    matrixOps: 0,
    loads: 0,
    loadBytes: 0,
    sharedBytes: 0,
    scratch: 0,
    drains: drains ? 0 : null,
  };
  for (const line of lines) {
    mix[line.kind]++;
    if (line.kind !== 'waits') mix.issued++;
    if (line.fmaOps) mix.fma++;
    for (const key of ['fmaOps', 'matrixOps', 'loads', 'loadBytes', 'sharedBytes', 'scratch'] as const)
      mix[key] += line[key] ?? 0;
    if (mix.drains !== null) mix.drains += line.drains ?? 0;
  }
  return mix;
}

/** The first jumps of `code` whose target `pattern` captures, by the places of `labels`. */
export function jumpsOf(
  code: readonly string[],
  labels: ReadonlyMap<string, number>,
  pattern: RegExp,
): [number, number][] {
  return code.flatMap((line, from) => {
    const to = labels.get(pattern.exec(line)?.[1] ?? '');
    return to === undefined ? [] : [[from, to] as [number, number]];
  });
}
