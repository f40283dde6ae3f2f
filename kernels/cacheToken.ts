/**
 * The key and the value of a text's newest token, put where those before it lie, in one dispatch; where heads turn by their position
 * (rotary.ts) the key is turned on the way, and the query beside it.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { turnPair } from './rotary.ts';
import { shipped } from './shipped.ts';
import { flag, takes } from './variant.ts';

/** Storage buffers that it binds. */
export const CACHE_TOKEN_BUFFERS = { turned: 9, plain: 5 } as const;

/**
 * keys, values [key_heads, room, size] at position[0] = k, v [key_heads, size], with `turned` k turned, and y [heads, size] = q turned;
 * cosine, sine [rows, half]. Nothing happens at a position outside the room or the table. Grid: linear over key_heads size, twice,
 * or with `turned` over key_heads size + (key_heads + heads) (size - half).
 */
export const cacheToken = shipped(makeCacheToken, takes('cacheToken', ['turned', flag]));

function makeCacheToken(turned: boolean): Kernel {
  const floats = (access: 'read' | 'read_write', ...names: string[]) =>
    names.map((name) => ({ name, element: 'f32', access }) as const);
  return {
    name: `cache.token${turned ? '.turned' : ''}`,
    bindings: [
      ...floats('read', ...(turned ? ['q'] : []), 'k', 'v'),
      { name: 'position', element: 'u32', access: 'read' },
      ...(turned ? [...floats('read', 'cosine', 'sine'), ...floats('read_write', 'y')] : []),
      ...floats('read_write', 'keys', 'values'),
    ],
    params: {
      key_heads: 'u32',
      size: 'u32',
      room: 'u32',
      ...(turned ? ({ heads: 'u32', half: 'u32', rows: 'u32', direction: 'f32' } as const) : {}),
    },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  let row = position[0];
  if (row >= p.room${turned ? ' || row >= p.rows' : ''}) { return; }
  let n = p.key_heads * p.size;
  if (i < n) {
    values[(i / p.size * p.room + row) * p.size + i % p.size] = v[i];
    return;
  }
  let at = i - n;
${
  turned
    ? `  let pairs = p.size - p.half;
  let head = at / pairs;
  let pair = at % pairs;
  if (head < p.key_heads) {${turnPair('k', 'keys', 'head * p.size', '(head * p.room + row) * p.size')}
  return;
  }
  let query = head - p.key_heads;
  if (query >= p.heads) { return; }${turnPair('q', 'y', 'query * p.size', 'query * p.size')}`
    : `  if (at >= n) { return; }
  keys[(at / p.size * p.room + row) * p.size + at % p.size] = k[at];`
}
}`,
  };
}
