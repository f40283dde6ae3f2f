/**
 * What a run is in every family: check the input, open the taps, forward, decode where asked, one backward.
 */

import { UserError } from '../engine/errors.ts';
import {
  affine,
  argmax,
  crossEntropyRows,
  type Device,
  exp,
  gatherRows,
  grad,
  integers,
  logOdds,
  noGrad,
  pick,
  reshape,
  scope,
  sub,
  sum,
  type Tensor,
  zeros,
} from '../engine/index.ts';
import { disown } from '../engine/scope.ts';
import type { Description } from './description.ts';
import { type HookTable, type Keep, Taps } from './hooks.ts';
import type { ModelInput, ModelSizes, Objective, RunOptions, RunResult } from './model.ts';
import type { Place } from './patches.ts';
import { checkGiven, checkRun } from './runOptions.ts';

/** The model's part of a run. */
export interface Architecture {
  readonly device: Device;
  readonly sizes: ModelSizes;
  readonly description: Description;
  readonly hooks: HookTable;
  /** Whether `forward` heeds `read`. */
  readonly canReadOne?: boolean;
  /** Whether a parameter was marked, so that runs leave a tape. */
  trains?(): boolean;
  /** Residual after the last layer [B, S, H]; [B, 1, H] where the input says which tokens are read. */
  forward(input: CheckedInput, taps: Taps): Tensor;
  /** Decoder input of some rows [R, H] of the residual; `all` where they are the whole [B * S, H]. */
  head(rows: Tensor, taps: Taps, shape: readonly number[]): Tensor;
  /** Logits [R, V] of decoder input [R, H]. */
  decode(rows: Tensor, taps: Taps): Tensor;
}

/** An input whose ids, lengths and masks have been checked. */
export interface CheckedInput {
  readonly rows: number;
  readonly length: number;
  readonly ids: readonly number[];
  /** u32 [B, S], or undefined where every token is real. */
  readonly mask?: readonly number[] | undefined;
  readonly positionIds?: readonly number[] | undefined;
  readonly tokenTypeIds?: readonly number[] | undefined;
  /** Tokens that the last layer is wanted of, one a row, as row * length + position; absent: all. */
  readonly read?: readonly number[] | undefined;
}

/** @throws UserError naming what is wrong and where. */
export function checkInput(
  input: ModelInput,
  { sizes, embedding }: Pick<Description, 'sizes' | 'embedding'>,
): CheckedInput {
  const rows = input.ids.length;
  const length = input.ids[0]?.length ?? 0;
  if (rows === 0 || length === 0)
    throw new UserError('input', 'ids: at least one row of at least one token is needed');
  if (length > sizes.positions)
    throw new UserError(
      'input',
      `a prompt of ${length} tokens is longer than the model's ${sizes.positions} positions`,
    );
  const flat = (
    what: string,
    table: readonly (readonly number[])[] | undefined,
    below: number,
  ): number[] | undefined => {
    if (!table) return undefined;
    if (table.length !== rows || table.some((r) => r.length !== length))
      throw new UserError('input', `${what}: must be ${rows} rows of ${length}, as the ids' first row`);
    return table.flatMap((r, i) =>
      r.map((n, j) => {
        if (!Number.isInteger(n) || n < 0 || n >= below)
          throw new UserError('input', `${what}: ${n} at row ${i}, position ${j} is outside 0..${below - 1}`);
        return n;
      }),
    );
  };
  const mask = flat('attentionMask', input.attentionMask, 2);
  if (input.tokenTypeIds && !embedding.type)
    throw new UserError('input', 'tokenTypeIds: this model has no token types; leave them out');
  return {
    rows,
    length,
    ids: flat('ids', input.ids, sizes.vocabulary)!,
    mask: mask?.includes(0) ? mask : undefined,
    positionIds: flat('positionIds', input.positionIds, embedding.position?.rows ?? sizes.positions),
    tokenTypeIds: flat('tokenTypeIds', input.tokenTypeIds, embedding.type?.rows ?? 0),
  };
}

