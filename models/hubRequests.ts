/**
 * Speaking to the Hugging Face Hub from Node: the environment's settings, the token, and what a refusal means.
 *
 * Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables and huggingface_hub's
 * constants.py. `@huggingface/hub` lists files with the `fetch` made here, which adds the token, repeats what fails for a
 * moment and turns other failures into one-line errors.
 */

import { fileError, UserError } from '../engine/errors.ts';
import { between, callback, isPlain, like, optionsSchema, positive, text } from '../engine/options.ts';
import { refuseCredentials, shownAddress } from './address.ts';
import { failureCode, passes, pauseAsked, persist } from './retry.ts';
import { speaking } from './silence.ts';
import { checkToken } from './token.ts';

/** Variables by name, as `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** How far a download is; all in bytes, over all files of the model. */
export interface DownloadProgress {
  readonly file: string;
  readonly done: number;
  readonly total: number;
}

/** Variables of the environment, as a field of options. */
export const environment = like<Readonly<Record<string, string | undefined>>>(
  (value) => isPlain(value) || value === process.env,
  'variables by name, as process.env has them',
);

/** Which revision, from which cache. */
export interface ResolveOptions {
  /** Branch, tag or commit; default `main`. */
  readonly revision?: string | undefined;
  /** Default: HF_TOKEN, else the file that `hf auth login` wrote. */
  readonly token?: string | undefined;
  /** Told as bytes arrive. */
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Told in one line where the cache stands in for the Hub, or the Hub asks for a pause; default `console.warn`. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Milliseconds without a byte after which a transfer counts as broken; default 60,000. */
  readonly silence?: number | undefined;
  /** First pause in milliseconds before a failed request is repeated, doubled each time; default 500. */
  readonly pause?: number | undefined;
  /** Default `process.env`. */
  readonly env?: Environment | undefined;
}

/** {@link ResolveOptions}; a token is never shown. */
export const resolveOptions = optionsSchema<ResolveOptions>({
  revision: text,
  token: like((value) => typeof value === 'string', 'a text'),
  onProgress: callback(),
  onNote: callback(),
  silence: positive,
  pause: between(0, Number.MAX_VALUE, 'milliseconds, 0 or more'),
  env: environment,
});

export interface Hub {
  readonly id: string;
  readonly revision: string;
  readonly endpoint: string;
  /** The folder of the model, or of the data set, in the cache: `…/models--org--name`. */
  readonly cache: string;
  readonly pause: number | undefined;
  /** Tries of a request; default 5. Fewer where the cache stands in. */
  attempts: number | undefined;
  readonly note: (text: string) => void;
  /** Answers of the Hub's API are read whole before they are given out. @throws UserError for refusals of the Hub's own. */
  readonly fetch: typeof fetch;
  /** A small file, whole. @throws UserError */
  bytes(url: string): Promise<Uint8Array>;
}

/** A path with `~`, `~user`, `$NAME` and `${NAME}` in it, as Python's expandvars(expanduser(…)) reads it. */
export async function expandPath(path: string, env: Environment): Promise<string> {
  const { homedir } = await import('node:os');
  const [start, user] = /^~([^/]*)/.exec(path) ?? [];
  const home = start === undefined ? undefined : user === '' ? env.HOME || homedir() : await homeOf(user!);
  const whole = home === undefined ? path : (home.replace(/\/+$/, '') || '/') + path.slice(start!.length);
  // What is not set stays as it is.
  return whole.replace(/\$(?:(\w+)|\{([^}]*)\})/g, (all, plain, braced) => env[plain ?? braced] ?? all);
}

/** Of another user of this machine, from its list of them. */
async function homeOf(user: string): Promise<string | undefined> {
  const { readFile } = await import('node:fs/promises');
  const list = await readFile('/etc/passwd', 'utf8').catch(() => '');
  return list
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === user)?.[5];
}

/** Where Hugging Face's tools keep the token and downloaded models: their rule. */
export async function hubFolders(
  env: Environment,
): Promise<{ readonly home: string; readonly cacheRoot: string; readonly tokenFile: string }> {
  const { join } = await import('node:path');
  const home = await expandPath(env.HF_HOME || join(env.XDG_CACHE_HOME || '~/.cache', 'huggingface'), env);
  const cache = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  return {
    home,
    cacheRoot: cache ? await expandPath(cache, env) : join(home, 'hub'),
    tokenFile: env.HF_TOKEN_PATH ? await expandPath(env.HF_TOKEN_PATH, env) : join(home, 'token'),
  };
}

/** The variable that forbids the network, if one does. */
export function offlineBy(env: Environment): string | undefined {
  // As there: the second counts where the first is not set.
  const name = env.HF_HUB_OFFLINE ? 'HF_HUB_OFFLINE' : 'TRANSFORMERS_OFFLINE';
  return isTrue(env[name]) ? name : undefined;
}

const isTrue = (value: string | undefined): boolean => /^(1|true|yes|on)$/i.test(value ?? '');

/** @throws UserError `token` for one with strange characters. */
async function tokenOf(env: Environment, given: string | undefined, file: string): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  const asked = checkToken(given, 'the token given');
  // Whoever wants it can forbid that what lies about is sent.
  if (asked || isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return asked ?? '';
  const found =
    checkToken(env.HF_TOKEN, 'HF_TOKEN') ??
    checkToken(env.HUGGING_FACE_HUB_TOKEN, 'HUGGING_FACE_HUB_TOKEN') ??
    checkToken(await readFile(file, 'utf8').catch(() => ''), `the token in ${file}`);
  return found ?? '';
}

