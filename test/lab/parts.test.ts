/** The laboratory's parts that need no browser. */

import { describe, expect, it } from 'vitest';
import { tickLabels } from '../../examples/lab/src/curve.ts';
import { figure, percent, signed, word } from '../../examples/lab/src/format.ts';
import { Latest } from '../../examples/lab/src/latest.ts';
import { colourBar, layOut, strength } from '../../examples/lab/src/map.ts';
import { fromHash, type State, toHash } from '../../examples/lab/src/state.ts';

const STATE: State = {
  model: 'hub:google-bert/bert-base-uncased',
  dtype: 'int8',
  text: 'Is 100% of #1 & “é” = [MASK]?',
  target: { word: '##ing' },
  site: 'pre',
  direction: 'plain',
  quantity: 'activation',
  selected: { layer: 11, index: 3071 },
  shifts: [
    { layer: 0, index: 0, shift: -1.25 },
    { layer: 3, index: 17, shift: 1e-7 },
  ],
};

describe('a link', () => {
  it('holds the whole state', () => {
    expect(fromHash(`#${toHash(STATE)}`)).toEqual(STATE);
    const byId: State = { ...STATE, target: { id: 42 } };
    expect(fromHash(toHash(byId))).toEqual(byId);
  });

  it('leaves out what it does not say, or says wrongly', () => {
    expect(fromHash('')).toEqual({});
    expect(fromHash('#n=L1&s=L1.N2:x,L3.N4&site=nowhere&q=none&id=-1&d=sideways')).toEqual({});
    expect(fromHash('#s=L1.N2:2,junk')).toEqual({ shifts: [{ layer: 1, index: 2, shift: 2 }] });
  });
});

describe('the map', () => {
  it.each([
    [4, 512, 960, 400],
    [12, 3072, 1000, 420],
    [5, 172, 268, 240],
    [24, 4096, 1000, 560],
  ])('fits %i layers of %i neurons into %i x %i', (layers, neurons, width, height) => {
    const { wide, high, columns, lines, gap } = layOut(layers, neurons, width, height, 28);
    expect(columns * lines).toBeGreaterThanOrEqual(neurons);
    expect(columns * wide).toBeLessThanOrEqual(width);
    expect(Math.min(wide, high)).toBeGreaterThanOrEqual(2);
    expect(layers * (lines * high + gap)).toBeLessThanOrEqual(height);
  });

  it('grows in height where neurons are too many', () => {
    const { wide, high, columns, lines } = layOut(32, 11_008, 300, 240, 28);
    expect(columns * lines).toBeGreaterThanOrEqual(11_008);
    expect(columns * wide).toBeLessThanOrEqual(300);
    expect(high).toBe(2);
  });
});

describe('the colour bar', () => {
  it('has at each value the colour of a cell of that value', () => {
    const stops = [...colourBar().matchAll(/var\((--\w+)\) ([\d.]+)%, var\(--cell\)\) ([\d.]+)%/g)];
    expect(stops).toHaveLength(10);
    for (const [, name, colour, at] of stops) {
      const value = (Number(at) - 50) / 50;
      expect(name).toBe(value < 0 ? '--negative' : '--positive');
      expect(Number(colour) / 100).toBeCloseTo(strength(value, 1), 2);
    }
    expect(strength(-0.25, 1)).toBe(0.5);
    expect(strength(0, 0)).toBe(0);
  });
});

describe('tick labels', () => {
  it.each([
    [0, 1, 0.2, ['0', '0.2', '0.4']],
    [0.94, 0.962, 0.005, ['0.940', '0.945', '0.950']],
    [0.5, 0.5 + 6e-9, 1e-9, ['0.500000000', '0.500000001', '0.500000002']],
    [0, 6e-7, 1e-7, ['0', '1e−7', '2e−7']],
    [3.12e-5, 3.18e-5, 1e-7, ['3.12e−5', '3.13e−5', '3.14e−5']],
    [-0.3, 0.2, 0.1, ['−0.3', '−0.2', '−0.1']],
  ] as const)('from %d to %d', (low, high, step, expected) => {
    const label = tickLabels(low, high);
    expect([0, 1, 2].map((k) => label(low + k * step))).toEqual(expected);
  });
});

describe('latest wins', () => {
  it('does one at a time, and of those that wait only the newest', async () => {
    const done: number[] = [];
    let atOnce = 0;
    const latest = new Latest<number>(async (ask) => {
      expect(++atOnce).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 5));
      atOnce--;
      done.push(ask);
    });
    const all = [1, 2, 3, 4].map((ask) => latest.ask(ask));
    await Promise.all(all);
    await latest.ask(5);
    expect(done).toEqual([1, 4, 5]);
  });
});

describe('numbers', () => {
  it('read as people write them', () => {
    expect([0, 1.5, -0.012999, 123_456, 3.2e-10, -5e7].map((value) => figure(value))).toEqual([
      '0',
      '1.50',
      '−0.0130',
      '123456',
      '3.20e−10',
      '−5.00e7',
    ]);
    expect(signed(2)).toBe('+2.00');
    expect([1, 0.9724, 0.05, 0.00001, 0].map(percent)).toEqual(['100%', '97.2%', '5.00%', '<0.01%', '0.00%']);
    const tokens = [
      ['▁the', ' the'],
      ['Ġthe', ' the'],
      ['##ing', 'ing'],
      ['▁', ' '],
      ['ĠÑı', ' я'],
      ['Ċ', '\n'],
      ['ã', '<E3>'],
      ['evil', '\u202eevil'],
    ].map(([token, text]) => word({ token: token!, text: text! }));
    expect(tokens).toEqual(['the', 'the', '##ing', '␣', 'я', '\\n', '<E3>', '<U+202E>evil']);
  });
});