/** The quantity of each row's target, of logits [R, V], summed over the rows. */
export function objectiveValue(
  { of, target: asked, other }: Omit<Objective, 'position'>,
  logits: Tensor,
): Tensor {
  const target = asked === 'argmax' ? argmax(logits) : asked;
  if (of === 'logit') return sum(pick(logits, target));
  if (of === 'logit_diff') return sum(sub(pick(logits, target), pick(logits, other!)));
  if (of === 'logodds') return sum(logOdds(logits, target));
  const logp = affine(crossEntropyRows(logits, target), -1, 0);
  return sum(of === 'prob' ? exp(logp) : logp);
}

function checkPositions(what: string, positions: readonly number[], input: CheckedInput): number[] {
  if (positions.length !== input.rows)
    throw new UserError('input', `${what}: ${positions.length} positions for ${input.rows} rows`);
  return positions.map((position, row) => {
    if (!Number.isInteger(position) || position < 0 || position >= input.length)
      throw new UserError(
        'input',
        `${what}: position ${position} of row ${row} is outside 0..${input.length - 1}`,
      );
    return row * input.length + position;
  });
}

/** Where logits are wanted. @throws UserError for positions or targets outside the input. */
export function checkOptions(
  input: CheckedInput,
  { vocabulary }: ModelSizes,
  options: RunOptions,
  canReadOne = false,
): {
  readonly wanted: NonNullable<RunOptions['logits']>;
  readonly logitRows: number[] | null;
  readonly objectiveRows: number[] | null;
} {
  if (options.lastLayer === 'read') {
    const { logits, grad, patch, edit } = options;
    const one =
      Array.isArray(logits) && (!grad || ('of' in grad.of && `${grad.of.position}` === `${logits}`));
    if (!canReadOne || !one || patch || edit)
      throw new UserError(
        'input',
        "lastLayer 'read' is for masked models, with logits at one position a row, which is the objective's, and without patches and edits",
      );
  }
  const wanted = options.logits ?? 'all';
  const objective = options.grad && typeof options.grad.of !== 'function' ? options.grad.of : null;
  const logitRows = typeof wanted === 'string' ? null : checkPositions('logits', wanted, input);
  if (!objective) {
    if (options.grad && wanted === 'none' && !options.capture?.length)
      throw new UserError(
        'input',
        "grad of a function needs logits, not 'none', or captured values that it is a function of",
      );
    return { wanted, logitRows, objectiveRows: null };
  }
  const objectiveRows = checkPositions('objective', objective.position, input);
  const { of, target, other } = objective;
  if (of === 'logit_diff' && !other)
    throw new UserError(
      'input',
      'objective: logit_diff needs other, the token of each row that is subtracted',
    );
  if (of !== 'logit_diff' && other)
    throw new UserError('input', `objective: other goes with logit_diff, not with ${of}`);
  for (const [name, ids] of [
    ['target', target === 'argmax' ? undefined : target],
    ['other', other],
  ] as const) {
    if (!ids) continue;
    if (ids.length !== input.rows)
      throw new UserError('input', `objective: ${ids.length} ${name}s for ${input.rows} rows`);
    for (const id of ids)
      if (!Number.isInteger(id) || id < 0 || id >= vocabulary)
        throw new UserError('input', `objective: ${name} ${id} is outside 0..${vocabulary - 1}`);
  }
  return { wanted, logitRows, objectiveRows };
}

/** One run of a model. Everything is checked before the first dispatch. */
export function run(model: Architecture, modelInput: ModelInput, options: RunOptions): RunResult {
  checkRun(modelInput, options);
  return runChecked(model, checkInput(modelInput, model.description), options);
}

