/**
 * A researcher's jobs, as they are asked for: curves of neurons over 20 shifts of ±2, NeurGrad and integrated gradients of every neuron, activations
 * patched over layers and positions, text; where `--peers-python` names a Python, beside PyTorch with hooks, TransformerLens and nnsight
 * (bench/peers/researcher.py) on the same machine, in turns.
 *
 * `ours` of points are those delivered by `engine: 'curve'`, also those that it did not need to run; forwards alone stand beside it. Weights are
 * random, and those of `NEURGRAD_REAL_MODEL` where that names a GGUF file: curves of trained models need about as many points, see
 * `node dist/bench/curves.js`.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { add, mul, slice, tensor } from '../../engine/index.ts';
import { generate, type LanguageModel, loadModel } from '../../models/index.ts';
import { Transformer } from '../../models/transformer.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { shiftGrid } from '../../neurgrad/grid.ts';
import { integrateLayers } from '../../neurgrad/integrated.ts';
import { neuronAt } from '../../neurgrad/neuron.ts';
import { type Probe, targetValues } from '../../neurgrad/predict.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { BERT_BASE, LLAMA_12, onDevice, randomWeights } from '../network.ts';
import { demand } from '../reference.ts';
import type { Row } from '../rows.ts';
import { median } from '../timing.ts';
import type { Suite } from './suite.ts';

const SHIFTS = shiftGrid(-2, 2, 0.2);
const TARGET = 7;
const REAL = process.env.NEURGRAD_REAL_MODEL;
const MODELS = [
  { config: BERT_BASE, peer: 'bert', label: 'BERT-base', tokens: [16] },
  { config: LLAMA_12, peer: 'llama', label: 'Llama 12 x 768', tokens: [40, 200] },
  ...(REAL === undefined ? [] : [{ config: null, peer: 'real', label: 'the real model', tokens: [40] }]),
] as const;
/** Neurons of a turn: as many as the paper samples a prompt; on a GPU those that fill its waves. */
const NEURONS = { software: 100, hardware: 512 } as const;
/** Points of a turn of the peers. */
const PEER_POINTS = { points: 32, cached: 512 } as const;
/** Layers whose patches, or integrated gradients by the peers, are run; tokens that are written. */
const [LAYERS, WORDS] = [2, 16];
const TOOLS = ['PyTorch', 'TransformerLens', 'nnsight'] as const;

type Answer =
  | { readonly seconds: number; readonly batch: number; readonly version: string }
  | { readonly missing: string };

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

/** One model at one length. */
interface Setting {
  readonly model: LanguageModel;
  readonly probe: Probe;
  readonly label: string;
  readonly peer: string;
}

