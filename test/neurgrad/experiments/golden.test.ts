/**
 * Every table of the golden sets (golden.ts) within its tolerance, by the functions that give it in one call.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../../engine/index.ts';
import { loadModelWeights, localFolder, type Transformer } from '../../../models/index.ts';
import {
  activationPatching,
  attributionPatching,
  type Component,
  type ExperimentTable,
  type Metric,
  tableGrid,
} from '../../../neurgrad/index.ts';
import { CASES, expectTable, GRADIENTS, RUNS, TABLE_METRICS, WORST } from './golden.ts';

let device: Device;
const models = new Map<string, Transformer>();
beforeAll(async () => {
  device = await openDevice();
  for (const name of new Set(CASES.map(({ model }) => model)))
    models.set(name, await loadModelWeights(await localFolder(`examples/models/${name}`), device));
});
afterAll(() => {
  console.log('worst distances, as shares of the tolerance:', Object.fromEntries(WORST));
  for (const model of models.values()) model.dispose();
  device?.destroy();
});

describe.each(CASES)('$name', (one) => {
  const { tables } = one;
  const model = () => models.get(one.model)!;
  const pair = { clean: one.clean, corrupt: one.corrupt, answer: one.answer, other: one.other };
  const compare = (
    what: string,
    table: ExperimentTable,
    want: Partial<Record<Metric, unknown>>,
    tolerance: number,
    of: 'value' | 'change' = 'value',
  ) => {
    for (const [metric, numbers] of Object.entries(want))
      expectTable(`${what} ${metric}`, tableGrid(table, metric as Metric, of), numbers, tolerance);
  };

  test('base', async () => {
    const { pairs } = await activationPatching(model(), pair, { layers: [0], metric: 'prob' });
    for (const prompt of ['clean', 'corrupt'] as const)
      for (const [metric, value] of Object.entries(tables.base[prompt] as Record<Metric, number>))
        expectTable(`base ${prompt} ${metric}`, pairs[0]![prompt]![metric as Metric], value, RUNS);
  });

  describe.each(['denoise', 'noise'] as const)('%s', (direction) => {
    const keys = Object.keys(tables.activation_patching[direction]);
    test.each(keys)('activation patching of %s', async (key) => {
      const want = tables.activation_patching[direction][key];
      const options =
        key === 'z_position'
          ? ({ component: 'z', by: 'head_position' } as const)
          : { component: key as Component };
      const metric = Object.keys(want) as Metric[];
      const table = await activationPatching(model(), pair, { ...options, direction, metric });
      compare('activation', table, want, RUNS);
    });

    const estimates = Object.keys(tables.attribution_patching[direction]);
    test.each(estimates.filter((key) => key !== 'post_top'))('attribution patching of %s', async (key) => {
      const want = tables.attribution_patching[direction][key];
      const options =
        key === 'z_position'
          ? ({ component: 'z', by: 'head_position' } as const)
          : { component: key as Component };
      const metric = Object.keys(want) as Metric[];
      const table = await attributionPatching(model(), pair, { ...options, direction, metric });
      compare('attribution', table, want, GRADIENTS, 'change');
    });

    test.runIf(estimates.includes('post_top'))('the largest neurons by attribution', async () => {
      const want = tables.attribution_patching[direction].post_top as Record<Metric, number[][]>;
      const positions = one.clean.ids.map((_, i) => i);
      const { rows } = await attributionPatching(model(), pair, {
        component: 'post',
        by: 'neuron',
        positions,
        direction,
        metric: [...TABLE_METRICS],
      });
      for (const metric of TABLE_METRICS) {
        const top = rows
          .filter((row) => row.metric === metric)
          .sort((a, b) => Math.abs(b.change) - Math.abs(a.change))
          .slice(0, want[metric].length);
        expect(top.map(({ layer, position, neuron }) => [layer, position, neuron])).toEqual(
          want[metric].map((row) => row.slice(0, 3)),
        );
        expectTable(
          `attribution neurons ${metric}`,
          top.map(({ change }) => change),
          want[metric].map((row) => row[3]),
          GRADIENTS,
        );
      }
    });
  });
});
