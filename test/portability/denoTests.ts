/**
 * Runs test files in Deno, by Deno's own WebGPU: `denoTests.ts [--short] [-t PATTERN] [FILE …]`; deno.mjs starts this. Without files,
 * those that hold every kernel's text, operation, gradient and golden case against their references; `--short` takes a part of each.
 */

import { parseArgs } from 'node:util';
import { openDevice } from '../../engine/index.ts';
import { type FileOutcome, runFile } from './vitest.ts';

interface Choice {
  readonly file: string;
  /** Tests whose full names fit; all unless given. */
  readonly tests?: RegExp;
  /** The same for `--short`. */
  readonly few: RegExp;
}

const CHOICES: readonly Choice[] = [
  // Snapshots are vitest's, and texts are the same everywhere.
  { file: 'test/kernels/variants.test.ts', tests: /^(?!the text of)/, few: /compile with|would be found/ },
  { file: 'test/engine/submissions.test.ts', few: /three rounds/ },
  // Of most operations, one odd shape.
  { file: 'test/engine/ops.test.ts', few: /\[3,[57]\]/ },
  { file: 'test/engine/gradients.test.ts', few: /(linear|softmax|layerNorm) \[3,[57]\]/ },
  { file: 'test/models/golden.test.ts', few: /^(bert-s|llama-s) / },
  { file: 'test/neurgrad/golden.test.ts', few: /^llama-s / },
];

declare const Deno: { readonly args: readonly string[]; exit(code: number): never };

const { values, positionals } = parseArgs({
  args: [...Deno.args],
  allowPositionals: true,
  options: { short: { type: 'boolean', default: false }, testNamePattern: { type: 'string', short: 't' } },
});
const { short, testNamePattern } = values;
const asked = testNamePattern === undefined ? {} : { tests: new RegExp(testNamePattern) };
const choices: readonly (Pick<Choice, 'file' | 'tests'> & Partial<Choice>)[] =
  positionals.length > 0 ? positionals.map((file) => ({ file, ...asked })) : CHOICES;

const device = await openDevice();
const { runtime, implementation, description } = device.info;
const { subgroups, f16, immediates, textureSide } = device.capabilities;
console.log(`${runtime}: ${implementation}, ${description || 'an adapter without a name'}`);
console.log(JSON.stringify({ subgroups, f16, immediates, textureSide }));
device.destroy();
if (implementation !== 'wgpu') throw new Error('this is to be run on wgpu: the addon was found in its place');

const outcomes: FileOutcome[] = [];
for (const { file, tests, few } of choices) {
  const pattern = short ? few : tests;
  let done = 0;
  const outcome = await runFile(
    file,
    () => import(new URL(`../../${file}`, import.meta.url).href),
    pattern,
    (name, state) => {
      if (++done % 100 === 0 || state === 'fail') console.log(`  ${done} tests so far: ${name} ${state}`);
    },
  );
  outcomes.push(outcome);
  const { passed, skipped, failures, seconds } = outcome;
  const parts = [
    `${passed} passed`,
    `${failures.length} failed`,
    ...(skipped > 0 ? [`${skipped} left out`] : []),
  ];
  console.log(`${file}: ${parts.join(', ')} (${seconds.toFixed(1)} s)`);
  for (const failure of failures) console.log(`  ${failure.replaceAll('\n', '\n    ')}`);
}
const total = (of: (one: FileOutcome) => number): number => outcomes.reduce((sum, one) => sum + of(one), 0);
const failed = total(({ failures }) => failures.length);
console.log(`in all ${total(({ passed }) => passed)} tests passed, ${failed} failed`);
Deno.exit(failed === 0 && total(({ passed }) => passed) > 0 ? 0 : 1);
