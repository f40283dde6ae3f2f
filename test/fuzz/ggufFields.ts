/** Where the lengths, counts, types, offsets and numbers of a GGUF file's header stand: what a stranger would change. */

export interface GgufField {
  readonly at: number;
  readonly bytes: number;
}

const SIZES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
const [STRING, ARRAY] = [8, 9];
/** Of a list's values the first few. */
const FEW = 4;

/** @param file a whole one. */
export function ggufFields(file: Uint8Array): GgufField[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const fields: GgufField[] = [];
  let at = 4;
  const take = (bytes: number, keep = true): number => {
    if (keep) fields.push({ at, bytes });
    const value =
      bytes === 8 ? Number(view.getBigUint64(at, true)) : bytes === 4 ? view.getUint32(at, true) : 0;
    at += bytes;
    return value;
  };
  const text = (keep = true): void => {
    const length = take(8, keep);
    at += length;
  };
  const value = (type: number, keep = true): void => {
    if (type === STRING) text(keep);
    else if (type === ARRAY) {
      const of = take(4);
      const count = take(8);
      for (let i = 0; i < count; i++) value(of, i < FEW);
    } else take(SIZES[type]!, keep);
  };
  take(4);
  const tensors = take(8);
  const pairs = take(8);
  for (let i = 0; i < pairs; i++) {
    text();
    value(take(4));
  }
  for (let i = 0; i < tensors; i++) {
    text();
    const axes = take(4);
    for (let axis = 0; axis < axes; axis++) take(8);
    take(4);
    take(8);
  }
  return fields;
}
