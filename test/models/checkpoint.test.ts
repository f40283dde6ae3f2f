import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { fileMapFolder, localFolder } from '../../models/byteSource.ts';
import { adoptNames, type Checkpoint, matchTensors, openCheckpoint } from '../../models/checkpoint.ts';
import { readConfig } from '../../models/config.ts';
import type { Description } from '../../models/description.ts';
import { FAMILIES } from '../../models/families/index.ts';

const root = join(import.meta.dirname, '../..');
const golden = join(root, 'test/golden/models');
const models = [
  ...readdirSync(golden).map((name) => join(golden, name)),
  ...['facts-bert', 'stories260k'].map((name) => join(root, 'examples/models', name)),
];

const opened: Checkpoint[] = [];
afterEach(() => Promise.all(opened.splice(0).map((checkpoint) => checkpoint.close())));

async function open(path: string): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(await localFolder(path));
  opened.push(checkpoint);
  return checkpoint;
}

describe('the models at hand', () => {
  it.each(models)('%s opens, and every tensor is finite', async (path) => {
    const checkpoint = await open(path);
    const { vocabulary, hidden } = (await readConfig(await localFolder(path))).description.sizes;
    expect(checkpoint.unindexed).toEqual([]);
    expect(checkpoint.notes).toEqual([]);
    const shapes = [...checkpoint.tensors.values()].map(({ shape }) => shape.join());
    expect(shapes).toContain(`${vocabulary},${hidden}`);
    for (const { name } of checkpoint.tensors.values()) {
      expect((await checkpoint.readFloat32(name)).every(Number.isFinite)).toBe(true);
    }
  });

  it('shards hold what the single file holds', async () => {
    const [single, sharded] = [
      await open(join(golden, 'bert-s')),
      await open(join(golden, 'bert-s-sharded')),
    ];
    expect(sharded.shards).toHaveLength(3);
    expect(sharded.bytes).toBe(single.bytes);
    expect([...sharded.tensors.keys()].sort()).toEqual([...single.tensors.keys()].sort());
    for (const name of single.tensors.keys()) {
      expect(await sharded.readFloat32(name)).toEqual(await single.readFloat32(name));
    }
  });

  it('old names, and tensors that nobody needs', async () => {
    const [plain, legacy] = [await open(join(golden, 'bert-s')), await open(join(golden, 'bert-s-legacy'))];
    const matched = matchTensors(legacy, await readConfig(await localFolder(legacy.name)));
    expect([...matched.keys()].sort()).toEqual([...plain.tensors.keys()].sort());
    for (const [name, { name: stored }] of matched) {
      expect(await legacy.readFloat32(stored)).toEqual(await plain.readFloat32(name));
    }
    expect(matched.get('bert.embeddings.LayerNorm.weight')!.name).toBe('bert.embeddings.LayerNorm.gamma');
    const llama = await open(join(golden, 'llama-s'));
    const needed = [...llama.tensors.keys()].filter((name) => !name.endsWith('inv_freq'));
    expect(matchTensors(llama, await readConfig(await localFolder(llama.name))).size).toBe(needed.length);
  });

  it('16-bit files hold subnormals and a negative zero', async () => {
    const seen = { subnormal: 0, negativeZero: 0 };
    for (const model of ['bert-m', 'llama-tied']) {
      const checkpoint = await open(join(golden, model));
      for (const { name, dtype } of checkpoint.tensors.values()) {
        expect(dtype).toBe('F16');
        for (const value of await checkpoint.readFloat32(name)) {
          if (value !== 0 && Math.abs(value) < 2 ** -14) seen.subnormal++;
          if (Object.is(value, -0)) seen.negativeZero++;
        }
      }
    }
    expect(seen.subnormal).toBeGreaterThan(0);
    expect(seen.negativeZero).toBeGreaterThan(0);
  });

  it('reads parts of a tensor, and nothing outside', async () => {
    const checkpoint = await open(join(golden, 'bert-s'));
    const name = 'bert.embeddings.word_embeddings.weight';
    const tensor = checkpoint.tensors.get(name)!;
    const whole = await checkpoint.readFloat32(name);
    const part = new Uint8Array(8);
    await checkpoint.readInto(tensor, 12, part);
    expect(new Float32Array(part.buffer)).toEqual(whole.slice(3, 5));
    for (const offset of [-1, tensor.end - tensor.begin - 7, NaN]) {
      await expect(checkpoint.readInto(tensor, offset, part)).rejects.toMatchObject({ code: 'checkpoint' });
    }
    await expect(checkpoint.readFloat32('nothing')).rejects.toThrow(/no tensor nothing/);
  });
});

