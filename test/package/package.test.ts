/**
 * The package as others get it: packed, put into an empty project, imported, type-checked, bundled for browsers.
 *
 * The tarball is unpacked instead of installed, with links to this checkout's dependencies: the same files, no network.
 */

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { chromium } from 'playwright-core';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import { STRICT } from '../docs/programs.ts';
import { serve } from '../lab/site.ts';

interface PackageJson {
  readonly version: string;
  readonly exports: Readonly<
    Record<string, string | Readonly<Record<'types' | 'browser' | 'node' | 'default', string>>>
  >;
  readonly dependencies: Readonly<Record<string, string>>;
}

const { path: executablePath } = ensureChromium();

const own = JSON.parse(readFileSync('package.json', 'utf8')) as PackageJson;
const entries = Object.keys(own.exports).filter((name) => name !== './package.json');

let app: string;
let root: string;
let files: string[];

const run = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { cwd: app, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

beforeAll(() => {
  app = mkdtempSync(join(tmpdir(), 'neurgrad-package-'));
  const packed = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', app], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  ) as [{ filename: string; files: { path: string }[] }];
  files = packed[0].files.map(({ path }) => path);
  root = join(app, 'node_modules', 'neurgrad');
  mkdirSync(root, { recursive: true });
  run('tar', 'xzf', packed[0].filename, '--strip-components=1', '-C', root);
  for (const name of Object.keys(own.dependencies)) {
    const link = join(app, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(resolve('node_modules', name), link);
  }
  writeFileSync(join(app, 'package.json'), '{"name":"app","private":true,"type":"module"}');
});
afterAll(() => rmSync(app, { recursive: true, force: true }));

test('holds what it should and nothing else', () => {
  for (const name of ['LICENSE', 'README.md', 'package.json', 'dist/cli/main.js'])
    expect(files).toContain(name);
  for (const entry of Object.values(own.exports))
    for (const path of typeof entry === 'string' ? [entry] : Object.values(entry))
      expect(existsSync(join(root, path)), path).toBe(true);
  expect(files.filter((path) => /^(test|node_modules|\.github)\/|\.tsbuildinfo$/.test(path))).toEqual([]);
});

test('public types know no any, and nothing is a default export', () => {
  const rooms = entries.map(
    (entry) => `${dirname((own.exports[entry] as { types: string }).types).slice(2)}/`,
  );
  const found = files
    .filter((path) => path.endsWith('.d.ts') && rooms.some((room) => path.startsWith(room)))
    .flatMap((path) => {
      const types = readFileSync(join(root, path), 'utf8').replace(/\/\*.*?\*\/|\/\/[^\n]*/gs, '');
      return /(?<![\w'"])any(?![\w'"])|export default/.test(types) ? [path] : [];
    });
  expect(found).toEqual([]);
});

test('every entry can be imported, and the bundled model answers', () => {
  const code = `
    ${entries.map((entry, i) => `import * as m${i} from 'neurgrad${entry.slice(1)}';`).join('\n')}
    import { loadModel, encodePrompt, predict } from 'neurgrad';
    const { model, tokenizer } = await loadModel(${JSON.stringify(join(root, 'examples/models/facts-bert'))});
    const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
    const [best] = await predict(model, prompt, 1);
    console.log(tokenizer.tokenOf(best.id), [${entries.map((_, i) => `m${i}`)}].every((m) => Object.keys(m).length > 0));
    model.device.destroy();`;
  writeFileSync(join(app, 'use.mjs'), code);
  expect(run('node', 'use.mjs').trim()).toBe('paris true');
});

test('the command runs', () => {
  expect(run('node', join(root, 'dist/cli/main.js'), '--version').trim()).toBe(own.version);
});

test('types hold for a strict project that checks its libraries too', () => {
  const code = `
    ${entries.map((entry, i) => `import * as m${i} from 'neurgrad${entry.slice(1)}';`).join('\n')}
    import { sweep, type Sweep } from 'neurgrad';
    import { openDevice, tensor, type Tensor } from 'neurgrad/engine';
    export const make = async (): Promise<Tensor> => tensor(await openDevice(), [1, 2]);
    export type Curves = Sweep['neurons'];
    export default [sweep, ${entries.map((_, i) => `m${i}`)}] as const;`;
  writeFileSync(join(app, 'use.ts'), code);
  const compilerOptions = { ...STRICT, noEmit: true, skipLibCheck: false, types: [] };
  writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['use.ts'] }));
  try {
    run('node', resolve('node_modules/typescript/bin/tsc'), '-p', app);
  } catch (error) {
    expect.fail((error as { stdout: string }).stdout);
  }
});

describe('in a browser', () => {
  /** Bundles `code`; all of the output as one text, and the bundler's warnings. */
  async function bundle(code: string): Promise<{ text: string; warnings: string[] }> {
    const entry = join(app, 'entry.mjs');
    writeFileSync(entry, code);
    const warnings: string[] = [];
    const result = await build({
      root: app,
      configFile: false,
      logLevel: 'silent',
      build: {
        write: false,
        target: 'es2022',
        rollupOptions: { input: entry, onwarn: ({ message }) => void warnings.push(message) },
      },
    });
    const text = [result]
      .flat()
      .flatMap((r) => ('output' in r ? r.output : []))
      .map((part) => ('code' in part ? part.code : ''))
      .join('\n');
    return { text, warnings };
  }

  test('nothing of Node comes along, and no warning', async () => {
    const { text, warnings } = await bundle(`
      import * as neurgrad from 'neurgrad';
      import * as engine from 'neurgrad/engine';
      import * as models from 'neurgrad/models';
      globalThis.everything = { neurgrad, engine, models };`);
    expect(warnings).toEqual([]);
    expect(text).not.toMatch(/from ?["']node:|import\(["'](node:|webgpu)|hubCache|@huggingface\/hub/);
    expect(text.length).toBeGreaterThan(50_000);
  });

  test('what is not used is left out', async () => {
    const { text } = await bundle(
      `import { pearson } from 'neurgrad'; console.log(pearson([1, 2], [2, 1]));`,
    );
    expect(text).not.toMatch(/requestAdapter|workgroup_size|safetensors/);
    expect(text.length).toBeLessThan(20_000);
    const size = async (names: string): Promise<number> =>
      (await bundle(`import ${names} from 'neurgrad/engine'; globalThis.used = ${names};`)).text.length;
    const whole = (await bundle(`import * as all from 'neurgrad/engine'; globalThis.used = all;`)).text
      .length;
    // Of which a good part checks options.
    expect(await size('{ tensor }')).toBeLessThan(0.13 * whole);
    expect(await size('{ openDevice, tensor, matmul, grad }')).toBeLessThan(0.8 * whole);
  });

  test.skipIf(!executablePath)('a Vite project of its own computes', async () => {
    const page = join(app, 'page');
    mkdirSync(page);
    writeFileSync(join(page, 'index.html'), '<!doctype html><script type="module" src="./main.js"></script>');
    writeFileSync(
      join(page, 'main.js'),
      `import { openDevice, tensor, matmul, grad, sum } from 'neurgrad/engine';
      const device = await openDevice();
      const x = tensor(device, [1, 2, 3, 4], [2, 2]).requireGrad();
      const [dx] = grad(sum(matmul(x, x)), [x]);
      document.title = [...(await dx.read())].join(' ');`,
    );
    await build({
      root: page,
      base: './',
      configFile: false,
      logLevel: 'silent',
      build: { target: 'es2022' },
    });
    const site = await serve(join(page, 'dist'));
    const browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    try {
      const tab = await browser.newPage();
      await tab.goto(site.url);
      await tab.waitForFunction(() => document.title !== '', undefined, { timeout: 60_000 });
      // d sum(x x) = ones x^T + x^T ones.
      expect(await tab.title()).toBe('7 11 9 13');
    } finally {
      await browser.close();
      site.close();
    }
  });
});
