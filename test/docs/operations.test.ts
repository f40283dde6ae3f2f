/** docs/operations.md names what there is, and all that the engine does with tensors stands in it. */

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import * as engine from '../../engine/index.ts';
import * as models from '../../models/index.ts';

/** The names of the first column. */
const named = readFileSync('docs/operations.md', 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .flatMap((line) => [...line.split('|')[1]!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!));

/** Functions that do nothing to tensors, or are the engine's workings: references of kernels, layouts, tuning, tables. */
const WORKINGS =
  /Twin$|^(activationFunctions|broadcastShape|bytesOf|candidates|chromeTrace|commonRows|fileError|halfTape|laidBytes|lanesTiling|measureCeiling|normStatistics|openDevice|packPanels|panelBytes|panelSide|ratesOf|rotarySpeeds|rotaryTable|rowMajor|sizeOf|stridedAxes|tiling|tuneProducts)$/;

it('names nothing that is not there', () => {
  const there = { ...models, ...engine };
  const known = (name: string): boolean =>
    name.startsWith('x.')
      ? name.slice(2).replace('()', '') in engine.Tensor.prototype
      : name in there || name === 'console.log(x)' || name.startsWith('neurgrad/');
  expect(named.filter((name) => !known(name))).toEqual([]);
  expect(new Set(named).size).toBe(named.length);
});

it('has every operation', () => {
  const functions = Object.entries(engine)
    .filter(([, value]) => typeof value === 'function' && !/^class/.test(String(value)))
    .map(([name]) => name);
  expect(functions.filter((name) => !WORKINGS.test(name) && !named.includes(name))).toEqual([]);
});

it('has five columns in every row', () => {
  const rows = readFileSync('docs/operations.md', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('|'));
  expect(rows.filter((row) => row.split('|').length !== 7)).toEqual([]);
});
