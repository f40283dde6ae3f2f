/**
 * `npm run bundle`: one archive for a Linux x64 machine that has a Vulkan driver and nothing else, no registry either:
 * this Node, Dawn's binary, the built project, its benchmarks and the golden tests with their runner.
 *
 * Packages are found by following `dependencies` from the roots; what is only for other platforms or for building stays
 * behind. Needs `tar` and `xz` here; there `tar` with xz, or Python 3 in their place.
 */

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { packageRoot, version } from '../cli/package.ts';

const LIMIT = 60e6;
/** Not needed at run time: CSS for Vite, the compiler as an optional peer. */
const LEFT_OUT = /^(lightningcss|typescript$|@typescript\/|fsevents)/;
/** Golden tests and what they import; the tests run from sources. */
const SOURCES = [
  'kernels',
  'engine',
  'models',
  'neurgrad',
  'test/golden',
  'test/golden-families',
  'test/models/golden.test.ts',
  'test/models/goldenCases.ts',
  'test/models/goldenFiles.ts',
  'test/neurgrad/golden.test.ts',
];
const ALSO = [
  'dist',
  'examples/models',
  'bench/results/predictions.json',
  'package.json',
  'tsconfig.json',
  'LICENSE',
];

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
const manifest = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;

/** Folders of `names` and of all they depend on, found from `from` upwards as Node does. */
function packages(names: readonly string[], from: string, found = new Set<string>()): Set<string> {
  for (const name of names) {
    if (LEFT_OUT.test(name)) continue;
    let at = from;
    while (!existsSync(join(at, 'node_modules', name)) && at !== dirname(at)) at = dirname(at);
    const folder = join(at, 'node_modules', name);
    // Binaries for other platforms are not installed.
    if (!existsSync(folder) || found.has(folder)) continue;
    found.add(folder);
    const { dependencies, optionalDependencies } = manifest(folder);
    packages([...Object.keys(dependencies ?? {}), ...Object.keys(optionalDependencies ?? {})], folder, found);
  }
  return found;
}

function launcher(folder: string, name: string, command: string): void {
  const path = join(folder, 'bin', name);
  writeFileSync(path, `#!/bin/sh\ncd "$(dirname "$0")/.." && exec ${command} "$@"\n`);
  chmodSync(path, 0o755);
}

function main(output: string): void {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error('the bundle holds this machine’s Node: make it on Linux x64');
  const stage = mkdtempSync(join(tmpdir(), 'neurgrad-bundle-'));
  const folder = join(stage, `neurgrad-${version}-linux-x64`);
  try {
    const roots = [...Object.keys(manifest(packageRoot).dependencies ?? {}), 'vitest'];
    for (const source of packages(roots, packageRoot)) {
      const otherPlatform = /webgpu\/dist\/(?!linux-x64)[^/]+$/;
      cpSync(source, join(folder, relative(packageRoot, source)), {
        recursive: true,
        filter: (path) =>
          !otherPlatform.test(path) &&
          !/\.(d\.[cm]?ts|map|md)$/.test(path) &&
          (path === source || basename(path) !== 'node_modules'),
      });
    }
    for (const path of [...ALSO, ...SOURCES])
      cpSync(join(packageRoot, path), join(folder, path), {
        recursive: true,
        filter: (file) => !/\.(map|d\.ts)$|dist\/(api|coverage|docs-)/.test(file),
      });
    mkdirSync(join(folder, 'bin'));
    copyFileSync(process.execPath, join(folder, 'bin/node'));
    launcher(folder, 'neurgrad', 'bin/node dist/cli/main.js');
    launcher(folder, 'bench', 'bin/node dist/bench/main.js');
    launcher(
      folder,
      'golden',
      'bin/node node_modules/vitest/vitest.mjs run --pool forks --testTimeout 600000 --hookTimeout 600000',
    );
    writeFileSync(
      join(folder, 'README.txt'),
      `neurgrad ${version} for Linux x64 with a Vulkan driver; nothing is installed or fetched.

Unpack with "tar xJf FILE", or without xz by "python3 -m tarfile -e FILE".

bin/neurgrad doctor   what this machine offers, and a self-check
bin/golden            the golden tests
bin/bench --suite gpu all of a GPU in eight minutes: bits, golden tests, what was predicted beside what is measured
bin/bench --small     the benchmarks (--help lists the suites)
`,
    );
    if (output === 'folder') {
      console.log(folder);
      return;
    }
    execFileSync('tar', ['-C', stage, '-cJf', output, basename(folder)], {
      env: { ...process.env, XZ_OPT: '-6 -T0' },
      stdio: 'inherit',
    });
    const { size } = statSync(output);
    console.log(`${output}: ${(size / 1e6).toFixed(1)} MB`);
    if (size > LIMIT) throw new Error(`the bundle is larger than ${LIMIT / 1e6} MB`);
  } finally {
    if (output !== 'folder') rmSync(stage, { recursive: true });
  }
}

main(process.argv[2] ?? `neurgrad-${version}-linux-x64.tar.xz`);
