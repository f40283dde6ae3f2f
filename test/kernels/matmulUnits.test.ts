/**
 * Matrix units: that they are refused where there are none, and the accuracy of their arithmetic, emulated, since no
 * adapter of these tests has them. Where one has, products against float64 on odd shapes.
 */

import { describe, expect, it } from 'vitest';
import { matmul, openDevice, tensor } from '../../engine/index.ts';
import { normal, random } from '../engine/support.ts';

/** Rounds to the nearest f16, ties to even; no overflow here. */
function f16(x: number): number {
  if (x === 0) return x;
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x)))) - 10);
  const q = x / step;
  const down = Math.floor(q);
  const rest = q - down;
  const up = rest > 0.5 || (rest === 0.5 && down % 2 !== 0);
  return (up ? down + 1 : down) * step;
}

/** Largest errors of sums of k products by the three precisions against float64, over sqrt(k) times `scale` squared. */
function errors(k: number, scale: number): { f32: number; split: number; f16: number } {
  const worst = { f32: 0, split: 0, f16: 0 };
  for (let seed = 0; seed < 50; seed++) {
    const [a, b] = [normal([k], seed, scale).data, normal([k], 100 + seed, scale).data];
    let [exact, f32, main, small, half] = [0, 0, 0, 0, 0];
    for (let i = 0; i < k; i++) {
      const [x, y] = [a[i]!, b[i]!];
      const [xh, yh] = [f16(x), f16(y)];
      const [xl, yl] = [f16((x - xh) * 2048), f16((y - yh) * 2048)];
      exact += x * y;
      f32 = Math.fround(f32 + x * y);
      half = Math.fround(half + xh * yh);
      main = Math.fround(main + xh * yh);
      small = Math.fround(small + xh * yl);
      small = Math.fround(small + xl * yh);
    }
    const unit = Math.sqrt(k) * scale * scale;
    const split = Math.fround(main + small / 2048);
    worst.f32 = Math.max(worst.f32, Math.abs(f32 - exact) / unit);
    worst.split = Math.max(worst.split, Math.abs(split - exact) / unit);
    worst.f16 = Math.max(worst.f16, Math.abs(half - exact) / unit);
  }
  return worst;
}

describe('f16 factors', () => {
  it('are rounded as f16 is', () => {
    const cases = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 2 ** -24, 1.5 * 2 ** -24, -0.1, 3e-5];
    expect(cases.map(f16)).toEqual([
      1,
      1 + 2 ** -9,
      65504,
      2 ** -24,
      2 ** -23,
      -0.0999755859375,
      503 * 2 ** -24,
    ]);
  });

  it.each([
    [768, 1],
    [3072, 0.02],
    [4096, 30],
  ])('split in two lose no more than f32 does: %i products of numbers about %f', (k, scale) => {
    const worst = errors(k, scale);
    expect(worst.split).toBeLessThan(3 * worst.f32);
    // What the split is for: rounded factors alone are hundreds of times worse.
    expect(worst.f16).toBeGreaterThan(100 * worst.split);
    expect(worst.f16).toBeLessThan(2e-3);
  });
});

describe('a product on matrix units', () => {
  it('is refused where the device has none, and right where it has', async () => {
    const device = await openDevice({ toggles: ['allow_unsafe_apis'] });
    try {
      const [m, n, k] = [37, 75, 41];
      const next = random(1);
      const numbers = (count: number) => Float32Array.from({ length: count }, () => next() - 0.5);
      const [a, b] = [numbers(m * k), numbers(n * k)];
      using x = tensor(device, a, [m, k]);
      using w = tensor(device, b, [n, k]);
      for (const [precision, tolerance] of [
        ['split-f16', 1e-6],
        ['f16', 1e-3],
      ] as const) {
        const multiply = () => matmul(x, w, { transB: true, precision });
        if (!device.capabilities.matrixUnit) {
          expect(multiply).toThrow(/precision .* needs matrix units/);
          continue;
        }
        using y = multiply();
        const got = await y.read();
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let s = 0; s < k; s++) sum += a[i * k + s]! * b[j * k + s]!;
            expect(Math.abs(got[i * n + j]! - sum)).toBeLessThan(tolerance * Math.sqrt(k));
          }
      }
    } finally {
      device.destroy();
    }
  });

  it('cannot be had through a mask', async () => {
    const device = await openDevice({ toggles: ['allow_unsafe_apis'], mask: { matrixUnit: null } });
    try {
      expect(device.capabilities.matrixUnit).toBeNull();
      expect(device.features.has('chromium-experimental-subgroup-matrix')).toBe(false);
    } finally {
      device.destroy();
    }
  });
});
