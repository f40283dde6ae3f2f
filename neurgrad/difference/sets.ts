/**
 * Sets of neurons shifted together, by differences: a row is a set, and its shifts are added again at every layer that has some of them,
 * to values that earlier ones have changed already.
 *
 * Up to a row's first layer nothing changes. There the change of the output weights' input follows in float64 from the plain values; at
 * later layers it is added on the device where the shift is: at the site's hook point, or inside the gate's product.
 */

import {
  add,
  gatherRows,
  integers,
  linear,
  mul,
  noGrad,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { ACTIVATIONS, type ActivationName } from '../../kernels/activation.ts';
import { body, enter, leave } from '../../models/block.ts';
import type { Site } from '../../models/model.ts';
import type { Neuron } from '../neuron.ts';
import type { Bundle } from './bundle.ts';
import { injection, injectionCondition } from './injection.ts';
import { addOwnChange, NONE, TARGET_FIELDS, targetRecord, tokenTensor } from './ops.ts';
import {
  based,
  type CaseRow,
  eachToken,
  layerTokens,
  NOWHERE,
  outputs,
  plainValues,
  type RowChanges,
  type RowOptions,
  type ShiftedRow,
  tokensRead,
  waveRows,
  wentThrough,
} from './wave.ts';
import {
  Change,
  type Changed,
  type ChangedTokens,
  type Difference,
  DifferenceWords,
  type LayerTokens,
} from './words.ts';

/** Neurons of one prompt of a bundle, each shifted along the plain axis, all together. */
export interface ShiftedSet extends CaseRow {
  readonly shifts: readonly { readonly neuron: Neuron; readonly shift: number }[];
}

/** Changes of the targets, those of a set one after the other, for any number of sets, each as if it were alone: waves hold sets that begin in the same layer. */
export async function setChanges(
  bundle: Bundle,
  sets: readonly ShiftedSet[],
  options: Pick<RowOptions, 'rowsPerPass' | 'onProgress'> = {},
): Promise<RowChanges> {
  const size = options.rowsPerPass ?? waveRows(bundle);
  const tokens = tokensRead(bundle);
  const fields = TARGET_FIELDS.map((name) => [name, new Float32Array(sets.length * tokens)] as const);
  const byFirst = new Map<number, number[]>();
  for (const [i, { shifts }] of sets.entries()) {
    if (shifts.length === 0) continue;
    const first = shifts.reduce(
      (least, { neuron }) => Math.min(least, neuron.layer),
      shifts[0]!.neuron.layer,
    );
    byFirst.set(first, [...(byFirst.get(first) ?? []), i]);
  }
  let done = sets.filter(({ shifts }) => shifts.length === 0).length;
  for (const [first, all] of byFirst) {
    // A shift in the last layer away from the position that is read moves nothing.
    const moving = all.filter((i) => first < bundle.model.sizes.layers - 1 || readsItself(bundle, sets[i]!));
    for (let from = 0; from < moving.length; from += size) {
      const chosen = moving.slice(from, from + size);
      using moved = noGrad(() =>
        runSets(
          bundle,
          chosen.map((i) => sets[i]!),
          first,
        ),
      );
      const read = await moved.read();
      for (const [k, i] of chosen.entries())
        for (const [at, [, field]] of fields.entries())
          for (let t = 0; t < tokens; t++)
            field[i * tokens + t] = read[TARGET_FIELDS.length * (k * tokens + t) + at]!;
      done += chosen.length;
      options.onProgress?.(done, sets.length);
    }
    done += all.length - moving.length;
  }
  return Object.fromEntries(fields) as Record<(typeof TARGET_FIELDS)[number], Float32Array>;
}

const readsItself = ({ cases }: Bundle, row: CaseRow): boolean =>
  cases[row.case]!.at === cases[row.case]!.read;

/** What sets whose first layer is `first` do to their targets, [rows, tokens * fields]. */
function runSets(bundle: Bundle, sets: readonly ShiftedSet[], first: number): Tensor {
  const { device, sizes, description } = bundle.model;
  const layers = byLayer(bundle, sets);
  return scope(() => {
    let now: readonly Changed[] = sets.map((set, row) => ({ row, position: bundle.cases[set.case]!.at }));
    let dx = scope((): Tensor => {
      const spec = description.layers[first]!;
      const words = new DifferenceWords(bundle, first, null);
      const inside = tensor(device, firstChange(bundle, sets, first), [sets.length, sizes.width]);
      const product = linear(inside, bundle.model.outWeight(first));
      const of = based(bundle, sets, now);
      const entered = enter(words, spec, new Change(product, of));
      return words.made(leave(words, spec, entered)).x!;
    });
    for (let layer = first + 1; layer < sizes.layers; layer++) {
      const before = dx;
      const spec = description.layers[layer]!;
      const last = layer === sizes.layers - 1;
      const output = outputs(bundle, sets, now, last);
      const tokens = layerTokens(bundle, sets, now, output, last);
      dx = scope((): Tensor => {
        const words = new InjectingWords(bundle, layer, tokens, sets, layers.get(layer) ?? new Map());
        const sum = scope(() => {
          const { residual, product } = body(words, spec, new Change(before, tokens.input));
          return words.made(words.add(residual, enter(words, spec, product))).x!;
        });
        const after = new DifferenceWords(bundle, layer, null);
        return after.made(leave(after, spec, new Change(sum, based(bundle, sets, output)))).x!;
      });
      before.dispose();
      now = output;
    }
    const target = integers(
      device,
      Uint32Array.from(
        eachToken(bundle, (token) =>
          sets.flatMap((set) => targetRecord(targetOf(bundle, set, token))),
        ).flat(),
      ),
    );
    return wentThrough(bundle, sets, now, dx, target);
  });
}

/** Shifts [rows, width] at the sites of a layer. */
type LayerShifts = ReadonlyMap<Site, Float32Array>;

function byLayer({ model }: Bundle, sets: readonly ShiftedSet[]): ReadonlyMap<number, LayerShifts> {
  const { width } = model.sizes;
  const all = new Map<number, Map<Site, Float32Array>>();
  for (const [row, { shifts }] of sets.entries())
    for (const { neuron, shift } of shifts) {
      const layer = all.get(neuron.layer) ?? new Map<Site, Float32Array>();
      const at = layer.get(neuron.site) ?? new Float32Array(sets.length * width);
      at[row * width + neuron.index]! += shift;
      layer.set(neuron.site, at);
      all.set(neuron.layer, layer);
    }
  return all;
}

/** Changes of what the first layer's output weights read, [rows, width], with all of its sites' shifts in place. */
function firstChange(bundle: Bundle, sets: readonly ShiftedSet[], first: number): Float32Array {
  const { model, feedForward } = bundle;
  const { width } = model.sizes;
  const { value, change } = ACTIVATIONS[feedForward.activation];
  const inside = new Float32Array(sets.length * width);
  for (const [row, set] of sets.entries()) {
    const byNeuron = new Map<number, Record<Site, number>>();
    for (const { neuron, shift } of set.shifts) {
      if (neuron.layer !== first) continue;
      const own = byNeuron.get(neuron.index) ?? { pre: 0, pre_linear: 0, act: 0, post: 0 };
      own[neuron.site] += shift;
      byNeuron.set(neuron.index, own);
    }
    for (const [index, d] of byNeuron) {
      const neuron: Neuron = { layer: first, index, site: 'post' };
      const { pre, up } = plainValues(bundle, { case: set.case, neuron, shift: 0 }).at;
      const moved = change(pre, d.pre) + d.act;
      inside[row * width + index] =
        (feedForward.gated ? moved * (up + d.pre_linear) + value(pre) * d.pre_linear : moved) + d.post;
    }
  }
  return inside;
}

/** A target, and how uncertain the shifts' own effects are together: relative to the root of the sum of their squares. */
function targetOf(bundle: Bundle, set: ShiftedSet, token: number) {
  const { feedForward } = bundle;
  let [whole, uncertain] = [0, 0];
  for (const { neuron, shift } of set.shifts) {
    const row: ShiftedRow = { case: set.case, neuron, shift };
    const { at, scale } = plainValues(bundle, row);
    const size = injection(feedForward, neuron.site, at.pre, at.up, shift) ** 2;
    whole += size;
    uncertain += size * injectionCondition(feedForward, neuron.site, at, scale, shift) ** 2;
  }
  return {
    base: set.case,
    target: bundle.cases[set.case]!.tokens[token]!,
    condition: whole === 0 ? 0 : Math.sqrt(uncertain / whole),
  };
}

/** The words of a layer whose feed-forward values are shifted at the neurons' tokens. */
class InjectingWords extends DifferenceWords {
  readonly #bundle: Bundle;
  readonly #sets: readonly ShiftedSet[];
  readonly #shifts: LayerShifts;
  readonly #up: Tensor | undefined;

  constructor(
    bundle: Bundle,
    layer: number,
    tokens: LayerTokens,
    sets: readonly ShiftedSet[],
    shifts: LayerShifts,
  ) {
    super(bundle, layer, tokens);
    this.#bundle = bundle;
    this.#sets = sets;
    this.#shifts = shifts;
    this.#up = bundle.layers[layer]!.get('up');
  }

  override at(hook: string, x: Difference): Difference {
    const site = /^mlp\.hook_(pre|pre_linear|post)$/.exec(hook)?.[1] as Site | undefined;
    const shifts = site && this.#shifts.get(site);
    if (!shifts) return super.at(hook, x);
    return this.#shifted(this.made(x), this.#dense(shifts));
  }

  /** (f(g + dg) + s)(u + du) - f(g) u: beside what goes without s, s (u + du). */
  override gated(gate: Difference, up: Difference, activation: ActivationName): Difference {
    const product = super.gated(gate, up, activation);
    const shifts = this.#shifts.get('act');
    if (!shifts) return product;
    const { x: dUp, of } = this.made(up);
    const rows = this.#ownTokens(of);
    if (!dUp) return product;
    const { cases } = this.#bundle;
    const base = this.#sets.map(({ case: c }) => cases[c]!.queryStart + cases[c]!.at - cases[c]!.low);
    const whole = add(
      gatherRows(this.#up!, base),
      gatherRows(
        dUp,
        rows.map((row) => Math.max(0, row)),
      ),
    );
    return this.#shifted(this.made(product), mul(this.#dense(shifts), whole));
  }

  #dense(shifts: Float32Array): Tensor {
    const { device, sizes } = this.#bundle.model;
    return tensor(device, shifts, [this.#sets.length, sizes.width]);
  }

  /** The row of each set's own token among some; -1 where it is not there: in a last layer that is wanted of another token alone. */
  #ownTokens({ places }: ChangedTokens): number[] {
    const { cases } = this.#bundle;
    const found = this.#sets.map(() => -1);
    for (const [i, { row, position }] of places.entries())
      if (position === cases[this.#sets[row]!.case]!.at) found[row] = i;
    return found;
  }

  #shifted(value: Change, shifts: Tensor): Change {
    const { of } = value;
    const { device, sizes } = this.#bundle.model;
    const own = this.#ownTokens(of);
    const ofToken = new Map(own.map((token, row) => [token, row]));
    const records = of.places.map((_, i) => ({ ...NOWHERE, own: ofToken.get(i) ?? NONE }));
    if (records.every((record) => record.own === NONE)) return value;
    const x = value.x ?? zeros(device, [records.length, sizes.width]);
    return new Change(addOwnChange(x, tokenTensor(device, records), shifts, 'own'), of);
  }
}
