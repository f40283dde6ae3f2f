/**
 * Running sums along rows (Blelloch 1990, "Prefix sums and their applications"): one workgroup a row, in blocks; each lane adds up its own numbers of
 * a block, one after the other, then the lanes' sums are scanned in a tree, and the block's sum is carried to the next. The order is fixed.
 */

import type { Kernel } from './kernel.ts';
import { ROW_GROUP, ROW_MAIN } from './reduce.ts';
import { shipped } from './shipped.ts';
import { optional, powerOfTwo, takes } from './variant.ts';

/** Numbers of a block that a lane adds up. */
const EACH = 8;

/** y[row, i] = the sum of a[row, 0 ... i], or with `reverse` of a[row, i ...]. Grid: groups, rows. */
export const scanRows = shipped(makeScanRows, takes('scanRows', ['lanes', optional(powerOfTwo)]));

function makeScanRows(lanes: number = ROW_GROUP): Kernel {
  const steps: string[] = [];
  for (let apart = 1; apart < lanes; apart *= 2)
    steps.push(`    let add${apart} = select(0.0, sums[lane - min(lane, ${apart}u)], lane >= ${apart}u);
    workgroupBarrier();
    sums[lane] += add${apart};
    workgroupBarrier();`);
  return {
    name: `scan.rows.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', reverse: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
var<workgroup> sums: array<f32, ${lanes}>;
${ROW_MAIN}
  let last = row * p.length + p.length - 1u;
  var carry = 0.0;
  for (var begin = 0u; begin < p.length; begin += ${lanes * EACH}u) {
    let first = begin + lane * ${EACH}u;
    let end = min(first + ${EACH}u, p.length);
    var own: array<f32, ${EACH}>;
    var sum = 0.0;
    for (var i = first; i < end; i++) {
      sum += a[select(row * p.length + i, last - i, p.reverse == 1u)];
      own[i - first] = sum;
    }
    sums[lane] = sum;
    workgroupBarrier();
${steps.join('\n')}
    let before = carry + select(0.0, sums[lane - min(lane, 1u)], lane > 0u);
    for (var i = first; i < end; i++) {
      y[select(row * p.length + i, last - i, p.reverse == 1u)] = before + own[i - first];
    }
    carry += sums[${lanes - 1}u];
    workgroupBarrier();
  }
}`,
  };
}
