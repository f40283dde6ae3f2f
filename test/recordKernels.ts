/** Leaves the names of all kernels that a test file dispatches in the folder `EXECUTED` (`npm run kernels`). */

import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { CommandQueue } from '../engine/queue.ts';

const folder = process.env.EXECUTED;
if (folder !== undefined) {
  const names = new Set<string>();
  const { dispatch } = CommandQueue.prototype;
  CommandQueue.prototype.dispatch = function (
    this: CommandQueue,
    ...args: Parameters<typeof dispatch>
  ): void {
    dispatch.apply(this, args);
    names.add(args[0].name);
  };
  afterAll(() => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, randomUUID()), [...names].join('\n'));
  });
}
