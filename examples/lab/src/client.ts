/** The page's end of the worker: calls that answer with promises, report progress and can be cancelled. */

import type { CallName, Calls, Failure, News, Order, Progress } from './protocol.ts';
import type { NeuronId } from './state.ts';

/** What a call came to nothing of. `cancelled` and `lost` are no news for the user. */
export class CallError extends Error {
  override readonly name = 'CallError';
  readonly code: string;
  constructor({ code, message }: Failure) {
    super(message);
    this.code = code;
  }
}

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

/** Where the page's answers come from. */
export interface Answering {
  call<K extends CallName>(call: K, ask: Calls[K]['ask'], options?: CallOptions): Promise<Calls[K]['answer']>;
  /**
   * The shift, as near to `to` as can be answered, of a neuron on its way from a shift.
   * @param others that are shifted besides
   * @throws CallError where the neuron cannot be moved.
   */
  nearest(neuron: NeuronId, others: readonly NeuronId[], from: number, to: number): number;
  /** Gives back what it holds. */
  stop(): void;
}

export class Client implements Answering {
  readonly #onLost: (why: string) => void;
  #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;

  /** `onLost` is told why the device, or the worker, went away; the model must then be opened again. */
  constructor(onLost: (why: string) => void) {
    this.#onLost = onLost;
    this.#worker = this.#start();
  }

  #start(): Worker {
    const worker = new Worker(new URL('./worker/worker.ts', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }: MessageEvent<News>) => {
      if ('lost' in data) return this.#onLost(data.lost);
      const waiting = this.#waiting.get(data.id);
      if (!waiting) return;
      if ('progress' in data) return waiting.onProgress?.(data.progress);
      this.#waiting.delete(data.id);
      if ('failure' in data) waiting.reject(new CallError(data.failure));
      else waiting.resolve(data.answer);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      worker.terminate();
      this.#worker = this.#start();
      const message = event.message || 'the page’s worker cannot be started';
      for (const { reject } of this.#waiting.values()) reject(new CallError({ code: 'cancelled', message }));
      this.#waiting.clear();
      this.#onLost(message);
    };
    return worker;
  }

  call<K extends CallName>(
    call: K,
    ask: Calls[K]['ask'],
    options: CallOptions = {},
  ): Promise<Calls[K]['answer']> {
    const id = ++this.#lastId;
    const { signal, onProgress } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(new CallError({ code: 'cancelled', message: 'Cancelled.' }));
      this.#waiting.set(id, { resolve: resolve as (answer: unknown) => void, reject, onProgress });
      this.#post({ id, call, ask } as Order);
      signal?.addEventListener('abort', () => {
        this.#post({ cancel: id });
        this.#waiting.delete(id);
        reject(new CallError({ code: 'cancelled', message: 'Cancelled.' }));
      });
    });
  }

  /** Any shift can be run. */
  nearest(_neuron: NeuronId, _others: readonly NeuronId[], _from: number, to: number): number {
    return to;
  }

  stop(): void {
    this.#worker.terminate();
  }

  #post(order: Order): void {
    this.#worker.postMessage(order);
  }
}
