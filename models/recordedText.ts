/**
 * A text of a causal model that goes on token by token, its step recorded once and replayed (engine/plan.ts).
 *
 * What a token changes lies on the device: its id, and its position, which turns queries and keys, says where the cache takes
 * the new key and value in place, and ends the row of the softmax. The cache has room for more tokens than there are, whose
 * zeros add nothing to any sum: every logit has the bits of a prefill of one token behind those before. A full cache is copied into
 * one of twice the room, layer by layer, and the step is recorded again.
 */

import { concat, integers, noGrad, type Plan, record, slice, type Tensor, zeros } from '../engine/index.ts';
import { cachedAttention } from '../engine/ops/cachedAttention.ts';
import { cacheToken } from '../engine/ops/cacheToken.ts';
import type { LayeredModel, Tokens } from './causal.ts';
import { Taps } from './hooks.ts';
import { checkIds, checkLength, decodeLast, type Kept, prefill, withLast } from './kvCache.ts';
import { loose } from './pass.ts';

/** Tokens that the smallest cache has room for. */
const LEAST_ROOM = 64;

/**
 * A text of no tokens yet. `extend` gives the logits [V] after the tokens added: any number at first, then one at a time.
 * @param most tokens that the text will have at most: the cache grows no larger.
 */
export function recordedText(model: LayeredModel, most: number) {
  const { device, sizes, hooks } = model;
  const kept: Kept = { keys: new Map(), values: new Map() };
  const [token, position] = [loose(() => integers(device, [0])), loose(() => integers(device, [0]))];
  let length = 0;
  let room = 0;
  let plan: Plan<Tensor> | null = null;

  const tokens = (): Tokens => ({
    positions: position,
    reach: Math.min(room, sizes.positions),
    turns: true,
    attend: (layer, q, k, v, how) => {
      const cache = { keys: kept.keys.get(layer)!, values: kept.values.get(layer)! };
      const query = cacheToken(cache, [q, k, v], position, how.turn);
      return cachedAttention(query, cache.keys, cache.values, withLast(how, position));
    },
  });

  /** Room for one more token at least; a multiple of four, so that products load four numbers at a time. */
  const grow = (): void => {
    plan?.dispose();
    plan = null;
    room = 4 * Math.ceil(Math.max(length + 1, Math.min(most, Math.max(LEAST_ROOM, 2 * length))) / 4);
    model.extend(Math.min(room, sizes.positions));
    for (const layers of [kept.keys, kept.values])
      for (const [layer, before] of layers) {
        const [heads, , headSize] = before.shape as [number, number, number];
        layers.set(
          layer,
          loose(() =>
            concat(
              [
                before.dim(1) === length ? before : slice(before, [0, 0], [heads, length]),
                zeros(device, [heads, room - length, headSize]),
              ],
              1,
            ),
          ),
        );
        before.dispose();
      }
  };

  const step = (): Tensor =>
    noGrad(() => {
      const behind = tokens();
      const taps = new Taps(hooks, 1, 1, {});
      const x = model.embed({ rows: 1, length: 1, ids: token, positions: position }, taps);
      return decodeLast(
        model,
        model.layers(0, x, () => behind, taps),
        taps,
      );
    });

  return {
    /** @throws UserError for an id outside the vocabulary, or more tokens than the model has positions. */
    async extend(ids: readonly number[]): Promise<Float32Array> {
      if (length === 0) {
        const prefix = prefill(model, ids, { logits: true, into: kept });
        length = ids.length;
        using logits = prefix.logits;
        return await logits.read();
      }
      if (ids.length !== 1) throw new RangeError(`${ids.length} tokens, a recorded text goes on by one`);
      checkIds(ids, sizes);
      checkLength(length + 1, sizes);
      if (length >= room) grow();
      token.write(ids);
      position.write([length]);
      if (plan) plan.replay();
      else plan = record(device, step);
      length++;
      return await plan.result.read();
    },
    dispose(): void {
      plan?.dispose();
      plan = null;
      for (const t of [token, position, ...kept.keys.values(), ...kept.values.values()]) t.dispose();
    },
  };
}
