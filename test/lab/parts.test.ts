/** The laboratory's parts that need no browser. */

import { describe, expect, it } from 'vitest';
import { tickLabels } from '../../cli/figures/ticks.ts';
import { figure, percent, signed, word } from '../../examples/lab/src/format.ts';
import { Latest } from '../../examples/lab/src/latest.ts';
import { layOut, squares, sumsOf } from '../../examples/lab/src/map.ts';
import { colourBar, SCALES, scaleOf, strength } from '../../examples/lab/src/scale.ts';
import { fromHash, type State, toHash } from '../../examples/lab/src/state.ts';

const STATE: State = {
  model: 'hub:google-bert/bert-base-uncased',
  dtype: 'int8',
  text: 'Is 100% of #1 & “é” = [MASK]?',
  chat: true,
  at: 4,
  target: { word: '##ing' },
  site: 'pre',
  direction: 'plain',
  quantity: 'activation',
  scale: 'log',
  order: 'strongest',
  layer: 7,
  selected: { layer: 11, index: 3071 },
  shifts: [
    { layer: 0, index: 0, shift: -1.25 },
    { layer: 3, index: 17, shift: 1e-7 },
  ],
  versus: { text: 'Is it [MASK]?', word: 'no', of: 'log_odds' },
};

describe('a link', () => {
  it('holds the whole state', () => {
    expect(fromHash(`#${toHash(STATE)}`)).toEqual(STATE);
    const byId: State = { ...STATE, target: { id: 42 } };
    expect(fromHash(toHash(byId))).toEqual(byId);
  });

  it('leaves out what it does not say, or says wrongly', () => {
    expect(fromHash('')).toEqual({});
    expect(
      fromHash('#n=L1&p=-1&h=no&l=7&c=none&o=up&s=L1.N2:x,L3.N4&site=nowhere&q=none&id=-1&d=sideways'),
    ).toEqual({});
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

  it('has squares that fill the width, and a sum a layer', () => {
    expect(squares(1536, 1000, 12)).toEqual({ wide: 12, high: 12, columns: 83, lines: 19 });
    expect(squares(10, 1000, 12)).toMatchObject({ columns: 10, lines: 1 });
    expect(squares(10, 5, 12)).toMatchObject({ columns: 1, lines: 10 });
    expect(sumsOf([1, -2, 4, 0.5, 0, -1], 2, 3)).toEqual([
      { up: 5, down: -2 },
      { up: 0.5, down: -1 },
    ]);
  });

  it('grows in height where neurons are too many', () => {
    const { wide, high, columns, lines } = layOut(32, 11_008, 300, 240, 28);
    expect(columns * lines).toBeGreaterThanOrEqual(11_008);
    expect(columns * wide).toBeLessThanOrEqual(300);
    expect(high).toBe(2);
  });
});

describe('the scale', () => {
  const values = Float64Array.from({ length: 1000 }, (_, i) => (i % 2 ? -1 : 1) * (i + 1) * 1e-3);

  it.each(SCALES)('%s: the colour bar has at each value the colour of a cell of that value', (name) => {
    const scale = scaleOf(name, values);
    const stops = [...colourBar(name).matchAll(/var\((--\w+)\) ([\d.]+)%, var\(--cell\)\) ([\d.]+)%/g)];
    expect(stops).toHaveLength(10);
    for (const [, colour, share, at] of stops) {
      const along = (Number(at) - 50) / 50;
      const size = name === 'log' ? scale.low * 1e4 ** Math.abs(along) : scale.high * Math.abs(along);
      expect(colour).toBe(along < 0 ? '--negative' : '--positive');
      expect(Number(share) / 100).toBeCloseTo(strength(Math.sign(along) * size, scale), 2);
    }
  });

  it('is cut where so many lie beyond', () => {
    expect(scaleOf('all', values)).toMatchObject({ high: 1, beyond: 0 });
    expect(scaleOf('p999', values)).toMatchObject({ high: 0.999, beyond: 1 });
    expect(scaleOf('p99', values)).toMatchObject({ high: 0.99, beyond: 10 });
    const cut = scaleOf('p99', values);
    expect([strength(-1, cut), strength(-0.99 / 4, cut), strength(0, cut)]).toEqual([1, 0.5, 0]);
    const log = scaleOf('log', values);
    expect(strength(0.01, log)).toBeCloseTo(0.5, 9);
    expect(strength(1e-5, log)).toBe(0);
  });

  it('has an end where nearly all is nothing', () => {
    const few = new Float32Array(1000);
    expect(strength(0, scaleOf('all', few))).toBe(0);
    few[7] = -3;
    for (const name of SCALES) expect(strength(-3, scaleOf(name, few))).toBe(1);
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
