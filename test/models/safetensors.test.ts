import { lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import { blobSource, openFile } from '../../models/byteSource.ts';
import { decodeFloat32 } from '../../models/decode.ts';
import { halfToNumber } from '../../models/half.ts';
import { duplicateKey, readSafetensorsHeader, writeSafetensors } from '../../models/safetensors.ts';

/** A file of the given header text, `data` zero bytes and, if given, a false header length. */
function file(header: string | object, data = 0, length?: bigint): Blob {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const lead = new DataView(new ArrayBuffer(8));
  lead.setBigUint64(0, length ?? BigInt(text.length), true);
  return new Blob([lead.buffer, text, new Uint8Array(data)]);
}

const tensor = (begin: number, end: number, dtype = 'F32', shape: unknown = [(end - begin) / 4]) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

async function failure(blob: Blob): Promise<UserError> {
  const error = await readSafetensorsHeader(blobSource(blob, 'x.safetensors')).catch((error) => error);
  expect(error).toBeInstanceOf(UserError);
  expect(error.code).toBe('safetensors');
  expect(error.message).not.toContain('\n');
  expect(error.message.length).toBeLessThan(600);
  expect(error.message).toMatch(/^x\.safetensors: /);
  return error;
}

describe('hostile safetensors headers', () => {
  const cases: [string, Blob, RegExp][] = [
    ['empty file', new Blob([]), /0 bytes/],
    ['shorter than 8 bytes', new Blob([new Uint8Array(7)]), /7 bytes/],
    ['header length beyond the file', file('{}', 0, 3n), /ends inside its header/],
    ['header of more than 100 MB', file('{}', 0, 100_000_001n), /more than 100000000/],
    ['header length of 2^64-1', file('{}', 0, 2n ** 64n - 1n), /18446744073709551615/],
    ['empty header', file(''), /not JSON/],
    ['not JSON', file('{"a":'), /not JSON/],
    ['not UTF-8', new Blob([new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0, 0xff])]), /not JSON/],
    ['byte order mark', file('\ufeff{}'), /not JSON/],
    ['an array', file('[]'), /not a JSON object/],
    ['null', file('null'), /not a JSON object/],
    [
      'a name twice',
      file(`{"a":${JSON.stringify(tensor(0, 4))},"a":${JSON.stringify(tensor(0, 4))}}`, 4),
      /"a" twice/,
    ],
    [
      'a name twice, once escaped',
      file(`{"a":${JSON.stringify(tensor(0, 4))},"\\u0061":${JSON.stringify(tensor(4, 8))}}`, 8),
      /"a" twice/,
    ],
    [
      'a field twice',
      file('{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}', 4),
      /"dtype" twice/,
    ],
    ['unknown dtype', file({ a: tensor(0, 4, 'F33') }, 4), /"a".*unknown dtype "F33"/],
    ['dtype from the prototype', file({ a: tensor(0, 4, 'toString') }, 4), /unknown dtype/],
    ['no dtype', file({ a: { shape: [1], data_offsets: [0, 4] } }, 4), /unknown dtype/],
    ['tensor is null', file({ a: null }, 4), /"a" is not an object/],
    ['tensor is a number', file({ a: 3 }, 4), /"a" is not an object/],
    ['negative shape', file({ a: tensor(0, 4, 'F32', [-1, -1]) }, 4), /"a" has the shape \[-1,-1\]/],
    ['fractional shape', file({ a: tensor(0, 4, 'F32', [0.5, 2]) }, 4), /shape/],
    ['shape of strings', file({ a: tensor(0, 4, 'F32', ['1']) }, 4), /shape/],
    ['shape no array', file({ a: tensor(0, 4, 'F32', 1) }, 4), /shape/],
    ['shape overflows 2^53', file({ a: tensor(0, 4, 'F32', [2 ** 40, 2 ** 40]) }, 4), /too large/],
    ['shape overflows 2^64 to 1', file({ a: tensor(0, 4, 'F32', [2 ** 32, 2 ** 32]) }, 4), /too large/],
    ['shape of infinite product', file({ a: tensor(0, 4, 'F32', Array(99).fill(2 ** 50)) }, 4), /too large/],
    ['very long shape', file({ a: tensor(0, 4, 'F32', Array(9999).fill(7.5)) }, 4), /shape/],
    ['offsets not two', file({ a: { ...tensor(0, 4), data_offsets: [0, 4, 8] } }, 4), /data_offsets/],
    ['negative offset', file({ a: { ...tensor(0, 4), data_offsets: [-4, 0] } }, 4), /data_offsets/],
    ['reversed offsets', file({ a: { ...tensor(0, 4), data_offsets: [4, 0] } }, 4), /reversed/],
    ['beyond the file', file({ a: tensor(0, 8) }, 4), /"a" ends at byte .*truncated/],
    ['far beyond the file', file({ a: tensor(0, 2 ** 50) }, 4), /truncated/],
    ['overlap', file({ a: tensor(0, 8), b: tensor(4, 12) }, 12), /"b" overlaps/],
    ['the same bytes twice', file({ a: tensor(0, 4), b: tensor(0, 4) }, 4), /overlaps/],
    ['hole', file({ a: tensor(0, 4), b: tensor(8, 12) }, 12), /4 bytes before tensor "b"/],
    ['hole at the beginning', file({ a: tensor(4, 8) }, 8), /4 bytes before tensor "a"/],
    ['bytes left over', file({ a: tensor(0, 4) }, 5), /1 bytes at the end/],
    ['data without tensors', file({}, 4), /4 bytes at the end/],
    ['length is not shape x dtype', file({ a: tensor(0, 4, 'F16', [1]) }, 4), /F16 \[1\], 2 bytes/],
    ['metadata not strings', file({ __metadata__: { a: 1 } }), /__metadata__/],
    ['metadata an array', file({ __metadata__: [] }), /__metadata__/],
  ];
  it.each(cases)('%s', async (_, blob, message) => {
    expect((await failure(blob)).message).toMatch(message);
  });

  it('accepts what is only unusual', async () => {
    const header = {
      b: tensor(4, 8),
      empty: tensor(4, 4, 'F64', [0, 2 ** 40]),
      scalar: tensor(0, 4, 'F32', []),
      __metadata__: { format: 'pt' },
      // Odd header lengths, hence unaligned data, were usual before 2023.
      __proto__x: tensor(8, 9, 'F8_E4M3', [1]),
    };
    const text = `${JSON.stringify(header)}   `;
    const { tensors, metadata } = await readSafetensorsHeader(blobSource(file(text, 9)));
    expect(tensors.map(({ name }) => name)).toEqual(['scalar', 'empty', 'b', '__proto__x']);
    expect(metadata).toEqual({ format: 'pt' });
    expect(tensors[2]!.begin).toBe(8 + text.length + 4);
  });

  it('survives deep nesting', async () => {
    await failure(file(`{"a":${'['.repeat(200_000)}${']'.repeat(200_000)}}`));
  });
});

