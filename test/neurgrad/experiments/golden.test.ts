/**
 * Every table of the golden sets (golden.ts) within its tolerance, by the functions that give it in one call.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice, pick, sub, type Tensor } from '../../../engine/index.ts';
import { loadModelWeights, localFolder, type Transformer } from '../../../models/index.ts';
import { metricValues } from '../../../neurgrad/experiments/metric.ts';
import {
  type AttributionTable,
  ablation,
  activationPatching,
  attributionPatching,
  type Component,
  conductance,
  directLogitAttribution,
  type Endpoints,
  type ExperimentTable,
  integratedGradients,
  logitLens,
  type Metric,
  pathPatching,
  type Receiver,
  tableGrid,
} from '../../../neurgrad/index.ts';
import { CASES, expectTable, flat, GRADIENTS, RUNS, TABLE_METRICS, WORST } from './golden.ts';

/** Norm and a fingerprint over the neurons, by layer and token. */
interface Sizes {
  readonly norm: unknown;
  readonly dot: unknown;
  readonly listed: unknown;
}
function sizesOf(layers: readonly ArrayLike<number>[], width: number): { norm: number[]; dot: number[] } {
  const rows = layers.flatMap((numbers) =>
    Array.from({ length: numbers.length / width }, (_, t) =>
      Array.from(numbers).slice(t * width, (t + 1) * width),
    ),
  );
  return {
    norm: rows.map((row) => Math.hypot(...row)),
    dot: rows.map((row) => row.reduce((sum, v, i) => sum + v * Math.cos(i), 0)),
  };
}
const layersOf = (name: string): number[] =>
  Array.from({ length: models.get(name)!.sizes.layers }, (_, i) => i);

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

  test('gradients of neurons at every token', async () => {
    const { position } = one.clean;
    for (const [metric, hooks] of Object.entries(tables.gradients as Record<Metric, Record<string, Sizes>>)) {
      const at = Object.keys(hooks).flatMap((hook) => layersOf(one.model).map((l) => `blocks.${l}.${hook}`));
      const target = [one.answer];
      using run = model().run(
        { ids: [one.clean.ids] },
        {
          capture: at,
          logits: [position],
          grad: {
            at,
            of:
              metric === 'logit_diff'
                ? (y) => sub(pick(y, [one.answer]), pick(y, [one.other]))
                : { of: metric as 'prob', target, position: [position] },
          },
        },
      );
      for (const [hook, want] of Object.entries(hooks)) {
        const read = async (from: ReadonlyMap<string, Tensor>, layer: number) =>
          from.get(`blocks.${layer}.${hook}`)!.read();
        const { width } = model().sizes;
        const found = await Promise.all(layersOf(one.model).map((layer) => read(run.gradients, layer)));
        const values = await Promise.all(layersOf(one.model).map((layer) => read(run.captures, layer)));
        const { norm, dot } = sizesOf(found, width);
        expectTable(`gradients ${metric} ${hook} norm`, norm, want.norm, GRADIENTS);
        expectTable(`gradients ${metric} ${hook} dot`, dot, want.dot, GRADIENTS);
        const listed = want.listed as unknown as {
          layer: number;
          index: number;
          activation: number;
          gradient: number;
        }[];
        const of = (numbers: readonly Float32Array[]) =>
          listed.map(({ layer, index }) => numbers[layer]![position * width + index]!);
        expectTable(
          `gradients ${metric} ${hook}`,
          of(found),
          listed.map(({ gradient }) => gradient),
          GRADIENTS,
        );
        expectTable(
          `gradients activations`,
          of(values),
          listed.map(({ activation }) => activation),
          RUNS,
        );
      }
    }
  });

  const ablated = {
    z: { component: 'z' },
    mlp_out: { component: 'mlp_out', by: 'layer' },
    attn_out: { component: 'attn_out', by: 'layer' },
    mlp_out_probe: { component: 'mlp_out', by: 'position', positions: [one.clean.position] },
  } as const;
  describe.each(['zero', 'mean_position', 'mean_all'] as const)('ablation, %s', (how) => {
    const by =
      how === 'zero'
        ? ({ op: 'zero' } as const)
        : ({ op: 'mean', reference: one.reference, over: how === 'mean_all' ? 'all' : 'rows' } as const);
    test.each(Object.keys(ablated) as (keyof typeof ablated)[])('%s', async (key) => {
      const want = tables.ablation[how][key];
      const table = await ablation(model(), pair, { ...ablated[key], ...by, metric: [...TABLE_METRICS] });
      for (const metric of TABLE_METRICS)
        expectTable(`ablation ${how} ${key} ${metric}`, tableGrid(table, metric), want[metric], RUNS);
    });

    test('neurons', async () => {
      const found: number[][] = [];
      for (const { layer, index } of tables.ablation.neurons) {
        const options = { component: 'post', by: 'neuron', layers: [layer], neurons: [index] } as const;
        const { rows } = await ablation(model(), pair, { ...options, ...by, metric: [...TABLE_METRICS] });
        found.push(rows.map(({ value }) => value));
      }
      for (const [i, metric] of TABLE_METRICS.entries())
        expectTable(
          `ablation neurons ${metric}`,
          found.map((values) => values[i]),
          tables.ablation.neurons.map((each: Record<string, Record<Metric, number>>) => each[how]![metric]),
          RUNS,
        );
    });
  });

  test('logit lens', async () => {
    const table = await logitLens(model(), pair, { metric: ['logit', 'logit_diff', 'logprob'] });
    const want = tables.logit_lens as { rank: number; top: number[]; top_logits: number[] }[];
    for (const metric of ['logit', 'logit_diff', 'logprob'] as const)
      expectTable(
        `lens ${metric}`,
        tableGrid(table, metric),
        want.map((each) => each[metric as never]),
        RUNS,
      );
    for (const [layer, { rank, top, top_logits }] of want.entries()) {
      const found = table.readings[layer]!;
      expect(found.layer).toBe(layer);
      expect(found.top.map(({ id }) => id)).toEqual(top);
      expectTable(
        'lens top',
        found.top.map(({ logit }) => logit),
        top_logits,
        RUNS,
      );
      expect(Math.abs(found.rank - rank)).toBeLessThanOrEqual(3);
    }
  });

  test('components removed from the stream', async () => {
    const metric = [...TABLE_METRICS];
    const table = await directLogitAttribution(model(), pair, { method: 'removed', metric });
    for (const each of TABLE_METRICS) {
      const of = (component: string) =>
        table.rows
          .filter((row) => row.metric === each && row.component === component)
          .map(({ value }) => value);
      expectTable(`direct removed heads ${each}`, of('z'), tables.direct.removed.heads[each], RUNS);
      expectTable(`direct removed mlps ${each}`, of('mlp_out'), tables.direct.removed.mlps[each], RUNS);
    }
  });

  test.runIf(tables.direct.logit)('direct logit attribution', async () => {
    for (const metric of ['logit_diff', 'logit'] as const) {
      const want = tables.direct[metric];
      const table = await directLogitAttribution(model(), pair, { metric });
      const of = (component: string) =>
        table.rows.filter((row) => row.component === component).map(({ value }) => value);
      expectTable(`direct heads ${metric}`, of('z'), want.heads, GRADIENTS);
      expectTable(`direct mlps ${metric}`, of('mlp_out'), want.mlps, GRADIENTS);
      expectTable(`direct embed ${metric}`, of('embed'), want.embed, GRADIENTS);
      expectTable(`direct sum ${metric}`, table.sums[0]!.sum, want.total, GRADIENTS);
      expectTable(`direct total ${metric}`, table.sums[0]!.total, want.total, RUNS);
      const stream = await directLogitAttribution(model(), pair, { metric, parts: 'accumulated' });
      expectTable(
        `direct stream ${metric}`,
        tableGrid(stream, metric),
        want.accumulated_resid_pre,
        GRADIENTS,
      );
      const neurons = await directLogitAttribution(model(), pair, { metric, parts: 'neurons' });
      const top = [...neurons.rows]
        .sort((a, b) => Math.abs(b.value) - Math.abs(a.value))
        .slice(0, want.neurons_top.length);
      expect(top.map(({ layer, neuron }) => [layer, neuron])).toEqual(
        want.neurons_top.map((row: number[]) => row.slice(0, 2)),
      );
      expectTable(
        `direct neurons ${metric}`,
        top.map(({ value }) => value),
        want.neurons_top.map((row: number[]) => row[2]),
        GRADIENTS,
      );
    }
  });

  interface Attributions {
    readonly layer: number;
    readonly scope: 'probe' | 'all';
    readonly baseline: 'zero' | 'corrupt';
    readonly rule: Endpoints;
    readonly steps: number;
    readonly of: Metric;
    readonly sum: number;
    readonly change: number;
    readonly listed: [number, number][];
    readonly norm: number | number[];
    readonly dot: number | number[];
  }
  const compareParts = (what: string, table: AttributionTable, want: readonly Attributions[]) => {
    const { width } = model().sizes;
    for (const { layer, of, sum, listed, norm, dot } of want) {
      const rows = table.rows.filter((row) => row.layer === layer && row.metric === of);
      const found = sizesOf([rows.map(({ value }) => value)], width);
      const own = rows.filter(({ position }) => position === one.clean.position);
      expectTable(`${what} norm ${of}`, found.norm, norm, GRADIENTS);
      const scale = Math.max(...flat(norm));
      expectTable(`${what} dot ${of}`, [...flat(found.dot), scale], [...flat(dot), scale], GRADIENTS);
      expectTable(
        `${what} listed ${of}`,
        listed.map(([neuron]) => own[neuron]!.value),
        listed.map(([, value]) => value),
        GRADIENTS,
      );
      const total = table.sums.find((each) => each.layer === layer && each.metric === of)!;
      // Of terms as large as the norm the sum cannot be nearer than these.
      expectTable(`${what} sum ${of}`, [total.sum, scale], [sum, scale], GRADIENTS);
    }
  };
  const ways = new Map<string, Attributions[]>();
  for (const each of tables.integrated_gradients as Attributions[]) {
    const way = `${each.scope} ${each.baseline} ${each.rule} ${each.steps}`;
    ways.set(way, [...(ways.get(way) ?? []), each]);
  }
  test.each([...ways])('integrated gradients, %s', async (_, want) => {
    const { scope, baseline, rule: endpoints, steps } = want[0]!;
    const metric = [...new Set(want.map(({ of }) => of))];
    const table = await integratedGradients(model(), pair, { scope, baseline, endpoints, steps, metric });
    compareParts('integrated', table, want);
    for (const { layer, of, change } of want) {
      const found = table.sums.find((each) => each.layer === layer && each.metric === of)!.change;
      const scale = Math.max(Math.abs(change), of === 'prob' ? 0.1 : 1);
      expectTable(`integrated change ${of}`, [found, scale], [change, scale], GRADIENTS);
    }
  });

  test('conductance', async () => {
    const want = tables.conductance as Attributions[];
    const metric = [...new Set(want.map(({ of }) => of))];
    const table = await conductance(model(), pair, { metric, steps: want[0]!.steps });
    compareParts('conductance', table, want);
  });

  test('steering by a patch', async () => {
    const { layers, vocabulary } = model().sizes;
    const names = Array.from({ length: layers }, (_, layer) => `blocks.${layer}.hook_resid_post`);
    using runs = model().run({ ids: [one.clean.ids, one.corrupt.ids] }, { capture: names, logits: 'none' });
    const found: Record<string, number>[] = [];
    for (const want of tables.steering) {
      const name = names[want.layer]!;
      const value = runs.captures.get(name)!;
      const [numbers, { hidden }] = [await value.read(), model().sizes];
      const row = (r: number) =>
        numbers.subarray((r * value.dim(1) + one.clean.position) * hidden).subarray(0, hidden);
      const direction = row(0).map((v, i) => want.factor * (v - row(1)[i]!));
      using run = model().run(
        { ids: [one.corrupt.ids] },
        {
          patch: [{ name, position: one.clean.position, op: 'add', value: direction }],
          logits: [one.clean.position],
        },
      );
      found.push(metricValues((await run.logits.read()).subarray(0, vocabulary), one));
    }
    for (const metric of TABLE_METRICS)
      expectTable(
        `steering ${metric}`,
        found.map((each) => each[metric]),
        tables.steering.map((each: Record<Metric, number>) => each[metric]),
        RUNS,
      );
  });

  describe.each(['denoise', 'noise'] as const)('path patching, %s', (direction) => {
    test.each(['frozen', 'recomputed'] as const)('to the logits, feed-forward parts %s', async (mlps) => {
      const want = tables.path_patching.final[`${direction}, mlps ${mlps}`] as Record<Metric, number[][]>;
      const metric = Object.keys(want) as Metric[];
      compare('path', await pathPatching(model(), pair, { direction, mlps, metric }), want, RUNS);
    });

    interface Through {
      readonly direction: string;
      readonly mlps: 'frozen' | 'recomputed';
      readonly sender: [number, number];
      readonly receiver: string;
      readonly head: number | null;
      readonly logit_diff: number;
      readonly logprob: number;
    }
    const through = (tables.path_patching.through as Through[]).filter(
      (each) => each.direction === direction,
    );
    test(`through ${through.length} receivers`, async () => {
      const found: number[][] = [];
      for (const { mlps, sender, receiver: name, head } of through) {
        const [, layer, component] = /^blocks\.(\d+)\.(?:attn|mlp)\.hook_(\w+)$/.exec(name)!;
        const receiver = {
          component: component as Receiver['component'],
          layer: Number(layer),
          ...(head === null ? {} : { head }),
        };
        const [from, of] = sender;
        const metric = [...TABLE_METRICS];
        const options = { sender: { layer: from, head: of }, receiver, mlps, direction, metric };
        const { rows } = await pathPatching(model(), pair, options);
        found.push(rows.map(({ value }) => value));
      }
      for (const [i, metric] of TABLE_METRICS.entries())
        expectTable(
          `path through ${metric}`,
          found.map((values) => values[i]),
          through.map((each) => each[metric]),
          RUNS,
        );
    });
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
