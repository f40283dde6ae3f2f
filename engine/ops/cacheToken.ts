/** Puts a text's newest token into its cache of keys and values: one kernel where a device binds enough buffers at a time. */

import { CACHE_TOKEN_BUFFERS, cacheToken as kernel, linearGrid } from '../../kernels/index.ts';
import { empty, isRecording, type Tensor } from '../tensor.ts';
import { type RotaryTable, rotaryOfBoth } from './rotary.ts';
import { checkIndices, writeRow } from './rows.ts';
import { reshape } from './shape.ts';

/** Of one layer, [keyHeads, room, D] each. */
export interface TokenCache {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * Writes k and v [1, 1, keyHeads, D] at `position` (u32 [1]) into the cache, in place, and gives q [1, 1, heads, D]; k and q turned
 * where there is a table: as `rotary` and `writeRow`, with their bits and errors.
 */
export function cacheToken(
  { keys, values }: TokenCache,
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
  position: Tensor,
  table?: RotaryTable,
): Tensor {
  const tables = table ? [table.cosine, table.sine] : [];
  const given = [q, k, v, position, ...tables, keys, values];
  const [keyHeads, room, size] = keys.shape as [number, number, number];
  const { device } = q;
  const together =
    device.capabilities.storageBuffers >= CACHE_TOKEN_BUFFERS[table ? 'turned' : 'plain'] &&
    given.every(({ storage }) => storage.segments.length === 1) &&
    !isRecording(given) &&
    ![keys, values].some((t) => t.storage.saved || t.track);
  if (!together) {
    const [turned, key] = table ? rotaryOfBoth(q, k, position, table) : [q, k];
    writeRow(keys, reshape(key, [keyHeads, size]), position);
    writeRow(values, reshape(v, [keyHeads, size]), position);
    return turned;
  }
  checkIndices('writeRow', position, room);
  if (table) checkIndices('rotary', position, table.cosine.dim(0));
  const y = table ? empty(device, q.shape) : q;
  const heads = q.dim(-2);
  const half = table?.cosine.dim(1) ?? 0;
  const turns = table ? [heads, half, table.cosine.dim(0), 1] : [];
  const bound = [...(table ? [q] : []), k, v, position, ...tables, ...(table ? [y] : []), keys, values];
  const pairs = table ? (keyHeads + heads) * (size - half) : keyHeads * size;
  device.dispatch(
    kernel(table !== undefined),
    bound.map((t) => t.storage.window()),
    [keyHeads, size, room, ...turns],
    linearGrid(keyHeads * size + pairs),
    6 * pairs,
  );
  return y;
}