describe('duplicateKey', () => {
  it('looks at every object, and only at keys', () => {
    expect(duplicateKey('{"a":"b","b":["a","a",{"a":1}],"c":{"a":{"a":"\\"a\\":"}}}')).toBeUndefined();
    expect(duplicateKey('[{"x":1},{"x":1}]')).toBeUndefined();
    expect(duplicateKey('{"a":[{"x\\"":1,"y":2,"x\\u0022":3}]}')).toBe('x"');
  });
});

describe('writeSafetensors', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'neurgrad-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('round trip, the same bytes in any order of tensors', async () => {
    const tensors = [
      { name: 'w', dtype: 'F32', shape: [2, 2], data: new Float32Array([1, -0, NaN, 1e-45]) },
      { name: '1', dtype: 'I32', shape: [1], data: () => Promise.resolve(new Int32Array([-7])) },
      { name: 'd', dtype: 'F64', shape: [], data: new Float64Array([Math.PI]) },
      { name: 'none', dtype: 'F32', shape: [0], data: new Float32Array(0) },
    ] as const;
    const [one, two] = [join(folder, 'one.safetensors'), join(folder, 'two.safetensors')];
    await writeSafetensors(one, tensors, { note: 'x' });
    await writeSafetensors(two, [...tensors].reverse(), { note: 'x' });
    expect(await readFile(one)).toEqual(await readFile(two));
    const source = await openFile(one);
    const { tensors: read, metadata } = await readSafetensorsHeader(source);
    expect(metadata).toEqual({ note: 'x' });
    expect(read.map(({ name }) => name)).toEqual(['d', '1', 'none', 'w']);
    const w = read.find(({ name }) => name === 'w')!;
    const bytes = await source.read(w.begin, w.end);
    expect(bytes).toEqual(new Uint8Array(tensors[0].data.buffer));
    expect(w.begin % 4).toBe(0);
    await source.close();
  });

  it('writes through a link, and replaces nothing but files', async () => {
    const tensors = [{ name: 'w', dtype: 'F32', shape: [1], data: new Float32Array(1) }] as const;
    const [file, link] = [join(folder, 'behind.safetensors'), join(folder, 'link')];
    await writeFile(file, 'old');
    await symlink(file, link);
    await writeSafetensors(link, tensors);
    expect((await lstat(link)).isSymbolicLink()).toBe(true);
    expect((await readFile(file)).length).toBeGreaterThan(8);
    const place = join(folder, 'folder');
    await mkdir(place);
    await expect(writeSafetensors(place, tensors)).rejects.toThrow('folder: is not a regular file');
    expect((await lstat(place)).isDirectory()).toBe(true);
  });

  it('leaves nothing behind where it fails', async () => {
    const before = await readdir(folder);
    const path = join(folder, 'bad.safetensors');
    const bad = { name: 'w', dtype: 'F32', shape: [3], data: new Float32Array(2) } as const;
    await expect(writeSafetensors(path, [bad])).rejects.toThrow(/"w" is F32 \[3\] but its data are 2 F32/);
    const good = { ...bad, shape: [2] } as const;
    await expect(writeSafetensors(path, [good, good])).rejects.toThrow(UserError);
    const broken = {
      ...good,
      data: () => {
        throw new Error('lost');
      },
    };
    await expect(writeSafetensors(path, [broken])).rejects.toThrow('lost');
    await expect(writeSafetensors(join(folder, 'no/where.safetensors'), [good])).rejects.toThrow(UserError);
    expect(await readdir(folder)).toEqual(before);
  });
});

