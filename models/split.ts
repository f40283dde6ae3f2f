/**
 * A causal model split by layers over several processes of this machine, each with a device of its own: residuals go from one to the
 * next in host memory, cotangents back. The same operations in the same order as in one process, so the same bits.
 */

import { UserError } from '../engine/errors.ts';
import { type Device, Tensor, tensor } from '../engine/index.ts';
import { checkOptions as checkOptionsOf, optionsSchema } from '../engine/options.ts';
import { disown } from '../engine/scope.ts';
import { matchTensors } from './checkpoint.ts';
import { type ModelConfig, untied } from './config.ts';
import { DescribedModel } from './describedModel.ts';
import { isTied } from './description.ts';
import { FAMILIES } from './families/index.ts';
import { Taps } from './hooks.ts';
import { resolveModelFolder } from './hub.ts';
import { dtypeFor } from './kept.ts';
import { checkIds, checkLength, checkRowOptions } from './kvCache.ts';
import type { LanguageModel, ModelInput, Objective, RunOptions, RunResult } from './model.ts';
import { openModelFiles } from './modelFiles.ts';
import { checkInput, checkOptions, resultOf } from './run.ts';
import { checkRun } from './runOptions.ts';
import type { Answer, HostTensor, Request } from './splitWorker.ts';
import { checkWeightDtype, type WeightDtype } from './storage.ts';
import { isFinal, layerOf } from './stream.ts';
import { type WeightOptions, weightOptions } from './weights.ts';

/** One process and its layers [first, end). */
interface Part {
  readonly first: number;
  readonly end: number;
  ask(request: Request): Promise<Answer>;
  stop(): void;
}

