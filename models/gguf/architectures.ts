/**
 * A GGUF file's metadata and tensors as a Hugging Face folder has them: the `config.json` that the record of its family makes
 * (`gguf` in models/families), the names that follow from what the family's blocks are, and what llama.cpp's converter did to their
 * numbers, which is undone.
 *
 * Sources: gguf-py's `tensor_mapping.py` for what tensors are called, and `convert_hf_to_gguf.py`, both of llama.cpp: matrices are
 * [out, in]; q, k and v that one tensor holds are all of q, then of k, then of v; norms that count from 1 have it added.
 */

import { show } from '../../engine/options.ts';
import type { LinearSpec, NormSpec } from '../block.ts';
import { type Description, storedName } from '../description.ts';
import type { Family, GgufRecord } from '../families/family.ts';
import { FAMILIES } from '../families/index.ts';
import type { Metadata } from './metadata.ts';

/** Where row `row` of a tensor, as Hugging Face has it, lies in the file. */
export type RowOf = (row: number) => number;

/** What was done to a tensor on its way into the file. */
export interface Stored {
  /** Its name in a Hugging Face checkpoint. */
  readonly name: string;
  /** Its rows are in another order. */
  readonly rowOf?: RowOf;
  /** A matrix that is [in, out] there. */
  readonly transposed?: boolean;
  /** 1 was added to its numbers. */
  readonly plusOne?: boolean;
}

/** Tensors that are read for the config, if at all. */
const NO_WEIGHTS = /^(rope_freqs|rope_factors_(long|short))\.weight$/;

/** The family whose file this is. @throws UserError `gguf` where there is none. */
function familyOf(of: Metadata): Family & { readonly gguf: GgufRecord } {
  const known = Object.values(FAMILIES).filter((family) => family.gguf !== undefined) as (Family & {
    readonly gguf: GgufRecord;
  })[];
  const { architecture } = of;
  const found = known.find(({ gguf }) => gguf.architecture === architecture && (gguf.is?.(of) ?? true));
  if (found) return found;
  if (/bert/.test(architecture))
    throw of.fail(
      `is a ${show(architecture)}, whose GGUF files have no head that predicts tokens; take its safetensors`,
    );
  const names = new Set(known.map(({ gguf }) => gguf.architecture));
  throw of.fail(
    `its architecture ${show(architecture)} is not supported; supported: ${[...names].sort().join(', ')}`,
  );
}

/** The config.json of a file, without what tensors alone say. @throws UserError `gguf` */
export function configOf(of: Metadata): Record<string, unknown> {
  const vocabulary = of.header.tensors.get('token_embd.weight')?.shape[0];
  if (vocabulary === undefined) throw of.fail('has no token_embd.weight');
  const { type, gguf } = familyOf(of);
  return {
    model_type: type,
    vocab_size: vocabulary,
    tie_word_embeddings: !of.has('output.weight'),
    ...gguf.config(of),
  };
}

/**
 * What each tensor of the file is in a Hugging Face checkpoint of this model; null: nothing that is computed with.
 * @throws UserError `gguf`
 */
export function storedOf(of: Metadata, description: Description): Map<string, Stored | null> {
  const known = new Map<string, Stored>();
  const norm = (name: string, spec: NormSpec | undefined): void => {
    if (!spec) return;
    known.set(`${name}.weight`, { name: spec.weight, ...(spec.kind === 'rms1' && { plusOne: true }) });
    if (spec.bias) known.set(`${name}.bias`, { name: spec.bias });
  };
  /** A map, or several that one tensor holds. */
  const linear = (name: string, maps: readonly LinearSpec[], rowOf = rowsOf(maps)): void => {
    const [{ weight, bias, stored }] = maps as [LinearSpec];
    const rows = rowOf && { rowOf };
    known.set(`${name}.weight`, {
      name: storedName(weight),
      ...rows,
      ...(stored?.transposed && { transposed: true }),
    });
    if (bias) known.set(`${name}.bias`, { name: storedName(bias), ...rows });
  };
  const { embedding, layers, head } = description;
  known.set('token_embd.weight', { name: embedding.word });
  if (embedding.position) known.set('position_embd.weight', { name: embedding.position.weight });
  norm('output_norm', head.norm);
  if (head.decoder.weight !== embedding.word) linear('output', [head.decoder]);
  const { interleaved } = familyOf(of).gguf;
  for (const [i, { attention, feedForward, norms }] of layers.entries()) {
    const at = `blk.${i}`;
    const { q, k, v, size } = attention;
    if (storedName(q.weight) === storedName(k.weight)) linear(`${at}.attn_qkv`, [q, k, v]);
    else {
      const turned = interleaved ? turnedRows(size) : undefined;
      linear(`${at}.attn_q`, [q], turned);
      linear(`${at}.attn_k`, [k], turned);
      linear(`${at}.attn_v`, [v]);
    }
    linear(`${at}.attn_output`, [attention.out]);
    norm(`${at}.attn_q_norm`, attention.norms?.q);
    norm(`${at}.attn_k_norm`, attention.norms?.k);
    norm(`${at}.attn_norm`, norms.attention.before);
    norm(`${at}.post_attention_norm`, norms.attention.after);
    norm(`${at}.ffn_norm`, norms.feedForward.before);
    norm(`${at}.post_ffw_norm`, norms.feedForward.after);
    const { gate, up, down } = feedForward;
    const shared = gate && storedName(gate.weight) === storedName(up.weight);
    linear(`${at}.ffn_up`, shared ? [gate, up] : [up]);
    if (gate && !shared) linear(`${at}.ffn_gate`, [gate]);
    linear(`${at}.ffn_down`, [down]);
  }
  // Under its own name: a checkpoint tells what has no place.
  return new Map(
    [...of.header.tensors.keys()].map((name) => [
      name,
      NO_WEIGHTS.test(name) ? null : (known.get(name) ?? { name }),
    ]),
  );
}

/** Rows of maps that share a tensor lie there map after map; undefined: in the order of Hugging Face's. */
function rowsOf(maps: readonly LinearSpec[]): RowOf | undefined {
  const rows = maps.flatMap(({ stored }) =>
    (stored?.rows ?? []).flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i)),
  );
  if (rows.every((row, i) => row === i)) return undefined;
  const places = new Int32Array(rows.length);
  for (const [place, row] of rows.entries()) places[row] = place;
  return (row) => places[row]!;
}

/** Each head's rows were interleaved: (0, half), (1, half + 1), ... */
const turnedRows =
  (size: number): RowOf =>
  (row) => {
    const [head, at] = [Math.floor(row / size), row % size];
    const half = size / 2;
    return head * size + 2 * (at % half) + Math.floor(at / half);
  };
