/** Access tokens are shown to nobody: not where they are wrong, not by a foreign library's error, not by our own. */

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { reportError } from '../../cli/exit.ts';
import { withoutSecrets } from '../../cli/secrets.ts';
import { type ByteFolder, hubFolder, resolveModelFolder, urlFolder } from '../../models/index.ts';
import { resolveDataFolder } from '../../probing/dataFolder.ts';

const home = mkdtempSync(join(tmpdir(), 'neurgrad-secrets-'));
const seen: (string | undefined)[] = [];
let server: Server;
let endpoint: string;
beforeAll(async () => {
  server = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(404).end();
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  rmSync(home, { recursive: true });
});
afterEach(() => {
  vi.unstubAllGlobals();
  seen.length = 0;
});

const [FIRST, SECOND] = ['hf_SecretPartOne', 'SecretPartTwo9'];
const STRANGE: [string, string, string][] = [
  ['a line break', '\n', 'a line break'],
  ['a carriage return', '\r', 'a line break'],
  ['another header', '\r\nX-Evil: 1\r\nX-Rest: ', 'a line break'],
  ['a tab', '\t', 'a control character'],
  ['an escape', '\u001b[31m', 'a control character'],
  ['DEL', '\u007f', 'a control character'],
  ['a space', ' ', 'a space'],
  ['quotation marks', '"', 'a quotation mark'],
  ['a comma', ',', 'a sign'],
  ['an umlaut', 'ü', 'not ASCII'],
  ['a wide character', '密', 'not ASCII'],
  ['an emoji', '😀', 'not ASCII'],
  ['a zero-width space', '\u200b', 'not ASCII'],
];

/** Nothing of the token, nor of what was foreign in it. */
function expectNothingOf(text: string): void {
  for (const part of [FIRST, SECOND, 'SecretPart', 'X-Evil']) expect(text).not.toContain(part);
}

describe('a token with strange characters is refused at every door', () => {
  it.each(STRANGE)('%s', async (_, strange, kind) => {
    const token = `${FIRST}${strange}${SECOND}`;
    const file = join(home, 'strange-token');
    writeFileSync(file, token);
    const base = { HF_ENDPOINT: endpoint, HF_HOME: join(home, 'hf'), HF_TOKEN_PATH: '/nowhere' };
    const read = (folder: ByteFolder) => folder.readText('config.json');
    const doors: [string, () => Promise<unknown>][] = [
      ['the token given', () => resolveModelFolder('org/tiny', { token, env: base })],
      ['HF_TOKEN', () => resolveModelFolder('org/tiny', { env: { ...base, HF_TOKEN: token } })],
      [
        'HUGGING_FACE_HUB_TOKEN',
        () => resolveModelFolder('org/tiny', { env: { ...base, HUGGING_FACE_HUB_TOKEN: token } }),
      ],
      [
        `the token in ${file}`,
        () => resolveModelFolder('org/tiny', { env: { ...base, HF_TOKEN_PATH: file } }),
      ],
      ['HF_TOKEN', () => resolveDataFolder('org/data', { env: { ...base, HF_TOKEN: token } })],
      ['the access token', () => hubFolder('org/tiny', { endpoint, token })],
      ['the access token', () => read(urlFolder(`${endpoint}/m/`, { token }))],
    ];
    for (const [source, open] of doors) {
      const error = await open().then(
        () => expect.unreachable('it was accepted'),
        (error) => error,
      );
      expect([error.name, error.code]).toEqual(['UserError', 'token']);
      expect(error.message).toContain(
        `${source}: its character ${FIRST.length + 1} of ${token.length} is ${kind};`,
      );
      expect(error.message).not.toMatch(/\n/);
      expectNothingOf(`${error.message}${error.stack}`);
    }
    expect(seen).toEqual([]);
  });

  it('what surrounds a token is taken off, and an empty one is none', async () => {
    const base = { HF_ENDPOINT: endpoint, HF_HOME: join(home, 'hf') };
    mkdirSync(base.HF_HOME, { recursive: true });
    writeFileSync(join(base.HF_HOME, 'token'), 'hf_of-the-file\r\n');
    const sent = async (variables: object, token?: string) => {
      seen.length = 0;
      await resolveModelFolder('org/tiny', { token, env: { ...base, ...variables } }).catch(() => {});
      return seen[0];
    };
    expect(await sent({ HF_TOKEN: ' hf_x.y~z+/=\n' })).toBe('Bearer hf_x.y~z+/=');
    expect(await sent({ HF_TOKEN: ' \n', HUGGING_FACE_HUB_TOKEN: 'old' })).toBe('Bearer old');
    expect(await sent({ HF_TOKEN: '' })).toBe('Bearer hf_of-the-file');
    expect(await sent({}, 'hf_given')).toBe('Bearer hf_given');
    const forbidden = { HF_TOKEN: 'hf_env', HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' };
    expect(await sent(forbidden)).toBeUndefined();
    expect(await sent(forbidden, 'hf_given')).toBe('Bearer hf_given');
  });

  it('the command: one line, exit code 2, and nothing of it', async () => {
    const run = (variables: object, ...args: string[]) =>
      new Promise<{ code: number | null; text: string }>((resolve, reject) => {
        const env = {
          ...process.env,
          HF_ENDPOINT: endpoint,
          HF_HOME: join(home, 'hf'),
          NEURGRAD_STACK: '1',
          NO_COLOR: '1',
        };
        const child = spawn(process.execPath, ['dist/cli/main.js', ...args], {
          env: { ...env, HF_HUB_OFFLINE: '', ...variables },
        });
        let text = '';
        for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => (text += part));
        child.on('error', reject);
        child.on('close', (code) => resolve({ code, text }));
      });
    const commands = [
      ['predict', '--model', 'org/tiny', '--prompt', 'x'],
      ['plan', '--model', 'org/tiny'],
      ['data', 'audit', 'org/data'],
    ];
    const [token, other] = [`${FIRST}\n${SECOND}`, `${FIRST}ü${SECOND}`];
    for (const [i, args] of commands.entries()) {
      const { code, text } = await run({ HF_TOKEN: i % 2 === 0 ? token : other }, ...args);
      expect([code, text]).toEqual([
        2,
        expect.stringMatching(/^error: HF_TOKEN: its character 17 of 31 is [^\n]*\n$/),
      ]);
      expectNothingOf(text);
    }
    // A password in an address is as secret.
    for (const [variables, model] of [
      [{ HF_ENDPOINT: `http://me:${SECOND}@127.0.0.1:9` }, 'org/tiny'],
      [{ HF_ENDPOINT: `ftp://me:${SECOND}@127.0.0.1:9` }, 'org/tiny'],
      [{}, `http://me:${SECOND}@127.0.0.1:9/m/`],
      [{}, `${endpoint}/m/?signature=${SECOND}`],
    ] as const) {
      const { code, text } = await run(variables, 'plan', '--model', model);
      expect([code, text]).toEqual([2, expect.stringMatching(/^error: [^\n]+\n$/)]);
      expectNothingOf(text);
    }
    expect(seen).toEqual([]);
  }, 60_000);
});

