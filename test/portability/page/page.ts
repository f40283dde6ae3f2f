/** Test files that need nothing of Node, on a page: `window.runTests(file, names)` runs one of them. */

import { openDevice } from '../../../engine/index.ts';
import { type FileOutcome, runFile } from '../vitest.ts';

const FILES: Readonly<Record<string, () => Promise<unknown>>> = {
  'test/engine/submissions.test.ts': () => import('../../engine/submissions.test.ts'),
  'test/engine/gradients.test.ts': () => import('../../engine/gradients.test.ts'),
};

declare global {
  interface Window {
    /** Those of a file whose full names fit a pattern. */
    runTests(file: string, pattern?: string): Promise<FileOutcome>;
    /** The device that a page gets, and what is taken for its subgroups. */
    describeDevice(): Promise<string>;
  }
}

window.runTests = (file, pattern) => runFile(file, FILES[file]!, pattern ? new RegExp(pattern) : undefined);

window.describeDevice = async () => {
  const device = await openDevice();
  const { runtime, implementation, software } = device.info;
  const { subgroups, subgroupSize, f16, immediates, textureSide } = device.capabilities;
  device.destroy();
  return JSON.stringify({
    ...{ runtime, implementation, software, subgroups, subgroupSize, f16, immediates, textureSide },
  });
};
