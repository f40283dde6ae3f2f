/**
 * The last step of a product whose chunks workgroups share (matmulParts.ts): sums of chunks that lie one behind the other, each
 * laid out as C, are added in order, and what follows a sum is done to the total. They come from memory, so that they need no seal.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { epilogueParts, FUSION, type Fusion, fusionName, matmulBindings, storeSum } from './matmulParts.ts';
import { shipped } from './shipped.ts';
import { flag, takes, variant } from './variant.ts';

export interface MatmulFoldVariant extends Omit<Fusion, 'prologue' | 'resume'> {
  /** Four numbers at a time: a row of C is a multiple of 4. */
  readonly vector: boolean;
}

const { prologue: _, resume: __, ...fusion } = FUSION;
const MATMUL_FOLD = variant<MatmulFoldVariant>({ ...fusion, vector: flag });

/** `chunks` times `size` elements of partial, in rows of `n`. Grid: linear over the elements of C, or their quads. */
export const matmulFold = shipped(makeMatmulFold, takes('matmulFold', ['variant', MATMUL_FOLD]));

function makeMatmulFold(v: MatmulFoldVariant): Kernel {
  const type = v.vector ? 'vec4f' : 'f32';
  const by = v.vector ? ' / 4u' : '';
  const eight = [0, 1, 2, 3, 4, 5, 6, 7];
  return {
    name: `matmul.fold${v.vector ? '.c' : ''}${fusionName(v)}`,
    bindings: matmulBindings('', type, type, v).filter(({ name }) => name !== 'a'),
    params: { size: 'u32', n: 'u32', chunks: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${epilogueParts(v.epilogue, v.vector).declarations}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  let size = p.size${by};
  if (i >= size) { return; }
  let bias_base = 0u;
  var total = ${v.accumulate ? 'c[i]' : `${type}(0.0)`};
  // Eight loads before the first addition: an output's chunks lie far apart, and each load waited for alone takes as long as all.
  var chunk = 0u;
  for (; chunk + 8u <= p.chunks; chunk += 8u) {
    ${eight.map((j) => `let part${j} = b[(chunk + ${j}u) * size + i];`).join('\n    ')}
    ${eight.map((j) => `total += part${j};`).join(' ')}
  }
  for (; chunk < p.chunks; chunk++) { total += b[chunk * size + i]; }
  ${storeSum('total', 'i', `i % (p.n${by})`, v, v.vector)}
}`,
  };
}
