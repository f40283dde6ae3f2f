/**
 * One process of a model split by layers (split.ts): it holds the weights of some layers on a device of its own, and answers
 * messages of the process that started it, one after the other.
 */

import { UserError } from '../engine/errors.ts';
import { type Device, openDevice, type Tensor, tensor } from '../engine/index.ts';
import { disposeTokens, type Tokens } from './causal.ts';
import { openCheckpoint } from './checkpoint.ts';
import { parseConfig } from './config.ts';
import { type Description, parametersOfStage } from './description.ts';
import { Taps } from './hooks.ts';
import { resolveModelFolder } from './hub.ts';
import { decodeLast, Prefix, prepareRows, remembering } from './kvCache.ts';
import type { RunOptions, RunResult } from './model.ts';
import type { Stage } from './pass.ts';
import { loose } from './pass.ts';
import type { CheckedInput } from './run.ts';
import type { WeightDtype } from './storage.ts';
import { backThrough, isFinal, layerOf, partOf, residualName, runHead } from './stream.ts';
import { Transformer } from './transformer.ts';
import { WeightLoader } from './weights.ts';

/** A tensor on its way between processes. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** What a run asks of a process. `first` to `end` (excluded) are its layers; the last process has the head, too. */
export type Request =
  | {
      readonly do: 'load';
      readonly folder: string;
      /** config.json, of which every process makes the same description. */
      readonly config: unknown;
      readonly dtype: WeightDtype;
      readonly first: number;
      readonly end: number;
    }
  | {
      readonly do: 'forward';
      readonly input: CheckedInput;
      readonly options: RunOptions;
      /** Absent where the run begins here. */
      readonly residual?: HostTensor | undefined;
      /** Inputs of layers from this one on are kept for the backward. */
      readonly lowest: number;
      /** The text whose next token the input is. */
      readonly text?: number | undefined;
    }
  | { readonly do: 'backward'; readonly cotangent?: HostTensor | undefined }
  | {
      /** More tokens of a text whose keys and values are kept; the last process gives the logits after them. */
      readonly do: 'extend';
      readonly text: number;
      readonly ids: readonly number[];
      readonly residual?: HostTensor | undefined;
    }
  | { readonly do: 'forget'; readonly text: number };

export type Answer = {
  readonly error?: { readonly code: string; readonly message: string; readonly user: boolean };
  readonly residual?: HostTensor | undefined;
  readonly cotangent?: HostTensor;
  readonly logits?: HostTensor | undefined;
  readonly captures?: ReadonlyMap<string, HostTensor>;
  readonly gradients?: ReadonlyMap<string, HostTensor>;
};

/** The names of weights that a range of layers needs, with the embedding before the first and the head after the last. */
export function namesOf(description: Description, first: number, end: number): Set<string> {
  const stages: Stage[] = Array.from({ length: end - first }, (_, i) => first + i);
  if (first === 0) stages.push('embed');
  if (end === description.sizes.layers) stages.push('head');
  return new Set(stages.flatMap((stage) => parametersOfStage(description, stage)));
}

/** A run between its forward and its backward. */
interface Run {
  readonly input: CheckedInput;
  readonly options: RunOptions;
  readonly lowest: number;
  readonly tokens: Tokens;
  readonly inputs: Map<number, Tensor>;
  /** Of the last layer's output, in the last process. */
  cotangent: Tensor | null;
}

/** What one process does; `open` gives the device that its layers are put on. */
export class Worker {
  readonly #open: () => Promise<Device>;
  #device: Device | null = null;
  #model: Transformer | null = null;
  #first = 0;
  #end = 0;
  #run: Run | null = null;
  readonly #texts = new Map<number, Prefix>();

  constructor(open: () => Promise<Device> = openDevice) {
    this.#open = open;
  }

  /** @throws UserError for what cannot be done; nothing of it is left on the device then. */
  async answer(request: Request): Promise<Answer> {
    if (request.do === 'load') return this.#load(request);
    if (request.do === 'forward') return this.#forward(request);
    if (request.do === 'backward') return this.#backward(request);
    if (request.do === 'extend') return this.#extend(request);
    this.#texts.get(request.text)?.dispose();
    this.#texts.delete(request.text);
    return {};
  }

  async #load({ folder, config: json, dtype, first, end }: Request & { do: 'load' }): Promise<Answer> {
    const config = parseConfig(json);
    const source = await resolveModelFolder(folder);
    const checkpoint = await openCheckpoint(source);
    try {
      const device = await this.#open();
      try {
        const options = { dtype, onNote: () => {} };
        const loader = new WeightLoader(device, checkpoint, config, options);
        const mine = namesOf(config.description, first, end);
        try {
          const weights = await loader.loadAll(loader.names.filter((name) => mine.has(name)));
          await device.finish();
          this.#model = new Transformer(device, config, weights);
        } finally {
          loader.dispose();
        }
      } catch (error) {
        device.destroy();
        throw error;
      }
      device.pool.trim();
      this.#device = device;
    } finally {
      await checkpoint.close();
    }
    [this.#first, this.#end] = [first, end];
    return {};
  }