/** A BERT of a table [rows, hidden] under one name and, under another, a norm or a decoder's bias. */
const tiny = ([rows, hidden]: readonly [number, number], word: string, rest: Partial<Description>) => ({
  family: FAMILIES.bert,
  description: {
    sizes: { vocabulary: rows, hidden },
    embedding: { word },
    layers: [],
    head: { decoder: { weight: word, out: rows, in: hidden } },
    ...rest,
  } as unknown as Description,
});

/** A safetensors file of zeros. */
function shard(tensors: Record<string, number[]>, dtype = 'F32'): Blob {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const [name, shape] of Object.entries(tensors)) {
    const bytes = shape.reduce((a, b) => a * b, 1) * (dtype === 'I8' ? 1 : 4);
    header[name] = { dtype, shape, data_offsets: [offset, (offset += bytes)] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const lead = new DataView(new ArrayBuffer(8));
  lead.setBigUint64(0, BigInt(text.length), true);
  return new Blob([lead.buffer, text, new Uint8Array(offset)]);
}

function folder(files: Record<string, Blob | object | string>) {
  const blobs = Object.entries(files).map(([name, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return [name, value instanceof Blob ? value : new Blob([text])] as const;
  });
  return fileMapFolder(new Map(blobs), 'model');
}

const INDEX = 'model.safetensors.index.json';
const [A, B] = ['a.safetensors', 'b.safetensors'];

describe('hostile indexes', () => {
  const two = { [A]: shard({ x: [2, 1] }), [B]: shard({ y: [1] }) };
  const index = (map: unknown, rest: object = {}) => ({ [INDEX]: { weight_map: map, ...rest } });
  it.each<[string, Record<string, Blob | object | string>, RegExp]>([
    ['no weights at all', {}, /neither model\.safetensors nor/],
    ['not JSON', { ...two, [INDEX]: '{' }, /is not JSON/],
    ['null', { ...two, [INDEX]: 'null' }, /no weight_map/],
    ['no weight_map', { ...two, [INDEX]: {} }, /no weight_map/],
    ['weight_map an array', { ...two, ...index([A]) }, /no weight_map/],
    ['weight_map of numbers', { ...two, ...index({ x: 1 }) }, /no weight_map/],
    ['lists nothing', { ...two, ...index({}) }, /lists no tensor/],
    ['a tensor twice', { ...two, [INDEX]: `{"weight_map":{"x":"${A}","x":"${B}"}}` }, /"x" twice/],
    ['escapes the folder', { ...two, ...index({ x: '../a.safetensors' }) }, /not a name inside/],
    ['absolute', { ...two, ...index({ x: '/a.safetensors' }) }, /not a name inside/],
    ['another kind of file', { ...two, ...index({ x: 'pytorch_model.bin' }) }, /no safetensors file/],
    ['shard is absent', { ...two, ...index({ x: 'c.safetensors' }) }, /lists c\.safetensors, which is not/],
    ['tensor is absent', { ...two, ...index({ x: A, y: B, z: B }) }, /says that z is in b.*but it is not/],
    ['tensor is elsewhere', { ...two, ...index({ x: B, y: B, z: A }) }, /x is in b\.\S+, but it is/],
    ['shard is damaged', { [A]: new Blob(['no']), ...index({ x: A }) }, /a\.safetensors: has 2 bytes/],
  ])('%s', async (_, files, message) => {
    const error = await openCheckpoint(folder(files)).catch((error) => error);
    expect(error.name).toBe('UserError');
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
  });

  it('notes a wrong total_size, and tensors that the index forgets', async () => {
    const files = { ...two, [B]: shard({ y: [1], z: [1], 'bert.pooler.dense.bias': [1] }) };
    const checkpoint = await openCheckpoint(
      folder({ ...files, ...index({ x: A, y: B }, { metadata: { total_size: 99 } }) }),
    );
    expect(checkpoint.notes).toEqual([expect.stringMatching(/total_size 99, but its tensors have 12/)]);
    expect(checkpoint.unindexed).toEqual(['z', 'bert.pooler.dense.bias']);
    const norm = { kind: 'layer', weight: 'y', size: 1, eps: 0, hook: '' } as const;
    const expected = tiny([2, 1], 'x', { embedding: { word: 'x', norm } });
    expect(() => matchTensors(checkpoint, expected, { strict: true })).toThrow(
      /^model: 1 tensor that model\.safetensors\.index\.json does not name: z$/,
    );
    expect(matchTensors(checkpoint, expected, { strict: true, ignore: [/^z$/] }).size).toBe(2);
    const notes: string[] = [];
    expect(matchTensors(checkpoint, expected, { onNote: (note) => notes.push(note) }).size).toBe(2);
    expect(notes).toEqual(['model: not read, as model.safetensors.index.json does not name it: z']);
  });
});

describe('matchTensors', () => {
  const norm = { kind: 'layer', weight: 'a.LayerNorm.weight', size: 4, eps: 0, hook: '' } as const;
  const expected = tiny([2, 3], 'b', { embedding: { word: 'b', norm } });
  const match = async (tensors: Record<string, number[]>, dtype?: string) =>
    matchTensors(await openCheckpoint(folder({ 'model.safetensors': shard(tensors, dtype) })), expected, {
      strict: true,
    });

  it.each<[string, Record<string, number[]>, string, string]>([
    ['missing', { b: [2, 3] }, 'tensor-missing', 'model: 1 tensor missing: a.LayerNorm.weight'],
    ['extra', { 'a.LayerNorm.weight': [4], b: [2, 3], c: [1] }, 'tensor-extra', 'model: 1 tensor extra: c'],
    [
      'shape',
      { 'a.LayerNorm.weight': [4], b: [3, 2] },
      'tensor-shape',
      'model: 1 tensor of another shape than config.json says: b is [3,2], should be [2,3]',
    ],
    [
      'rank',
      { 'a.LayerNorm.weight': [4], b: [6] },
      'tensor-shape',
      'model: 1 tensor of another shape than config.json says: b is [6], should be [2,3]',
    ],
    [
      'old and new name',
      { 'a.LayerNorm.gamma': [4], 'a.LayerNorm.weight': [4], b: [2, 3] },
      'tensor-extra',
      'model: a.LayerNorm.gamma and a.LayerNorm.weight are both a.LayerNorm.weight; keep one',
    ],
    [
      'all at once',
      { b: [1], c: [1], d: [1] },
      'tensor-missing',
      'model: 1 tensor missing: a.LayerNorm.weight; 1 tensor of another shape than config.json says: b is [1], should be [2,3]; 2 tensors extra: c, d',
    ],
  ])('%s', async (_, tensors, code, message) => {
    await expect(match(tensors)).rejects.toMatchObject({ name: 'UserError', code, message });
  });

  it('refuses integers, and keeps long lists short', async () => {
    const whole = { 'a.LayerNorm.gamma': [4], b: [2, 3] };
    await expect(match(whole, 'I8')).rejects.toThrow(
      /2 tensors not stored as floats: a\.LayerNorm\.weight is I8/,
    );
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`x${i}`, [1]]));
    await expect(match({ ...whole, ...many })).rejects.toThrow(
      /^model: 500 tensors extra: .*x7 and 492 more$/,
    );
  });

  it('adds a missing prefix and finds tied tensors under their other name', () => {
    const adopt = (family: keyof typeof FAMILIES, names: string[], expected: Set<string>) => [
      ...adoptNames(names, FAMILIES[family].checkpoint, expected).values(),
    ];
    const bert = new Set(['bert.embeddings.LayerNorm.weight', 'cls.predictions.bias']);
    expect(adopt('bert', ['embeddings.LayerNorm.gamma', 'cls.predictions.decoder.bias'], bert)).toEqual([
      ...bert,
    ]);
    const llama = new Set(['model.embed_tokens.weight', 'model.norm.weight']);
    expect(adopt('llama', ['lm_head.weight', 'norm.weight'], llama)).toEqual([...llama]);
    expect(adopt('llama', ['lm_head.weight', 'embed_tokens.weight'], llama)).toEqual([
      'lm_head.weight',
      'model.embed_tokens.weight',
    ]);
  });
});
