/** What the laboratory says of what was measured, and what it remembers of what was done; no browser. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { modelBelow } from '../../examples/lab/src/files.ts';
import { lineWithin, slopeNoise, slopesOfHalves } from '../../examples/lab/src/lines.ts';
import { type Measured, meaning, told } from '../../examples/lab/src/meaning.ts';
import { Notebook } from '../../examples/lab/src/notebook.ts';
import { notebookHtml, parseNotebook } from '../../examples/lab/src/notebookFile.ts';
import { difference, Past } from '../../examples/lab/src/past.ts';
import { fromHash, type State, toHash } from '../../examples/lab/src/state.ts';
import { TERMS } from '../../examples/lab/src/terms.ts';
import { turnedRound } from '../../examples/lab/src/turned.ts';
import { START, type View } from '../../examples/lab/src/view.ts';

const paris = (before: number, after: number, now = 'paris'): Measured => ({
  target: 'paris',
  before,
  after,
  first: ['paris', now],
});

describe('the sentence of meaning', () => {
  it.each([
    [2, 0.97, 0.83, 'Raising L3.N327 by 2 takes paris from 97.0% to 83.0%: it works against paris.'],
    [-2, 0.97, 0.83, 'Lowering L3.N327 by 2 takes paris from 97.0% to 83.0%: it works for paris.'],
    [0.25, 0.2, 0.3, 'Raising L3.N327 by 0.25 takes paris from 20.0% to 30.0%: it works for paris.'],
    [1, 0.9712, 0.9713, 'Raising L3.N327 by 1 takes paris from 97.12% to 97.13%: it works for paris.'],
    [1, 1e-9, 3e-9, 'Raising L3.N327 by 1 takes paris from 1.00e−9 to 3.00e−9: it works for paris.'],
    [10, 0.5, 0.5 + 1e-8, 'Raising L3.N327 by 10 leaves paris at 50.0%.'],
  ])('of a shift by %d from %d to %d', (by, before, after, sentence) => {
    expect(meaning([{ name: 'L3.N327', by }], paris(before, after))).toBe(sentence);
  });

  it('tells another answer, and takes no side where several move', () => {
    expect(meaning([{ name: 'L0.N1', by: -1 }], paris(0.5, 0.1, 'rome'))).toBe(
      'Lowering L0.N1 by 1 takes paris from 50.0% to 10.0%: it works for paris; the answer is now rome.',
    );
    const two = [
      { name: 'L0.N1', by: -1 },
      { name: 'L2.N3', by: 1.5 },
    ];
    expect(meaning(two, paris(0.5, 0.1))).toBe(
      'L0.N1 −1 and L2.N3 +1.5 together take paris from 50.0% to 10.0%.',
    );
    expect(meaning([...two, ...two], paris(0.5, 0.5))).toBe('4 neurons together leave paris at 50.0%.');
  });

  it('has digits that tell two probabilities apart', () => {
    expect(told(0.97001, 0.97002)).toEqual(['97.001%', '97.002%']);
    expect(told(0.2, 2e-7)).toEqual(['20.0%', '<0.01%']);
  });
});

describe('a carried shift along the outward axis', () => {
  it('is told where it turns round', () => {
    const shifts = [
      { layer: 3, index: 7, shift: 2 },
      { layer: 1, index: 0, shift: -1 },
    ];
    const same = (value: number) => () => value;
    expect(turnedRound(shifts, same(0.2), same(0))).toBeNull();
    expect(turnedRound(shifts.slice(0, 1), same(0.2), same(-0.2))).toBe(
      'L3.N7 is negative here, so its outward shift turns round: it now lowers the neuron.',
    );
    expect(turnedRound(shifts, same(-0.2), same(0.1))).toMatch(/N7 is positive .* raises .*; 1 more/);
    expect(turnedRound([], same(-0.2), same(0.1))).toBeNull();
  });
});

describe('lines beside a curve', () => {
  it('end where a probability does', () => {
    expect(lineWithin(0.5, 0.1, 10)).toEqual([
      { shift: -5, p: 0 },
      { shift: 5, p: 1 },
    ]);
    expect(lineWithin(0.5, -0.01, 10)).toEqual([
      { shift: -10, p: 0.6 },
      { shift: 10, p: 0.4 },
    ]);
    expect(lineWithin(1, 0.25, 2)).toEqual([
      { shift: -2, p: 0.5 },
      { shift: 0, p: 1 },
    ]);
  });

  it('have slopes of both halves, and rounding', () => {
    const shifts = [-3, -2, -1, 0, 1, 2, 3];
    // 1 a shift below 0, 3 above; what lies beyond the range counts for nothing.
    const changes = [99, -2, -1, 0, 3, 6, 99];
    expect(slopesOfHalves(shifts, changes, 2)).toEqual([1, 3]);
    expect(slopesOfHalves([0, 1], [0, 1], 2)).toBeNull();
    // (1 + 2 + 1 + 2) / (1 + 4 + 1 + 4)
    expect(slopeNoise(shifts, 0.1, 2)).toBeCloseTo(0.06, 12);
    expect(slopeNoise([0], 0.1, 2)).toBe(0);
  });
});

describe('undo', () => {
  const at = (change: Partial<State>): State => ({ ...START, text: 'a', ...change });
  const shifted = (index: number, shift: number) => at({ shifts: [{ layer: 0, index, shift }] });

  it('names what differs', () => {
    expect(difference(at({}), at({}))).toBe('');
    expect(difference(at({}), at({ text: 'b', at: 3 }))).toBe('text at');
    expect(difference(at({}), shifted(5, 1))).toBe('shift L0.N5');
    expect(difference(shifted(5, 1), shifted(5, 2))).toBe('shift L0.N5');
    expect(difference(shifted(5, 1), shifted(6, 1))).toBe('shifts');
  });

  it('takes a drag as one deed, and what is undone can be done again until something else is done', () => {
    const past = new Past();
    const [start, other] = [at({}), at({ text: 'b' })];
    past.note({ ...START }, 0);
    past.note(start, 1);
    expect(past.canUndo).toBe(false);
    past.note(shifted(5, 1), 10_000);
    past.note(shifted(5, 2), 10_100);
    const end = shifted(5, 3);
    past.note(end, 10_200);
    past.note(other, 20_000);
    expect(past.undo()).toBe(end);
    past.note(end, 20_001);
    expect(past.undo()).toBe(start);
    expect(past.undo()).toBeNull();
    expect(past.redo()).toBe(end);
    expect(past.canRedo).toBe(true);
    // What is done right after is no part of what was undone.
    const next = shifted(5, 4);
    past.note(next, 20_002);
    expect(past.canRedo).toBe(false);
    expect(past.undo()).toBe(end);
  });
});

describe('the axis in a link', () => {
  it('is plain unless a link says so, and that of older links, which had one alone', () => {
    expect(START.direction).toBe('plain');
    expect(fromHash(toHash(START)).direction).toBe('plain');
    expect(fromHash('#m=facts-bert&t=a').direction).toBe('outward');
    expect(fromHash('#t=a').direction).toBeUndefined();
  });
});

describe('words', () => {
  it('are the same in the page and in docs/glossary.md, and each that is marked is explained', () => {
    const docs = readFileSync(new URL('../../docs/glossary.md', import.meta.url), 'utf8');
    const rows = [...docs.matchAll(/^- \*\*(.+?)\*\*: (.+)$/gm)].map(([, name, says]) => [name, says]);
    expect(rows).toEqual(Object.values(TERMS).map(({ name, says }) => [name, says]));
    const page = readFileSync(new URL('../../examples/lab/index.html', import.meta.url), 'utf8');
    const marked = [...page.matchAll(/data-term="(\w+)"/g)].map(([, term]) => term!);
    expect(marked.length).toBeGreaterThan(8);
    expect(marked.filter((term) => !(term in TERMS))).toEqual([]);
  });
});

describe('a notebook', () => {
  const token = { id: 7, token: 'paris', text: 'paris' };
  const question = {
    text: 'a </script> <b>',
    chat: false,
    at: null,
    target: null,
    site: 'post',
    direction: 'plain',
  } as const;
  const study = {
    question,
    target: token,
    p: 0.5,
    predictions: [{ ...token, p: 0.5 }],
  } as unknown as View['study'];
  const view = (shifts: State['shifts'], p: number | null): View =>
    ({
      state: { ...START, text: question.text, shifts },
      study,
      distribution: p === null ? null : { predictions: [{ ...token, p }], shifts, took: 1 },
      sweep: null,
      current: { answer: true, study: true },
    }) as unknown as View;
  const up = () => 1 as const;
  const now = new Date(0);
  const one = (shift: number) => [{ layer: 3, index: 327, shift }];

  it('has a line for each thing done, and one for a whole drag', () => {
    const notebook = new Notebook();
    const plain = view([], null);
    expect(notebook.look(plain, up, now)).toBe(true);
    expect(notebook.look(plain, up, now)).toBe(false);
    for (const shift of [1, 1.5, 2]) notebook.look(view(one(shift), 0.5 - shift / 10), up, now);
    // A slider that is ahead of the answer says nothing.
    expect(
      notebook.look(
        { ...view(one(2), 0.3), state: { ...START, text: question.text, shifts: one(3) } },
        up,
        now,
      ),
    ).toBe(false);
    expect(notebook.entries.map(({ did }) => did)).toEqual([
      'Asked facts-bert “a </script> <b>”: paris 50.0%.',
      'Raising L3.N327 by 2 takes paris from 50.0% to 30.0%: it works against paris.',
    ]);
    notebook.look(view([...one(2), { layer: 0, index: 1, shift: -1 }], 0.2), up, now);
    expect(notebook.entries).toHaveLength(3);
    expect(fromHash(notebook.entries[1]!.state).shifts).toEqual(one(2));
  });

  it('has one line for a neuron that is taken and moved, its steps answered apart', () => {
    const notebook = new Notebook();
    notebook.look(view([], null), up, now);
    for (const shift of [1, 2]) {
      const moved = view(one(shift), 0.5 - shift / 10);
      notebook.look({ ...moved, state: { ...moved.state, selected: { layer: 3, index: 327 } } }, up, now);
    }
    expect(notebook.entries.map(({ did }) => did.split(' takes')[0])).toEqual([
      'Asked facts-bert “a </script> <b>”: paris 50.0%.',
      'Raising L3.N327 by 2',
    ]);
  });

  it('is read again from either file, and nothing in it is taken for markup', () => {
    const notebook = new Notebook();
    notebook.look(view([], null), up, now);
    notebook.keep(view(one(2), 0.3), '<i>one</i>', up);
    const { file } = notebook;
    expect(file.kept[0]).toMatchObject({ before: 0.5, after: 0.3, moved: 'L3.N327 +2.00', first: 'paris' });
    expect(parseNotebook(JSON.stringify(file))).toEqual(file);
    const page = notebookHtml(file, 'https://somewhere.example/lab/');
    expect(parseNotebook(page)).toEqual(file);
    expect(page).not.toMatch(/<i>|<b>/);
    expect(page.match(/<\/script>/g)).toHaveLength(1);
    expect(page).toContain('href="https://somewhere.example/lab/#m=facts-bert');
  });

  it.each([
    ['nothing', /no JSON/],
    ['{}', /kind/],
    [
      JSON.stringify({ kind: 'neurgrad laboratory notebook', version: 1, entries: [{ when: 1 }], kept: [] }),
      /entries\.0/,
    ],
  ])('refuses %s', (content, why) => {
    expect(() => parseNotebook(content)).toThrow(why);
  });
});

describe('a folder', () => {
  it('is left for the one model below it', () => {
    const below = (...paths: string[]) => modelBelow(new Map(paths.map((path) => [path, path])));
    expect(below('readme.md', 'a/config.json', 'a/model.safetensors', 'b/x')).toEqual({
      name: 'a',
      files: new Map([
        ['config.json', 'a/config.json'],
        ['model.safetensors', 'a/model.safetensors'],
      ]),
    });
    expect(below('config.json', 'a/config.json')).toBeNull();
    expect(below('a/config.json', 'b/config.json')).toBeNull();
    expect(below('a/b/config.json')).toBeNull();
  });
});