describe('decodeFloat32', () => {
  it('float16: all 65,536 values against the definition', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const got = decodeFloat32('F16', new Uint8Array(bits.buffer));
    for (let i = 0; i < 65536; i++) {
      const sign = i >> 15 ? -1 : 1;
      const exponent = (i >> 10) & 31;
      const fraction = (i & 1023) / 1024;
      const special = fraction ? NaN : sign * Infinity;
      const want =
        exponent === 31
          ? special
          : sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
      if (!Object.is(got[i], want)) expect.fail(`${i}: ${got[i]} instead of ${want}`);
    }
    expect(halfToNumber(1)).toBe(2 ** -24);
    expect(Object.is(halfToNumber(0x8000), -0)).toBe(true);
  });

  it('bfloat16: all 65,536 bit patterns are the upper halves of float32s', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const got = new Uint32Array(decodeFloat32('BF16', new Uint8Array(bits.buffer)).buffer);
    expect(got.every((each, i) => each === i * 65536)).toBe(true);
  });

  it('other dtypes, at an odd position in memory', () => {
    const shifted = (array: { buffer: ArrayBufferLike; byteLength: number }) => {
      const bytes = new Uint8Array(array.byteLength + 1).subarray(1);
      bytes.set(new Uint8Array(array.buffer as ArrayBuffer));
      return bytes;
    };
    const floats = new Float32Array([1.5, -0, 1e-45, -Infinity, 3.4028234663852886e38]);
    expect(decodeFloat32('F32', shifted(floats))).toEqual(floats);
    expect([...decodeFloat32('F64', shifted(new Float64Array([0.1, -1e300])))]).toEqual([
      Math.fround(0.1),
      -Infinity,
    ]);
    expect([...decodeFloat32('I64', shifted(new BigInt64Array([-5n, 2n ** 40n])))]).toEqual([-5, 2 ** 40]);
    expect([...decodeFloat32('U64', shifted(new BigUint64Array([2n ** 63n])))]).toEqual([2 ** 63]);
    expect([...decodeFloat32('I32', shifted(new Int32Array([-9])))]).toEqual([-9]);
    expect([...decodeFloat32('U32', shifted(new Uint32Array([4294967295])))]).toEqual([2 ** 32]);
    expect([...decodeFloat32('I16', shifted(new Int16Array([-9])))]).toEqual([-9]);
    expect([...decodeFloat32('U16', shifted(new Uint16Array([65535])))]).toEqual([65535]);
    expect([...decodeFloat32('I8', new Uint8Array([255]))]).toEqual([-1]);
    expect([...decodeFloat32('U8', new Uint8Array([255]))]).toEqual([255]);
    expect([...decodeFloat32('BOOL', new Uint8Array([0, 1]))]).toEqual([0, 1]);
    expect(() => decodeFloat32('F8_E4M3', new Uint8Array(1))).toThrow(UserError);
    expect(() => decodeFloat32('F32', new Uint8Array(3))).toThrow(UserError);
  });
});
