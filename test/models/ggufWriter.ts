/** GGUF files for tests: metadata and float32 tensors, of version 3, little-endian. */

type Value = string | number | boolean | readonly (string | number)[];

/** Numbers are uint32 where they are whole and not negative, else float32; lists have the type of all their values. */
export function ggufBytes(
  metadata: Readonly<Record<string, Value>>,
  tensors: Readonly<
    Record<string, { readonly shape: readonly number[]; readonly values: Float32Array }>
  > = {},
): Uint8Array {
  const parts: Buffer[] = [];
  const u32 = (value: number): void => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    parts.push(bytes);
  };
  const u64 = (value: number): void => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    parts.push(bytes);
  };
  const text = (value: string): void => {
    u64(Buffer.byteLength(value));
    parts.push(Buffer.from(value));
  };
  const whole = (value: number): boolean => Number.isInteger(value) && value >= 0;
  const typeOf = (value: string | number | boolean): number =>
    typeof value === 'string' ? 8 : typeof value === 'boolean' ? 7 : whole(value) ? 4 : 6;
  const scalar = (type: number, value: string | number | boolean): void => {
    if (type === 8) text(value as string);
    else if (type === 7) parts.push(Buffer.from([value ? 1 : 0]));
    else if (type === 4) u32(value as number);
    else parts.push(Buffer.from(Float32Array.of(value as number).buffer));
  };
  parts.push(Buffer.from('GGUF'));
  u32(3);
  u64(Object.keys(tensors).length);
  u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    text(key);
    if (typeof value !== 'object') {
      u32(typeOf(value));
      scalar(typeOf(value), value);
      continue;
    }
    const type = Math.max(...value.map(typeOf), 4);
    u32(9);
    u32(type);
    u64(value.length);
    for (const each of value) scalar(type, each);
  }
  let offset = 0;
  const pad = (length: number): number => Math.ceil(length / 32) * 32;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    text(name);
    u32(shape.length);
    for (const length of [...shape].reverse()) u64(length);
    u32(0);
    u64(offset);
    offset += pad(values.byteLength);
  }
  const header = Buffer.concat(parts);
  const bytes = new Uint8Array(pad(header.length) + offset);
  bytes.set(header);
  let at = pad(header.length);
  for (const { values } of Object.values(tensors)) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += pad(values.byteLength);
  }
  return bytes;
}
