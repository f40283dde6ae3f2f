/**
 * Speaking to the Hugging Face Hub from Node: the environment's settings, the token, and what a refusal means.
 *
 * Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables. `@huggingface/hub` does the
 * requests; it gets the `fetch` made here, which adds the token and turns failures into one-line errors.
 */

import { UserError } from '../engine/errors.ts';
import { callback, like, optionsSchema, positive, text } from '../engine/options.ts';
import { fileError } from './byteSource.ts';
import { speaking } from './silence.ts';

/** How far a download is; all in bytes, over all files of the model. */
export interface DownloadProgress {
  readonly file: string;
  readonly done: number;
  readonly total: number;
}

/** Variables of the environment, as a field of options. */
export const environment = like<Readonly<Record<string, string | undefined>>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
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
  /** Milliseconds without a byte after which a transfer counts as broken; default 60,000. */
  readonly silence?: number | undefined;
  /** Default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** {@link ResolveOptions}; a token is never shown. */
export const resolveOptions = optionsSchema<ResolveOptions>({
  revision: text,
  token: like((value) => typeof value === 'string', 'a text'),
  onProgress: callback(),
  silence: positive,
  env: environment,
});

export interface Hub {
  readonly id: string;
  readonly revision: string;
  readonly endpoint: string;
  /** The model's folder in the cache, `…/models--org--name`. */
  readonly cache: string;
  readonly fetch: typeof fetch;
  /** What the last failed request means; streams lose the type of errors thrown inside them. */
  failure(): UserError | undefined;
}

/** Where Hugging Face's tools keep the token and downloaded models: their rule. */
export async function hubFolders(
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ readonly home: string; readonly cacheRoot: string }> {
  const { homedir } = await import('node:os');
  const { join } = await import('node:path');
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
  return { home, cacheRoot: env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub') };
}

/** @throws UserError where HF_ENDPOINT is no address. */
export async function openHub(
  id: string,
  revision: string,
  env: Readonly<Record<string, string | undefined>>,
  givenToken: string | undefined,
  silence?: number,
): Promise<Hub> {
  const { join } = await import('node:path');
  const { readFile } = await import('node:fs/promises');
  const { home, cacheRoot } = await hubFolders(env);
  const endpoint = (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  if (!URL.canParse(endpoint) || !/^https?:/.test(endpoint)) {
    throw new UserError('hub', `HF_ENDPOINT is ${JSON.stringify(endpoint)}, no http(s) address`);
  }
  const tokenFile = env.HF_TOKEN_PATH || join(home, 'token');
  const token = (givenToken || env.HF_TOKEN || (await readFile(tokenFile, 'utf8').catch(() => ''))).trim();
  const { origin } = new URL(endpoint);
  let failure: UserError | undefined;
  const ask = speaking(fetch, silence);
  return {
    id,
    revision,
    endpoint,
    cache: join(cacheRoot, `models--${id.replace('/', '--')}`),
    failure: () => failure,
    async fetch(input, init) {
      const url = new URL(input instanceof Request ? input.url : String(input));
      const headers = new Headers(init?.headers);
      // Only to the Hub itself: signed storage addresses need none, and strangers get none.
      if (token && url.origin === origin && !headers.has('Authorization')) {
        headers.set('Authorization', `Bearer ${token}`);
      }
      const response = await ask(input, { ...init, headers }).catch((cause) => {
        const advice =
          'check the network, HF_ENDPOINT or a proxy, or download it elsewhere and give the folder';
        failure = new UserError('hub-unreachable', `${id}: ${url.origin} cannot be reached; ${advice}`, {
          cause,
        });
        throw cause;
      });
      // Storage behind the Hub has refusals of its own (an address that expired); the library knows them.
      const answered = new URL(response.url || url).origin;
      failure =
        response.ok || answered !== origin
          ? undefined
          : await refusal(response, { id, revision, endpoint, token });
      if (failure) throw failure;
      return response;
    },
  };
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
  const passing = status === 429 || status >= 500;
  return new UserError(
    passing ? 'hub-unreachable' : 'hub',
    `${id}: ${endpoint} answers ${status}${passing ? '; try again later' : ''}`,
  );
}

/** Any failure of a request or its body as one line with what to do. */
export function asUserError(hub: Hub, cause: unknown): UserError {
  if (cause instanceof UserError) return cause;
  const failure = hub.failure();
  if (failure) return failure;
  if ((cause as { syscall?: string } | null)?.syscall && (cause as { path?: string }).path) {
    return fileError(String((cause as { path?: string }).path), cause);
  }
  if (cause instanceof SyntaxError) {
    return new UserError('hub', `${hub.id}: ${hub.endpoint} does not answer like a Hub`, { cause });
  }
  // A body that breaks off in the middle comes without any type of its own.
  const message = String((cause as Error | null)?.message ?? cause).split('\n')[0];
  return new UserError(
    'hub-unreachable',
    `${hub.id}: the download broke off (${message}); start it again to go on`,
    { cause },
  );
}
