/**
 * The examples of the API reference: each `@example` is a program of its own that compiles strictly and runs against the built
 * package, and prints what its comments say (`// → `).
 */

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compile, programFolder, run } from './programs.ts';

const ROOMS = ['engine', 'models', 'neurgrad', 'probing'];

/** Code by the name of what it stands at: `engine/clip.ts clipFactor`. */
const examples = new Map<string, string>();
for (const room of ROOMS)
  for (const file of readdirSync(room, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue;
    const source = readFileSync(join(room, file), 'utf8');
    const found = source.matchAll(
      / \* @example\n \* ```ts\n((?: \*.*\n)*?) \* ```\n(?: \*.*\n)*? \*\/\nexport (?:async )?(?:abstract )?\w+\*? (\w+)/g,
    );
    for (const [, code, name] of found)
      examples.set(`${room}/${file} ${name}`, code!.replaceAll(/^ \* ?/gm, ''));
    expect(
      [...source.matchAll(/@example/g)].length,
      `${room}/${file}: an example that was not understood`,
    ).toBe([...examples.keys()].filter((key) => key.startsWith(`${room}/${file} `)).length);
  }

/** Lines that a program's comments say it prints, in order. */
const foretold = (code: string): string[] => [...code.matchAll(/\/\/ → (.+)$/gm)].map(([, line]) => line!);

const names = [...examples.keys()];
let folder: string;
let complaints: string;
let printed: string[];

beforeAll(() => {
  folder = programFolder(new Map(names.map((name, i) => [`e${i}`, examples.get(name)!])));
  complaints = compile(folder);
  // One process for all: most of an example's time would be its start.
  const all = names.map((_, i) => `console.log('==== ${i}'); await import('./e${i}.mjs');`);
  writeFileSync(join(folder, 'all.mjs'), `${all.join('\n')}\nprocess.exit(0);\n`);
  printed =
    complaints === ''
      ? run(folder, 'all.mjs')
          .split(/^==== \d+\n/m)
          .slice(1)
      : [];
}, 240_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('every room has examples, and all compile', () => {
  for (const room of ROOMS) expect(names.filter((name) => name.startsWith(room)).length).toBeGreaterThan(4);
  expect(complaints).toBe('');
});

test.each(names.map((name, i) => [name, i] as const))('%s', (name, i) => {
  const lines = printed[i]!.trimEnd().split('\n');
  expect(lines.join('')).not.toMatch(/NaN|undefined/);
  const missing = foretold(examples.get(name)!).filter((line) => !lines.includes(line));
  expect(missing, printed[i]!).toEqual([]);
});
