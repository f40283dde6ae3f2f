/**
 * The list of models that were run: what it says of a file is so where the file is, and the table of the docs is made of it
 * (`npx vitest run test/models/known.test.ts -u`). NEURGRAD_REAL_MODEL names a file of the list that is no part of the repository.
 */

import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { describe, expect, test } from 'vitest';
import {
  KNOWN_MODELS,
  type KnownModel,
  openModelFiles,
  parametersOf,
  planMemory,
  resolveModelFolder,
} from '../../models/index.ts';
import { neurgrad } from '../cli/command.ts';

const PAGE = 'docs/how-to.md';
const real = process.env.NEURGRAD_REAL_MODEL;

/** Where the model is on this machine, if it is, and its file of weights. */
function placeOf({ model, hub }: KnownModel): { readonly folder: string; readonly file: string } | undefined {
  if (!hub) return { folder: model, file: join(model, 'model.safetensors') };
  return real !== undefined && basename(real) === hub.file ? { folder: real, file: real } : undefined;
}

describe.each(KNOWN_MODELS)('$name', (known) => {
  const place = placeOf(known);
  if (!place) console.log(`${known.name}: NEURGRAD_REAL_MODEL is not its file, which is not looked at`);

  test.skipIf(!place)('is the file that was run, of this family and size', { timeout: 60_000 }, async () => {
    const hash = createHash('sha256');
    await pipeline(createReadStream(place!.file), hash);
    expect(hash.digest('hex')).toBe(known.sha256);
    const { config, checkpoint } = await openModelFiles(await resolveModelFolder(place!.folder));
    expect(config.family.type).toBe(known.family);
    const sizes = parametersOf(config.description).map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    expect(sizes.reduce((a, b) => a + b)).toBe(known.parameters);
    for (const dtype of ['f32', 'f16', 'int8', 'packed'] as const) {
      if (known.memory[dtype] === undefined) continue;
      const { resident } = planMemory(config, checkpoint, { dtype });
      expect(Math.abs(resident / known.memory[dtype] - 1), dtype).toBeLessThan(0.05);
    }
    await checkpoint.close();
  });

  test('is taken by its name', () => {
    expect(known.model).toBe(known.hub ? `${known.hub.id}/${known.hub.file}` : known.model);
  });
});

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const megabytes = (bytes: number): string => `${Number((bytes / 1e6).toPrecision(2))} MB`;

test('the table of the docs is the list', async () => {
  const head = [
    'model',
    'family',
    'parameters',
    'file',
    'device: f32, f16, int8 (GGUF: packed)',
    'licence',
    'run',
    'compared with',
  ];
  const rows = KNOWN_MODELS.map(({ name, model, source, memory, ...of }) => [
    `[${name}](${source}): \`${model}\``,
    `\`${of.family}\``,
    of.parameters.toLocaleString('en'),
    megabytes(of.bytes),
    [memory.f32, memory.f16, memory.packed ?? memory.int8]
      .map((bytes) => (bytes ? megabytes(bytes) : '-'))
      .join(', '),
    of.licence,
    of.ran.join(', '),
    of.compared,
  ]);
  const table = [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
  const page = readFileSync(PAGE, 'utf8');
  const region = /(<!-- models -->\n).*?(<!-- end -->)/s;
  expect(page).toMatch(region);
  await expect(
    page.replace(region, (_, begin: string, end: string) => `${begin}${table}\n${end}`),
  ).toMatchFileSnapshot(`../../${PAGE}`);
});

test('neurgrad models', async () => {
  const { code, out } = await neurgrad('models');
  expect(code).toBe(0);
  for (const { name, model } of KNOWN_MODELS) for (const text of [name, model]) expect(out).toContain(text);
  expect(JSON.parse((await neurgrad('models', '--json')).out)).toEqual(KNOWN_MODELS);
});
