/**
 * A stranger's file or program at work in a process of its own (Node), which is ended where it takes too much: a loop without
 * end cannot be stopped from within its thread, and running out of memory takes threads down with all others.
 */

/** What a process may take. */
export interface Bounds {
  readonly seconds: number;
  readonly mebibytes: number;
  /** Bytes of its answer. */
  readonly answer: number;
}

/** Runs programs; see {@link boundedRunner}. */
export type BoundedRunner = (program: string, input: string | Uint8Array, bounds: Bounds) => string;

/**
 * Runs the text of a module, which finds its input on standard input and writes its answer to standard output. It is a text, as
 * a file would have one name before it is compiled and another after; and it imports nothing of Node by `import`, which a bundler
 * would find in it.
 * @throws Error that says which bound it met, or how it failed.
 */
export async function boundedRunner(): Promise<BoundedRunner> {
  const { spawnSync } = await import('node:child_process');
  return runnerBy(spawnSync);
}

/** The same at once, for modules that only Node loads. */
export function runnerBy(spawnSync: typeof import('node:child_process').spawnSync): BoundedRunner {
  return (program, input, { seconds, mebibytes, answer }) => {
    const flags = [`--max-old-space-size=${mebibytes}`, '--input-type=module', '--eval', program];
    const { status, signal, error, stdout } = spawnSync(process.execPath, flags, {
      input,
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '' },
      timeout: 1000 * seconds,
      killSignal: 'SIGKILL',
      maxBuffer: answer,
    });
    const code = (error as NodeJS.ErrnoException | undefined)?.code;
    if (code === 'ETIMEDOUT') throw new Error(`it takes more than ${seconds} seconds`);
    if (code === 'ENOBUFS') throw new Error(`it writes more than ${answer} bytes`);
    // A process that ends before it has read all of its input breaks the pipe; what ended it is told by its status.
    if (error && code !== 'EPIPE') throw error;
    // Node aborts where its heap is full.
    if (signal !== null || status === 134) throw new Error(`it takes more than ${mebibytes} MiB of memory`);
    if (status !== 0) throw new Error('it makes its reader fail');
    return stdout;
  };
}

/** Address of a library, for a program to import. */
export async function addressOf(library: string): Promise<string> {
  const { createRequire } = await import('node:module');
  const { pathToFileURL } = await import('node:url');
  return pathToFileURL(createRequire(import.meta.url).resolve(library)).href;
}

/** An answer that a {@link BoundedService} gives to a question. */
type Answer<Value> = { readonly value: Value } | { readonly reason: string };

/**
 * A process that answers one question after the other, where starting one for each would take longer than the answers: its
 * program sends `{ value }` or `{ reason }` for every message. One that takes too long is ended, and the next question begins
 * another. It holds up the end of nobody.
 */
export class BoundedService<Question, Value> {
  readonly #program: string;
  readonly #bounds: Omit<Bounds, 'answer'>;
  #process: import('node:child_process').ChildProcess | null = null;
  #last: Promise<unknown> = Promise.resolve();

  /** @param program text of a module. */
  constructor(program: string, bounds: Omit<Bounds, 'answer'>) {
    this.#program = program;
    this.#bounds = bounds;
  }

  /** @throws Error that says which bound it met, or how it failed. */
  ask(question: Question): Promise<Value> {
    const answer = this.#last.then(() => this.#ask(question));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #ask(question: Question): Promise<Value> {
    const { spawn } = await import('node:child_process');
    const { seconds, mebibytes } = this.#bounds;
    const flags = [`--max-old-space-size=${mebibytes}`, '--input-type=module', '--eval', this.#program];
    this.#process ??= spawn(process.execPath, flags, {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      serialization: 'advanced',
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    const child = this.#process;
    child.ref();
    child.channel?.ref();
    try {
      return await new Promise<Value>((resolve, reject) => {
        const timer = setTimeout(() => fail(`it takes more than ${seconds} seconds`), 1000 * seconds);
        const done = (): void => {
          clearTimeout(timer);
          child.removeAllListeners();
        };
        const fail = (why: string): void => {
          done();
          this.#process = null;
          // Nobody listens to what it has to say of its end.
          child.on('error', () => {});
          child.kill('SIGKILL');
          reject(new Error(why));
        };
        child.once('message', (answer: Answer<Value>) => {
          done();
          if ('reason' in answer) reject(new Error(answer.reason));
          else resolve(answer.value);
        });
        child.once('error', (error) => fail(error.message));
        child.once('exit', () =>
          fail(`it takes more than ${mebibytes} MiB of memory, or makes its reader fail`),
        );
        child.send(question as never, (error) => error && fail(error.message));
      });
    } finally {
      child.unref();
      child.channel?.unref();
    }
  }
}
