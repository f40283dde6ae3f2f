/**
 * What the families say of the golden set's models, worked out in float64 loops: the values of the forward to rounding, and the
 * names of hook points in the order in which they come.
 */

import { describe, expect, it } from 'vitest';
import { matchTensors } from '../../models/checkpoint.ts';
import { hooksOf, parametersOf } from '../../models/description.ts';
import { localFolder, openModelFiles } from '../../models/index.ts';
import { ALL, named } from './goldenCases.ts';
import { parameterOf, runNaive, type Table } from './naiveModel.ts';

const SITES: Readonly<Record<string, string>> = {
  attn: 'attn.hook_pattern',
  ff: 'mlp.hook_post',
  gate: 'mlp.hook_act',
  up: 'mlp.hook_pre_linear',
  pre: 'mlp.hook_pre',
};

describe('golden cases in float64', () => {
  // Brief ones are float32, and of some tokens alone.
  it.each(named(ALL.filter(({ brief }) => !brief)))('%s', async (_, golden) => {
    const folder = await localFolder(golden.model);
    const { config, checkpoint } = await openModelFiles(folder, { onNote: () => {} });
    const { description } = config;
    const entries = matchTensors(checkpoint, config);
    const weights = new Map<string, Table>();
    for (const parameter of parametersOf(description)) {
      const { name: stored, shape } = entries.get(parameter.name)!;
      const data = await checkpoint.readFloat32(stored);
      weights.set(parameter.name, parameterOf(parameter, { shape, data }));
    }
    await checkpoint.close();
    const inputs = await golden.read('inputs');
    const [rows, length] = inputs.of('input_ids').shape as [number, number];
    const of = (tensor: string, row: number): number[] => inputs.of(tensor).row(row).slice(0, length);
    const types = description.embedding.type && inputs.names.includes('token_type_ids');
    const runs = Array.from({ length: rows }, (_, row) =>
      runNaive(description, weights, {
        ids: of('input_ids', row),
        positions: of('position_ids', row),
        mask: of('attention_mask', row),
        ...(types ? { types: of('token_type_ids', row) } : {}),
      }),
    );
    const { names } = hooksOf(description);
    expect([...runs[0]!.hooks.keys()]).toEqual(names);
    const last = (layer: number): string =>
      names.filter((each) => each.startsWith(`blocks.${layer}.`)).at(-1)!;
    const forward = await golden.read('forward');
    for (const tensor of forward.names) {
      if (tensor === 'p_target') continue;
      const { data, shape } = forward.of(tensor);
      const [kind, number] = tensor.split('.') as [string, string?];
      const layer = Number(number);
      const values = runs.map(({ hooks, logits }) => {
        if (kind === 'logits') return logits;
        if (kind === 'final') return hooks.get('ln_final.hook_normalized')!;
        if (kind !== 'hidden') return hooks.get(`blocks.${layer}.${SITES[kind]}`)!;
        return hooks.get(layer === 0 ? 'blocks.0.hook_resid_pre' : last(layer - 1))!;
      });
      const scale = data.reduce((most, n) => Math.max(most, Math.abs(n)), 0);
      let worst = 0;
      for (const [row, run] of values.entries())
        for (const [s, at] of run.entries()) {
          if (of('attention_mask', row)[s] === 0) continue;
          for (const [i, n] of at.entries()) {
            const head = Math.floor(i / length);
            const want =
              kind === 'attn'
                ? ((row * shape[1]! + head) * length + s) * length + (i % length)
                : (row * length + s) * at.length + i;
            const error = Math.abs(n - data[want]!);
            worst = error <= worst ? worst : error;
          }
        }
      expect(worst, tensor).toBeLessThan(1e-9 * scale);
    }
  });
});
