/**
 * A researcher's jobs, as they are asked for: curves of neurons over 20 shifts of ±2, and NeurGrad of every neuron, beside PyTorch with hooks
 * (bench/peers/researcher.py) on the same machine, in turns, where `--peers-python` names one.
 *
 * `ours` are points delivered by `engine: 'curve'`, also those that it did not need to run; forwards alone stand beside it. Weights are random: curves of
 * trained models need about as many points, see `node dist/bench/curves.js`.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { LanguageModel } from '../../models/index.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { shiftGrid } from '../../neurgrad/grid.ts';
import { neuronAt } from '../../neurgrad/neuron.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { BERT_BASE, LLAMA_12, onDevice, randomWeights } from '../network.ts';
import { demand } from '../reference.ts';
import type { Row } from '../rows.ts';
import { median } from '../timing.ts';
import type { Suite } from './suite.ts';

const SHIFTS = shiftGrid(-2, 2, 0.2);
const TARGET = 7;
const SETTINGS = [
  { config: BERT_BASE, peer: 'bert', label: 'BERT-base', tokens: 16 },
  { config: LLAMA_12, peer: 'llama', label: 'Llama 12 x 768', tokens: 40 },
  { config: LLAMA_12, peer: 'llama', label: 'Llama 12 x 768', tokens: 200 },
] as const;
/** Neurons of a turn: what fills waves on a GPU takes a CPU minutes. */
const NEURONS = { software: 24, hardware: 512 } as const;
/** Points of a turn of PyTorch. */
const PEER_POINTS = { points: 32, cached: 128 } as const;

interface Answer {
  readonly seconds: number;
  readonly batch: number;
  readonly version: string;
}

/** A program of Python that answers jobs one after the other. */
class PythonPeer implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(python: string) {
    this.#child = spawn(python, ['bench/peers/researcher.py'], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }
  async ask(job: object): Promise<Answer> {
    this.#child.stdin!.write(`${JSON.stringify(job)}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('bench/peers/researcher.py has ended: see its message above');
    return JSON.parse(value) as Answer;
  }
  [Symbol.dispose](): void {
    this.#child.kill();
  }
}

export const researcherSuite: Suite = async ({ device, rounds, clock, small, only, progress, python }) => {
  using peer = python === undefined ? null : new PythonPeer(python);
  const rows: Row[] = [];
  for (const config of [BERT_BASE, LLAMA_12]) {
    const settings = SETTINGS.filter((s) => s.config === config && !(small && s.tokens > 100));
    if (!settings.some(({ label }) => label.includes(only))) continue;
    progress(`researcher: drawing ${config.family.type}`);
    const model = onDevice(device, config, randomWeights(config));
    for (const setting of settings.filter(({ label }) => label.includes(only))) {
      rows.push(await points(model, setting));
      rows.push(await gradients(model, setting));
    }
    model.dispose();
    device.pool.trim();
  }
  return rows;

  /** Milliseconds by turns, ours and the peer's. */
  async function turns(
    own: () => Promise<void>,
    jobs: Readonly<Record<string, object>>,
  ): Promise<Record<string, number>> {
    const times: Record<string, number[]> = { ours: [] };
    await own();
    for (let round = 0; round < Math.min(rounds, 5); round++) {
      const began = clock();
      await own();
      times.ours!.push(clock() - began);
      for (const [name, job] of Object.entries(peer ? jobs : {}))
        (times[name] ??= []).push(1000 * (await peer!.ask(job)).seconds);
    }
    return Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list)]));
  }

  function probeOf(model: LanguageModel, tokens: number) {
    const random = seededRandom(1);
    const ids = Array.from({ length: tokens }, () => Math.floor(random() * model.sizes.vocabulary));
    return { ids, position: model.causal ? tokens - 1 : tokens >> 1 };
  }

  async function points(model: LanguageModel, setting: (typeof SETTINGS)[number]): Promise<Row> {
    const { label, tokens, peer: name } = setting;
    const neurons = NEURONS[device.info.software ? 'software' : 'hardware'];
    progress(`researcher: points, ${label}, ${tokens} tokens`);
    const { layers, width } = model.sizes;
    const probe = probeOf(model, tokens);
    const chosen = drawWithoutReplacement(neurons, layers * width, seededRandom(2)).map((flat) =>
      neuronAt(flat, width, model.paperSite),
    );
    const run = (engine: 'curve' | 'differences', some = chosen) =>
      sweep(model, probe, { neurons: some, shifts: SHIFTS, target: TARGET, engine });
    let forwards = 0;
    const job = { model: name, tokens };
    const times = await turns(
      async () => {
        forwards = (await run('curve')).rows;
      },
      {
        hooks: { ...job, job: 'points', count: PEER_POINTS.points },
        ...(model.causal ? { cached: { ...job, job: 'cached', count: PEER_POINTS.cached } } : {}),
      },
    );
    const some = chosen.slice(0, 4);
    const [curves, all] = [await run('curve', some), await run('differences', some)];
    const error = Math.max(
      ...curves.neurons.flatMap(({ p }, n) =>
        p.map((value, i) => Math.abs(value / all.neurons[n]!.p[i]! - 1)),
      ),
    );
    const delivered = neurons * (SHIFTS.length - 1);
    const rate = (count: number, ms: number): number => (1000 * count) / ms;
    const peers: Record<string, number> = {};
    if (times.hooks !== undefined) peers['PyTorch, hooks'] = rate(PEER_POINTS.points, times.hooks);
    if (times.cached !== undefined) peers['PyTorch, cached'] = rate(PEER_POINTS.cached, times.cached);
    const ours = rate(delivered, times.ours!);
    const best = Math.max(...Object.values(peers));
    return {
      suite: 'researcher',
      shape: `points, ${label}, ${tokens} tokens`,
      unit: 'points/s',
      ours,
      spread: 0,
      figures: { 'forwards alone (points/s)': rate(forwards, times.ours!) },
      peers,
      ratio: peer ? ours / best : null,
      ratioOf: 'ours / best peer',
      checked: demand(`researcher ${label}`, error, 1e-4),
    };
  }

  async function gradients(model: LanguageModel, setting: (typeof SETTINGS)[number]): Promise<Row> {
    const { label, tokens, peer: name } = setting;
    progress(`researcher: NeurGrad, ${label}, ${tokens} tokens`);
    const probe = probeOf(model, tokens);
    const times = await turns(async () => void (await neuronGradients(model, probe, { target: TARGET })), {
      hooks: { model: name, job: 'gradients', tokens, count: 1 },
    });
    return {
      suite: 'researcher',
      shape: `NeurGrad of every neuron, ${label}, ${tokens} tokens`,
      unit: 'ms',
      ours: times.ours!,
      spread: 0,
      figures: {},
      peers: times.hooks === undefined ? {} : { 'PyTorch, hooks': times.hooks },
      ratio: times.hooks === undefined ? null : times.hooks / times.ours!,
      ratioOf: 'best peer / ours',
      checked: 'gradients are checked by the tests',
    };
  }
};