/** Starts a worker process. */
async function startPart(first: number, end: number): Promise<Part> {
  const { fork } = await import('node:child_process');
  // From source there is no JavaScript to start but the built one.
  const file = new URL(
    import.meta.url.endsWith('.ts') ? '../dist/models/splitWorker.js' : './splitWorker.js',
    import.meta.url,
  );
  const child = fork(file, {
    serialization: 'advanced',
    env: { ...process.env, NEURGRAD_SPLIT_WORKER: '1' },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void }[] = [];
  child.on('message', (answer: Answer) => {
    const asked = waiting.shift();
    if (!answer.error) asked?.resolve(answer);
    else if (answer.error.user) asked?.reject(new UserError(answer.error.code, answer.error.message));
    else asked?.reject(new Error(answer.error.message));
  });
  let gone: Error | null = null;
  /** Nothing is answered any more, also what has been asked. */
  const leave = (why: string): void => {
    gone ??= new UserError('split', `the process with layers ${first} to ${end - 1} ${why}`);
    for (const { reject } of waiting.splice(0)) reject(gone);
  };
  child.on('error', (error) => leave(`could not be started: ${error.message}`));
  child.on('exit', (code, signal) => leave(`ended (${signal ?? `code ${code}`}); is there memory for it?`));
  return {
    first,
    end,
    ask: (request) =>
      new Promise((resolve, reject) => {
        if (gone) return reject(gone);
        waiting.push({ resolve, reject });
        child.send(request, (error) => {
          if (error) leave(`cannot be reached: ${error.message}`);
        });
      }),
    stop: () => {
      leave('was ended by dispose()');
      child.kill();
    },
  };
}

/** Layers of each of `count` processes: as equal as can be, the larger parts first. */
export function layerRanges(layers: number, count: number): [number, number][] {
  if (!Number.isInteger(count) || count < 1 || count > layers)
    throw new UserError('split', `${count} devices for ${layers} layers: must be 1 to ${layers}`);
  let first = 0;
  return Array.from({ length: count }, (_, i) => {
    const end = first + Math.floor(layers / count) + (i < layers % count ? 1 : 0);
    const range: [number, number] = [first, end];
    first = end;
    return range;
  });
}

/** A text that goes on in the processes' caches. */
export interface OpenText {
  /** Its name among the texts of the processes. */
  readonly number: number;
  /** Adds tokens. @returns logits [V] after them. @throws UserError for tokens that do not fit. */
  extend(ids: readonly number[]): Promise<Float32Array>;
  /** Frees the caches. */
  dispose(): void;
}

/** Gradients at names, of one target a row. */
export interface SplitGradients {
  /** Hook names. */
  readonly at: readonly string[];
  /** Quantity and targets. */
  readonly of: Omit<Objective, 'position'>;
}

const splitOptions = optionsSchema<Pick<WeightOptions, 'strict' | 'onNote'>>({
  strict: weightOptions.entries.strict,
  onNote: weightOptions.entries.onNote,
});

/** `runAsync` instead of `run`; edits, which are functions, cannot be sent. */
export class SplitModel extends DescribedModel implements LanguageModel {
  readonly running = 'split';
  readonly weightDtype: WeightDtype;
  readonly parameters: ReadonlyMap<string, Tensor> = new Map();
  readonly #parts: readonly Part[];
  #turn: Promise<unknown> = Promise.resolve();
  #texts = 0;

  /** @param device where results are put; weights are in other processes. */
  private constructor(device: Device, config: ModelConfig, dtype: WeightDtype, parts: readonly Part[]) {
    super(device, config);
    this.weightDtype = dtype;
    this.#parts = parts;
  }

  /**
   * Starts the processes and loads their layers at the same time.
   * @param folder path of a folder or GGUF file, or address.
   * @param device where results are put.
   * @param count of processes, at most as many as layers.
   * @throws UserError as loading does, and for a model that is not causal or of a family from outside.
   */
  static async open(
    folder: string,
    config: ModelConfig,
    device: Device,
    count: number,
    dtype?: WeightDtype,
    options: Pick<WeightOptions, 'strict' | 'onNote'> = {},
  ): Promise<SplitModel> {
    if (dtype !== undefined) checkWeightDtype(dtype);
    checkOptionsOf('SplitModel.open', splitOptions, options);
    const { family, description } = config;
    if (!description.causal)
      throw new UserError('split', `${folder}: only causal models can be split; this is a ${family.type}`);
    if (!Object.values(FAMILIES).includes(family))
      throw new UserError(
        'split',
        `${folder}: the processes do not know ${family.type}, a family from outside; stream it instead`,
      );
    // The files are looked at here, once, so that what is odd about them is told once.
    const source = await resolveModelFolder(folder);
    const files = await openModelFiles(source, { onNote: options.onNote });
    await files.checkpoint.close();
    const settled = isTied(files.config.description) ? config : untied(config);
    const entries = matchTensors(files.checkpoint, settled, options);
    const kept = dtypeFor(entries.values(), dtype);
    const ranges = layerRanges(description.sizes.layers, count);
    const parts: Part[] = [];
    try {
      for (const range of ranges) parts.push(await startPart(...range));
      await Promise.all(
        parts.map(({ first, end, ask }) =>
          ask({ do: 'load', folder, config: settled.json, dtype: kept, first, end }),
        ),
      );
    } catch (error) {
      for (const part of parts) part.stop();
      throw error;
    }
    return new SplitModel(device, settled, kept, parts);
  }

  /** @throws UserError always: other processes answer when they can. */
  run(): RunResult {
    throw new UserError('split', 'a model split over processes needs runAsync');
  }

  /** After all that was asked before. */
  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** As {@link LanguageModel.run}. @throws UserError before anything is sent. */
  async runAsync(input: ModelInput, options: RunOptions = {}): Promise<RunResult> {
    checkRun(input, options);
    return this.#inTurn(() => this.#run(input, options));
  }

  /**
   * A text whose tokens come one after the other: each process keeps keys and values of its layers.
   * `extend` gives the logits [V] after the tokens added. @throws UserError for tokens that do not fit
   */
  openText(): OpenText {
    const text = this.#texts++;
    let length = 0;
    return {
      number: text,
      extend: async (ids) => {
        checkIds(ids, this.sizes);
        checkLength(length + ids.length, this.sizes);
        length += ids.length;
        return this.#inTurn(async () => {
          let answer: Answer = {};
          for (const part of this.#parts) {
            const { residual } = answer;
            answer = await part.ask({ do: 'extend', text, ids, residual });
          }
          return answer.logits!.data;
        });
      },
      dispose: () => {
        // A process that is gone has forgotten already.
        this.#inTurn(() => Promise.all(this.#parts.map((part) => part.ask({ do: 'forget', text })))).catch(
          () => {},
        );
      },
    };
  }

  /**
   * A prompt's last token alone, behind the cache of the others: the bits of {@link Transformer.prefill} and
   * {@link Transformer.runRows}. @throws UserError
   */
  async runLastAsync(
    ids: readonly number[],
    options: Pick<RunOptions, 'capture'> & { readonly grad: SplitGradients },
  ): Promise<RunResult> {
    checkRowOptions('runLastAsync', options);
    const { capture, grad } = options;
    const text = this.openText();
    try {
      if (ids.length > 1) await text.extend(ids.slice(0, -1));
      const of = { ...grad.of, position: [0] };
      const asked = { capture, grad: { at: grad.at, of }, logits: [0] };
      return await this.#inTurn(() => this.#run({ ids: [ids.slice(-1)] }, asked, text.number));
    } finally {
      text.dispose();
    }
  }

  async #run(modelInput: ModelInput, options: RunOptions, text?: number): Promise<RunResult> {
    const input = checkInput(modelInput, this.description);
    checkOptions(input, this.sizes, options);
    new Taps(this.hooks, input.rows, input.length, options).dispose();
    const held = (options.patch ?? []).some(
      ({ value, from, reference, random }) => value instanceof Tensor || from || reference || random,
    );
    if (held)
      throw new UserError(
        'split',
        'tensors and runs cannot be sent to other processes; read them, and give numbers',
      );
    if (options.edit || typeof options.grad?.of === 'function')
      throw new UserError('split', 'functions cannot be sent to other processes; use patches and objectives');
    const asked = (options.grad?.at ?? []).filter((name) => !isFinal(this, name));
    const lowest = Math.max(
      0,
      Math.min(Number.POSITIVE_INFINITY, ...asked.map((name) => layerOf(this, name))),
    );
    const captures = new Map<string, HostTensor>();
    const gradients = new Map<string, HostTensor>();
    const collect = (answer: Answer): void => {
      for (const [name, t] of answer.captures ?? []) captures.set(name, t);
      for (const [name, t] of answer.gradients ?? []) gradients.set(name, t);
    };
    let residual: HostTensor | undefined;
    let logits: HostTensor | undefined;
    for (const part of this.#parts) {
      const answer = await part.ask({ do: 'forward', input, options, lowest, text, residual });
      collect(answer);
      ({ residual, logits } = answer);
    }
    let cotangent: HostTensor | undefined;
    for (const part of this.#parts.toReversed()) {
      if (asked.length === 0 || part.end <= lowest) break;
      const answer = await part.ask({ do: 'backward', cotangent });
      collect(answer);
      ({ cotangent } = answer);
    }
    for (const name of asked) if (layerOf(this, name) < 0) gradients.set(name, cotangent!);
    return this.#result(logits, captures, gradients);
  }

  #result(
    logits: HostTensor | undefined,
    captures: ReadonlyMap<string, HostTensor>,
    gradients: ReadonlyMap<string, HostTensor>,
  ): RunResult {
    const held: Tensor[] = [];
    const dispose = (): void => {
      for (const t of held) t.dispose();
    };
    const place = ({ data, shape }: HostTensor): Tensor => {
      const made = tensor(this.device, data, shape);
      disown(made);
      held.push(made);
      return made;
    };
    const all = (list: ReadonlyMap<string, HostTensor>) =>
      new Map([...list].map(([name, t]) => [name, place(t)] as const));
    try {
      const placed = logits && place(logits);
      return resultOf(() => placed, all(captures), all(gradients), dispose);
    } catch (error) {
      dispose();
      throw error;
    }
  }

  /** Ends the processes; what they are asked, now or later, rejects with a UserError. */
  dispose(): void {
    for (const part of this.#parts) part.stop();
  }
}
