/**
 * Experiments on every family: what is computed downstream against whole runs, bit for bit; parts that add up; edges that add up to
 * the gradient of what they leave from; circuits of all edges and of none.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../../engine/index.ts';
import { loadModelWeights, localFolder, type Transformer } from '../../../models/index.ts';
import {
  ablation,
  activationPatching,
  attributionPatching,
  type Component,
  directLogitAttribution,
  type ExperimentTable,
  edgeAttribution,
  logitLens,
  pathPatching,
  tableGrid,
} from '../../../neurgrad/index.ts';

const FAMILIES = [
  ...['bert-s', 'llama-gqa'].map((name) => `test/golden/models/${name}`),
  ...[
    'distilbert',
    'roberta',
    'modernbert',
    'gemma2',
    'gemma3',
    'gpt2',
    'gpt_neox',
    'olmo2',
    'qwen3',
    'phi3',
    'mistral',
  ].map((name) => `test/golden-families/models/${name}-a`),
];

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device?.destroy());

describe.each(FAMILIES)('%s', (folder) => {
  let model: Transformer;
  beforeAll(async () => {
    model = await loadModelWeights(await localFolder(folder), device);
  });
  afterAll(() => model?.dispose());
  // Two tokens in common, and one of the others.
  const ids = (at: number) => [3, 14, 5, at, 27, 11, 2];
  const position = 6;
  const pair = {
    clean: { ids: ids(8), position },
    corrupt: { ids: ids(19), position },
    answer: 7,
    other: 12,
  };
  const numbers = (table: ExperimentTable) => table.rows.map(({ value }) => value);
  const metric = ['logit_diff', 'prob'] as const;

  test('patched from a layer on and by whole runs: the same bits, for less work', async () => {
    const components: [Component, object][] = [
      ['resid_pre', {}],
      ['attn_out', {}],
      ['mlp_out', {}],
      ['z', {}],
      ['k', {}],
      ['pattern', {}],
      ['z', { by: 'head_position', positions: [3, -1] }],
      ['post', { by: 'neuron', neurons: [0, 3], positions: [3, 5, -1] }],
    ];
    const work: Record<'auto' | 'naive', number> = { auto: 0, naive: 0 };
    for (const [component, places] of components) {
      const options = { component, ...places, metric, direction: 'noise' } as const;
      const run = async (engine: 'auto' | 'naive') => {
        device.startProfiling();
        const table = await activationPatching(model, pair, { ...options, engine });
        const kernels = await device.stopProfiling();
        work[engine] += kernels.reduce((sum, { flops }) => sum + flops, 0);
        return numbers(table);
      };
      expect(await run('auto'), component).toEqual(await run('naive'));
    }
    expect(work.auto / work.naive).toBeLessThan(0.9);
    expect(work.auto).toBeGreaterThan(0);
  });

  test('paths and ablations by whole runs', async () => {
    const paths = [
      {},
      { mlps: 'recomputed' },
      { sender: { layer: 0, head: 1 }, receiver: { component: 'v', layer: 1, head: 0 } },
      {
        sender: [{ layer: 0 }, { layer: 0, neuron: 2 }],
        receiver: [
          { component: 'q', layer: 1 },
          { component: 'mlp', layer: 1 },
        ],
      },
    ] as const;
    for (const path of paths)
      expect(numbers(await pathPatching(model, pair, { ...path, metric }))).toEqual(
        numbers(await pathPatching(model, pair, { ...path, metric, engine: 'naive' })),
      );
    const reference = [
      { ids: ids(1), position },
      { ids: ids(2), position },
    ];
    for (const options of [{}, { op: 'mean', reference }, { op: 'resample', reference }] as const)
      for (const component of ['z', 'mlp_out'] as const)
        expect(numbers(await ablation(model, pair, { ...options, component, metric }))).toEqual(
          numbers(await ablation(model, pair, { ...options, component, metric, engine: 'naive' })),
        );
  });

  test('the parts of a logit are the logit, or are taken out one by one', async () => {
    const table = await directLogitAttribution(model, pair, { metric: ['logit', 'logit_diff'] });
    for (const { sum, total } of table.sums)
      expect(Math.abs(sum - total)).toBeLessThan(1e-4 * Math.max(1, Math.abs(total)));
    const encoder = !model.causal;
    expect(table.note).toMatch(encoder ? /^removed/ : /^direct/);
    if (encoder)
      await expect(
        directLogitAttribution(model, pair, { method: 'direct', metric: 'logit' }),
      ).rejects.toThrow(/removed/);
    const removed = await directLogitAttribution(model, pair, { method: 'removed' });
    expect(removed.rows.every(({ value }) => Number.isFinite(value))).toBe(true);
    const { readings, rows, pairs } = await logitLens(model, pair, { metric: 'logit' });
    expect(readings).toHaveLength(model.sizes.layers + 1);
    expect(rows.at(-1)!.value).toBe(pairs[0]!.clean.logit);
  });

  test('edges that leave a node add up to its attribution; all edges give the clean answer, none the corrupt one', async () => {
    for (const direction of ['denoise', 'noise'] as const) {
      const { rows, circuits } = await edgeAttribution(model, pair, { direction, circuits: [0, 1e6] });
      const leaving = (component: string, layer: number | null, head: number | null) =>
        rows
          .filter((row) => row.component === component && row.layer === layer && row.head === head)
          .reduce((sum, { change }) => sum + change, 0);
      const heads = tableGrid(
        await attributionPatching(model, pair, { component: 'z', direction }),
        'logit_diff',
        'change',
      );
      const options = { by: 'layer', direction } as const;
      // What is written before a norm of outputs.
      const mlps = tableGrid(
        await attributionPatching(model, pair, { ...options, component: 'mlp_out' }),
        'logit_diff',
        'change',
      );
      const embed = await attributionPatching(model, pair, {
        ...options,
        component: 'resid_pre',
        layers: [0],
      });
      const scale = Math.max(...heads.flat().map(Math.abs), ...mlps.flat().map(Math.abs), 1e-3);
      const near = (got: number, want: number, what: string) =>
        expect(Math.abs(got - want), what).toBeLessThan(2e-4 * scale);
      near(leaving('embed', null, null), embed.rows[0]!.change, 'embed');
      for (let layer = 0; layer < model.sizes.layers; layer++) {
        for (let head = 0; head < model.sizes.heads; head++)
          near(leaving('z', layer, head), heads[layer]![head]!, `head ${layer}.${head}`);
        if (!model.description.layers[layer]!.outputsNormed)
          near(leaving('mlp_out', layer, null), mlps[layer]![0]!, `feed-forward ${layer}`);
      }
      const kept = circuits.map(({ faithfulness }) => faithfulness);
      expect(kept[0]).toBeCloseTo(0, 4);
      expect(kept[1]).toBeCloseTo(1, 4);
    }
    const { rows } = await edgeAttribution(model, pair, { method: 'eap-ig', steps: 2, metric: 'logprob' });
    expect(rows.every(({ change }) => Number.isFinite(change))).toBe(true);
  });
});
