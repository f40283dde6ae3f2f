/**
 * Waiting for a driver that may hang. One that crashes says so (GPUDevice.lost); one that hangs says nothing, and neither does
 * WebGPU. So while anything is waited for, turns of the clock are counted in which nothing that was submitted has finished. It is turns
 * that count, not time: a machine that slept, or a host that computed for long, has missed them, too.
 */

import { DriverTimeoutError } from './errors.ts';

/** Turns that make up the time given. */
const TURNS = 20;
/** The longest of a timer, in milliseconds. */
const LONGEST = 2 ** 31 - 1;

export class Watch {
  readonly #seconds: number;
  /** Grows with what the driver has finished. */
  readonly #finished: () => number;
  readonly #waiting = new Set<(error: Error) => void>();
  #timer: ReturnType<typeof setInterval> | null = null;
  #before = -1;
  #still = 0;

  constructor(seconds: number, finished: () => number) {
    this.#seconds = seconds;
    this.#finished = finished;
  }

  /** The promise's result. @throws DriverTimeoutError where it does not come, and nothing else either. */
  over<Value>(promise: Promise<Value>): Promise<Value> {
    return new Promise<Value>((resolve, reject) => {
      this.#waiting.add(reject);
      this.#start();
      promise.then(resolve, reject).finally(() => {
        this.#waiting.delete(reject);
        // Something has come: what is waited for beside it, and after it, has its full time.
        this.#still = 0;
      });
    });
  }

  #start(): void {
    if (this.#timer) return;
    this.#timer = setInterval(() => this.#turn(), Math.min(LONGEST, (1000 * this.#seconds) / TURNS));
    // In Node: a process that has nothing else to do ends.
    (this.#timer as { unref?: () => void }).unref?.();
  }

  #turn(): void {
    if (this.#waiting.size === 0) {
      clearInterval(this.#timer!);
      this.#timer = null;
      this.#still = 0;
      return;
    }
    const finished = this.#finished();
    this.#still = finished === this.#before ? this.#still + 1 : 0;
    this.#before = finished;
    if (this.#still < TURNS) return;
    const error = new DriverTimeoutError(
      `the GPU driver has finished nothing for ${this.#seconds} s: it hangs; restart the machine if it goes on`,
    );
    for (const reject of this.#waiting) reject(error);
    this.#waiting.clear();
  }
}
