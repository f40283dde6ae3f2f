/** TypeScript of the documentation as programs against the built package, compiled as strictly as users may. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Compiler options as strict as there are, for a modern runtime. */
export const STRICT = {
  target: 'ES2022',
  lib: ['ES2023', 'DOM', 'DOM.Iterable', 'ESNext.Disposable'],
  module: 'NodeNext',
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
} as const;

/**
 * A folder with a file for each program, `NAME.mts`, and what they need to be compiled and run there: below the package's
 * own folder, so that `neurgrad` means this package.
 */
export function programFolder(programs: ReadonlyMap<string, string>): string {
  mkdirSync('dist', { recursive: true });
  const folder = mkdtempSync(resolve('dist/docs-'));
  symlinkSync(resolve('examples'), join(folder, 'examples'));
  const files = [...programs].map(([name, code]) => {
    writeFileSync(join(folder, `${name}.mts`), code);
    return `${name}.mts`;
  });
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: { ...STRICT, types: ['node'] }, files }),
  );
  return folder;
}

/** What the compiler says against a folder's programs; nothing where they are right. */
export function compile(folder: string): string {
  try {
    return execFileSync('node', [resolve('node_modules/typescript/bin/tsc'), '-p', folder], {
      encoding: 'utf8',
    });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

/** Runs JavaScript in a folder. @returns its output. */
export function run(folder: string, file: string): string {
  return execFileSync('node', [join(folder, file)], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}
