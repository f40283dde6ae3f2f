/**
 * What is compiled is what runs: every kernel that the engine chooses on any stand-in compiles, with parameters passed either way, and a
 * name stands for one text. `npm run kernels` puts beside it what the tests execute: docs/kernels.md.
 */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { type Kernel, wgsl } from '../../kernels/index.ts';
import { chosenBy, STAND_INS } from './chosen.ts';
import { complaintOf } from './compile.ts';

let device: Device;
const chosen = new Map<string, ReadonlyMap<string, Kernel>>();
beforeAll(async () => {
  device = await openDevice({ backend: 'null', toggles: ['allow_unsafe_apis'] });
  for (const one of STAND_INS) chosen.set(one.name, await chosenBy(one));
}, 300_000);
afterAll(() => device?.destroy());

it('adapters of every kind choose kernels of their own', () => {
  expect(chosen.size).toBe(STAND_INS.length);
  for (const [name, kernels] of chosen) expect(kernels.size, name).toBeGreaterThan(300);
  const of = (name: string, part: string): boolean =>
    [...chosen.get(name)!.keys()].some((kernel) => kernel.includes(part));
  expect(of('8, a CPU', '.panels.')).toBe(true);
  expect(of('32', '.units.')).toBe(true);
  expect(of('16, few registers', '.few')).toBe(true);
  expect(of('no subgroups', '.units.')).toBe(false);
});

it('a name stands for one text, whichever adapter it is chosen on', () => {
  const texts = new Map<string, string>();
  for (const kernels of chosen.values())
    for (const kernel of kernels.values()) {
      const text = wgsl(kernel, 'immediate');
      expect(texts.get(kernel.name) ?? text, kernel.name).toBe(text);
      texts.set(kernel.name, text);
    }
});

it.each(['immediate', 'uniform'] as const)('they compile with parameters as %s', async (passing) => {
  const all = new Map([...chosen.values()].flatMap((kernels) => [...kernels]));
  const complaints: string[] = [];
  for (const kernel of all.values()) {
    const complaint = await complaintOf(device, kernel, passing);
    if (complaint !== null) complaints.push(complaint);
  }
  expect(complaints).toEqual([]);
});

/** Names that test/recordKernels.ts has left. */
const executedIn = (folder: string): Set<string> =>
  new Set(
    readdirSync(folder).flatMap((file) =>
      readFileSync(join(folder, file), 'utf8').split('\n').filter(Boolean),
    ),
  );

/** `matmul.block`, `softmax`: what kernels of one kind begin with. */
const familyOf = (name: string): string => /^(attention\.[a-z_]+|matmul\.[a-z]{4,}|[a-z_]+)/.exec(name)![0];

const { KERNELS: document, EXECUTED: folder } = process.env;
it.skipIf(!document || !folder || !existsSync(folder))('are put beside those that the tests execute', () => {
  const executed = executedIn(folder!);
  const row = (name: string, kernels: readonly string[]): string => {
    const ran = kernels.filter((kernel) => executed.has(kernel)).length;
    return `| ${name} | ${kernels.length} | ${ran} | ${kernels.length - ran} |`;
  };
  const all = [...new Set([...chosen.values()].flatMap((kernels) => [...kernels.keys()]))].sort();
  const families = [...new Set(all.map(familyOf))];
  const alone = [...executed].filter((name) => !all.includes(name)).length;
  writeFileSync(
    document!,
    `# Kernels: executed, and compiled only

\`npm run kernels\`, on ${new Date().toISOString().slice(0, 10)}: jobs of every operation, model and size are given to stand-ins, devices that note what they are asked to
dispatch; [the stand-ins](../test/kernels/chosen.ts) say of themselves what adapters of many makers would. Each kernel that one of them chooses is compiled by Tint in \`npm test\`, with
parameters passed either way. The tests themselves execute kernels on Mesa's lavapipe, whose subgroups have 8 invocations, with capabilities masked off in turn; no kernel
for matrix units has run anywhere but as [a twin of loops](../test/kernels/emulatedUnits.ts). ${alone} further kernels are executed because tests force them.

| stand-in: invocations of a subgroup | chosen | executed | compiled only |
| --- | ---: | ---: | ---: |
${STAND_INS.map(({ name }) => row(name, [...chosen.get(name)!.keys()])).join('\n')}
${row('all of them, each once', all)}

| kernels | chosen | executed | compiled only |
| --- | ---: | ---: | ---: |
${families
  .map((family) =>
    row(
      `\`${family}\``,
      all.filter((name) => familyOf(name) === family),
    ),
  )
  .join('\n')}
`,
  );
});