/**
 * @param kind how the cache names the folder.
 * @throws UserError where HF_ENDPOINT is no address, or the token none.
 */
export async function openHub(
  id: string,
  revision: string,
  options: Pick<ResolveOptions, 'env' | 'token' | 'silence' | 'pause' | 'onNote'> = {},
  kind: 'models' | 'datasets' = 'models',
): Promise<Hub> {
  const { join } = await import('node:path');
  const { env = process.env, silence, pause, onNote = console.warn } = options;
  const { cacheRoot, tokenFile } = await hubFolders(env);
  const endpoint = (env.HF_ENDPOINT || 'https://huggingface.co').trim().replace(/\/+$/, '');
  refuseCredentials(endpoint, 'HF_ENDPOINT');
  if (!URL.canParse(endpoint) || !/^https?:/.test(endpoint)) {
    throw new UserError(
      'hub',
      `HF_ENDPOINT is ${JSON.stringify(shownAddress(endpoint))}, no http(s) address`,
    );
  }
  const token = await tokenOf(env, options.token, tokenFile);
  const { origin } = new URL(endpoint);
  const ask = speaking(fetch, silence);
  const about = { id, revision, endpoint, token };

  /** An answer that is not refused; read whole where `whole`, so that one that breaks off is asked for again. */
  const request = async (url: string, init: RequestInit | undefined, whole: boolean): Promise<Response> => {
    const headers = new Headers(init?.headers);
    // Only to the Hub itself: signed storage addresses need none, and strangers get none.
    const host = new URL(url).origin;
    if (token && host === origin && !headers.has('Authorization')) {
      headers.set('Authorization', `Bearer ${token}`);
    }
    const once = async (): Promise<Response> => {
      const response = await ask(url, { ...init, headers });
      if (!whole || !response.ok) return response;
      const body = await response.arrayBuffer();
      // Some statuses may have no body, not even an empty one.
      const read = new Response(body.byteLength > 0 ? body : null, response);
      return Object.defineProperty(read, 'url', { value: response.url });
    };
    const onWait = (seconds: number, status: number) =>
      onNote(`${id}: ${host} answers ${status}; the next try is in ${seconds} s`);
    const response = await persist(once, { attempts: hub.attempts, pause, onWait }).catch((cause) => {
      const code = failureCode(cause);
      throw new UserError(
        'hub-unreachable',
        `${id}: ${host} cannot be reached; check the network, HF_ENDPOINT or a proxy, or download it elsewhere and give the folder${code && ` (${code})`}`,
        { cause },
      );
    });
    // Storage behind the Hub has refusals of its own (an address that expired); what they mean is known where it is read.
    const answered = new URL(response.url || url).origin;
    if (response.ok || response.status === 416 || answered !== origin) return response;
    throw await refusal(response, about);
  };
  const hub: Hub = {
    id,
    revision,
    endpoint,
    cache: join(cacheRoot, `${kind}--${id.replace('/', '--')}`),
    pause,
    attempts: undefined,
    note: onNote,
    fetch(input, init) {
      const url = input instanceof Request ? input.url : String(input);
      return request(url, init, url.startsWith(`${endpoint}/api/`));
    },
    async bytes(url) {
      const response = await request(url, undefined, true);
      if (!response.ok)
        throw new UserError('hub', `${id}: ${new URL(response.url).origin} answers ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    },
  };
  return hub;
}

async function refusal(
  response: Response,
  about: { id: string; revision: string; endpoint: string; token: string },
): Promise<UserError> {
  const { id, revision, endpoint, token } = about;
  const code = response.headers.get('X-Error-Code');
  const { status } = response;
  await response.body?.cancel().catch(() => {});
  if (status === 401 || status === 403) {
    if (code === 'GatedRepo' || token) {
      return new UserError(
        'hub-denied',
        `${id}: access denied (${status}); accept its terms at ${endpoint}/${id} and ${token ? 'use a token of that account' : 'set HF_TOKEN'}`,
      );
    }
    // The Hub does not tell strangers whether a private model exists.
    return new UserError(
      'hub-denied',
      `${id}: not on the Hub, or private (${status}); check the name, or set HF_TOKEN`,
    );
  }
  if (status === 404) {
    const what =
      code === 'RevisionNotFound' ? `has no revision ${revision}` : 'not found; check the name and revision';
    return new UserError('hub-missing', `${id}: ${what} (${endpoint})`);
  }
  if (!passes(status)) return new UserError('hub', `${id}: ${endpoint} answers ${status}`);
  const seconds = Math.ceil((pauseAsked(response.headers) ?? 0) / 1000);
  const when = seconds > 0 ? `in ${seconds} s, as it asks` : 'later';
  return new UserError('hub-unreachable', `${id}: ${endpoint} answers ${status}; try again ${when}`);
}

/** Any failure of a request or its body as one line with what to do; of foreign errors, the code alone. */
export function asUserError(hub: Pick<Hub, 'id' | 'endpoint'>, cause: unknown): UserError {
  if (cause instanceof UserError) return cause;
  const { syscall, path } = (cause ?? {}) as { syscall?: string; path?: string };
  if (syscall && path) return fileError(path, cause);
  return new UserError('hub', `${hub.id}: ${hub.endpoint} does not answer like a Hub`, { cause });
}
