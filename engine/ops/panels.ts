/**
 * Weights in panels, and products with them: rows are laid out for the kernel first (kernels/matmulPanels.ts). The bits are those
 * of every other product kernel.
 */

import {
  matmulPanels,
  matmulPanelsGrid,
  PANEL_TILES,
  type PanelTile,
  panelRows,
  panelRowsGrid,
  rowLayout,
} from '../../kernels/matmulPanels.ts';
import type { Epilogue } from '../../kernels/matmulParts.ts';
import type { NormVectors } from '../../kernels/norm.ts';
import { PANEL_LANES, panelLayout } from '../../kernels/panels.ts';
import type { Capabilities } from '../device.ts';
import { wholeTexture } from '../memory.ts';
import { commonRows, rowsWindow } from '../storage.ts';
import { checkTensor, empty, type Tensor } from '../tensor.ts';

/** Numbers of the smallest matrix whose products gain more by panels than laying rows out costs. */
const WORTH = 2 ** 15;

/** Side of the textures that weights lie in on a device whose subgroups are a CPU's vectors; on any other 0: they lie in buffers. */
export const panelSide = ({
  subgroups,
  subgroupSize,
  subgroupSizeFixed,
  textureSide,
}: Capabilities): number =>
  subgroups && subgroupSizeFixed && subgroupSize === PANEL_LANES ? textureSide : 0;

/** Bytes of the texture that weights of a shape lie in, with such a side; 0: they lie in buffers. */
export function panelBytes(shape: readonly number[], side: number): number {
  const [n = 0, k = 0] = shape;
  const layout = shape.length === 2 && n * k >= WORTH ? panelLayout(n, k, side) : null;
  return layout ? 16 * layout.width * layout.height : 0;
}

/**
 * Puts a matrix of weights [N, K] into panels of a texture instead of a buffer, where products on this device are faster by it: f32
 * matrices on drivers for a CPU, that no gradient is wanted of. Linear layers, the gradient towards their input and lookups of rows
 * read them there; whatever else asks for the elements has them back in a buffer from then on.
 * @throws ShapeError
 * @example
 * ```ts
 * import { linear, openDevice, packPanels, zeros } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const w = zeros(device, [64, 256], 'weights');
 * packPanels(w);
 * console.log([...(await linear(zeros(device, [1, 256]), w).read())].length); // → 64
 * device.destroy();
 * ```
 */
export function packPanels(w: Tensor): void {
  checkTensor('packPanels', 'w', w);
  const { storage } = w;
  const wanted = w.dtype === 'f32' && storage.purpose === 'weights' && !w.track;
  if (wanted && panelBytes(w.shape, panelSide(w.device.capabilities)) > 0) storage.pack(w.dim(0), w.dim(1));
}

/** Time of a tile by its rows, full or not, in rows of the best: small ones load a panel too often, large ones spill registers. */
const TILE_COST: Readonly<Record<PanelTile, number>> = { 1: 4, 8: 11.6, 16: 16, 24: 25 };

/** The tile that `m` rows take least time in. */
export const panelTile = (m: number): PanelTile =>
  PANEL_TILES.reduce((best, tile) =>
    Math.ceil(m / tile) * TILE_COST[tile] < Math.ceil(m / best) * TILE_COST[best] ? tile : best,
  );

/** Rows that are laid out together: whole tiles of every size, and a binding may begin there. */
export const LAID_ROWS = 1920;

/** Bytes in which m rows of k numbers are laid out for a product on panels. */
export function laidBytes(m: number, k: number, side: number): number {
  const together = Math.min(m, LAID_ROWS);
  const { width, height } = rowLayout(together, k, panelTile(together), side);
  return 16 * width * height;
}

/** What a product on panels takes besides its operands. */
export interface PanelFusion {
  readonly bias: Tensor | null;
  readonly epilogue: Epilogue;
  readonly extra: Tensor | null;
  readonly norm: {
    readonly kind: NormVectors;
    readonly statistics: Tensor;
    readonly vectors: readonly Tensor[];
  } | null;
}

/** y = a w^T, or a w where `turned`, for rows a [m, k] and w in panels; the other operands as of a linear layer. */
export function panelProduct(
  a: Tensor,
  w: Tensor,
  turned: boolean,
  shape: readonly number[],
  { bias, epilogue, extra, norm }: PanelFusion,
): Tensor {
  const { device } = a;
  const { texture, layout } = w.storage.panels!;
  const [m, k, n] = [a.dim(-2), a.dim(-1), shape.at(-1)!];
  const y = empty(device, shape);
  const operand = (t: Tensor, rowLength: number) => ({ storage: t.storage, rowLength });
  const [left, right, result] = [operand(a, k), extra && operand(extra, n), operand(y, n)];
  const vectorC = n % 4 === 0;
  const ranges = commonRows('matmul', m, [left, ...(right ? [right] : []), result]);
  for (const [begin, end] of ranges)
    for (let from = begin; from < end; from += LAID_ROWS) {
      const to = Math.min(end, from + LAID_ROWS);
      const tile = panelTile(to - from);
      const rows = rowLayout(to - from, k, tile, device.capabilities.textureSide);
      const laid = device.pool.acquireTexture(rows.width, rows.height, 'scratch');
      device.dispatch(
        panelRows({ tile, prologue: norm?.kind, vector: k % 4 === 0 }),
        [
          rowsWindow(left, from, to),
          ...(norm ? [norm.statistics, ...norm.vectors].map((t) => t.storage.window()) : []),
          wholeTexture(laid),
        ],
        [to - from, k, rows.steps, rows.rows, ...(norm ? [from] : [])],
        panelRowsGrid(to - from, rows),
      );
      device.dispatch(
        matmulPanels({ tile, turned, vectorC, bias: bias !== null, epilogue }),
        [
          wholeTexture(laid),
          wholeTexture(texture),
          ...(bias ? [bias.storage.window()] : []),
          ...(right ? [rowsWindow(right, from, to)] : []),
          rowsWindow(result, from, to),
        ],
        [to - from, n, k, rows.steps, rows.rows, layout.columns, layout.rows, 0],
        matmulPanelsGrid(to - from, n, { tile, turned }, layout),
        2 * (to - from) * n * k,
      );
      device.pool.release(laid);
    }
  return y;
}
