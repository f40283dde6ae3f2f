/**
 * Requests that go through in the end: networks fail for a moment, servers are overloaded (429, 5xx), and say for how long
 * (`Retry-After`, RFC 9110, section 10.2.3; the Hub's `RateLimit`).
 */

/** How often and how patiently. */
export interface RetryOptions {
  /** Tries before giving up; default 5. */
  readonly attempts?: number | undefined;
  /** First pause in milliseconds, doubled each time; default 500. */
  readonly pause?: number | undefined;
  /** Told of pauses that a person would notice. */
  readonly onWait?: ((seconds: number, status: number) => void) | undefined;
}

/** The longest pause that a server may ask for, in milliseconds: the Hub counts in windows of 5 minutes. */
export const LONGEST_PAUSE = 300_000;
/** In milliseconds. */
const NOTICED = 3000;

/** Whether a refusal may be none in a moment. */
export const passes = (status: number): boolean =>
  status === 408 || status === 425 || status === 429 || status >= 500;

/** The pause in milliseconds that an answer asks for; undefined where it asks for none. */
export function pauseAsked(headers: Headers, now: number = Date.now()): number | undefined {
  const text = headers.get('retry-after')?.trim() ?? '';
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const date = text === '' ? Number.NaN : Date.parse(text);
  if (!Number.isNaN(date)) return Math.max(0, date - now);
  // The Hub: `"api";r=0;t=55`, nothing left for 55 seconds.
  const [, left] = /;\s*r=0\s*;\s*t=(\d+)/.exec(headers.get('ratelimit') ?? '') ?? [];
  return left === undefined ? undefined : Number(left) * 1000;
}

/**
 * What `ask` answers at last, which may still be a refusal.
 * @throws what `ask` throws the last time.
 */
export async function persist(ask: () => Promise<Response>, options: RetryOptions = {}): Promise<Response> {
  const { attempts = 5, pause = 500, onWait } = options;
  for (let attempt = 1; ; attempt++) {
    const response = await ask().catch((cause) => {
      if (attempt >= attempts) throw cause;
      return undefined;
    });
    if (response && (attempt >= attempts || !passes(response.status))) return response;
    const asked = (response && pauseAsked(response.headers)) ?? 0;
    if (response && asked > LONGEST_PAUSE) return response;
    await response?.body?.cancel().catch(() => {});
    const wait = Math.max(asked, pause * 2 ** (attempt - 1));
    if (response && wait >= NOTICED) onWait?.(Math.ceil(wait / 1000), response.status);
    await sleep(wait);
  }
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The code of a failure (`ECONNRESET`), for a message; foreign texts may hold what was sent. */
export function failureCode(cause: unknown): string {
  for (let error = cause, depth = 0; error && depth < 4; error = (error as Error).cause, depth++) {
    const { code } = error as { code?: unknown };
    if (typeof code === 'string' && /^[A-Z][A-Z0-9_]{2,40}$/.test(code)) return code;
  }
  return '';
}
