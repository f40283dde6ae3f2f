/**
 * The pages under docs/: links lead somewhere, and the TypeScript on a page, its blocks together, is a program that
 * compiles strictly and runs against the built package.
 */

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { neurgrad } from '../cli/command.ts';
import { compile, programFolder, run } from './programs.ts';

const pages = readdirSync('docs')
  .filter((name) => name.endsWith('.md'))
  .map((name) => join('docs', name));
const linked = [...pages, 'README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'];
const programs = ['tutorial', 'how-to', 'training', 'notebooks', 'probing'];
/** Pages whose blocks are programs by themselves, short ones. */
const apart = ['experiments', 'from-transformerlens'];
/** Pages whose blocks are programs by themselves, of any length, run one after the other. */
const recipes = ['recipes'];

/** The anchors of a page's headings, as GitHub makes them. */
const anchors = (text: string): string[] =>
  [...text.matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
    title!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/ /g, '-'),
  );

describe.each(linked)('%s', (page) => {
  test('has no dead link', () => {
    const text = readFileSync(page, 'utf8');
    const dead = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target]) => target!)
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [path, anchor] = target.split('#') as [string, string?];
        const file = path === '' ? page : join(dirname(page), path);
        if (!existsSync(file)) return true;
        return anchor !== undefined && !anchors(readFileSync(file, 'utf8')).includes(anchor);
      });
    expect(dead).toEqual([]);
  });
});

const blocks = (page: string): string[] =>
  [...readFileSync(`docs/${page}.md`, 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block!);
const alone = recipes.flatMap((page) => blocks(page).map((code, i) => [`${page}-${i}`, code] as const));
const short = apart.flatMap((page) => blocks(page).map((code, i) => [`${page}-${i}`, code] as const));

describe('programs', () => {
  let folder: string;
  beforeAll(() => {
    const whole = programs.map((page) => [page, blocks(page).join('\n')] as const);
    folder = programFolder(new Map([...whole, ...short, ...alone]));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('compile', () => {
    expect(compile(folder)).toBe('');
  });

  test.each(short)('%s is short', (_, code) => {
    expect(code.trimEnd().split('\n').length).toBeLessThanOrEqual(10);
  });

  test.each([...programs, ...short.map(([name]) => name)])('%s runs', (name) => {
    const out = run(folder, `${name}.mjs`);
    expect(out.length).toBeGreaterThan(20);
    expect(out).not.toMatch(/NaN|undefined/);
  });

  // One process, so that drivers compile a kernel once.
  test('recipes run, one after the other', () => {
    const said = alone.map(([name]) => `console.log('<${name}>');\nawait import('./${name}.mjs');\n`);
    writeFileSync(join(folder, 'recipes.mjs'), said.join(''));
    const outputs = run(folder, 'recipes.mjs')
      .split(/^<recipes-\d+>\n/m)
      .slice(1);
    expect(outputs).toHaveLength(alone.length);
    for (const out of outputs) {
      expect(out.length).toBeGreaterThan(15);
      expect(out).not.toMatch(/NaN|undefined/);
    }
  });

  describe('DuckDB, with the queries of the page', () => {
    const queries = [...readFileSync('docs/notebooks.md', 'utf8').matchAll(/^```sql\n(.*?)^```$/gms)].map(
      ([, query]) => query!,
    );
    const queryOf = (file: string): string => queries.find((query) => query.includes(file))!;
    const ask = async (query: string): Promise<Record<string, unknown>[]> => {
      const connection = await (await DuckDBInstance.create()).connect();
      const reader = await connection.runAndReadAll(query);
      const rows = reader.getRowObjects();
      connection.closeSync();
      return rows;
    };

    test('reads the curves of a sweep', async () => {
      const rows = await ask(queryOf('rome.parquet').replace('rome.parquet', join(folder, 'rome.parquet')));
      expect(rows.map(({ layer, neuron }) => [layer, neuron])).toEqual(
        [0, 1, 2, 3].map((layer) => [layer, 7]),
      );
      for (const { slope, r } of rows) {
        expect(Number.isFinite(slope)).toBe(true);
        expect(Math.abs(Number(r))).toBeLessThanOrEqual(1);
      }
    });

    test('reads the rows of a command, of several models', async () => {
      const file = join(folder, 'curves.parquet');
      const prompts = join(folder, 'three.jsonl');
      const texts = ['Rome is in [MASK].', 'Oslo is in [MASK].', 'The capital of France is [MASK].'];
      writeFileSync(prompts, texts.map((prompt) => JSON.stringify({ prompt })).join('\n'));
      const { code, err } = await neurgrad(
        ...['sweep', '--model', 'examples/models/facts-bert', '--prompts', prompts],
        ...['--neurons', 'top:4,L3.N0-3', '--range', '-1:1:0.5', '--out', file],
      );
      expect(code, err).toBe(0);
      const [byModel, again] = queries
        .filter((query) => query.includes('curves.parquet'))
        .map((query) => query.replace('curves.parquet', file));
      const layers = await ask(byModel!);
      expect(new Set(layers.map(({ model }) => model))).toEqual(new Set(['examples/models/facts-bert']));
      expect(layers.length).toBeGreaterThan(0);
      // Of a range that holds the whole sweep they are the file's own.
      const slopes = await ask(again!);
      const own = await ask(
        `SELECT DISTINCT model, prompt_id, layer, neuron, g_e FROM '${file}' ORDER BY ALL`,
      );
      expect(slopes).toHaveLength(own.length);
      for (const [i, { g_e }] of slopes.entries()) expect(Number(g_e)).toBeCloseTo(Number(own[i]!.g_e), 12);
    });
  });
});
