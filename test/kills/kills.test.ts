/**
 * Kills at changes of the disk: two in turn for each kind of work here, at every one by `npm run kills`.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { endsAlike } from './alike.ts';
import { worksIn } from './works.ts';

const root = mkdtempSync(join(tmpdir(), 'neurgrad-kills-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const works = worksIn(root);

const thorough = process.env.KILLS === 'all';
// What test/engine/disk.test.ts kills, and what is written as another is.
const chosen = thorough
  ? works
  : works.filter(({ name }) => name !== 'module' && name !== 'gradients as text');

test.each(chosen)('$name, killed and started again, ends with the same bytes', async (work) => {
  const kills = await endsAlike(work, root, thorough ? 1 : 0);
  if (thorough) console.log(`${work.name}: killed ${kills} times`);
  expect(kills).toBeGreaterThan(thorough ? 5 : 0);
});
