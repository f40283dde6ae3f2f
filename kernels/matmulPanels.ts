/**
 * Matrix product with weights in panels (panels.ts), for narrow subgroups as Vulkan drivers on a CPU have.
 *
 * One subgroup makes a tile of 1 to 24 rows and 32 columns, four columns a lane, in registers. The rows of the left side are laid
 * out by a small kernel before: texel (k / 4 rows + row, block) holds steps k to k + 3 of a row of the tile, so that a load gives
 * eight rows, one a lane, and shuffles hand them round; a norm before the product is worked out there, once a number. All loads
 * of a turn come first, as each is a call that clobbers every register; then rows outermost, whose sums stay in them.
 *
 * `turned` multiplies by the matrix itself instead of its transpose, from the same texture: the gradient towards the input.
 */

import { type Kernel, TEXEL } from './kernel.ts';
import {
  CHUNK,
  epilogueParts,
  FUSION,
  type Fusion,
  fusionName,
  inChunks,
  matmulBindings,
  prologueParts,
  storeSum,
} from './matmulParts.ts';
import { NORM_VECTORS, type NormVectors } from './norm.ts';
import { PANEL, PANEL_LANES, wholePanels } from './panels.ts';
import { shipped } from './shipped.ts';
import { flag, optional, takes, variant, word } from './variant.ts';

/** Rows that a tile may have. */
export const PANEL_TILES = [1, 8, 16, 24] as const;
export type PanelTile = (typeof PANEL_TILES)[number];

/** Where rows of the left side lie in a texture, tile by tile. */
export interface RowLayout {
  /** Steps along K in a texture row, and texture rows of a tile. */
  readonly steps: number;
  readonly rows: number;
  readonly width: number;
  readonly height: number;
}

/** The layout of m rows of k numbers in tiles of so many rows. */
export function rowLayout(m: number, k: number, tile: PanelTile, side: number): RowLayout {
  const most = Math.floor((4 * side) / tile / CHUNK) * CHUNK;
  const steps = Math.min(wholePanels(k), most);
  const rows = Math.ceil(k / steps);
  return { steps, rows, width: (steps / 4) * tile, height: Math.ceil(m / tile) * rows };
}

/** Numbers of a row that a subgroup lays out: four texels a lane. */
const LAID = 16 * PANEL_LANES;

export interface PanelRowsVariant {
  /** Rows of a tile of the product. */
  readonly tile: PanelTile;
  /** The norm that rows pass through; its statistics are worked out before (norm.ts). */
  readonly prologue?: NormVectors | undefined;
  /** Rows are multiples of 4 long. */
  readonly vector: boolean;
}

const PANEL_ROWS = variant<PanelRowsVariant>({
  tile: word(PANEL_TILES),
  prologue: optional(NORM_VECTORS),
  vector: flag,
});

/** Rows [m, k] as {@link matmulPanels} reads them. Grid: {@link panelRowsGrid}. */
export const panelRows = shipped(
  makePanelRows,
  takes('panelRows', ['variant', PANEL_ROWS]),
  (v) => `panels.rows.${v.tile}${v.vector ? '.4' : ''}${v.prologue ? `.${v.prologue}` : ''}`,
);

export const panelRowsGrid = (m: number, { steps, rows }: RowLayout): [number, number, number] => [
  Math.ceil(steps / LAID),
  Math.ceil(m / 4),
  rows,
];

