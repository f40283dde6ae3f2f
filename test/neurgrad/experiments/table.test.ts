/** The table of experiments, worked by hand: means, standard errors, recovered shares, grids. */

import { expect, test } from 'vitest';
import type { MetricValues } from '../../../neurgrad/experiments/metric.ts';
import { tableGrid, tableOf } from '../../../neurgrad/experiments/table.ts';

const values = (logit: number): MetricValues => ({ logit_diff: Number.NaN, logit, logprob: 0, prob: 0 });
const place = (layer: number, position: number) => ({
  component: 'resid_pre',
  layer,
  position,
  head: null,
  neuron: null,
});

test('pairs are averaged, with standard errors; shares are of each pair', () => {
  const places = [place(0, 0), place(0, 1), place(1, 0), place(1, 1)];
  const table = tableOf('x', 'denoise', ['logit'], places, [
    {
      clean: values(10),
      corrupt: values(0),
      base: values(0),
      values: [1, 2, 3, 4].map((logit) => ({ logit })),
    },
    {
      clean: values(4),
      corrupt: values(-4),
      base: values(-4),
      values: [0, 4, 2, -4].map((logit) => ({ logit })),
    },
  ]);
  expect(tableGrid(table, 'logit')).toEqual([
    [0.5, 3],
    [2.5, 0],
  ]);
  // (1 - 0) / 10 and (0 + 4) / 8.
  expect(table.rows[0]).toMatchObject({ change: 2.5, layer: 0, position: 0, head: null });
  expect(table.rows[0]!.recovered).toBeCloseTo(0.3, 12);
  // Changes 1 and 4: deviation 1.5 sqrt(2), over sqrt(2); shares 0.1 and 0.5.
  expect(table.rows[0]!.changeError).toBeCloseTo(1.5, 12);
  expect(table.rows[0]!.recoveredError).toBeCloseTo(0.2, 12);
  expect(tableGrid(table, 'logit', 'recovered')[1]![1]).toBeCloseTo((0.4 + 0) / 2, 12);
});

test('one pair has no errors, no corrupt prompt no share; a part changes from nothing', () => {
  const [row] = tableOf(
    'x',
    null,
    ['logit'],
    [place(0, 0)],
    [{ clean: values(3), corrupt: null, base: null, values: [{ logit: 2 }] }],
  ).rows;
  expect(row).toMatchObject({
    value: 2,
    change: 2,
    recovered: null,
    changeError: null,
    recoveredError: null,
  });
});
