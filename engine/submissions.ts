/**
 * What WebGPU refused, and which numbers are void for it. A command that is refused takes its whole submission along, and WebGPU
 * says so later, once, to nobody in particular. So each submission, and each making of a buffer, stands between error scopes
 * and has a number; a buffer knows the number of what wrote it last; and a submission fails as well where it touches what a
 * failed one wrote. Whoever reads such a buffer gets the error in place of numbers.
 */

/** What a buffer knows of its contents. */
export interface Written {
  /** Number of the making of the buffer: contents that nobody has written are as good as that. */
  readonly madeBy: number;
  /** Number of the newest work that wrote to it. */
  writtenBy: number;
}

/** Inner ones first, as they are popped. */
const FILTERS = ['out-of-memory', 'validation', 'internal'] as const;

interface Work {
  /** What WebGPU refused of it; null where nothing. */
  readonly own: Promise<Error | null>;
  /** The same, or what is wrong with something that it touches. */
  readonly whole: Promise<Error | null>;
}

/** How an error of WebGPU is told. */
export type Telling = (error: GPUError) => Error | Promise<Error>;

const told = (caught: Promise<GPUError | null>, tell: Telling): Promise<Error | null> =>
  caught.then((error) => error && tell(error));

export class Submissions {
  readonly #device: GPUDevice;
  readonly #tell: Telling;
  #last = 0;
  /** Those that WebGPU has not answered yet, oldest first. */
  readonly #open = new Map<number, Work>();
  /** All up to this are answered, and right. */
  trusted = 0;
  /** Those that failed, by themselves or by what they touch. */
  readonly #failed = new Map<number, { readonly error: Error; readonly own: boolean }>();
  /** What failed by itself, and has not been told to anybody. */
  readonly #untold = new Set<Error>();
  /** Number of the submission that is being recorded; 0 where none is. */
  current = 0;
  #telling: Telling;
  readonly #touched = new Set<number>();

  constructor(device: GPUDevice, tell: Telling) {
    this.#device = device;
    this.#tell = tell;
    this.#telling = tell;
  }

  /** A submission begins; `tell` in place of how errors are told otherwise. */
  begin(tell: Telling = this.#tell): void {
    this.current = ++this.#last;
    this.#telling = tell;
    this.#push(FILTERS);
  }

  /** What is being recorded reads or writes what this number wrote. */
  touch(number: number): void {
    if (number <= this.trusted || number === this.current) return;
    if (this.#open.has(number) || this.#failed.has(number)) this.#touched.add(number);
  }

  /** What is being recorded has been submitted. */
  end(): void {
    const number = this.current;
    if (number === 0) return;
    const needed = Array.from(this.#touched, (one) => this.verdict(one));
    this.current = 0;
    this.#touched.clear();
    const own = told(this.#pop(FILTERS), this.#telling);
    // Who tells it otherwise sees to it that it is heard. A buffer that could not be made is refused wherever it is used: why that is so
    // was said when it was made.
    if (this.#telling === this.#tell)
      Promise.all([own, ...needed]).then(([refused, ...earlier]) => {
        if (refused) this.#untold.add(earlier.find((error) => error !== null) ?? refused);
      });
    this.#watch(number, own, needed);
  }

  /** The host writes to a buffer, to all of it or to a part. */
  writing(buffer: Written, all: boolean, write: () => void): void {
    if (buffer.madeBy <= this.trusted) {
      write();
      if (all) buffer.writtenBy = buffer.madeBy;
      return;
    }
    const before = all ? buffer.madeBy : buffer.writtenBy;
    const number = ++this.#last;
    const { caught } = this.#between(['validation'], write);
    this.#watch(number, told(caught, this.#tell), [this.verdict(before)]);
    buffer.writtenBy = number;
  }

  /** Maps a buffer: what is wrong with one that could not be made was told then. */
  mapping<Mapped>(buffer: Written, map: () => Mapped): Mapped {
    return buffer.madeBy <= this.trusted ? map() : this.#between(['validation'], map).made;
  }

  /** Makes a buffer or texture, and says later what is wrong with it, or null. */
  making<Made>(
    make: () => Made,
    tell: Telling,
  ): { made: Made; number: number; fault: Promise<Error | null> } {
    const number = ++this.#last;
    const { made, caught } = this.#between(['out-of-memory', 'validation'], make);
    const fault = told(caught, tell);
    this.#watch(number, fault, []);
    return { made, number, fault };
  }

  /** Compiles something, and says later what WebGPU refused of it, or null. No buffer depends on that. */
  compiling<Made>(compile: () => Made): { made: Made; caught: Promise<GPUError | null> } {
    return this.#between(['validation', 'internal'], compile);
  }

  #between<Made>(
    filters: readonly GPUErrorFilter[],
    work: () => Made,
  ): { made: Made; caught: Promise<GPUError | null> } {
    this.#push(filters);
    let made: Made;
    let caught: Promise<GPUError | null>;
    try {
      made = work();
    } finally {
      caught = this.#pop(filters);
    }
    return { made, caught };
  }

  #push(filters: readonly GPUErrorFilter[]): void {
    for (let i = filters.length - 1; i >= 0; i--) this.#device.pushErrorScope(filters[i]!);
  }

  /** What the innermost scopes have caught. A lost device gives no answer; it is reported by its own promise. */
  #pop(filters: readonly GPUErrorFilter[]): Promise<GPUError | null> {
    return new Promise((resolve) => {
      let left = filters.length;
      let caught: GPUError | null = null;
      const answered = (error: GPUError | null): void => {
        caught ??= error;
        if (--left === 0) resolve(caught);
      };
      const lost = (): void => answered(null);
      for (let i = 0; i < filters.length; i++) this.#device.popErrorScope().then(answered, lost);
    });
  }

  #watch(number: number, own: Promise<Error | null>, needed: readonly Promise<Error | null>[]): void {
    const whole = Promise.all([...needed, own]).then((errors) => {
      const error = errors.find((one) => one !== null) ?? null;
      if (error) this.#failed.set(number, { error, own: errors.at(-1) !== null });
      this.#open.delete(number);
      const [oldest = this.#last + 1] = this.#open.keys();
      // What is being recorded is not among the open ones, and as little answered.
      this.trusted = Math.min(oldest, this.current || oldest, ...this.#failed.keys()) - 1;
      return error;
    });
    this.#open.set(number, { own, whole });
  }

  /** What is wrong with what this number wrote, or null, as soon as that is known. @param alone not with what it touched */
  verdict(number: number, alone = false): Promise<Error | null> {
    const open = this.#open.get(number);
    if (open) return alone ? open.own : open.whole;
    const failed = this.#failed.get(number);
    return Promise.resolve(failed && (failed.own || !alone) ? failed.error : null);
  }

  /** All that is asked for has been answered. */
  async settled(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ whole }) => whole));
  }

  /** Throws what is wrong with what this number wrote, as soon as that is known. @param alone not with what it touched */
  async demand(number: number, alone = false): Promise<void> {
    const error = await this.verdict(number, alone);
    if (!error) return;
    this.#untold.delete(error);
    throw error;
  }

  /** What failed and was told to nobody who read, once. */
  untold(): Error | null {
    const [first] = this.#untold;
    this.#untold.clear();
    return first ?? null;
  }
}