export const researcherSuite: Suite = async ({ device, rounds, clock, small, only, progress, python }) => {
  using peer = python === undefined ? null : new PythonPeer(python);
  const rows: Row[] = [];
  const JOBS = {
    points,
    'NeurGrad of every neuron': gradients,
    'integrated gradients': integrated,
    patching,
    text,
  };
  for (const { config, peer: name, label, tokens } of MODELS) {
    const wanted = tokens
      .filter((count) => !(small && count > 100))
      .flatMap((count) =>
        Object.entries(JOBS).map(([job, run]) => ({
          count,
          run,
          shape: `${job}, ${label}, ${count} tokens`,
        })),
      )
      .filter(({ shape }) => shape.includes(only));
    if (wanted.length === 0) continue;
    progress(`researcher: opening ${label}`);
    const model = config
      ? onDevice(device, config, randomWeights(config))
      : (await loadModel(REAL!, { device, dtype: 'f32' })).model;
    for (const { count, run, shape } of wanted) {
      const random = seededRandom(1);
      const ids = Array.from({ length: count }, () => Math.floor(random() * model.sizes.vocabulary));
      const probe = { ids, position: model.causal ? count - 1 : count >> 1 };
      progress(`researcher: ${shape}`);
      const row = await run({ model, probe, label: shape, peer: name });
      if (row) rows.push(row);
    }
    model.dispose();
    device.pool.trim();
  }
  return rows;

  /** Medians of milliseconds by turns, ours and the peers'. A tool that is not there is told once and left out. */
  async function turns(
    { peer: model, probe, label }: Setting,
    own: () => Promise<void>,
    jobs: Readonly<
      Record<string, { readonly tool: (typeof TOOLS)[number]; readonly job: string; readonly count: number }>
    >,
  ): Promise<{ ours: number; peers: Readonly<Record<string, number>> }> {
    const times: Record<string, number[]> = {};
    const mine: number[] = [];
    await own();
    for (let round = 0; round < Math.min(rounds, 5); round++) {
      const began = clock();
      await own();
      mine.push(clock() - began);
      for (const [name, job] of Object.entries(peer ? jobs : {})) {
        if (round > 0 && !times[name]) continue;
        const asked = { ...job, model, path: REAL, tokens: probe.ids.length };
        const answer = await peer!.ask(asked);
        if ('missing' in answer) progress(`researcher: ${label}: no ${name}: ${answer.missing}`);
        else (times[name] ??= []).push(1000 * answer.seconds);
      }
    }
    const peers = Object.entries(times).map(([name, list]) => [name, median(list)] as const);
    return { ours: median(mine), peers: Object.fromEntries(peers) };
  }

  async function points(setting: Setting): Promise<Row> {
    const { model, probe, label } = setting;
    const neurons = NEURONS[device.info.software ? 'software' : 'hardware'];
    const { layers, width } = model.sizes;
    const chosen = drawWithoutReplacement(neurons, layers * width, seededRandom(2)).map((flat) =>
      neuronAt(flat, width, model.paperSite),
    );
    const run = (engine: 'curve' | 'differences', some = chosen) =>
      sweep(model, probe, { neurons: some, shifts: SHIFTS, target: TARGET, engine });
    let forwards = 0;
    const { ours, peers } = await turns(
      setting,
      async () => {
        forwards = (await run('curve')).rows;
      },
      {
        ...Object.fromEntries(
          TOOLS.map((tool) => [tool, { tool, job: 'points', count: PEER_POINTS.points }] as const),
        ),
        ...(model.causal
          ? { 'PyTorch, cached': { tool: 'PyTorch', job: 'cached', count: PEER_POINTS.cached } as const }
          : {}),
      },
    );
    const some = chosen.slice(0, 4);
    const [curves, all] = [await run('curve', some), await run('differences', some)];
    const error = Math.max(
      ...curves.neurons.flatMap(({ p }, n) =>
        p.map((value, i) => Math.abs(value / all.neurons[n]!.p[i]! - 1)),
      ),
    );
    const rate = (count: number, ms: number): number => (1000 * count) / ms;
    const rates = Object.entries(peers).map(
      ([name, ms]) =>
        [name, rate(name === 'PyTorch, cached' ? PEER_POINTS.cached : PEER_POINTS.points, ms)] as const,
    );
    const delivered = rate(neurons * (SHIFTS.length - 1), ours);
    const best = Math.max(...rates.map(([, value]) => value));
    return {
      suite: 'researcher, points',
      shape: label,
      unit: 'points/s',
      ours: delivered,
      spread: null,
      figures: { 'forwards alone (points/s)': rate(forwards, ours) },
      peers: Object.fromEntries(rates),
      ratio: rates.length > 0 ? delivered / best : null,
      ratioOf: 'ours / best peer',
      checked: demand(`researcher ${label}`, error, 1e-4),
    };
  }

  /** A row of milliseconds; `times`: how often a peer's own job is in ours. */
  async function job(
    setting: Setting,
    own: () => Promise<void>,
    jobs: Parameters<typeof turns>[2],
    checked: string,
    times = 1,
  ): Promise<Row> {
    const { ours, peers } = await turns(setting, own, jobs);
    const all = Object.fromEntries(Object.entries(peers).map(([name, ms]) => [name, times * ms]));
    const best = Math.min(...Object.values(all));
    return {
      suite: 'researcher, other jobs',
      shape: setting.label,
      unit: 'ms',
      ours,
      spread: null,
      figures: {},
      peers: all,
      ratio: Number.isFinite(best) ? best / ours : null,
      ratioOf: 'best peer / ours',
      checked,
    };
  }

  async function gradients(setting: Setting): Promise<Row> {
    const { model, probe } = setting;
    return job(
      setting,
      async () => void (await neuronGradients(model, probe, { target: TARGET })),
      Object.fromEntries(TOOLS.map((tool) => [tool, { tool, job: 'gradients', count: 1 }])),
      'by the tests',
    );
  }

  async function integrated(setting: Setting): Promise<Row> {
    const { model, probe } = setting;
    return job(
      setting,
      async () => void (await integrateLayers(model, probe, { target: TARGET })),
      // A full pass costs the same for every layer.
      { PyTorch: { tool: 'PyTorch', job: 'integrated', count: LAYERS } },
      'by the tests',
      model.sizes.layers / LAYERS,
    );
  }

  /** p with the residual before a layer taken from another prompt, at one position a row. */
  async function patching(setting: Setting): Promise<Row | null> {
    const { model, probe } = setting;
    const { ids, position } = probe;
    if (!(model instanceof Transformer)) return null;
    const middle = model.sizes.layers >> 1;
    const names = Array.from({ length: LAYERS }, (_, i) => `blocks.${middle + i}.hook_resid_pre`);
    const other = ids.map((id) => (id + 1) % model.sizes.vocabulary);
    const patched = async (name: string, positions: readonly number[]): Promise<number[]> => {
      using clean = model.run({ ids: [ids] }, { capture: [name], logits: 'none' });
      const at = new Float32Array(positions.length * ids.length);
      for (const [row, p] of positions.entries()) at[row * ids.length + p] = 1;
      const shape = [positions.length, ids.length, 1];
      const mask = tensor(device, at, shape);
      const rest = tensor(
        device,
        at.map((one) => 1 - one),
        shape,
      );
      using run = model.run(
        { ids: positions.map(() => other) },
        {
          edit: { [name]: (x) => add(mul(x, rest), mul(slice(clean.captures.get(name)!, [], []), mask)) },
          logits: positions.map(() => position),
        },
      );
      const logits = await run.logits.read();
      mask.dispose();
      rest.dispose();
      const { vocabulary } = model.sizes;
      return positions.map(
        (_, row) => targetValues(logits.subarray(row * vocabulary, (row + 1) * vocabulary), TARGET).prob,
      );
    };
    const everywhere = [...ids.keys()];
    const together = await patched(names[0]!, everywhere);
    const [alone] = await patched(names[0]!, [1]);
    return job(
      setting,
      async () => {
        for (const name of names) await patched(name, everywhere);
      },
      { PyTorch: { tool: 'PyTorch', job: 'patching', count: LAYERS } },
      demand(`researcher ${setting.label}, a row alone`, Math.abs(together[1]! / alone! - 1), 1e-5),
    );
  }

  async function text(setting: Setting): Promise<Row | null> {
    const { model, probe } = setting;
    if (!model.causal) return null;
    return job(
      setting,
      async () => void (await generate(model, probe.ids, { maxTokens: WORDS, stopIds: [] })),
      { PyTorch: { tool: 'PyTorch', job: 'generate', count: WORDS } },
      'by the tests',
    );
  }
};
