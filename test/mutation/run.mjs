/**
 * Whether the tests notice a gradient that is wrong by 1%: `node test/mutation/run.mjs [operation ...]` breaks the gradient of
 * each operation in turn and expects the gradient tests to fail; and whether they notice a check of options that is left out
 * (`options` among the names: that alone takes half a minute). Minutes without a GPU, so not part of `npm test`.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const RECORDED = join(mkdtempSync(join(tmpdir(), 'neurgrad-mutations-')), 'operations');

/** Gradients that are 0 or do not exist: nothing to break. */
const WITHOUT = new Set([
  'argmax',
  'argsort',
  'ceil',
  'clipFactor',
  'equal',
  'floor',
  'greater',
  'greater_equal',
  'isFinite',
  'isNaN',
  'normStatistics',
  'round',
  'sign',
  'step',
  'toU32',
  'within',
]);

/** Those that the sources name, and those that the tests record, whatever they are named by. */
function operations() {
  const names = new Set(readFileSync(RECORDED, 'utf8').split('\n').filter(Boolean));
  for (const file of readdirSync('engine', { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue;
    // Without comments, whose examples make operations of their own.
    const source = readFileSync(`engine/${file}`, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    for (const [, name] of source.matchAll(/\b(?:operation|unaryOp|withOutput)\(\s*'(\w+)'/g))
      names.add(name);
  }
  return [...names].filter((name) => !WITHOUT.has(name)).sort();
}

function fails(mutate) {
  const { status, stdout } = spawnSync(
    'node_modules/.bin/vitest',
    // Without the test that looks at names alone, which says nothing about gradients.
    ['run', '--config', 'test/mutation/vitest.config.ts', '--reporter=json', '-t', '^(?!.*covers every)'],
    {
      env: { ...process.env, MUTATE: mutate, ...(mutate === '' ? { OPERATIONS: RECORDED } : {}) },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  const result = JSON.parse(stdout.slice(stdout.indexOf('{"num')));
  if (result.numTotalTests === 0) throw new Error('no tests were found');
  const failure = result.testResults
    .flatMap((file) => file.assertionResults)
    .find((t) => t.status === 'failed');
  return { failed: status !== 0 && failure !== undefined, by: failure?.title ?? '' };
}

if (process.argv.length <= 2 && fails('').failed) throw new Error('the tests fail with no gradient broken');
/** Checks of options left out in turn, all by one run: options.ts. */
function options() {
  const { status, stdout } = spawnSync(
    'node_modules/.bin/vitest',
    ['run', '--config', 'test/mutation/options.config.ts'],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  );
  console.log(stdout.match(/options: .*/)?.[0] ?? stdout);
  return status === 0;
}

let survived = 0;
const wanted = process.argv.slice(2);
if (wanted.length === 0 || wanted.includes('options')) if (!options()) survived++;
for (const name of wanted.length > 0 ? wanted.filter((each) => each !== 'options') : operations()) {
  const { failed, by } = fails(name);
  if (!failed) survived++;
  console.log(`${name}: ${failed ? `noticed by "${by}"` : 'NOT NOTICED'}`);
}
rmSync(dirname(RECORDED), { recursive: true, force: true });
process.exitCode = survived > 0 ? 1 : 0;
