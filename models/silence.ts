/**
 * A `fetch` that does not wait for ever: a server that falls silent, before its answer or in the middle of it, counts as a
 * transfer that broke off, which those who ask repeat.
 *
 * Only waiting is timed: a reader that is busy with what came (weights on their way to a device) may take its time.
 */

/** Milliseconds without a byte. */
export const SILENCE = 60_000;

/** What `work` gives, or an error after `limit` milliseconds. */
async function unlessSilent<Result>(work: Promise<Result>, limit: number): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TypeError(`nothing came for ${limit / 1000} s`)), limit);
  });
  return Promise.race([work, silence]).finally(() => clearTimeout(timer));
}

/** `ask`, whose answers and their bodies fail after `limit` milliseconds of silence. */
export function speaking(ask: typeof fetch, limit: number = SILENCE): typeof fetch {
  return async (input, init) => {
    const stop = new AbortController();
    const signal = init?.signal ? AbortSignal.any([init.signal, stop.signal]) : stop.signal;
    const response = await unlessSilent(ask(input, { ...init, signal }), limit).catch((cause) => {
      stop.abort();
      throw cause;
    });
    if (!response.body) return response;
    const reader = response.body.getReader();
    const body = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const piece = await unlessSilent(reader.read(), limit).catch((cause) => {
            stop.abort();
            throw cause;
          });
          if (piece.done) controller.close();
          else controller.enqueue(piece.value);
        },
        cancel: (reason) => reader.cancel(reason),
      },
      // Nothing is read ahead of the reader, whose pauses would be taken for the server's.
      { highWaterMark: 0 },
    );
    const { status, statusText, headers, url } = response;
    return Object.defineProperty(new Response(body, { status, statusText, headers }), 'url', { value: url });
  };
}
