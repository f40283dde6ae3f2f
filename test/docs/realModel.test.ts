/**
 * docs/a-real-model.md: its commands run as they stand, on the file that NEURGRAD_REAL_MODEL names put where a download would have put
 * it, and print what the page says they print; numbers may differ by 2%, as they do between devices.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KNOWN_MODELS } from '../../models/index.ts';
import { compile, programFolder } from './programs.ts';

const page = readFileSync('docs/a-real-model.md', 'utf8');
const { hub } = KNOWN_MODELS.find(({ model }) => page.includes(`MODEL=${model}`))!;
const real = process.env.NEURGRAD_REAL_MODEL;
const there = real !== undefined && basename(real) === hub!.file;
if (!there)
  console.log(`NEURGRAD_REAL_MODEL names no ${hub!.file}: docs/a-real-model.md is not run, only compiled`);

interface Block {
  readonly language: string;
  readonly code: string;
  /** What the page says that it prints. */
  readonly prints: string | undefined;
}

const blocks = [...page.matchAll(/^```(sh|ts)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/gms)].map(
  ([, language, code, prints]): Block => ({ language: language!, code: code!, prints }),
);

/** Words and numbers; a table's lines, which are as long as its cells, aside. */
const parts = (text: string): string[] =>
  text
    .replace(/[│┌┐└┘├┤┬┴┼─]+/g, ' ')
    .split(/[\s,;:]+/)
    .filter((part) => part !== '');

function alike(printed: string, said: string): void {
  const [got, right] = [parts(printed), parts(said)];
  expect(got.length, printed).toBe(right.length);
  for (const [i, part] of right.entries()) {
    const [a, b] = [Number(got[i]), Number(part)];
    // The noise has one digit.
    if (Number.isNaN(b)) expect(got[i], printed).toBe(part);
    else expect(Math.abs(a - b), printed).toBeLessThanOrEqual(Math.max(0.02 * Math.abs(b), 1e-4));
  }
}

describe('a quarter of an hour with a real model', () => {
  let [home, folder] = ['', ''];
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), 'neurgrad-real-'));
    const code = blocks.filter(({ language }) => language === 'ts').map(({ code }) => code);
    folder = programFolder(new Map([['a-real-model', code.join('\n')]]));
    if (!there) return;
    const cache = join(home, 'hub', `models--${hub!.id.replace('/', '--')}`);
    const snapshot = join(cache, 'snapshots', hub!.revision!);
    for (const path of [join(cache, 'refs'), snapshot]) mkdirSync(path, { recursive: true });
    writeFileSync(join(cache, 'refs/main'), hub!.revision!);
    symlinkSync(resolve(real!), join(snapshot, hub!.file));
  });
  afterAll(() => {
    for (const path of [home, folder]) rmSync(path, { recursive: true, force: true });
  });

  it('has blocks that are run, and no others', () => {
    expect(blocks.length).toBeGreaterThanOrEqual(7);
    expect(page.match(/^```\w+$/gm)).toHaveLength(
      blocks.length + blocks.filter((each) => each.prints).length,
    );
    expect(compile(folder)).toBe('');
  });

  const setting = /^MODEL=.*$/m.exec(page)![0];
  it.skipIf(!there).each(blocks.map((block, i) => [i + 1, block] as const))(
    'block %d prints what the page says',
    { timeout: 600_000 },
    (_, { language, code, prints }) => {
      const script =
        language === 'ts'
          ? `cd ${folder} && node a-real-model.mjs`
          : `${setting}\nnpx() { shift; node ${resolve('dist/cli/main.js')} "$@"; }\n${code}`;
      const out = execFileSync('bash', ['-ec', script], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, HF_HOME: home, HF_HUB_OFFLINE: '1', NO_COLOR: '1' },
      });
      expect(out.length).toBeGreaterThan(20);
      if (prints !== undefined) alike(out, prints);
    },
  );
});
