/**
 * What the host spends, without a GPU behind it: Dawn's null backend runs nothing, so all time is ours and the driver
 * interface's. Measured with parameters as immediates and in a uniform ring: a dispatch, eager and of a recorded list; and, of
 * models of 12 layers, a token of a text, a wave of a sweep and one of integrated gradients (64 rows of 16 tokens from the first
 * layer on), each run anew and recorded once for all, with everything that they read back.
 */

import { add, affine, type Device, linear, openDevice, record, scope, tensor } from '../../engine/index.ts';
import { changed } from '../../models/config.ts';
import { cachedText } from '../../models/generate.ts';
import { recordedText } from '../../models/recordedText.ts';
import { openBundle } from '../../neurgrad/difference/bundle.ts';
import { rowChanges } from '../../neurgrad/difference/wave.ts';
import { integrateNeurons } from '../../neurgrad/integrated.ts';
import { BERT_BASE, LLAMA_12, onDevice, randomWeights } from '../network.ts';
import { randomNumbers } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, processorClock, type Times } from '../timing.ts';
import type { Suite } from './suite.ts';

const DISPATCHES = 2000;
/** Turns of a loop of dispatches before timing: a sweep's thousands of dispatches run compiled code, too. */
const WARM_UP = 10;

/** Tokens that follow a prompt of 8. */
const TOKENS = 100;
/** Waves of one layer, of so many rows. */
const WAVES = 20;
const ROWS = 64;

/** Work of `count` equal parts. */
interface Work {
  readonly run: () => Promise<void>;
  readonly of: 'dispatch' | 'turn';
  readonly count: number;
}

/** Sizes that cost the host as much as any: its work goes with the number of layers. */
const WIDTH = 128;
const SMALL = { hidden_size: 64, intermediate_size: WIDTH, num_attention_heads: 4, vocab_size: 256 };

async function sweeps(device: Device): Promise<Record<string, Work>> {
  const config = changed(BERT_BASE, SMALL);
  const model = onDevice(device, config, randomWeights(config));
  const ids = Array.from({ length: 16 }, (_, i) => i);
  const probe = { ids, position: 8 };
  const bundle = await openBundle(model, [{ probe, at: probe.position, target: 7 }]);
  const rows = Array.from({ length: WAVES * ROWS }, (_, i) => ({
    case: 0,
    neuron: { layer: 0, index: i % WIDTH, site: model.paperSite },
    shift: (i % 20) - 9.5,
  }));
  const wave = (replay: boolean): Work => ({
    of: 'turn',
    count: WAVES,
    run: async () => void (await rowChanges(bundle, rows, { rowsPerPass: ROWS, replay })),
  });
  const neurons = rows.slice(0, ROWS).map(({ neuron }) => neuron);
  const integrated = (replay: boolean): Work => ({
    of: 'turn',
    // Twenty points of each neuron, and the one at 0.
    count: WAVES + 1,
    run: async () =>
      void (await integrateNeurons(model, probe, neurons, {
        target: 7,
        steps: WAVES,
        rowsPerPass: ROWS,
        replay,
      })),
  });
  return {
    'a wave of a sweep': wave(false),
    'a wave of a sweep, replayed': wave(true),
    'a wave of integrated gradients': integrated(false),
    'a wave of integrated gradients, replayed': integrated(true),
  };
}

function texts(device: Device): Record<string, Work> {
  const config = changed(LLAMA_12, SMALL);
  const model = onDevice(device, config, randomWeights(config));
  const ids = Array.from({ length: 8 }, (_, i) => i);
  const write = (open: () => ReturnType<typeof cachedText>): Work => ({
    of: 'turn',
    count: TOKENS,
    run: async () => {
      const text = open();
      await text.extend(ids);
      for (let i = 0; i < TOKENS; i++) await text.extend([i]);
      text.dispose();
    },
  });
  return {
    'a token of a text': write(() => cachedText(model)),
    'a token of a text, replayed': write(() => recordedText(model, ids.length + TOKENS)),
  };
}

function loops(device: Device): Record<string, Work> {
  const x = tensor(device, randomNumbers(64 * 64, 1), [64, 64]);
  const w = tensor(device, randomNumbers(64 * 64, 2), [64, 64]);
  const b = tensor(device, randomNumbers(64, 3), [64]);
  const loop = (twenty: () => void): Work => ({
    of: 'dispatch',
    count: DISPATCHES,
    run: async () => {
      for (let i = 0; i < DISPATCHES / 20; i++) twenty();
      await device.finish();
    },
  });
  const eager = (step: () => void): Work => loop(() => scope(() => Array.from({ length: 20 }, step).length));
  const linears = record(device, () => Array.from({ length: 20 }, () => linear(x, w, b)));
  return {
    affine: eager(() => affine(x, 2, 1)),
    add: eager(() => add(x, w)),
    linear: eager(() => linear(x, w, b)),
    'linear, replayed': loop(() => linears.replay()),
  };
}

export const hostSuite: Suite = async ({ rounds, progress }) => {
  progress('host cost on the null backend');
  const rows: Row[] = [];
  for (const immediates of [true, false]) {
    const device = await openDevice({ backend: 'null', mask: { immediates } });
    // One after the other: a dispatch is not measured between the garbage of whole models.
    for (const draw of [loops, texts, sweeps]) {
      const work: Record<string, Work> = await draw(device);
      const runs = Object.fromEntries(Object.entries(work).map(([op, { run }]) => [op, run]));
      for (const { run, of } of Object.values(work))
        for (let turn = 0; turn < (of === 'turn' ? 1 : WARM_UP); turn++) await run();
      const times = await interleave(runs, Math.max(rounds, 9), processorClock(1));
      for (const [op, t] of Object.entries(times)) rows.push(row(op, work[op]!, t, immediates));
    }
    device.destroy();
  }
  // The two ways of passing parameters made rows of each suite in turn.
  return rows.sort((a, b) => a.suite.localeCompare(b.suite));
};

const row = (
  op: string,
  { of, count }: Work,
  { median, least, spread }: Times,
  immediates: boolean,
): Row => ({
  suite: of === 'turn' ? 'host, loops' : 'host',
  shape: `${op}, ${immediates ? 'immediates' : 'uniform ring'}`,
  unit: `us a ${of}`,
  ours: (median * 1000) / count,
  spread,
  figures: { least: (least * 1000) / count },
  peers: {},
  ratio: null,
  ratioOf: '',
  checked: 'null backend',
});
