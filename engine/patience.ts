/**
 * Waiting for an adapter that runs on the CPU without taking its cores. While anything is awaited, npm `webgpu` asks Dawn for news
 * on every turn of Node's event loop, which keeps a core busy; where kernels run on those cores (lavapipe), the wait slows down
 * what it waits for. So once a wait is longer than a millisecond, each turn sleeps for one.
 */

const MILLISECOND = 1;

export class Patience {
  readonly #lock = new Int32Array(new SharedArrayBuffer(4));
  #waiting = 0;
  #turning = false;
  /** From when on turns sleep. */
  #sleepy = 0;

  async wait<Value>(promise: Promise<Value>): Promise<Value> {
    this.#waiting++;
    this.#sleepy = performance.now() + MILLISECOND;
    if (!this.#turning) this.#turn();
    try {
      return await promise;
    } finally {
      this.#waiting--;
    }
  }

  #turn(): void {
    this.#turning = this.#waiting > 0;
    if (!this.#turning) return;
    if (performance.now() > this.#sleepy) Atomics.wait(this.#lock, 0, 0, MILLISECOND);
    setImmediate(() => this.#turn());
  }
}
