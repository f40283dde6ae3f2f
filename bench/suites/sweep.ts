/**
 * Sweep points a second on models of BERT-base's size, random weights: differences carried through the rest of the model
 * against a full forward for each point; and what NeurGrad costs beside G_C.
 *
 * Neurons are spread evenly over the layers. After timing the two engines sweep the same neuron and must agree.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device } from '../../engine/index.ts';
import { type LanguageModel, loadModelWeights, localFolder, synthesise } from '../../models/index.ts';
import { neurGrad } from '../../neurgrad/conventions.ts';
import { type Neuron, neuronAt, siteHook } from '../../neurgrad/neuron.ts';
import { probeHooks } from '../../neurgrad/plainRun.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { BERT_BASE, LLAMA_12, onDevice, randomWeights } from '../network.ts';
import { demand } from '../reference.ts';
import { notMeasured, type Row } from '../rows.ts';
import { interleave, median } from '../timing.ts';
import type { Suite } from './suite.ts';

const SHIFTS = [-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2];
const TARGET = 7;

/** Neurons of one turn: enough to fill passes for the fast engine, few enough to wait for the slow one. */
const SETTINGS = [
  { config: BERT_BASE, label: 'BERT-base', tokens: 16, neurons: { auto: 48, naive: 6 } },
  { config: LLAMA_12, label: 'Llama 12 x 768', tokens: 40, neurons: { auto: 120, naive: 2 } },
  { config: LLAMA_12, label: 'Llama 12 x 768', tokens: 200, neurons: { auto: 60, naive: 1 } },
] as const;
/** Measured on a GPU alone, beside the same job of bench/peers/pytorch.py. */
const LLAMA_7B = { label: 'Llama2-7B in bf16', tokens: 40, neurons: { auto: 640, naive: 8 } } as const;
interface Setting {
  readonly label: string;
  readonly tokens: number;
  readonly neurons: { readonly auto: number; readonly naive: number };
}

const nameOf = ({ label, tokens }: Pick<Setting, 'label' | 'tokens'>): string => `${label}, ${tokens} tokens`;

/** The true sizes with seeded numbers, by way of a folder on disk. */
async function llama7b(device: Device): Promise<LanguageModel> {
  const path = mkdtempSync(join(tmpdir(), 'neurgrad-sweep-'));
  try {
    await synthesise(path, { preset: 'llama2-7b', dtype: 'bf16', seed: 1 });
    return await loadModelWeights(await localFolder(path), device, { dtype: 'bf16' });
  } finally {
    rmSync(path, { recursive: true });
  }
}

export const sweepSuite: Suite = async ({ device, rounds, clock, small, only, progress }) => {
  const rows: Row[] = [];
  for (const config of [BERT_BASE, LLAMA_12]) {
    const settings = SETTINGS.filter(
      (s) => s.config === config && nameOf(s).includes(only) && !(small && s.tokens > 100),
    );
    const cost = config === BERT_BASE && 'NeurGrad / G_C'.includes(only);
    if (settings.length === 0 && !cost) continue;
    progress(`sweep: drawing ${config.family.type}`);
    const model = onDevice(device, config, randomWeights(config));
    for (const setting of settings) rows.push(await points(model, setting));
    if (cost) rows.push(await neurGradCost(model));
    model.dispose();
    device.pool.trim();
  }
  const large = nameOf(LLAMA_7B);
  if (large.includes(only) && !small) {
    if (device.info.software)
      rows.push(notMeasured('sweep', large, 'points/s', 'no GPU, a software adapter'));
    else {
      progress('sweep: writing and loading 13.5 GB of seeded weights');
      const model = await llama7b(device);
      rows.push(await points(model, LLAMA_7B));
      model.dispose();
    }
  }
  return rows;

  async function points(model: LanguageModel, { label, tokens, neurons }: Setting): Promise<Row> {
    const name = nameOf({ label, tokens });
    progress(`sweep ${name}`);
    const random = seededRandom(1);
    const { layers, width, vocabulary } = model.sizes;
    const ids = Array.from({ length: tokens }, () => Math.floor(random() * vocabulary));
    const position = model.causal ? tokens - 1 : tokens >> 1;
    const run = (engine: 'auto' | 'naive', chosen: readonly Neuron[]) =>
      sweep(model, { ids, position }, { neurons: chosen, shifts: SHIFTS, target: TARGET, engine });
    const draw = (count: number): Neuron[] =>
      drawWithoutReplacement(count, width, random).map((index, i) => ({
        ...neuronAt(index, width, model.paperSite),
        layer: Math.floor((i * layers) / count),
      }));
    const turn = (engine: 'auto' | 'naive') => async (): Promise<void> =>
      void (await run(engine, draw(neurons[engine])));
    const times = await interleave({ auto: turn('auto'), naive: turn('naive') }, Math.min(rounds, 3), clock);
    const rate = (engine: 'auto' | 'naive', ms: number): number =>
      (1000 * neurons[engine] * SHIFTS.length) / ms;
    const same = draw(1);
    const [fast, slow] = [await run('auto', same), await run('naive', same)];
    const error = Math.max(
      ...fast.neurons[0]!.p.map((p, i) => Math.abs(p - slow.neurons[0]!.p[i]!) / slow.p),
    );
    return {
      suite: 'sweep',
      shape: name,
      unit: 'points/s',
      ours: rate('auto', times.auto.median),
      spread: times.auto.spread,
      figures: { 'full forwards (points/s)': rate('naive', times.naive.median) },
      peers: {},
      ratio: median(
        times.auto.rounds.map((ms, i) => rate('auto', ms) / rate('naive', times.naive.rounds[i]!)),
      ),
      ratioOf: 'ours / full forwards',
      checked: demand(`sweep ${name}`, error, 1e-3),
    };
  }

  /** One forward and backward for G_C of all neurons, without and with NeurGrad made of it. */
  async function neurGradCost(model: LanguageModel): Promise<Row> {
    progress('sweep: NeurGrad / G_C');
    const ids = Array.from({ length: 16 }, (_, i) => i + 5);
    const names = Array.from({ length: model.sizes.layers }, (_, layer) => siteHook(layer, model.paperSite));
    const gradients = () => probeHooks(model, { ids, position: 8 }, 8, names, 'prob', TARGET);
    const times = await interleave(
      {
        computed: async () => void (await gradients()),
        estimated: async () => {
          const { activation, gradient } = await gradients();
          for (const name of names) {
            const a = activation.get(name)!;
            gradient.get(name)!.map((g, i) => neurGrad(a[i]!, g, { direction: 'outward', sign: '+' }));
          }
        },
      },
      rounds,
      clock,
    );
    return {
      suite: 'NeurGrad',
      shape: 'NeurGrad / G_C, BERT-base',
      unit: 'ms',
      ours: times.estimated.median,
      spread: times.estimated.spread,
      figures: {
        'G_C (ms)': times.computed.median,
        'NeurGrad / G_C': median(times.estimated.rounds.map((ms, i) => ms / times.computed.rounds[i]!)),
      },
      peers: {},
      ratio: null,
      ratioOf: '',
      checked: 'test/golden',
    };
  }
};
