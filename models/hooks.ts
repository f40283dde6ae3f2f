/**
 * Patch points: names for values inside a model, and what a run does at them.
 *
 * Model code says `x = taps.at('blocks.3.mlp.hook_post', x)`, which costs nothing where nobody asked for that name. Asked
 * for, the value is patched, edited, kept and marked for its gradient, in this order. Names are TransformerLens's
 * (HookedEncoder for encoders, HookedTransformer for decoders); Hugging Face module paths are aliases.
 */

import { closest } from 'fastest-levenshtein';
import { UserError } from '../engine/errors.ts';
import type { Tensor } from '../engine/index.ts';
import { disown } from '../engine/scope.ts';
import type { HookPoint, HookTable } from './description.ts';
import type { Patch, RunOptions } from './model.ts';
import { type Change, changesOf, type Place } from './patches.ts';
import { checkGiven } from './runOptions.ts';

export type { HookPoint, HookTable };

/** Canonical name of a hook name or alias. @throws UserError naming the nearest match, or all where several fit. */
export function resolveHook(table: HookTable, name: string): string {
  if (table.points.has(name)) return name;
  const alias = table.aliases.get(name);
  if (alias) return alias;
  const all = [...table.names, ...table.aliases.keys()];
  const endings = all.filter((n) => n.endsWith(`.${name}`));
  if (endings.length > 0)
    throw new UserError(
      'hook',
      `hook "${name}" is ambiguous: ${endings.slice(0, 3).join(', ')}${endings.length > 3 ? ` and ${endings.length - 3} more` : ''}; give the full name`,
    );
  throw new UserError('hook', `unknown hook "${name}"; did you mean "${closest(name, all)}"?`);
}

interface Plan {
  readonly patches: Patch[];
  readonly changes: Change[];
  readonly edits: NonNullable<RunOptions['edit']>[string][];
  /** As asked for, which may be an alias. */
  readonly capture: string[];
  readonly grad: string[];
}

/** What a hook name or alias stands for. @throws UserError */
export const pointOf = (table: HookTable, name: string): HookPoint =>
  table.points.get(resolveHook(table, name))!;

/** Whether attention is fused in a run of these options: false where anyone asks for a pattern, undefined where nobody says. */
export function fusesAttention(table: HookTable, options: RunOptions): boolean | undefined {
  const names = [
    ...(options.patch ?? []).map((patch) => patch.name),
    ...Object.keys(options.edit ?? {}),
    ...(options.capture ?? []),
    ...(options.grad?.at ?? []),
  ];
  const seen = names.some((name) => pointOf(table, name).heads !== undefined);
  return seen ? false : options.fusedAttention;
}

/**
 * Sees the values of a plain run that differences start from (neurgrad/difference/bundle.ts): slots are the hook names of norms'
 * results for what they read, `pre`, `up`, `q`, `k`, `v`, `pattern`, `dense` and `cap`. The layer of the head is the number of layers.
 */
export type Keep = (layer: number, slot: string, value: Tensor) => void;

/** What one run does at the patch points. */
export class Taps {
  readonly #table: HookTable;
  readonly #place: Place;
  readonly #plans = new Map<string, Plan>();
  readonly captures = new Map<string, Tensor>();
  /** Values whose gradient is wanted, by the name asked for. */
  readonly marked = new Map<string, Tensor>();
  /** Layers run again in the backward, see {@link RunOptions.recompute}. */
  readonly recompute: boolean;
  /** See {@link fusesAttention}. */
  readonly fusedAttention: boolean | undefined;
  /** See {@link RunOptions.fusedNorm}. */
  readonly fusedNorm: boolean;

  /** Told of the values that differences start from, by layer and slot (block.ts); see {@link Keep}. */
  readonly keep: Keep | undefined;

  /**
   * @param place where in their texts these tokens stand; default at their beginning.
   * @throws UserError for an unknown name, a patch outside the input, or what does not go with `recompute`.
   */
  constructor(
    table: HookTable,
    rows: number,
    length: number,
    options: RunOptions,
    keep?: Keep,
    place: Place = { first: new Array<number>(rows).fill(0) },
  ) {
    this.#table = table;
    this.#place = place;
    this.keep = keep;
    this.recompute = options.recompute ?? false;
    this.fusedAttention = fusesAttention(table, options);
    this.fusedNorm = options.fusedNorm ?? false;
    const other = (['edit', 'capture', 'grad'] as const).find((each) => options[each] !== undefined);
    if (this.recompute && other)
      throw new UserError('recompute', `a run with recompute goes with patch only, not with ${other}`);
    const plan = (name: string): Plan => {
      const canonical = resolveHook(table, name);
      let found = this.#plans.get(canonical);
      if (!found) {
        found = { patches: [], changes: [], edits: [], capture: [], grad: [] };
        this.#plans.set(canonical, found);
      }
      return found;
    };
    for (const patch of options.patch ?? []) {
      plan(patch.name).patches.push(patch);
    }
    for (const [name, { patches, changes }] of this.#plans)
      changes.push(
        ...changesOf(patches, table.points.get(name)!, rows, length, place, (each) =>
          resolveHook(table, each),
        ),
      );
    for (const [name, edit] of Object.entries(options.edit ?? {})) plan(name).edits.push(edit);
    for (const name of options.capture ?? []) plan(name).capture.push(name);
    for (const name of options.grad?.at ?? []) plan(name).grad.push(name);
  }

  /** Whether anyone asked for this name: fused paths ask before they skip the value. */
  wants(name: string): boolean {
    return this.#plans.has(name);
  }

  /** Whether anyone asked for a name of this layer, or of the head. */
  wantsOf(layer: number): boolean {
    for (const name of this.#plans.keys()) if (this.#table.points.get(name)!.layer === layer) return true;
    return false;
  }

  /** What all layers share of the input: made once, or, where layers run again after the run has ended, by each. */
  shared<Value>(make: () => Value): () => Value {
    if (this.recompute) return make;
    const made = make();
    return () => made;
  }

  /** The value that flows on. */
  at(name: string, value: Tensor): Tensor {
    const plan = this.#plans.get(name);
    if (!plan) return value;
    let x = value;
    for (const change of plan.changes) x = change(x, value);
    for (const edit of plan.edits) {
      const edited: unknown = edit(x, { first: this.#place.told ?? this.#place.first });
      checkGiven(`edit of ${name}`, edited);
      if (edited.shape.join() !== x.shape.join())
        throw new UserError(
          'edit',
          `edit of ${name} turned [${x.shape.join(', ')}] into [${edited.shape.join(', ')}]`,
        );
      x = edited;
    }
    if (plan.grad.length > 0) {
      x.requireGrad();
      for (const asked of plan.grad) this.marked.set(asked, outlive(x));
    }
    for (const asked of plan.capture) this.captures.set(asked, outlive(x));
    return x;
  }

  /** Frees the tensors held for this run's results. */
  dispose(): void {
    for (const t of this.captures.values()) t.dispose();
    for (const t of this.marked.values()) t.dispose();
  }
}

/** Another handle on a value and its place in the graph, that belongs to no scope. */
export function outlive(x: Tensor): Tensor {
  const held = x.view(x.shape, x.track);
  disown(held);
  return held;
}
