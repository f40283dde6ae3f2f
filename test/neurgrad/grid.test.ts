import { describe, expect, it } from 'vitest';
import { paperGrid, parseRange, shiftGrid } from '../../neurgrad/grid.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';

describe('shiftGrid', () => {
  it('has exact decimals', () => {
    expect(shiftGrid(-0.6, 0.6, 0.2)).toEqual([-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]);
    expect(shiftGrid(0, 1e-7, 5e-8)).toEqual([0, 5e-8, 1e-7]);
    expect(shiftGrid(0.05, 0.35, 0.1)).toEqual([0, 0.05, 0.15, 0.25, 0.35]);
  });
  it('adds 0 in its place, never -0', () => {
    expect(shiftGrid(1, 3, 1)).toEqual([0, 1, 2, 3]);
    expect(shiftGrid(-3, -1, 1)).toEqual([-3, -2, -1, 0]);
    expect(shiftGrid(-1.5, 2, 1)).toEqual([-1.5, -0.5, 0, 0.5, 1.5]);
    expect(shiftGrid(-1, 1, 1).some((s) => Object.is(s, -0))).toBe(false);
  });
  it('is the paper’s with 100 points and 0', () => {
    const grid = paperGrid();
    expect(grid).toHaveLength(101);
    expect(grid).toContain(-9.8);
    expect(grid).toContain(0.6);
    expect(grid.filter((s) => s !== 0 && Math.abs(s) <= 2)).toHaveLength(20);
  });
});

describe('parseRange', () => {
  it('reads from:to:step', () => {
    expect(parseRange('-2:2:0.2')).toHaveLength(21);
    expect(parseRange('-1e-1:0.1:.1')).toEqual([-0.1, 0, 0.1]);
  });
  it.each([
    ['2:-2:0.2', 'starts above its end'],
    ['-2:2:0', 'step must be above 0'],
    ['-2:2:-1', 'step must be above 0'],
    ['-2:2', 'not from:to:step'],
    ['a:b:c', 'not from:to:step'],
    ['::', 'not from:to:step'],
    ['0:Infinity:1', 'finite'],
    ['-1e38:1e38:1e38', 'norms overflow float32'],
    ['0:1e39:1e39', 'norms overflow float32'],
    ['0:1:1e-9', 'more than 100000 points'],
  ])('refuses %s', (text, message) => {
    expect(() => parseRange(text)).toThrow(message);
  });
});

describe('random', () => {
  it('repeats with its seed', () => {
    const draw = (seed: number): number[] => drawWithoutReplacement(10, 1000, seededRandom(seed));
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    expect(new Set(draw(3)).size).toBe(10);
  });
  it('can take all and no more', () => {
    expect(drawWithoutReplacement(5, 5, seededRandom(1)).sort()).toEqual([0, 1, 2, 3, 4]);
    expect(() => drawWithoutReplacement(6, 5, seededRandom(1))).toThrow(
      'count is 6, expected a whole number from 0 to 5',
    );
  });
  it('draws every number about as often', () => {
    const random = seededRandom(7);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 2000; i++) for (const pick of drawWithoutReplacement(3, 10, random)) counts[pick]!++;
    for (const count of counts) expect(Math.abs(count - 600)).toBeLessThan(100);
  });
});
