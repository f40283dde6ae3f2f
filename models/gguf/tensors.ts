/**
 * A GGUF file's tensors as those of a Hugging Face checkpoint, worked out while they are read: names and order of rows are undone, what
 * kernels multiply from stays packed (packed.ts), 16-bit numbers stay as they are, and all else is unpacked to float32.
 *
 * So everything that reads checkpoints reads these, by ranges, and no more of a file is held than is asked for. Matrices that Hugging Face has as
 * [in, out] lie [out, in] in the file and here: nothing is turned.
 */

import { UserError } from '../../engine/errors.ts';
import { sizeOf } from '../../engine/index.ts';
import { show } from '../../engine/options.ts';
import { type ByteSource, sourceOf } from '../byteSource.ts';
import type { StoredSpan, TensorSource } from '../checkpoint.ts';
import type { Stored } from './architectures.ts';
import { BLOCKS, unpackBlocks } from './blocks.ts';
import type { GgufTensor } from './header.ts';
import { isPackedDtype, isRepacked, type PackedDtype, packedRowBytes, packRow } from './packed.ts';

/** Bytes of the file that are unpacked at a time, and gaps up to which rows are read in one go. */
const PIECE = 2 ** 20;
const GAP = 2 ** 16;

/** A tensor on its way out: where it begins among the data, its dtype and how rows come about. */
interface Out {
  readonly tensor: GgufTensor;
  readonly stored: Stored;
  readonly dtype: 'F32' | 'F16' | 'BF16' | PackedDtype;
  /** Numbers of a row that is read as one, and its bytes. */
  readonly length: number;
  readonly rowBytes: number;
  readonly span: StoredSpan;
}

/**
 * @param name of the file that it stands for.
 * @throws UserError `gguf` where two tensors are one
 */
export function tensorFile(
  name: string,
  source: ByteSource,
  tensors: Iterable<GgufTensor>,
  stored: ReadonlyMap<string, Stored | null>,
): TensorSource {
  const outs = new Map<string, Out>();
  let at = 0;
  for (const tensor of tensors) {
    const known = stored.get(tensor.name);
    if (!known) continue;
    if (outs.has(known.name))
      throw new UserError('gguf', `${name}: has the tensor ${show(known.name)} twice`);
    const out = outOf(tensor, known, at);
    outs.set(known.name, out);
    at = out.span.end;
  }
  const spare: Uint8Array[] = [];
  const fill = async (from: number, target: Uint8Array): Promise<void> => {
    for (const out of outs.values()) {
      const { begin, end } = out.span;
      const [first, last] = [Math.max(from, begin), Math.min(from + target.length, end)];
      if (first < last)
        await readRows(source, out, first - begin, target.subarray(first - from, last - from), spare);
    }
  };
  const spans = [...outs.values()].map(({ span }) => span);
  return { ...sourceOf(name, at, fill, () => source.close()), tensors: spans };
}

function outOf(tensor: GgufTensor, stored: Stored, begin: number): Out {
  const { format, shape } = tensor;
  const matrix = shape.length === 2;
  const keeps = format === 'F16' || format === 'BF16' || (matrix && isPackedDtype(format));
  const dtype = keeps && !stored.plusOne ? (format as Out['dtype']) : 'F32';
  const length = shape.length > 1 ? shape.at(-1)! : stored.rowOf ? 1 : sizeOf(shape);
  const rowBytes = isPackedDtype(dtype) ? packedRowBytes(dtype, length) : length * (dtype === 'F32' ? 4 : 2);
  const end = begin + (sizeOf(shape) / Math.max(1, length)) * rowBytes;
  const turned = stored.transposed && matrix;
  const span: StoredSpan = {
    ...{ name: stored.name, dtype, begin, end },
    ...(turned ? { shape: [...shape].reverse(), turned } : { shape }),
  };
  return { tensor, stored, dtype, length, rowBytes, span };
}

/**
 * Fills `target` with a tensor's bytes from byte `from` on.
 * @param spare memory that pieces of the file are read into: pages that are asked for anew are not soon given back.
 */
async function readRows(
  source: ByteSource,
  out: Out,
  from: number,
  target: Uint8Array,
  spare: Uint8Array[],
): Promise<void> {
  const { tensor, stored, dtype, length, rowBytes } = out;
  if (isAsInFile(out)) return source.readInto(tensor.begin + from, target);
  const { elements, bytes } = BLOCKS[tensor.format];
  const fileBytes = (length / elements) * bytes;
  const rowOf = stored.rowOf ?? ((row: number) => row);
  const most = Math.max(1, Math.floor(PIECE / fileBytes));
  const end = Math.ceil((from + target.length) / rowBytes);
  // Where a row ends before its group does stay the zeros that it begins with.
  const made = new Uint8Array(isPackedDtype(dtype) ? rowBytes : 0);
  let piece = spare.pop() ?? new Uint8Array(PIECE);
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
      const size = (rows[j - 1]![0] + 1 - low) * fileBytes;
      if (size > piece.length) piece = new Uint8Array(size);
      await source.readInto(tensor.begin + low * fileBytes, piece.subarray(0, size));
      for (; i < j; i++) {
        const [inFile, row] = rows[i]!;
        const raw = piece.subarray((inFile - low) * fileBytes, (inFile - low + 1) * fileBytes);
        if (isPackedDtype(dtype)) packRow(dtype, raw, made);
        const whole = isPackedDtype(dtype) ? made : dtype === 'F32' ? unpacked(out, raw) : raw;
        const begin = row * rowBytes;
        const cut = [Math.max(0, from - begin), Math.min(rowBytes, from + target.length - begin)] as const;
        target.set(whole.subarray(...cut), begin + cut[0] - from);
      }
    }
  }
  spare.push(piece);
}

/** Whether a tensor's bytes are the file's. */
const isAsInFile = ({ tensor, stored, dtype }: Out): boolean =>
  dtype === tensor.format && !stored.rowOf && !stored.plusOne && !(isPackedDtype(dtype) && isRepacked(dtype));

/** A row's float32 bytes. */
function unpacked({ tensor, stored, length }: Out, raw: Uint8Array): Uint8Array {
  const values = new Float32Array(length);
  unpackBlocks(tensor.format, raw, values);
  if (stored.plusOne) for (let i = 0; i < length; i++) values[i]! -= 1;
  return new Uint8Array(values.buffer);
}
