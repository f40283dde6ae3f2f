/** NVIDIA's back end on the shaders that Dawn made: SPIR-V said in CUDA C++ (cuda.ts), compiled by nvcc, read by nvdisasm. */

import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readAssembly } from './assembly.ts';
import { type Nvcc, sourceFolder } from './compilers.ts';
import { toCuda } from './cuda.ts';
import type { Compiled } from './mesa.ts';
import { SASS } from './sass.ts';
import { parseModule } from './spirv.ts';

const execute = promisify(execFile);
const WARP = 32;

/** @param base path of the SPIR-V without its `.spv`; what is made lies beside it. @throws Error where it has no translation, or nvcc refuses it. */
async function compileOne({ nvcc, nvdisasm }: Nvcc, family: string, base: string): Promise<Compiled> {
  writeFileSync(`${base}.cu`, toCuda(parseModule(readFileSync(`${base}.spv`))));
  const { stderr } = await execute(nvcc, [
    ...['-std=c++17', `-arch=${family}`, '-cubin', '-use_fast_math', '-diag-suppress', '128,177,550'],
    ...['-I', sourceFolder, '-Xptxas', '-v', '-o', `${base}.cubin`, `${base}.cu`],
  ]).catch((failure: Error & { stderr?: string }) => {
    // The failure's own text is the command line, which hides what is wrong behind its length.
    const lines = (failure.stderr ?? '').split('\n').filter((line) => line.trim() !== '');
    const reason = lines.find((line) => /error/i.test(line)) ?? lines[0];
    throw reason === undefined ? failure : new Error(`nvcc: ${reason.trim()}`);
  });
  const { stdout } = await execute(nvdisasm, ['-c', `${base}.cubin`], { maxBuffer: 2 ** 28 });
  writeFileSync(`${base}.sass`, stdout);
  const number = (pattern: RegExp): number => Number(pattern.exec(stderr)?.[1] ?? 0);
  return {
    ...readAssembly(stdout, SASS, WARP),
    wave: WARP,
    registers: number(/Used (\d+) registers/),
    spills: number(/(\d+) bytes spill stores/),
    workgroupBytes: number(/(\d+) bytes smem/),
  };
}

/** Every shader in `folder` that has a translation (matrix units and subgroups have none), by hash. */
export async function compileAll(
  compiler: Nvcc,
  family: string,
  folder: string,
  hashes: Iterable<string>,
  progress: (line: string) => void,
): Promise<Map<string, Compiled | Error>> {
  const made = new Map<string, Compiled | Error>();
  const waiting = [...hashes];
  const all = waiting.length;
  const work = async (): Promise<void> => {
    for (let hash = waiting.pop(); hash !== undefined; hash = waiting.pop()) {
      const compiled = compileOne(compiler, family, join(folder, hash));
      made.set(hash, await compiled.catch((error: Error) => error));
      progress(`${family}: ${made.size} of ${all}`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return made;
}
