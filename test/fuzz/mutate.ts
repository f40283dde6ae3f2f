/**
 * Damage, by kind and by seed: what disks, transfers, editors and strangers do to a file. Bytes are damaged as bytes; JSON also
 * as values, so that what comes behind the parser is reached.
 */

import { seededRandom } from '../../neurgrad/random.ts';
import { ggufFields } from './ggufFields.ts';

/** Numbers in [0, 1), the same for the same seed. */
export type Random = () => number;

export const seeded = (seed: number): Random => seededRandom(seed);

const below = (next: Random, end: number): number => Math.floor(next() * end);
const oneOf = <Value>(next: Random, values: readonly Value[]): Value => values[below(next, values.length)]!;

/** Some bytes of a file changed, lost, doubled or moved. */
export function damageBytes(file: Uint8Array, next: Random): Uint8Array {
  let bytes = Buffer.from(file);
  for (let left = 1 + below(next, 3); left > 0; left--) {
    const at = below(next, Math.max(1, bytes.length));
    const length = 1 + below(next, oneOf(next, [4, 64, 4096]));
    const part = bytes.subarray(at, at + length);
    const joined = (...parts: readonly Uint8Array[]) => Buffer.concat(parts);
    switch (below(next, 8)) {
      case 0:
        if (bytes.length > 0) bytes[at]! ^= 1 << below(next, 8);
        break;
      case 1:
        if (bytes.length > 0) bytes[at] = below(next, 256);
        break;
      case 2:
        bytes = joined(bytes.subarray(0, at));
        break;
      case 3:
        bytes = joined(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 4:
        bytes = joined(bytes.subarray(0, at), part, bytes.subarray(at));
        break;
      case 5:
        part.fill(oneOf(next, [0, 0xff, 0x20, 0x30]));
        break;
      case 6:
        bytes = joined(
          bytes.subarray(0, at),
          Buffer.from(Array.from({ length: Math.min(length, 64) }, () => below(next, 256))),
          bytes.subarray(at),
        );
        break;
      default: {
        // A length, an offset or a count.
        const wide = Buffer.alloc(8);
        wide.writeBigUInt64LE(oneOf(next, [0n, 1n, 0xffffffffn, 0x7fffffffn, 2n ** 53n, 2n ** 64n - 1n]));
        wide.copy(bytes, at, 0, Math.min(oneOf(next, [1, 2, 4, 8]), bytes.length - at));
      }
    }
  }
  return bytes;
}

/** What a length, count, offset or type may say: nothing, too much, 2^53, 2^63, less than nothing. */
const EXTREMES = [
  0n,
  1n,
  3n,
  8n,
  9n,
  255n,
  2n ** 20n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** A GGUF file of which fields of the header say something else: an extreme, or a little more or less. */
export function damageGguf(file: Uint8Array, next: Random): Uint8Array {
  const bytes = Buffer.from(file);
  const fields = ggufFields(file);
  for (let left = 1 + below(next, 3); left > 0; left--) {
    const { at, bytes: length } = oneOf(next, fields);
    const wide = Buffer.alloc(8);
    bytes.copy(wide, 0, at, at + length);
    const near = (wide.readBigUInt64LE() + oneOf(next, [1n, 2n ** 64n - 1n, 7n, 32n])) % 2n ** 64n;
    wide.writeBigUInt64LE(next() < 0.3 ? near : oneOf(next, EXTREMES));
    wide.copy(bytes, at, 0, length);
  }
  return bytes;
}

/** The header of a safetensors file damaged as JSON, its length set right. */
export function damageHeader(file: Uint8Array, next: Random): Uint8Array {
  const bytes = Buffer.from(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = Buffer.from(damageJson(bytes.toString('utf8', 8, 8 + length), next));
  const lead = Buffer.alloc(8);
  lead.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([lead, header, bytes.subarray(8 + length)]);
}

/** Text of an object that nests `depth` deep. */
const deep = (depth: number, open: string, close: string): string =>
  `${open.repeat(depth)}0${close.repeat(depth)}`;

/** JSON texts that no reader of a field expects. */
const STRANGE: readonly string[] = [
  ...[
    'null',
    'true',
    'false',
    '0',
    '-1',
    '1',
    '2.5',
    '1e999',
    '-0',
    '1e-400',
    '9007199254740993',
    '4294967296',
  ],
  ...[
    '""',
    '" "',
    '"NaN"',
    '"-1"',
    '"0x10"',
    '"1"',
    '"\\u0000"',
    '"\\ud800"',
    '"\\u001b[2J\\u009b31m\\u202e"',
    '"../../../etc/passwd"',
  ],
  ...[
    '"__proto__"',
    '"constructor"',
    '"a\\nb\\r\\nc"',
    JSON.stringify('x'.repeat(3000)),
    JSON.stringify('é'.repeat(300)),
  ],
  ...['[]', '{}', '[[]]', '[null]', '[0]', '[-1]', '[1e9]', '["a","a"]', '{"__proto__":{"polluted":true}}'],
  ...[
    '{"toString":1,"length":-1}',
    '{"length":1e9}',
    '[{"content":"<s>","id":0}]',
    '{"type":"Split","pattern":{"Regex":"("}}',
  ],
  deep(20_000, '[', ']'),
  deep(20_000, '{"a":', '}'),
  `[${'0,'.repeat(5000)}0]`,
];

type Path = readonly (string | number)[];

/** Some places in a JSON value, all if it is small: a walk that takes few of a list's items. */
function places(json: unknown, next: Random): Path[] {
  const found: Path[] = [[]];
  const walk = (value: unknown, path: Path): void => {
    if (typeof value !== 'object' || value === null || found.length > 2000 || path.length > 12) return;
    const keys = Array.isArray(value) ? value.map((_, i) => i) : Object.keys(value);
    const some =
      keys.length <= 12 ? keys : Array.from({ length: 6 }, () => oneOf<string | number>(next, keys));
    for (const key of some) {
      found.push([...path, key]);
      walk((value as Record<string | number, unknown>)[key], [...path, key]);
    }
  };
  walk(json, []);
  return found;
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}

const HOLE = '\u{f0000}HOLE';

/** A JSON text with a value or two replaced, lost, doubled or renamed. */
export function damageJson(text: string, next: Random): string {
  let json = JSON.parse(text) as unknown;
  const fill = oneOf(next, STRANGE);
  for (let left = 1 + below(next, 2); left > 0; left--) {
    const path = oneOf(next, places(json, next));
    if (path.length === 0) {
      if (below(next, 8) === 0) json = HOLE;
      continue;
    }
    const parent = path
      .slice(0, -1)
      .reduce((value, key) => (value as Record<string | number, unknown>)[key], json) as Record<
      string,
      unknown
    >;
    if (typeof parent !== 'object' || parent === null) continue;
    const key = path.at(-1)! as string;
    const value = parent[key];
    switch (below(next, 6)) {
      case 0:
        if (Array.isArray(parent)) parent.splice(Number(key), 1);
        else delete parent[key];
        break;
      case 1:
        if (Array.isArray(parent)) parent.push(value);
        else parent[`${key}${oneOf(next, [' ', '\u0000', 'x', '\u009b'])}`] = value;
        break;
      case 2:
        if (typeof value === 'number') {
          parent[key] = oneOf(next, [-value, value + 1, value * 1e6, value + 0.5, 0]);
          break;
        }
        // JSON within JSON, as in a file's metadata.
        if (typeof value === 'string' && isJson(value)) {
          parent[key] = damageJson(value, next);
          break;
        }
        if (typeof value === 'string' && value !== HOLE) {
          parent[key] = oneOf(next, [
            value.slice(1),
            value + value,
            `${value}\u001b]0;x\u0007`,
            value.toUpperCase(),
          ]);
          break;
        }
        parent[key] = HOLE;
        break;
      default:
        parent[key] = HOLE;
    }
  }
  const written = JSON.stringify(json).split(JSON.stringify(HOLE)).join(fill);
  // A key that stands twice is something of which JSON.parse says nothing.
  return below(next, 20) === 0 ? written.replace('{', '{"model_type":"bert",') : written;
}
