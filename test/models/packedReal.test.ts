/**
 * SmolLM2-135M-Instruct from its GGUF file, blocks packed on the device: what transformers computes in float64 of the same numbers, and
 * the memory that loading takes. The file lies outside the repository; `NEURGRAD_REAL_MODEL` names it, and `reference.json` is beside it.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { openDevice } from '../../engine/index.ts';
import { loadModel, openModelFiles, planMemory, resolveModelFolder, runModel } from '../../models/index.ts';
import { sweep } from '../../neurgrad/index.ts';
import type { Reference } from './realReference.ts';

const file = process.env.NEURGRAD_REAL_MODEL;
if (!file)
  console.log(
    'NEURGRAD_REAL_MODEL names no SmolLM2-135M-Instruct.Q4_1.gguf: tests of a real model are skipped',
  );
const PATIENCE = 900_000;

/** Largest relative difference. */
const apart = (got: readonly number[], want: readonly number[]): number =>
  Math.max(...got.map((value, i) => Math.abs(value - want[i]!) / Math.abs(want[i]!)));

it.skipIf(!file)('says what float64 says', { timeout: PATIENCE }, async () => {
  const reference = JSON.parse(readFileSync(join(dirname(file!), 'reference.json'), 'utf8')) as Reference;
  const device = await openDevice();
  const { model, tokenizer } = await loadModel(file!, { device });
  expect(model.weightDtype).toBe('packed');
  for (const { prompt, ids, position, top, neurons } of reference.cases) {
    expect(tokenizer.encode(prompt)).toEqual(ids);
    using run = await runModel(model, { ids: [ids] }, { logits: [position] });
    const z = await run.logits.read();
    const most = Math.max(...z);
    const all = z.reduce((sum, value) => sum + Math.exp(value - most), 0);
    const p = top.map(([id]) => Math.exp(z[id]! - most) / all);
    expect(
      apart(
        p,
        top.map(([, , p]) => p),
      ),
      prompt,
    ).toBeLessThan(1e-4);
    const target = top[0]![0];
    for (const site of ['pre_linear', 'post'] as const) {
      const here = neurons.filter((neuron) => neuron.site === site);
      const { neurons: curves } = await sweep(
        model,
        { ids, position },
        { target, neurons: here, shifts: reference.sweep, direction: 'plain', points: true },
      );
      for (const [i, { layer, index, a, grad, p }] of here.entries()) {
        const name = `${prompt}: ${site} L${layer}.N${index}`;
        const curve = curves[i]!;
        expect(apart([curve.activation], [a]), name).toBeLessThan(1e-4);
        expect(apart([curve.gradient], [grad]), name).toBeLessThan(1e-3);
        expect(apart(curve.p, p), name).toBeLessThan(1e-4);
      }
    }
  }
  model.dispose();
  device.destroy();
});

/** Loads in a process of its own and says what it took. */
const LOADING = `
import { openDevice } from './dist/engine/index.js';
import { loadModel } from './dist/models/index.js';
const device = await openDevice();
const { model } = await loadModel(process.argv[1], { device });
const { weights, peak } = device.memory;
console.log(JSON.stringify({ weights, peak, process: 1024 * process.resourceUsage().maxRSS, dtype: model.weightDtype }));
process.exit();
`;
/** Upload buffers of a model so small, which are not of the device's pool. */
const STAGING = 4 * 2 ** 22;

it.skipIf(!file)('takes little memory', { timeout: PATIENCE }, async () => {
  const folder = await resolveModelFolder(file!);
  const { config, checkpoint } = await openModelFiles(folder);
  await checkpoint.close();
  const plan = planMemory(config, checkpoint);
  const load = (): { weights: number; peak: number; process: number; dtype: string } => {
    const out = execFileSync(process.execPath, ['--input-type=module', '-e', LOADING, file!], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    console.log(`loading ${file}: ${out.trim()}`);
    return JSON.parse(out);
  };
  // What garbage a process holds depends on when the machine has time to collect it: the least of three.
  const [taken] = [load(), load(), load()].sort((a, b) => a.process - b.process) as [ReturnType<typeof load>];
  expect(taken.dtype).toBe('packed');
  expect(taken.weights).toBe(Object.values(plan.weights).reduce((sum, bytes) => sum + bytes, 0));
  const onDevice = taken.peak + STAGING;
  expect(onDevice).toBeLessThanOrEqual(220e6);
  // A driver on a CPU has the device's memory in the process.
  expect(taken.process - onDevice).toBeLessThanOrEqual(250e6);
});
