/**
 * Weights in panels: a matrix [N, K] in a storage texture, for drivers on a CPU.
 *
 * Such a driver serves the lanes of a load from a buffer one by one, with a bounds check each, and those of a texel all at once:
 * four times the numbers in half the instructions. A panel is 32 rows of the matrix; texel (8 k + q, panel) holds rows 4 q to
 * 4 q + 3 of it at column k, so that eight lanes read 32 numbers of a column side by side. Columns beyond a texture's side go on
 * in the next of `rows` texture rows. What is left of the last panel and of the last columns is 0.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX, TEXEL } from './kernel.ts';
import { CHUNK } from './matmulParts.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/** Rows of a panel: four a lane of a subgroup of eight. */
export const PANEL = 32;
/** Lanes of the subgroups that panels are for. */
export const PANEL_LANES = 8;
/** Widest texture row in columns, 16,384 texels: it ends where a chunk of products does. */
const MOST_COLUMNS = 8 * CHUNK;

export const wholePanels = (count: number): number => Math.ceil(count / PANEL) * PANEL;

/** Where the numbers of a matrix lie in a texture. */
export interface PanelLayout {
  /** Columns in a texture row. */
  readonly columns: number;
  /** Texture rows of a panel. */
  readonly rows: number;
  readonly width: number;
  readonly height: number;
}

/** The layout of [n, k] with least left over; null where no texture of this side holds it. */
export function panelLayout(n: number, k: number, side: number): PanelLayout | null {
  const most = Math.min(MOST_COLUMNS, Math.floor(side / PANEL_LANES / CHUNK) * CHUNK);
  if (most === 0 || n === 0 || k === 0) return null;
  let columns = wholePanels(k);
  if (columns > most) {
    const taken = (c: number): number => Math.ceil(k / c) * c;
    columns = most;
    for (let c = most - CHUNK; c > 0; c -= CHUNK) if (taken(c) < taken(columns)) columns = c;
  }
  const rows = Math.ceil(k / columns);
  const height = Math.ceil(n / PANEL) * rows;
  return height <= side ? { columns, rows, width: PANEL_LANES * columns, height } : null;
}

const PANEL_PARAMS = { n: 'u32', k: 'u32', columns: 'u32', rows: 'u32' } as const;

/** WGSL of the texel that holds row `row` of the matrix at column `k`, and of which of its numbers that is. */
export const panelTexel = (row: string, k: string): string =>
  `vec2u((${k}) % p.columns * ${PANEL_LANES}u + (${row}) % ${PANEL}u / 4u, (${row}) / ${PANEL}u * p.rows + (${k}) / p.columns)`;

/** Steps that a subgroup walks in the two kernels below: starting one costs as much as several. */
const WALK = 32;

const walk = (name: string, bindings: Kernel['bindings'], step: string): Kernel => ({
  name,
  enable: ['subgroups'],
  bindings,
  params: { ...PANEL_PARAMS, first: 'u32' },
  workgroup: [PANEL_LANES, 4, 1],
  body: `
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_id) subgroup: u32) {
  let row = wid.y * ${PANEL}u + 4u * lane;
  let y = (p.first / ${PANEL}u + wid.y) * p.rows + wid.z;
  for (var i = 0u; i < ${WALK}u; i++) {
    let column = wid.x * ${4 * WALK}u + subgroup * ${WALK}u + i;
    let k = wid.z * p.columns + column;
    if (column >= p.columns) { break; }
    ${step}
  }
}`,
});

/** Grid of the two kernels below, for `n` rows. */
export const panelGrid = (n: number, { columns, rows }: PanelLayout): [number, number, number] => [
  Math.ceil(columns / (4 * WALK)),
  Math.ceil(n / PANEL),
  rows,
];

/** Rows [n, k] into panels from row `first` on, a multiple of {@link PANEL}. Grid: {@link panelGrid}. */
export const packPanels = shipped(
  (): Kernel =>
    walk(
      'panels.pack',
      [
        { name: 'a', element: 'f32', access: 'read' },
        { name: 'panels', element: TEXEL, access: 'read_write' },
      ],
      `var value = vec4f();
    for (var j = 0u; j < 4u; j++) {
      if (row + j < p.n && k < p.k) { value[j] = a[(row + j) * p.k + k]; }
    }
    textureStore(panels, vec2u(column * ${PANEL_LANES}u + lane, y), value);`,
    ),
  takes('packPanels'),
);

/** The other way round. */
export const unpackPanels = shipped(
  (): Kernel =>
    walk(
      'panels.unpack',
      [
        { name: 'panels', element: TEXEL, access: 'read' },
        { name: 'a', element: 'f32', access: 'read_write' },
      ],
      `let value = textureLoad(panels, vec2u(column * ${PANEL_LANES}u + lane, y));
    for (var j = 0u; j < 4u; j++) {
      if (row + j < p.n && k < p.k) { a[(row + j) * p.k + k] = value[j]; }
    }`,
    ),
  takes('unpackPanels'),
);

/** y[r, :] = row index[r] of the matrix in panels, 0 for an index outside. Grid: linear over count * k. */
export const gatherPanels = shipped(
  (): Kernel => ({
    name: 'panels.gather',
    bindings: [
      { name: 'panels', element: TEXEL, access: 'read' },
      { name: 'index', element: 'u32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { ...PANEL_PARAMS, count: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.count * p.k) { return; }
  let row = index[i / p.k];
  let value = textureLoad(panels, ${panelTexel('row', 'i % p.k')})[row % 4u];
  y[i] = select(0.0, value, row < p.n);
}`,
  }),
  takes('gatherPanels'),
);
