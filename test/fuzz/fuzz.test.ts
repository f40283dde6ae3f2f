/** A few damaged inputs for every reader of files; `npm run fuzz` takes thousands. */

import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { damageBytes, damageJson, seeded } from './mutate.ts';

describe('fuzzing', { timeout: 300_000 }, () => {
  it('finds every reader taking damaged files, or refusing them in one line', () => {
    const args = ['dist/test/fuzz/main.js', '--inputs', '20', '--seed', '11'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(`${stdout}${stderr}`).toMatch(/^fuzz: \d{3} inputs, 0 faults$/m);
    expect(status).toBe(0);
  });

  it('damages the same for the same seed, and almost always', () => {
    const file = Buffer.from('{"a":[1,2,{"b":"text"}],"c":null}');
    const damaged = (seed: number) => Buffer.from(damageBytes(file, seeded(seed))).toString('latin1');
    const json = (seed: number) => damageJson(file.toString(), seeded(seed));
    const seeds = Array.from({ length: 200 }, (_, seed) => seed);
    for (const damage of [damaged, json]) {
      expect(seeds.map(damage)).toEqual(seeds.map(damage));
      expect(seeds.filter((seed) => damage(seed) !== file.toString()).length).toBeGreaterThan(180);
      expect(new Set(seeds.map(damage)).size).toBeGreaterThan(100);
    }
  });
});