function makePanelRows({ tile, prologue, vector }: PanelRowsVariant): Kernel {
  const { row, column, load } = prologueParts(prologue, false);
  const element = vector ? 'vec4f' : 'f32';
  const one = (at: string, j: number): string =>
    `${column(j, at).join(' ')} value${vector ? '' : `[${j}]`} = ${load(`a[base + ${at}]`, 0, j)};`;
  const value = vector
    ? `if (k < p.k) { ${one('k / 4u', 0)} }`
    : [0, 1, 2, 3].map((j) => `if (k + ${j}u < p.k) { ${one(`k + ${j}u`, j)} }`).join('\n    ');
  const norm = prologue
    ? ([
        { name: 'statistics', element: 'vec2f', access: 'read' },
        { name: 'norm_weight', element, access: 'read' },
        ...(prologue === 'layer' ? ([{ name: 'norm_bias', element, access: 'read' }] as const) : []),
      ] as const)
    : [];
  return {
    name: `panels.rows.${tile}${vector ? '.4' : ''}${prologue ? `.${prologue}` : ''}`,
    enable: ['subgroups'],
    bindings: [
      { name: 'a', element, access: 'read' },
      ...norm,
      { name: 'laid', element: TEXEL, access: 'read_write' },
    ],
    params: {
      m: 'u32',
      k: 'u32',
      steps: 'u32',
      rows: 'u32',
      ...(prologue ? { statistics_first: 'u32' } : {}),
    },
    workgroup: [PANEL_LANES, 4, 1],
    body: `
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_id) subgroup: u32) {
  let row = wid.y * 4u + subgroup;
  if (row >= p.m) { return; }
  let base = row * p.k${vector ? ' / 4u' : ''};
  let y = row / ${tile}u * p.rows + wid.z;
  ${row(0, 'row').join('\n  ')}
  for (var q = 0u; q < 4u; q++) {
    let step = wid.x * ${LAID}u + 4u * (${PANEL_LANES}u * q + lane);
    let k = wid.z * p.steps + step;
    var value = vec4f();
    ${value}
    if (step < p.steps) { textureStore(laid, vec2u(step / 4u * ${tile}u + row % ${tile}u, y), value); }
  }
}`,
  };
}

export interface MatmulPanelsVariant extends Pick<Fusion, 'bias' | 'epilogue'> {
  readonly tile: PanelTile;
  /** Times the matrix [K, N] in panels, not its transpose. */
  readonly turned: boolean;
  /** Rows of the result are multiples of 4 long. */
  readonly vectorC: boolean;
}

const { bias, epilogue } = FUSION;
/** K is never cut. */
const WHOLE = { accumulate: false, resume: false };
const MATMUL_PANELS = variant<MatmulPanelsVariant>({
  bias,
  epilogue,
  tile: word(PANEL_TILES),
  turned: flag,
  vectorC: flag,
});

const name = (v: MatmulPanelsVariant): string =>
  `matmul.panels.${v.turned ? 'T' : ''}${v.vectorC ? 'c' : ''}.${v.tile}${fusionName({ ...v, ...WHOLE })}`;

/** Panels, or in a turned product as many columns, that a workgroup makes: a narrow matrix has work for every core. */
const TOGETHER = 2;
/** Elements of an array that Mesa does not unroll a loop over, which would take seconds to compile. */
const ROLLED = 33;

/**
 * C [m, n] of A laid out by {@link panelRows} (`a_steps`, `a_rows`: {@link RowLayout}) and a matrix in panels (`columns`, `rows`:
 * PanelLayout). Grid: {@link matmulPanelsGrid}.
 */
export const matmulPanels = shipped(
  makeMatmulPanels,
  takes('matmulPanels', ['variant', MATMUL_PANELS]),
  name,
);

export const matmulPanelsGrid = (
  m: number,
  n: number,
  { tile, turned }: Pick<MatmulPanelsVariant, 'tile' | 'turned'>,
  { columns, rows }: { readonly columns: number; readonly rows: number },
): [number, number, number] => [
  Math.ceil(m / tile),
  Math.ceil((turned ? columns : n) / PANEL / TOGETHER),
  turned ? rows : 1,
];

