/**
 * Every case of the golden sets against full forwards and backwards: hidden states, activations, attention, logits,
 * gradients at every activation, parameter gradients, patches, sweeps, and the copies in other files and dtypes.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  crossEntropy,
  type Device,
  grad,
  openDevice,
  reshape,
  scope,
  slice,
  type Tensor,
} from '../../engine/index.ts';
import type { LanguageModel, ModelInput, Patch } from '../../models/model.ts';
import { fitCurve } from '../../neurgrad/statistics.ts';
import {
  CASES,
  type GoldenInputs,
  inputsOf,
  named,
  openCase,
  SITE_NAMES,
  siteHookOf,
} from './goldenCases.ts';

type Numbers = ArrayLike<number>;

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

/** Gradients by the names of the checkpoint's tensors, in their shapes. */
const storedGradients = (_: LanguageModel, gradients: ReadonlyMap<string, Tensor>) => gradients;

describe.each(named(CASES))('%s', (_, golden) => {
  let model: LanguageModel;
  let inputs: GoldenInputs;
  let first: number[];
  const { atol, causal } = golden;

  /** Largest |got - want| over elements whose token is real; fails on NaN. `tokenOf` gives the flat token or -1. */
  const check = (
    what: string,
    got: Numbers,
    want: Numbers,
    tolerance: number,
    tokenOf?: (i: number) => number,
  ): void => {
    expect(got.length, what).toBe(want.length);
    const mask = inputs.input.attentionMask.flat();
    let worst = 0;
    for (let i = 0; i < want.length; i++) {
      const token = tokenOf?.(i) ?? -1;
      if (!Number.isFinite(got[i])) worst = Number.NaN;
      else if (token < 0 || mask[token] === 1) worst = Math.max(worst, Math.abs(got[i]! - want[i]!));
    }
    expect(worst, `${what}: largest error`).toBeLessThanOrEqual(tolerance);
  };
  const byToken =
    (width: number) =>
    (i: number): number =>
      Math.floor(i / width);

  beforeAll(async () => {
    model = await openCase(golden, device);
    inputs = await inputsOf(golden);
    first = inputs.targets.map((row) => row[0]!);
  });
  afterAll(() => model?.dispose());

  test('forward', async () => {
    const want = await golden.read('forward');
    const { input, length, position, targets } = inputs;
    const { layers, vocabulary } = model.sizes;
    // Where norms come after the blocks, the residual stream goes on from them.
    const [plain, normed] = ['hook_resid_post', 'hook_normalized_resid_post'].map(
      (name) => `blocks.${layers - 1}.${name}`,
    );
    const end = model.hookNames.includes(normed!) ? normed! : plain!;
    const hookOf: Record<string, (l: number) => string> = {
      hidden: (l) => (l < layers ? `blocks.${l}.hook_resid_pre` : end),
      final: () => 'ln_final.hook_normalized',
      attn: (l) => `blocks.${l}.attn.hook_pattern`,
      ...Object.fromEntries(SITE_NAMES.map((name) => [name, (l: number) => siteHookOf(name, l)])),
    };
    const hooks = new Map<string, string>();
    for (const tensor of want.names) {
      const [kind, l] = tensor.split('.');
      const hook = hookOf[kind!];
      if (hook) hooks.set(tensor, hook(Number(l)));
      else expect(['logits', 'p_target']).toContain(kind);
    }
    expect([...hooks.keys()].filter((n) => n.startsWith('hidden')).length).toBe(layers + 1);
    using run = model.run(input, { capture: [...new Set(hooks.values())] });
    for (const [tensor, hook] of hooks) {
      const { data, shape } = want.of(tensor);
      const got = await run.captures.get(hook)!.read();
      const tokenOf = tensor.startsWith('attn')
        ? // [B, heads, query, key]: the query's token
          (i: number) =>
            Math.floor(i / (shape[1]! * length * length)) * length + (Math.floor(i / length) % length)
        : byToken(shape.at(-1)!);
      check(tensor, got, data, atol('forward', tensor), tokenOf);
    }
    const logits = await run.logits.read();
    check('logits', logits, want.of('logits').data, atol('forward', 'logits'), byToken(vocabulary));
    const p = targets.flatMap((ids, row) => {
      const at = (row * length + position[row]!) * vocabulary;
      return ids.map((id) => probability(logits.subarray(at, at + vocabulary), id));
    });
    check('p_target', p, want.of('p_target').data, atol('forward', 'p_target'));
  });

  test('gradients at every activation', async () => {
    const want = await golden.read('grads');
    const { input, length, position, targets } = inputs;
    const { width } = model.sizes;
    const seen = new Set<string>();
    for (const [prefix, of] of [
      ['dp', 'prob'],
      ['dlogp', 'logprob'],
    ] as const)
      for (let k = 0; k < targets[0]!.length; k++) {
        const tensors = want.names.filter((n) => n.startsWith(`${prefix}.`) && k < want.of(n).shape[0]!);
        const at = tensors.map((n) => siteHookOf(n.split('.')[1]!, Number(n.split('.')[2])));
        if (at.length === 0) continue;
        const target = targets.map((ids) => ids[k]!);
        using run = model.run(input, { grad: { at, of: { of, target, position } }, logits: 'none' });
        for (const [i, tensor] of tensors.entries()) {
          const got = await run.gradients.get(at[i]!)!.read();
          const atTarget = want.of(tensor).shape.length === 3; // brief: only the target positions
          const part = atTarget
            ? position.flatMap((s, row) => [
                ...got.subarray((row * length + s) * width, (row * length + s + 1) * width),
              ])
            : got;
          const name = `${tensor}[${k}]`;
          const token = byToken(width);
          check(name, part, want.of(tensor).row(k), atol('grads', tensor), atTarget ? undefined : token);
          const unheard = got.findIndex((g, i) => {
            const [row, column] = [Math.floor(token(i) / length), token(i) % length];
            const padding = inputs.input.attentionMask[row]![column] === 0;
            return g !== 0 && (padding || (causal && column > position[row]!));
          });
          expect(unheard, `${name}: a gradient where nothing is heard`).toBe(-1);
          seen.add(tensor);
        }
      }
    expect([...seen].sort()).toEqual([...want.names].sort());
  });

  test('loss and parameter gradients', async () => {
    const want = await golden.read('loss');
    const { input, length, rows } = inputs;
    const labels = [...inputs.table('labels').data];
    const trained = await openCase(golden, device);
    try {
      const parameters = [...trained.parameters];
      for (const [, t] of parameters) t.requireGrad();
      const [loss, ...gradients] = scope(() => {
        using run = trained.run(input, {});
        const { vocabulary } = trained.sizes;
        // A causal model's position s predicts label s + 1.
        const logits = causal ? slice(run.logits, [0, 0, 0], [rows, length - 1, vocabulary]) : run.logits;
        const counted = causal ? labels.filter((_, i) => i % length !== 0) : labels;
        const loss = crossEntropy(reshape(logits, [-1, vocabulary]), counted);
        const found = grad(
          loss,
          parameters.map(([, t]) => t),
        );
        return [loss.detach(), ...found];
      });
      check('loss', [await loss!.item()], want.of('loss').data, atol('loss', 'loss'));
      const seen = new Set(['loss']);
      const byName = new Map(parameters.map(([name], i) => [name, gradients[i]!]));
      for (const [parameter, gradient] of storedGradients(trained, byName)) {
        const got = await gradient.read();
        const [exact, norm] = [`grad.${parameter}`, `grad_norm.${parameter}`];
        if (want.names.includes(exact)) {
          expect(gradient.shape, exact).toEqual(want.of(exact).shape);
          check(exact, got, want.of(exact).data, atol('loss', 'grad.x'));
        }
        const length = Math.sqrt(got.reduce((s, g) => s + g * g, 0));
        check(norm, [length], want.of(norm).data, atol('loss', 'grad_norm.x'));
        seen.add(exact).add(norm);
      }
      expect(want.names.filter((n) => !seen.has(n))).toEqual([]);
      for (const t of [loss!, ...gradients]) t.dispose();
    } finally {
      trained.dispose();
    }
  });

  test('patches', async () => {
    const want = await golden.read('patched');
    const { input, length, position } = inputs;
    const column = (n: string) => inputs.table(`patch.${n}`).data;
    const patch: Patch[] = Array.from(column('row'), (row, i) => ({
      name: siteHookOf(SITE_NAMES[column('site')[i]!]!, column('layer')[i]!),
      row,
      position: column('pos')[i]!,
      neuron: column('neuron')[i]!,
      op: column('mode')[i] === 0 ? 'set' : 'add',
      value: column('value')[i]!,
    }));
    const sites = [...Array(model.sizes.layers).keys()].map((l) => siteHookOf('ff', l));
    using run = model.run(input, {
      patch,
      capture: sites,
      grad: { at: sites, of: { of: 'prob', target: first, position } },
    });
    const logits = await run.logits.read();
    const { vocabulary, width } = model.sizes;
    check('logits', logits, want.of('logits').data, atol('patched', 'logits'), byToken(vocabulary));
    const p = first.map((id, row) => {
      const at = (row * length + position[row]!) * vocabulary;
      return probability(logits.subarray(at, at + vocabulary), id);
    });
    check('p_target', p, want.of('p_target').data, atol('patched', 'p_target'));
    if (golden.brief) return;
    for (const [l, hook] of sites.entries())
      for (const [tensor, got] of [
        [`ff.${l}`, run.captures],
        [`dp.ff.${l}`, run.gradients],
      ] as const)
        check(
          tensor,
          await got.get(hook)!.read(),
          want.of(tensor).data,
          atol('patched', tensor),
          byToken(width),
        );
  });

  test('sweeps: activation, gradient, p at every shift, slope and r', async () => {
    const want = await golden.read('neurons');
    const { input, length, position } = inputs;
    const { vocabulary, width } = model.sizes;
    const column = (n: string) => inputs.table(n).data;
    const places = Array.from(column('row'), (row, n) => ({
      row,
      hook: siteHookOf(SITE_NAMES[column('site')[n]!]!, column('layer')[n]!),
      pos: column('pos')[n]!,
      neuron: column('neuron')[n]!,
    }));
    const hooks = [...new Set(places.map(({ hook }) => hook))];
    using base = model.run(input, {
      capture: hooks,
      grad: { at: hooks, of: { of: 'prob', target: first, position } },
      logits: 'none',
    });
    const grid = [...want.of('delta').data];
    const shifts = golden.brief ? grid : [...want.of('wide_delta').data];
    for (const [n, { row, hook, pos, neuron }] of places.entries()) {
      const flat = (row * length + pos) * width + neuron;
      const a = (await base.captures.get(hook)!.read())[flat]!;
      const gc = (await base.gradients.get(hook)!.read())[flat]!;
      const line = (tensor: string, got: Numbers): void =>
        check(`${tensor}[${n}]`, got, want.of(tensor).row(n), atol('neurons', tensor));
      line('a', [a]);
      line('gc', [gc]);
      line('neurgrad', [-gc * Math.sign(a) || 0]);
      const copies = <T>(table: readonly T[]) => shifts.map(() => table[row]!);
      const many: ModelInput = {
        ids: copies(input.ids),
        attentionMask: copies(input.attentionMask),
        positionIds: copies(input.positionIds),
        ...(input.tokenTypeIds ? { tokenTypeIds: copies(input.tokenTypeIds) } : {}),
      };
      const patch = shifts.map(
        (value, r): Patch => ({ name: hook, row: r, position: pos, neuron, op: 'add', value }),
      );
      using run = model.run(many, { patch, logits: shifts.map(() => position[row]!) });
      const logits = await run.logits.read();
      const all = shifts.map((_, r) =>
        probability(logits.subarray(r * vocabulary, (r + 1) * vocabulary), first[row]!),
      );
      // The grid is a part of the wide one.
      const p = grid.map((shift) => all[shifts.findIndex((other) => Math.abs(other - shift) < 1e-9)]!);
      line('p', p);
      const fit = { range: 2, includeZero: true, withIntercept: true };
      const { slope, r } = fitCurve(grid, p, fit);
      line('slope', [slope]);
      line('r', [r]);
      if (golden.brief) continue;
      line('wide_p', all);
      const within = Array.from({ length: want.of('wide_r').shape[1]! }, (_, i) => i + 1);
      line(
        'wide_r',
        within.map((range) => fitCurve(shifts, all, { ...fit, range }).r),
      );
    }
  });

  test.each(golden.copies.map((copy) => [copy.name, copy] as const))('copy %s', async (name, copy) => {
    const want = await golden.read(`forward-${name}`);
    const other = await openCase(copy, device);
    try {
      using run = other.run(inputs.input);
      const logits = await run.logits.read();
      const token = byToken(model.sizes.vocabulary);
      check('logits', logits, want.of('logits').data, atol('forward', 'logits'), token);
      if (!copy.sameValues) return;
      using same = model.run(inputs.input);
      expect(logits).toEqual(await same.logits.read());
    } finally {
      other.dispose();
    }
  });
});

/** softmax(logits)[id] in float64. */
function probability(logits: Float32Array, id: number): number {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return Math.exp(logits[id]! - top) / logits.reduce((s, z) => s + Math.exp(z - top), 0);
}