  async #forward({ input, options, residual, lowest, text }: Request & { do: 'forward' }): Promise<Answer> {
    const [model, device] = [this.#model!, this.#device!];
    this.#forget();
    const { rows, length } = input;
    const taps = new Taps(model.hooks, rows, length, partOf(model, options, false));
    const prefix = text === undefined ? null : (this.#texts.get(text) ?? new Prefix([], [], null));
    const prepared = prefix && prepareRows(model, [{ prefix, ids: input.ids }]);
    const tokens = prepared ? prepared.tokens() : model.tokens(input);
    const inputs = new Map<number, Tensor>();
    const run: Run = { input, options, lowest, tokens, inputs, cotangent: null };
    // From here on the run holds what its backward needs, also where that is never asked for.
    this.#run = run;
    let x: Tensor | null = null;
    let head: RunResult | null = null;
    let finished = false;
    try {
      x = loose(() => {
        if (residual) return upload(device, residual);
        if (prepared) return prepared.start(taps);
        return model.embed({ ...input, positions: model.positions(input) }, taps);
      });
      for (let layer = this.#first; layer < this.#end; layer++) {
        const before: Tensor = x;
        const after = loose(() => model.layer(layer, before, tokens, taps));
        x = after;
        if (layer >= lowest) inputs.set(layer, before);
        else before.dispose();
      }
      const last = this.#end === model.sizes.layers;
      head = last ? runHead(model, input, x, options) : null;
      const end = head?.gradients.get(residualName(model));
      run.cotangent = end ? loose(() => end.detach()) : null;
      const answer: Answer = {
        residual: head ? undefined : await download(x),
        logits: head && options.logits !== 'none' ? await download(head.logits) : undefined,
        captures: await downloadAll([...taps.captures, ...(head?.captures ?? [])]),
        gradients: await downloadAll([...(head?.gradients ?? [])].filter(([name]) => isFinal(model, name))),
      };
      finished = true;
      return answer;
    } finally {
      x?.dispose();
      taps.dispose();
      head?.dispose();
      if (!finished) this.#forget();
    }
  }

  async #backward({ cotangent: given }: Request & { do: 'backward' }): Promise<Answer> {
    const [model, device, run] = [this.#model!, this.#device!, this.#run!];
    const { input, options, lowest, tokens, inputs } = run;
    const asked = options.grad?.at ?? [];
    const embedding = asked.some((name) => !isFinal(model, name) && layerOf(model, name) < 0);
    const gradients: [string, Tensor][] = [];
    let cotangent: Tensor | null = null;
    try {
      cotangent = given ? loose(() => upload(device, given)) : loose(() => run.cotangent!.detach());
      for (let layer = this.#end - 1; layer >= Math.max(this.#first, lowest); layer--) {
        const at = asked.filter((name) => layerOf(model, name) === layer);
        const goesOn = layer > lowest || embedding;
        const found = backThrough(
          model,
          input,
          layer,
          inputs.get(layer)!,
          tokens,
          options,
          at,
          cotangent,
          goesOn,
        );
        if (goesOn) {
          cotangent.dispose();
          cotangent = found.shift()!;
        }
        for (const [i, name] of at.entries()) gradients.push([name, found[i]!]);
      }
      return { cotangent: await download(cotangent), gradients: await downloadAll(gradients) };
    } finally {
      cotangent?.dispose();
      for (const [, g] of gradients) g.dispose();
      this.#forget();
    }
  }

  /** As `prefill` with `merge`, through the layers that are here. */
  async #extend({ text, ids, residual }: Request & { do: 'extend' }): Promise<Answer> {
    const [model, device] = [this.#model!, this.#device!];
    const before = this.#texts.get(text);
    const taps = new Taps(model.hooks, 1, ids.length, {});
    const { own, places, tokens } = remembering(device, ids.length, before, true);
    let x: Tensor | null = null;
    let last: Tensor | null = null;
    let finished = false;
    try {
      x = loose(() =>
        residual
          ? upload(device, residual)
          : model.embed({ rows: 1, length: ids.length, ids, positions: places }, taps),
      );
      for (let layer = this.#first; layer < this.#end; layer++) {
        const input: Tensor = x;
        x = loose(() => model.layer(layer, input, tokens, taps));
        input.dispose();
      }
      const rows = x;
      last = this.#end === model.sizes.layers ? loose(() => decodeLast(model, rows, taps)) : null;
      const answer = last ? { logits: await download(last) } : { residual: await download(x) };
      this.#texts.set(text, new Prefix([...(before?.ids ?? []), ...ids], [own], null));
      before?.dispose();
      finished = true;
      return answer;
    } finally {
      for (const t of [x, last]) t?.dispose();
      disposeTokens(tokens);
      if (!finished) for (const t of [...own.keys.values(), ...own.values.values()]) t.dispose();
    }
  }

  #forget(): void {
    for (const t of this.#run?.inputs.values() ?? []) t.dispose();
    this.#run?.cotangent?.dispose();
    if (this.#run) disposeTokens(this.#run.tokens);
    this.#run = null;
  }
}

const upload = (device: Device, { data, shape }: HostTensor): Tensor => tensor(device, data, shape);
const download = async (t: Tensor): Promise<HostTensor> => ({ shape: t.shape, data: await t.read() });
const downloadAll = async (list: readonly (readonly [string, Tensor])[]): Promise<Map<string, HostTensor>> =>
  new Map(await Promise.all(list.map(async ([name, t]) => [name, await download(t)] as const)));

// Started by split.ts, and by nobody else.
if (process.env.NEURGRAD_SPLIT_WORKER === '1' && process.send) {
  const worker = new Worker();
  let turn: Promise<unknown> = Promise.resolve();
  process.on('message', (request: Request) => {
    turn = turn.then(async () => {
      const answer = await worker.answer(request).catch((cause: Error & { code?: string }) => ({
        error: { code: cause.code ?? 'split', message: cause.message, user: cause instanceof UserError },
      }));
      process.send?.(answer);
    });
  });
  process.on('disconnect', () => process.exit(0));
}
