/** Atlases against full forwards; what is read off known curves; the command, begun again. */

import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../models/index.ts';
import { atlas } from '../../neurgrad/atlas.ts';
import { type Response, responseAt } from '../../neurgrad/curve/response.ts';
import { linearRange, turningPoints } from '../../neurgrad/curve/shape.ts';
import { shiftGrid } from '../../neurgrad/grid.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { fitCurve } from '../../neurgrad/statistics.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { neurgrad } from '../cli/command.ts';

describe('the linear range', () => {
  const shifts = shiftGrid(-4, 4, 0.2);
  it('is the last range whose r, and that of every smaller one, is at least .95', () => {
    for (const curve of [Math.sin, Math.tanh, (s: number) => s + 0.1 * s * s, (s: number) => 1e-100 * s]) {
      const changes = shifts.map(curve);
      const ranges = shifts.filter((s) => s > 0.3);
      const bent = ranges.find(
        (range) =>
          Math.abs(
            fitCurve(
              shifts,
              changes,
              { range },
              shifts.map(() => 0),
            ).r,
          ) < 0.95,
      );
      const want = bent === undefined ? 4 : Math.max(...ranges.filter((range) => range < bent));
      expect(linearRange(shifts, changes)).toBe(want);
    }
  });
  it('is 0 where nothing is linear', () => {
    expect(
      linearRange(
        shifts,
        shifts.map((s) => s * s),
      ),
    ).toBe(0);
    expect(
      linearRange(
        shifts,
        shifts.map(() => 0),
      ),
    ).toBe(0);
    expect(linearRange([-1, 0, 1], [Number.NaN, 0, 1])).toBe(0);
    expect(linearRange([0, 1, -1], [0, 1, -1])).toBe(0);
  });
});

it('a curve turns where its polynomial does', () => {
  const response: Response = {
    of: 'logprob',
    reach: null,
    stretch: 1,
    nodes: [0, 1, -1],
    // x^3 - x
    coefficients: [0, 0, 0, 1],
    plain: { prob: 0.5, logprob: Math.log(0.5), logit: 0 },
    from: -2,
    to: 2,
  };
  const [low, high, ...more] = turningPoints(response);
  expect(low).toBeCloseTo(-Math.sqrt(1 / 3), 4);
  expect(high).toBeCloseTo(Math.sqrt(1 / 3), 4);
  expect(more).toEqual([]);
  expect(turningPoints({ ...response, nodes: [0], coefficients: [0, 1] })).toEqual([]);
});

it('of a model meets full forwards', async () => {
  const { model, tokenizer } = await loadModel('examples/models/stories260k');
  const probe = encodePrompt(model, tokenizer, 'Once upon a time');
  const shifts = shiftGrid(-2, 2, 0.2);
  const found = await atlas(model, probe, { layers: [2], shifts });
  expect(found.length).toBe(model.sizes.width);
  const some = drawWithoutReplacement(10, found.length, seededRandom(4)).map((i) => found[i]!);
  const slow = await sweep(model, probe, { neurons: some, shifts, engine: 'naive' });
  for (const [i, { slope, r, flat, bound, noise }] of some.entries()) {
    const full = slow.neurons[i]!;
    expect(Math.abs(slope - full.slope)).toBeLessThanOrEqual(bound + noise + full.noise);
    if (!flat && !full.flat) expect(Math.abs(r - full.r)).toBeLessThan(1e-3);
  }
  model.device.destroy();
});

describe('the command', { timeout: 120_000 }, () => {
  let out: string;
  beforeAll(() => {
    out = mkdtempSync(join(tmpdir(), 'neurgrad-atlas-'));
  });
  afterAll(() => rmSync(out, { recursive: true }));
  const run = (prompt: string) =>
    neurgrad(
      'atlas',
      '--model',
      'examples/models/stories260k',
      '--prompt',
      prompt,
      '--range=-2:2:0.4',
      '--out',
      out,
    );

  it('goes on where it was left, to the same bytes', async () => {
    const first = await run('Once upon a time');
    expect(first.code, first.err).toBe(0);
    expect(first.out).toContain('860 neurons');
    const names = readdirSync(out)
      .filter((name) => name !== 'figures')
      .sort();
    expect(names).toEqual([
      'atlas.html',
      'atlas.parquet',
      ...[0, 1, 2, 3, 4].map((n) => `layer-${n}.parquet`),
    ]);
    const bytes = (name: string): string => readFileSync(join(out, name)).toString('base64');
    const before = names.map(bytes);
    for (const name of ['atlas.parquet', 'layer-3.parquet']) rmSync(join(out, name));
    const again = await run('Once upon a time');
    expect(again.out).toContain('4 of 5 layers were there');
    expect(names.map(bytes)).toEqual(before);
    const file = readFileSync(join(out, 'atlas.parquet'));
    const rows = await parquetReadObjects({
      file: file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength),
    });
    expect(rows.length).toBe(860);
    expect(rows[859]).toMatchObject({ layer: 4, index: 171 });
    // Curves as coefficients, to be evaluated by whoever reads the file.
    const known = rows.filter(({ response }) => response !== null);
    expect(known.length).toBeGreaterThan(0);
    for (const { response, slope, bound } of known.slice(0, 50)) {
      const s = 0.001;
      const near = (responseAt(response, s, 'prob') - responseAt(response, -s, 'prob')) / (2 * s);
      expect(Number.isFinite(near) && Number.isFinite(slope) && bound > 0).toBe(true);
    }
  });
  it('takes no other prompt’s layers, and no damaged ones', async () => {
    const other = await run('Lily');
    expect(other).toMatchObject({ code: 2 });
    expect(other.err).toContain('belongs to another');
    copyFileSync(join(out, 'layer-0.parquet'), join(out, 'layer-1.parquet'));
    expect((await run('Once upon a time')).err).toContain('layer-1');
  });
});
