/** What the kernel's setting for shared memory means. */

import { expect, it } from 'vitest';
import { pagesOf } from '../../cli/sharedMemory.ts';

it('reads which pages the setting gives', () => {
  const settings = ['always', 'within_size', 'advise', 'never', 'deny', 'force'];
  const line = (chosen: string): string =>
    settings.map((name) => (name === chosen ? `[${name}]` : name)).join(' ');
  expect(settings.filter((name) => pagesOf(`${line(name)}\n`) === 'large')).toEqual([
    'always',
    'within_size',
    'force',
  ]);
});