/** A run of an input that has been checked: {@link run}, or rows behind a cache. @param keep see {@link Keep}. @param place of its tokens. */
export function runChecked(
  model: Architecture,
  checked: CheckedInput,
  options: RunOptions,
  keep?: Keep,
  place?: Place,
): RunResult {
  const { rows } = checked;
  const { vocabulary } = model.sizes;
  const taps = new Taps(model.hooks, rows, checked.length, options, keep, place);
  const places = checkOptions(checked, model.sizes, options, model.canReadOne);
  const { wanted } = places;
  const read = options.lastLayer === 'read' ? places.logitRows : null;
  const input = read ? { ...checked, read } : checked;
  const length = read ? 1 : checked.length;
  // What has been read only is one token a row.
  const ofResidual = (which: number[] | null) => (read && which ? [...which.keys()] : which);
  const logitRows = ofResidual(places.logitRows);
  const objectiveRows = ofResidual(places.objectiveRows);
  const forward = (): { logits: Tensor | null; gradients: Map<string, Tensor> } =>
    scope(() => {
      try {
        const residual = model.forward(input, taps);
        const all = reshape(residual, [rows * length, model.sizes.hidden]);
        const headOf = (which: readonly number[] | null): Tensor =>
          which
            ? model.head(gatherRows(all, integers(model.device, which)), taps, [
                which.length,
                model.sizes.hidden,
              ])
            : model.head(all, taps, [rows, length, model.sizes.hidden]);
        const decodeAll = wanted === 'all' || taps.wantsOf(model.sizes.layers);
        let logits: Tensor | null = null;
        let atObjective: Tensor | null = null;
        if (decodeAll) {
          // The final norm is a patch point over all positions, so it is computed for all where someone looks at it.
          const final = reshape(headOf(null), [rows * length, model.sizes.hidden]);
          const pickRows = (which: readonly number[]) =>
            model.decode(gatherRows(final, integers(model.device, which)), taps);
          logits = wanted === 'all' ? model.decode(final, taps) : logitRows ? pickRows(logitRows) : null;
          if (objectiveRows)
            atObjective =
              wanted === 'all'
                ? gatherRows(logits!, integers(model.device, objectiveRows))
                : pickRows(objectiveRows);
        } else {
          if (logitRows) logits = model.decode(headOf(logitRows), taps);
          if (objectiveRows)
            atObjective =
              logits && objectiveRows.join() === logitRows?.join()
                ? logits
                : model.decode(headOf(objectiveRows), taps);
        }
        if (logits && wanted === 'all') logits = reshape(logits, [rows, length, vocabulary]);
        const gradients = new Map<string, Tensor>();
        if (options.grad) {
          const value =
            typeof options.grad.of === 'function'
              ? options.grad.of(logits ?? zeros(model.device, [0]), taps.captures)
              : objectiveValue(options.grad.of, atObjective!);
          checkGiven('run: grad.of', value);
          const names = [...taps.marked.keys()];
          const results = grad(
            value.size === 1 ? value : sum(value),
            names.map((n) => taps.marked.get(n)!),
            {
              unconnected: 'zero',
            },
          );
          for (const [i, name] of names.entries()) gradients.set(name, results[i]!);
        }
        return { logits, gradients };
      } catch (error) {
        taps.dispose();
        throw error;
      }
    });
  // A tape is made where something whose gradient is wanted can take part: a value, a parameter, or what an edit brings in.
  const recorded = options.grad || options.edit || model.trains?.();
  const parts = recorded ? forward() : noGrad(forward);
  for (const t of [parts.logits, ...parts.gradients.values()]) if (t) disown(t);
  return resultOf(
    () => parts.logits,
    taps.captures,
    parts.gradients,
    () => {
      parts.logits?.dispose();
      for (const t of parts.gradients.values()) t.dispose();
      taps.dispose();
    },
  );
}

/** A run's result. @param free gives its tensors back; called once. */
export function resultOf(
  logits: () => Tensor | null | undefined,
  captures: RunResult['captures'],
  gradients: RunResult['gradients'],
  free: () => void,
): RunResult {
  let open = true;
  const dispose = (): void => {
    if (open) free();
    open = false;
  };
  return {
    get logits(): Tensor {
      const found = logits();
      if (found) return found;
      throw new UserError('input', "this run computed no logits: it was asked for logits: 'none'");
    },
    captures,
    gradients,
    dispose,
    [Symbol.dispose]: dispose,
  };
}