function makeMatmulPanels(v: MatmulPanelsVariant): Kernel {
  const { tile, turned, vectorC } = v;
  const fusion = { ...v, ...WHOLE };
  const rows = [...Array(tile).keys()];
  const each = (line: (m: number) => string): string => rows.map(line).join(' ');
  // Of one row a load holds a step of four a lane; of more, four steps of a row a lane.
  const steps = tile === 1 ? PANEL_LANES * 4 : 8;
  const loads: string[] = [];
  if (tile === 1) loads.push('let a0_0 = textureLoad(a, vec2u(a_step / 4u + lane, ya));');
  else
    for (let q = 0; q < 2; q++)
      for (let g = 0; g < tile / 8; g++)
        loads.push(
          `let a${g}_${q} = textureLoad(a, vec2u(a_step / 4u * ${tile}u + ${q * tile + 8 * g}u + lane, ya));`,
        );
  const left = (m: number, s: number): string =>
    tile === 1
      ? `subgroupShuffle(a0_0.${'xyzw'[s & 3]}, ${s >> 2}u)`
      : `subgroupShuffle(a${m >> 3}_${s >> 2}.${'xyzw'[s & 3]}, ${m & 7}u)`;
  if (turned)
    for (let q = 0; q < steps / 4; q++) {
      for (let j = 0; j < 4; j++)
        loads.push(`let w${q}_${j} = textureLoad(b, vec2u(b_step + ${PANEL_LANES * j + q}u, yb));`);
      for (let s = 0; s < 4; s++)
        loads.push(
          `let b${4 * q + s} = vec4f(${[0, 1, 2, 3].map((j) => `w${q}_${j}.${'xyzw'[s]}`).join(', ')});`,
        );
    }
  else
    for (let s = 0; s < steps; s++)
      loads.push(`let b${s} = textureLoad(b, vec2u(b_step + ${PANEL_LANES * s}u, yb));`);
  const products: string[] = [];
  // Two rows at a time: a chain of additions alone would wait for each.
  for (let m = 0; m < tile; m += 2)
    for (let s = 0; s < steps; s++)
      for (const r of rows.slice(m, m + 2)) products.push(`c${r} = fma(vec4f(${left(r, s)}), b${s}, c${r});`);
  const store = (value: string, j: number, by: string): string =>
    `if (column + ${j}u < p.n) { ${storeSum(value, `(row * p.n + column + ${j}u)${by}`, `(column + ${j}u)${by}`, fusion, vectorC)} }`;
  const stores = vectorC
    ? store('done[i]', 0, ' / 4u')
    : [0, 1, 2, 3].map((j) => store(`done[i].${'xyzw'[j]}`, j, '')).join('\n      ');
  return {
    name: name(v),
    enable: ['subgroups'],
    bindings: matmulBindings(TEXEL, TEXEL, vectorC ? 'vec4f' : 'f32', fusion),
    params: {
      m: 'u32',
      n: 'u32',
      k: 'u32',
      a_steps: 'u32',
      a_rows: 'u32',
      columns: 'u32',
      rows: 'u32',
      zero: 'u32',
    },
    workgroup: [PANEL_LANES, TOGETHER, 1],
    body: `
${epilogueParts(v.epilogue, vectorC).declarations}
var<private> done: array<vec4f, ${ROLLED}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_id) subgroup: u32) {
  let panel = wid.y * ${TOGETHER}u + subgroup;
  let inside = panel * ${PANEL}u + 4u * lane;
  let column = ${turned ? 'wid.z * p.columns + inside' : 'inside'};
  var ya = wid.x * p.a_rows;
  var a_first = 0u;
  ${turned ? '' : 'var yb = panel * p.rows;\n  var b_first = lane;'}
  ${each((m) => `var c${m} = vec4f(); var t${m} = vec4f();`)}
  ${inChunks(
    rows.map((m) => ({ sum: `c${m}`, total: `t${m}` })),
    'vec4f',
    `var i = 0u;
    loop {
      let a_step = a_first + i;
      ${
        turned
          ? `let yb = (first + i) / ${PANEL}u * p.rows + wid.z;
      let b_step = inside * ${PANEL_LANES}u + i % ${PANEL}u / 4u;`
          : `let b_step = b_first + ${PANEL_LANES}u * i;`
      }
      ${loads.join('\n      ')}
      ${products.join('\n      ')}
      continuing { i += ${steps}u; break if i >= end - first; }
    }
    a_first += ${CHUNK}u;
    if (a_first >= p.a_steps) { a_first = 0u; ya++; }
    ${turned ? '' : `b_first += ${PANEL_LANES * CHUNK}u;\n    if (b_first >= ${PANEL_LANES}u * p.columns) { b_first = lane; yb++; }`}`,
  )}
  // A loop: such a driver writes each store out for every lane; of a length that its compiler cannot tell, or it does so for every row.
  ${each((m) => `done[${m}] = t${m};`)}
  let bias_base = 0u;
  let row0 = wid.x * ${tile}u;
  let filled = min(${tile}u ^ p.zero, p.m - row0);
  for (var i = 0u; i < filled; i++) {
    let row = row0 + i;
    ${turned ? `if (inside < p.columns) { ${stores} }` : stores}
  }
}`,
  };
}