describe('the error of a foreign library that quotes a header', () => {
  const token = `${FIRST}${SECOND}`;
  const quoting = (code?: string) =>
    Object.assign(
      new TypeError(`Headers.append: "Bearer ${token}" is an invalid header value.`),
      code ? { code } : {},
    );
  const env = () => ({ HF_ENDPOINT: endpoint, HF_HOME: join(home, 'hf'), HF_TOKEN: token });
  const COMMIT = 'c0ffee'.padEnd(40, '0');

  /** A `fetch` that fails before it answers, or in the middle of a body, of the addresses that `pattern` is of. */
  const failing =
    (pattern: RegExp, inBody: boolean): typeof fetch =>
    async (input) => {
      const url = String(input);
      const answers: [RegExp, unknown][] = [
        [/\/revision\//, { sha: COMMIT, siblings: [{ rfilename: 'config.json' }, { rfilename: 'a.json' }] }],
        [
          /\/tree\//,
          ['config.json', 'model.safetensors'].map((path) => ({ type: 'file', path, size: 9, oid: COMMIT })),
        ],
      ];
      if (!pattern.test(url)) {
        const found = answers.find(([path]) => path.test(url));
        return new Response(JSON.stringify(found?.[1]), { status: found ? 200 : 404 });
      }
      if (!inBody) throw quoting('UND_ERR_INVALID_ARG');
      const body = new ReadableStream({
        pull(controller) {
          controller.enqueue(new TextEncoder().encode('{'));
          controller.error(quoting());
        },
      });
      return new Response(body, { status: 206, headers: { 'Content-Range': 'bytes 0-8/9' } });
    };

  it.each([
    ['/revision/', /\/revision\//],
    ['/tree/', /\/tree\//],
    ['/resolve/', /\/resolve\//],
  ])(
    'at %s, before the answer and in it',
    async (_, pattern) => {
      for (const inBody of [false, true]) {
        let failed = 0;
        vi.stubGlobal('fetch', failing(pattern, inBody));
        const http = { token, fetch, attempts: 2, pause: 1, endpoint };
        const doors = [
          () => resolveModelFolder('org/tiny', { env: env(), pause: 1 }),
          () => resolveDataFolder('org/data', { env: env(), pause: 1 }),
          async () => (await hubFolder('org/tiny', http)).readText('config.json'),
          () =>
            urlFolder(`${endpoint}/resolve/revision/tree/`, { token, fetch, attempts: 2, pause: 1 }).readText(
              'a.json',
            ),
        ];
        for (const open of doors) {
          const error = await open().then(
            () => null,
            (error) => error,
          );
          // Data sets have no tree: not all doors come by here.
          if (!error) continue;
          failed++;
          expect(error.name).toBe('UserError');
          expectNothingOf(error.message);
          const printed: string[] = [];
          reportError(error, (text) => printed.push(text));
          expectNothingOf(printed.join('\n'));
        }
        expect(failed).toBeGreaterThan(1);
      }
    },
    60_000,
  );

  it('standard error is the last net', () => {
    const shown = (text: string, HF_TOKEN?: string) =>
      withoutSecrets(text, HF_TOKEN === undefined ? {} : { HF_TOKEN });
    expect(shown(quoting().message)).toBe('Headers.append: "Bearer …" is an invalid header value.');
    expect(shown(`got ${token}, twice ${token}`, token)).toBe('got …, twice …');
    expect(shown('a "my-mirror-token" b', 'my-mirror-token')).toBe('a "…" b');
    expect(shown(`first ${FIRST} then ${SECOND}`, `${FIRST}\n${SECOND}`)).toBe('first … then …');
    expect(shown('hf_abcdefgh1234 in a file')).toBe('hf_… in a file');
    expect(shown('http://me:word@host/x?y')).toBe('http://…@host/x?y');
    // And nothing else.
    const plain = 'error: p is 0.5 at hf_home, mail me@host, bearer of news: basic';
    expect(shown(plain, 'p')).toBe(plain);
  });
});
