/** Files that carry their own digest: whatever byte is changed, it is told, and nothing of the file is believed. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import { openFile } from '../../models/byteSource.ts';
import { writeSafetensors } from '../../models/safetensors.ts';
import { checkSourceSeal, DamagedFile, readSealedJson, SEALED, seal, sealJson } from '../../models/seal.ts';
import { loadProber, type ProberAbout, saveProber } from '../../probing/proberFile.ts';
import { readTensorFile, writeTensorFile } from '../../probing/tensorFile.ts';

const folder = mkdtempSync(join(tmpdir(), 'neurgrad-seal-'));
afterAll(() => rmSync(folder, { recursive: true }));
const place = (name: string): string => join(folder, name);

/** Every way in which a small file can be cut, and a byte of it changed. */
function* damages(file: Buffer, every = 1): Generator<[string, Buffer]> {
  for (let at = 0; at < file.length; at += every) {
    const changed = Buffer.from(file);
    changed[at]! ^= 1 << (at % 8);
    yield [`byte ${at}`, changed];
    yield [`${at} bytes`, file.subarray(0, at)];
  }
  yield ['one more', Buffer.concat([file, Buffer.from(' ')])];
}

async function refusesAll(path: string, read: () => unknown, every = 1): Promise<void> {
  const whole = readFileSync(path);
  await read();
  for (const [what, damaged] of damages(whole, every)) {
    writeFileSync(path, damaged);
    const error = await Promise.resolve()
      .then(read)
      .catch((cause: unknown) => cause);
    expect(error, what).toBeInstanceOf(DamagedFile);
    expect((error as Error).message, what).toContain(path);
    expect((error as Error).message, what).not.toContain('\n');
  }
  writeFileSync(path, whole);
}

describe('a sealed file', () => {
  it('of JSON is read as it was written, and refused otherwise', async () => {
    const path = place('note.json');
    const value = { a: [1, 2, { b: 'é' }], text: 'sha256 of this file with zeros here: none' };
    writeFileSync(path, sealJson(JSON.stringify({ ...SEALED, ...value }, null, 1)));
    expect(readSealedJson(path, 'note')).toMatchObject(value);
    await refusesAll(path, () => readSealedJson(path, 'note'));
    writeFileSync(path, JSON.stringify(value));
    expect(() => readSealedJson(path, 'note')).toThrow(/no digest/);
    expect(() => readSealedJson(place('none.json'), 'note')).toThrow(/none\.json: no such file/);
  });

  it('of tables is read as it was written, and refused otherwise', async () => {
    const path = place('tables.safetensors');
    const digest = await writeTensorFile(
      path,
      { a: Int32Array.of(1, -2, 3), b: Float64Array.of(0.5) },
      { note: 'x' },
    );
    const { tables, metadata, digest: found } = await readTensorFile(path);
    expect([...tables]).toEqual([
      ['b', Float64Array.of(0.5)],
      ['a', Int32Array.of(1, -2, 3)],
    ]);
    expect(metadata.note).toBe('x');
    expect(found).toBe(digest);
    await refusesAll(path, () => readTensorFile(path));
    await writeSafetensors(path, [], { note: 'x' });
    await expect(readTensorFile(path)).rejects.toThrow(/no digest/);
  });

  it('is read in pieces where it is large', async () => {
    const path = place('large.bin');
    const file = seal(Buffer.concat([Buffer.from(JSON.stringify(SEALED)), Buffer.alloc(65 * 2 ** 20, 7)]));
    const check = async (): Promise<void> => {
      writeFileSync(path, file);
      const source = await openFile(path);
      await checkSourceSeal(source).finally(() => source.close());
    };
    await check();
    file[file.length - 1] = 8;
    await expect(check()).rejects.toThrow(DamagedFile);
  });

  it('cannot be sealed without room for it', () => {
    expect(() => seal(Buffer.from('{}'))).toThrow(RangeError);
  });
});

describe("a prober's files", () => {
  const about: ProberAbout = {
    format: 'neurgrad prober 1',
    task: 'FEVER',
    kind: 'magn',
    variant: 'paper',
    size: 2,
    accuracy: 0.5,
    labels: ['yes', 'no'],
    candidates: [5, 6],
    contexts: { en: 'Is it right?\n\n' },
    site: 'post',
    of: 'prob',
    direction: 'outward',
    sign: '+',
    model: { architecture: 'bert', layers: 1, width: 3, name: 'm', dtype: 'f32', sha256: {} },
  };
  const prober = {
    kind: undefined as never,
    variant: 'paper' as const,
    polarity: Int8Array.of(1, -1, 0),
    score: Int32Array.of(3, 2, 1),
    ranking: Int32Array.of(0, 1, 2),
  };
  const save = (name: string, more: Partial<ProberAbout> = {}, tables: Partial<typeof prober> = {}) =>
    saveProber(place(name), { about: { ...about, ...more }, prober: { ...prober, ...tables } });

  it('are refused with any byte of either changed', async () => {
    await save('prober');
    const load = () => loadProber(place('prober'));
    expect((await load()).about).toEqual(about);
    await refusesAll(place('prober.json'), load, 3);
    await refusesAll(place('prober.safetensors'), load, 3);
  });

  it('go together', async () => {
    await save('one');
    await save('two', {}, { polarity: Int8Array.of(-1, -1, 0) });
    writeFileSync(place('one.safetensors'), readFileSync(place('two.safetensors')));
    await expect(loadProber(place('one'))).rejects.toThrow(
      /one\.safetensors: is not the one that .*one\.json/,
    );
  });

  it.each<[string, Partial<ProberAbout>, RegExp]>([
    ['fewer candidates than labels', { candidates: [5] }, /2 labels but 1 candidates/],
    ['more candidates than labels', { candidates: [5, 6, 7] }, /2 labels but 3 candidates/],
    ['one candidate twice', { candidates: [5, 5] }, /candidates is \[5, 5\]: has a token twice/],
    ['a label alone', { labels: ['yes'], candidates: [5] }, /labels is \['yes'\], expected >=2/],
    ['more neurons than there are', { size: 9 }, /ranking/],
    ['another task', { task: 'a'.repeat(2000) as never }, /task is 'a{39}…'/],
  ])('are refused, though sealed, with %s', async (_, more, message) => {
    await save('strange', more);
    const error = await loadProber(place('strange')).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).toMatch(message);
  });
});
