/** What Dawn says of lavapipe's limits does not reach a user's standard error; all else does. Needs the built package. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'neurgrad-warnings-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Standard output of a shell's line. */
const shell = (line: string): string => execFileSync('bash', ['-c', line], { encoding: 'utf8' });
const LINE =
  'Warning: maxDynamicStorageBuffersPerPipelineLayout artificially reduced from 1000000 to 16 to fit it.';

/** Writes as native code does: to the descriptor, whatever it leads to by then. */
const program = join(folder, 'program.mjs');
writeFileSync(
  program,
  `import { writeSync } from 'node:fs';
import { withoutKnownWarnings } from ${JSON.stringify(join(process.cwd(), 'dist/cli/nativeWarnings.js'))};
writeSync(2, 'before\\n');
const answer = await withoutKnownWarnings(async () => {
  writeSync(2, 'something else\\n${LINE}\\n${LINE}\\nand more\\n');
  return 7;
});
console.log('answer', answer);
process.stderr.write('after\\n');
try { withoutKnownWarnings(() => { writeSync(2, '${LINE}\\n'); throw new RangeError('own'); }); }
catch (error) { console.error(error.name); }
`,
);
const EXPECTED = 'before\nsomething else\nand more\nafter\nRangeError\n';

describe.runIf(process.platform === 'linux')('the known lines are left out, in order with all else', () => {
  test('of a pipe', () => {
    expect(shell(`node ${program} 2>&1 >/dev/null | cat`)).toBe(EXPECTED);
  });
  test('of a file, of one that is added to', () => {
    const file = join(folder, 'err.txt');
    shell(`echo first > ${file}; node ${program} 2>> ${file} >/dev/null`);
    expect(readFileSync(file, 'utf8')).toBe(`first\n${EXPECTED}`);
  });
  test('of a file that standard output shares, where both are added to it', () => {
    const file = join(folder, 'log.txt');
    shell(`(echo first; node ${program}; echo last) >> ${file} 2>&1`);
    const text = readFileSync(file, 'utf8');
    expect(text.replace('answer 7\n', '')).toBe(`first\n${EXPECTED}last\n`);
    expect(text).toContain('answer 7\n');
  });
  test('not of a file that standard output shares, of which nothing is lost', () => {
    const file = join(folder, 'both.txt');
    shell(`node ${program} > ${file} 2>&1`);
    const text = readFileSync(file, 'utf8');
    for (const line of ['before', 'something else', 'and more', 'answer 7', 'after', 'RangeError', LINE])
      expect(text.split('\n')).toContain(line);
  });
  test('where there is nowhere to write, or standard error is closed', () => {
    expect(shell(`TMPDIR=/nowhere node ${program} 2>&1 >/dev/null | cat`)).toContain(LINE);
    expect(shell(`node ${program} 2>&-`)).toBe('answer 7\n');
  });
});

test('a command says nothing of limits, and its errors arrive', () => {
  const command = 'node dist/cli/main.js predict --model examples/models/facts-bert --prompt';
  expect(shell(`${command} "Rome is the capital of [MASK]." 2>&1 >/dev/null | cat`)).not.toMatch(
    /maxDynamic/,
  );
  expect(shell(`${command} "" 2>&1 | cat`)).toMatch(/^error: /m);
});
