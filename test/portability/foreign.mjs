/** Runtimes other than Node, fetched by name and version, and the reports that they make of the main job. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Exit status of a check that could not be made, as test runners have it since Automake. */
export const NOT_RUN = 77;

/**
 * A runtime's command by its npm package, which lies in npm's cache and in no project: `deno@2.9.6`. Ends this process with one line
 * where it cannot be had.
 */
export function runtime(spec) {
  const [name] = spec.split('@');
  const npx = ['--yes', '--package', spec, '--', name];
  const env = { ...process.env, npm_config_fetch_retries: '1', DENO_NO_UPDATE_CHECK: '1' };
  const spawn = (args, options) =>
    spawnSync('npx', [...npx, ...args], {
      ...{ cwd: root, env, encoding: 'utf8', maxBuffer: 2 ** 28 },
      ...options,
      shell: process.platform === 'win32',
    });
  const tried = spawn(['--version'], { timeout: 120_000 });
  if (tried.status !== 0) {
    const said = (tried.stderr || String(tried.error ?? '')).trim().split('\n').at(-1);
    console.log(`NOT RUN: ${spec} cannot be had from npm here: ${said}`);
    process.exit(NOT_RUN);
  }
  return spawn;
}

/** Paths of a report's values that say when and where it was made. */
const OWN = /^(created|machine)\b|\b(seconds)$/;

/** All values of a report by path, but for those. */
function* values(of, path = '') {
  if (OWN.test(path)) return;
  if (typeof of === 'object' && of !== null)
    for (const [key, value] of Object.entries(of)) yield* values(value, path ? `${path}.${key}` : key);
  else yield [path, of];
}

/** How many numbers a report has, and what differs in the other: every value is compared, numbers by more than `tolerance`. */
export function compareReports(ours, theirs, tolerance = 0) {
  const [a, b] = [new Map(values(ours)), new Map(values(theirs))];
  const same = (one, other) =>
    Object.is(one, other) || Math.abs(one - other) <= tolerance * Math.max(1, Math.abs(one));
  const differing = [...new Set([...a.keys(), ...b.keys()])]
    .filter((path) => !same(a.get(path), b.get(path)))
    .map((path) => `${path}: ${a.get(path)}, and ${b.get(path)} there`);
  return { numbers: [...a.values()].filter((value) => typeof value === 'number').length, differing };
}

/**
 * Runs the main job by two runtimes, each a name and a command that takes its arguments, and says whether the second one's report
 * equals the first one's.
 */
export function compareMainJob([first, second], { tolerance = 0, options = [] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'neurgrad-portability-'));
  const report = ([name, run]) => {
    const out = join(folder, name);
    const { status, stdout, stderr } = run(['dist/cli/main.js', 'demo', '--out', out, ...options]);
    if (status !== 0) throw new Error(`it ended with ${status} in ${name}:\n${stdout}${stderr}`);
    const made = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
    console.log(`main job: ${name}, ${made.machine.adapter}: ${made.seconds.toFixed(1)} s`);
    return made;
  };
  try {
    const { numbers, differing } = compareReports(report(first), report(second), tolerance);
    console.log(`main job: of ${numbers} numbers of the report ${differing.length} differ`);
    for (const line of differing.slice(0, 20)) console.log(`  ${line}`);
    return numbers > 100 && differing.length === 0;
  } catch (error) {
    console.log(`main job: ${error.message}`);
    return false;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
