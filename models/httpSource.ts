/**
 * A file behind HTTP, read by ranges (RFC 9110, section 14): any part of a model without downloading the whole.
 *
 * Transfers of gigabytes break off. A range that stops, or brings nothing for a minute (silence.ts), is asked for again from the byte where it stopped, with growing
 * pauses; each answer must be 206 with the Content-Range that was asked for, so a server that ignores ranges is noticed
 * at once instead of filling a tensor with a file's beginning.
 */

import { UserError } from '../engine/errors.ts';
import {
  between,
  callback,
  checkOptions,
  like,
  optionsSchema,
  positive,
  text,
  whole,
} from '../engine/options.ts';
import { shownAddress } from './address.ts';
import { type ByteSource, sourceOf } from './byteSource.ts';
import { failureCode, persist, sleep } from './retry.ts';
import { speaking } from './silence.ts';
import { checkToken } from './token.ts';

export interface HttpOptions {
  /** Sent as `Authorization: Bearer`. `fetch` itself drops it where a redirect leaves the origin. */
  readonly token?: string | undefined;
  /** For messages; default the URL. */
  readonly name?: string | undefined;
  /** In place of the global one. */
  readonly fetch?: typeof fetch | undefined;
  /** Attempts in a row that bring no byte before giving up; default 5. */
  readonly attempts?: number | undefined;
  /** First pause in milliseconds, doubled each time; default 500. */
  readonly pause?: number | undefined;
  /** Milliseconds without a byte after which a transfer counts as broken; default 60,000. */
  readonly silence?: number | undefined;
}

/** {@link HttpOptions}; a token is never shown. */
export const httpOptions = optionsSchema<HttpOptions>({
  token: like((value) => typeof value === 'string', 'a text'),
  name: text,
  fetch: callback(),
  attempts: whole(1),
  pause: between(0, Number.MAX_VALUE, 'milliseconds, 0 or more'),
  silence: positive,
});

/**
 * One GET, repeated while the network or the server is down.
 * @throws UserError `http-unreachable`, `http-denied` (401, 403), `http-missing` (404), `http` for other statuses, `token`.
 */
export async function get(
  url: string,
  options: HttpOptions,
  headers: Record<string, string> = {},
): Promise<Response> {
  const token = checkToken(options.token, 'the access token');
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  const ask = speaking(options.fetch ?? fetch, options.silence);
  const once = () => ask(url, { headers: { ...authorization, ...headers } });
  const response = await persist(once, options).catch((cause) => {
    const code = failureCode(cause);
    throw new UserError(
      'http-unreachable',
      `${shownAddress(url)}: cannot be reached; check the network or the address${code && ` (${code})`}`,
      { cause },
    );
  });
  return checkStatus(response, shownAddress(url));
}

async function checkStatus(response: Response, url: string): Promise<Response> {
  // 416 is how an empty file answers any range: left to the caller.
  if (response.ok || response.status === 416) return response;
  await response.body?.cancel().catch(() => {});
  const { status } = response;
  if (status === 401 || status === 403) {
    throw new UserError('http-denied', `${url}: access denied (${status}); a token may be needed`);
  }
  if (status === 404) throw new UserError('http-missing', `${url}: not found (404)`);
  throw new UserError('http', `${url}: the server answers ${status}`);
}

/**
 * Opens a URL for reading by ranges; asks for its first byte to learn the size.
 * @throws UserError as `get`, and `http-range` where the server ignores ranges.
 */
export async function openUrl(url: string, options: HttpOptions = {}): Promise<ByteSource> {
  checkOptions('openUrl', httpOptions, options);
  const name = options.name ?? url;
  const pause = options.pause ?? 500;
  const probe = await get(url, options, { Range: 'bytes=0-0' });
  await probe.body?.cancel().catch(() => {});
  const size = probe.status === 416 ? 0 : contentRange(probe, name).total;
  const etag = probe.headers.get('etag');

  /** One request for `begin` on; what arrived before it broke off is kept. @returns the number of bytes that came. */
  async function request(begin: number, target: Uint8Array): Promise<number> {
    const end = begin + target.byteLength;
    const response = await get(url, options, { Range: `bytes=${begin}-${end - 1}` });
    const got = contentRange(response, name);
    if (got.total !== size || (etag && response.headers.get('etag') !== etag)) {
      throw new UserError('http-changed', `${name}: the file changed on the server; start again`);
    }
    if (got.begin !== begin || got.end > end) {
      throw new UserError('http-range', `${name}: the server sent other bytes than those asked for`);
    }
    let done = 0;
    const reader = response.body?.getReader();
    try {
      for (;;) {
        const piece = await reader?.read();
        if (!piece || piece.done) return done;
        if (done + piece.value.byteLength > target.byteLength) {
          throw new UserError('http-range', `${name}: the server sent more bytes than those asked for`);
        }
        target.set(piece.value, done);
        done += piece.value.byteLength;
      }
    } catch (cause) {
      if (cause instanceof UserError) throw cause;
      return done;
    } finally {
      await reader?.cancel().catch(() => {});
    }
  }

  return sourceOf(name, size, async (begin, target) => {
    let fruitless = 0;
    for (let done = 0; done < target.byteLength; ) {
      const came = await request(begin + done, target.subarray(done));
      done += came;
      if (done === target.byteLength) return;
      fruitless = came > 0 ? 0 : fruitless + 1;
      if (fruitless >= (options.attempts ?? 5)) {
        throw new UserError('http-unreachable', `${name}: the transfer breaks off at byte ${begin + done}`);
      }
      await sleep(pause * 2 ** fruitless);
    }
  });
}

/** Content-Range of a 206 answer; `end` excluded. @throws UserError where the server ignored the range. */
function contentRange(response: Response, name: string): { begin: number; end: number; total: number } {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
  if (response.status !== 206 || !match) {
    response.body?.cancel().catch(() => {});
    throw new UserError(
      'http-range',
      `${name}: the server ignores byte ranges; download the file and open it from disk`,
    );
  }
  const [, first, lastByte, total] = match;
  return { begin: Number(first), end: Number(lastByte) + 1, total: Number(total) };
}
