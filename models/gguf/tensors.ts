/**
 * A GGUF file's tensors as a `model.safetensors` that is worked out while it is read: Hugging Face's names, order of rows and axes,
 * blocks unpacked to float32; 16-bit numbers stay as they are.
 *
 * So everything that reads checkpoints reads these, by ranges, and no more of a file is held than is asked for.
 */

import { sizeOf } from '../../engine/index.ts';
import { type ByteSource, sourceOf } from '../byteSource.ts';
import type { Stored } from './architectures.ts';
import { BLOCKS, unpackBlocks } from './blocks.ts';
import type { GgufTensor } from './header.ts';

/** Bytes of the file that are unpacked at a time, and gaps up to which rows are read in one go. */
const PIECE = 2 ** 20;
const GAP = 2 ** 16;

/** A tensor on its way out: where it begins among the data, its dtype and how rows come about. */
interface Out {
  readonly tensor: GgufTensor;
  readonly stored: Stored;
  readonly dtype: 'F32' | 'F16' | 'BF16';
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** @param name of the file that it stands for. */
export function tensorFile(
  name: string,
  source: ByteSource,
  tensors: Iterable<GgufTensor>,
  stored: ReadonlyMap<string, Stored | null>,
): ByteSource {
  const outs: Out[] = [];
  let at = 0;
  for (const tensor of tensors) {
    const known = stored.get(tensor.name);
    if (!known) continue;
    const { format } = tensor;
    const changes = known.plusOne || known.transposed;
    const dtype = (format === 'F16' || format === 'BF16') && !changes ? format : 'F32';
    const shape = known.transposed ? [...tensor.shape].reverse() : tensor.shape;
    const bytes = sizeOf(shape) * (dtype === 'F32' ? 4 : 2);
    outs.push({ tensor, stored: known, dtype, shape, begin: at, end: at + bytes });
    at += bytes;
  }
  const header = headerOf(outs);
  /** The last matrix that was turned round: a reader asks for it piece by piece. */
  let turned: { readonly of: Out; readonly bytes: Promise<Uint8Array> } | null = null;
  const fill = async (from: number, target: Uint8Array): Promise<void> => {
    if (from < header.length) target.set(header.subarray(from, from + target.length));
    for (const out of outs) {
      const [begin, end] = [
        Math.max(from, header.length + out.begin),
        Math.min(from + target.length, header.length + out.end),
      ];
      if (begin >= end) continue;
      const piece = target.subarray(begin - from, end - from);
      const first = begin - header.length - out.begin;
      if (out.stored.transposed) {
        if (turned?.of !== out) turned = { of: out, bytes: turnedRound(source, out) };
        piece.set((await turned.bytes).subarray(first, first + piece.length));
      } else await readRows(source, out, first, piece);
    }
  };
  return sourceOf(name, header.length + at, fill, () => source.close());
}

function headerOf(outs: readonly Out[]): Uint8Array {
  const entries = outs.map(({ stored, dtype, shape, begin, end }): [string, unknown] => [
    stored.name,
    { dtype, shape, data_offsets: [begin, end] },
  ]);
  // Pairs, not an object: two of one name are the reader's to refuse.
  const json = `{${entries.map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`).join(',')}}`;
  const text = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  const header = new Uint8Array(8 + text.length);
  new DataView(header.buffer).setBigUint64(0, BigInt(text.length), true);
  header.set(text, 8);
  return header;
}

/** Fills `target` with a tensor's bytes from byte `from` on. */
async function readRows(source: ByteSource, out: Out, from: number, target: Uint8Array): Promise<void> {
  const { tensor, stored, dtype } = out;
  const length = tensor.shape.length > 1 ? tensor.shape.at(-1)! : stored.rowOf ? 1 : sizeOf(tensor.shape);
  const { elements, bytes } = BLOCKS[tensor.format];
  const fileBytes = (length / elements) * bytes;
  const rowBytes = length * (dtype === 'F32' ? 4 : 2);
  const rowOf = stored.rowOf ?? ((row: number) => row);
  const most = Math.max(1, Math.floor(PIECE / fileBytes));
  const end = Math.ceil((from + target.length) / rowBytes);
  for (let first = Math.floor(from / rowBytes); first < end; first += most) {
    const rows = Array.from(
      { length: Math.min(most, end - first) },
      (_, i) => [rowOf(first + i), first + i] as const,
    );
    rows.sort(([a], [b]) => a - b);
    for (let i = 0; i < rows.length; ) {
      let j = i + 1;
      while (j < rows.length && (rows[j]![0] - rows[j - 1]![0] - 1) * fileBytes <= GAP) j++;
      const low = rows[i]![0];
      const read = await source.read(
        tensor.begin + low * fileBytes,
        tensor.begin + (rows[j - 1]![0] + 1) * fileBytes,
      );
      for (; i < j; i++) {
        const [inFile, row] = rows[i]!;
        const raw = read.subarray((inFile - low) * fileBytes, (inFile - low + 1) * fileBytes);
        const whole = dtype === 'F32' ? unpacked(out, raw, length) : raw;
        const begin = row * rowBytes;
        const cut = [Math.max(0, from - begin), Math.min(rowBytes, from + target.length - begin)] as const;
        target.set(whole.subarray(...cut), begin + cut[0] - from);
      }
    }
  }
}

/** A row's float32 bytes. */
function unpacked({ tensor, stored }: Out, raw: Uint8Array, length: number): Uint8Array {
  const values = new Float32Array(length);
  unpackBlocks(tensor.format, raw, values);
  if (stored.plusOne) for (let i = 0; i < length; i++) values[i]! -= 1;
  return new Uint8Array(values.buffer);
}

/** A whole matrix with its axes exchanged. */
async function turnedRound(source: ByteSource, out: Out): Promise<Uint8Array> {
  const { tensor } = out;
  const [rows = 1, columns = 1] = tensor.shape;
  const values = new Float32Array(rows * columns);
  unpackBlocks(tensor.format, await source.read(tensor.begin, tensor.end), values);
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = values[row * columns + column]!;
  return new Uint8Array(result.buffer);
}
