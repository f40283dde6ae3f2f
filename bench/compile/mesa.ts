/** What the layer saves of a pipeline: the driver's statistics, `name: value` a line, and after an empty line its assembly. */

import { type Assembly, readAssembly } from './assembly.ts';
import { GEN } from './gen.ts';
import { RDNA } from './rdna.ts';

/** A kernel as a driver compiled it. */
export interface Compiled extends Assembly {
  /** Lanes of a wave. */
  readonly wave: number;
  /** 32-bit registers of a lane. */
  readonly registers: number;
  /** Registers spilled to memory (Intel: accesses to them, NVIDIA: bytes). */
  readonly spills: number;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
}

/** @throws Error for a family that the driver's disassembler does not know. */
export function readPipeline(text: string): Compiled {
  const split = text.indexOf('\n\n');
  const [head, assembly] = split < 0 ? [text, ''] : [text.slice(0, split), text.slice(split)];
  const statistics = new Map(
    head
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(/:\s*/, 2) as [string, string])
      .map(([name, value]) => [name, Number(value)]),
  );
  const of = (name: string): number => statistics.get(name) ?? 0;
  const wave = of('Wave');
  if (statistics.has('SEND Count'))
    return {
      ...readAssembly(assembly, GEN, wave),
      wave,
      // Its registers are of 32 bytes.
      registers: Math.ceil((8 * of('Max live registers')) / wave),
      spills: of('Spill Count') + of('Fill Count'),
      workgroupBytes: of('Workgroup Memory Size'),
    };
  const found = readAssembly(assembly, RDNA, wave);
  if (found.whole.issued + found.whole.waits < 0.8 * of('Instructions'))
    throw new Error("RADV's disassembler does not know this family");
  return {
    ...found,
    wave,
    registers: of('VGPRs'),
    spills: of('Spilled VGPRs') + of('Spilled SGPRs'),
    workgroupBytes: of('LDS size'),
  };
}
