/**
 * Work that outlives its device. A driver that crashes takes every tensor along, and nothing else: what lies on a disk or in the host's
 * memory is as it was. So the device is opened again, which is what WebGPU expects of those who lose one
 * (https://www.w3.org/TR/webgpu/#lose-the-device), and the piece of work that was in hand is done again from its beginning.
 *
 * What makes a device be lost each time would make this go on for ever: losses in a row, with nothing finished between them, are
 * counted, and end it.
 */

import { DeviceError, DeviceLostError } from './errors.ts';
import { callback, checkOptions, optionsSchema, required } from './options.ts';

/** Losses in a row that end the work. */
export const MOST_LOSSES = 5;
/** Milliseconds before the second opening in a row, twice as many before each further one: a driver needs a moment to come back. */
const PAUSE = 250;

/** Whether this, or what caused it, is the loss of a device. */
export const isLoss = (error: unknown): boolean =>
  error instanceof Error && (error instanceof DeviceLostError || isLoss(error.cause));

/** A driver that is coming back shows no adapter for a moment. */
const isAbsence = (error: unknown): boolean =>
  error instanceof DeviceError && (error.code === 'no-adapter' || error.code === 'no-device');

/** Why a device was lost, without what to do about it. */
const reasonOf = (error: unknown): string => (error as Error).message.split(';')[0]!;

/** How something on a device is opened, and who is told of losses. */
export interface ReopeningOptions<Opened> {
  /** Opens a device and what lives on it. */
  readonly open: () => Promise<Opened>;
  /** Frees what was opened; called for what was lost, too. */
  readonly close: (opened: Opened) => void;
  /** Told of each loss, in a sentence; what it throws ends the work. Default: `console.warn`. */
  readonly onLost?: ((text: string, cause: unknown) => void) | undefined;
}

const reopeningOptions = <Opened>() =>
  optionsSchema<ReopeningOptions<Opened>>({
    open: required(callback()),
    close: required(callback()),
    onLost: callback(),
  });

/**
 * Something on a device (a model, say) that is opened when it is first needed, and again whenever the device was lost.
 * @example
 * ```ts
 * import { openDevice, Reopening, tensor } from 'neurgrad/engine';
 *
 * using held = new Reopening({ open: openDevice, close: (device) => device.destroy() });
 * const sums: number[] = [];
 * for (const x of [1, 2, 3])
 *   sums.push(await held.run(async (device) => {
 *     using t = tensor(device, [x]);
 *     return t.item();
 *   }));
 * console.log(sums); // → [ 1, 2, 3 ]
 * ```
 */
export class Reopening<Opened> implements Disposable {
  readonly #options: ReopeningOptions<Opened>;
  #opened: Opened | null = null;
  #losses = 0;

  constructor(options: ReopeningOptions<Opened>) {
    checkOptions('Reopening', reopeningOptions<Opened>(), options);
    this.#options = options;
  }

  /**
   * Does a piece of work, and does it again where its device was lost meanwhile: it must leave behind only what it returns.
   * @param piece is given a function to call where it has got further than ever before: losses then count anew.
   * @throws DeviceLostError after {@link MOST_LOSSES} losses in a row, and whatever else `open` and `piece` throw.
   */
  async run<Result>(piece: (opened: Opened, advanced: () => void) => Promise<Result>): Promise<Result> {
    for (;;) {
      try {
        this.#opened ??= await this.#options.open();
        const result = await piece(this.#opened, () => {
          this.#losses = 0;
        });
        this.#losses = 0;
        return result;
      } catch (error) {
        if (!isLoss(error) && !(this.#losses > 0 && isAbsence(error))) throw error;
        this.close();
        await this.#lost(error);
      }
    }
  }

  async #lost(cause: unknown): Promise<void> {
    const reason = reasonOf(cause);
    if (++this.#losses >= MOST_LOSSES)
      throw new DeviceLostError(`${this.#losses} times in a row ${reason}; what is finished is kept`, {
        cause,
      });
    const { onLost = (text: string) => console.warn(text) } = this.#options;
    onLost(`${reason}: it is opened again, and what was in hand is done anew`, cause);
    const pause = this.#losses > 1 ? PAUSE * 2 ** (this.#losses - 2) : 0;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }

  /** Frees what is open. The next piece of work opens it again. */
  close(): void {
    const opened = this.#opened;
    this.#opened = null;
    if (opened !== null) this.#options.close(opened);
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
