/**
 * Firefox by WebDriver BiDi (https://w3c.github.io/webdriver-bidi), as much of it as the tests need: a page is opened and evaluates.
 * Playwright asks Firefox for commands that Debian's does not know yet. Node 20 has WebSocket behind a flag.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const PREFERENCES: Readonly<Record<string, string | number | boolean>> = {
  'dom.webgpu.enabled': true,
  // A CPU's driver is on Firefox's list of those to keep away from.
  'gfx.webgpu.ignore-blocklist': true,
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.page': 0,
  'datareporting.policy.dataSubmissionEnabled': false,
  'dom.ipc.reportProcessHangs': false,
  'dom.max_script_run_time': 0,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
};

interface Answer {
  readonly id?: number;
  readonly type: string;
  readonly result?: unknown;
  readonly error?: string;
  readonly message?: string;
}
interface Evaluation {
  readonly type: 'success' | 'exception';
  readonly result?: { readonly value?: string };
  readonly exceptionDetails?: { readonly text: string };
}

export class Firefox {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #last = 0;
  #context = '';

  private constructor(process: ChildProcess, profile: string, socket: WebSocket) {
    this.#process = process;
    this.#profile = profile;
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const answer = JSON.parse(String(data)) as Answer;
      if (answer.id === undefined) return;
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
  }

  /** Starts Firefox without a window, on a profile of its own. @throws Error where it ends before it listens. */
  static async launch(path: string): Promise<Firefox> {
    const profile = mkdtempSync(join(tmpdir(), 'neurgrad-firefox-'));
    const lines = Object.entries(PREFERENCES).map(
      ([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`,
    );
    writeFileSync(join(profile, 'user.js'), lines.join('\n'));
    const options = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0'];
    const process = spawn(path, options, { stdio: ['ignore', 'ignore', 'pipe'] });
    const address = await new Promise<string>((resolve, reject) => {
      const said: string[] = [];
      createInterface({ input: process.stderr! }).on('line', (line) => {
        said.push(line);
        const [, found] = /WebDriver BiDi listening on (ws:\S+)/.exec(line) ?? [];
        if (found) resolve(found);
      });
      process.on('error', reject);
      process.on('exit', (code) => reject(new Error(`Firefox ended with ${code}: ${said.join('\n')}`)));
    });
    const socket = new WebSocket(`${address}/session`);
    await new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve);
      socket.addEventListener('error', () => reject(new Error(`no answer at ${address}`)));
    });
    const firefox = new Firefox(process, profile, socket);
    await firefox.#send('session.new', { capabilities: {} });
    const { context } = (await firefox.#send('browsingContext.create', { type: 'tab' })) as {
      context: string;
    };
    firefox.#context = context;
    return firefox;
  }

  #send(method: string, params: object): Promise<unknown> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ type, result, error, message }) =>
        type === 'success' ? resolve(result) : reject(new Error(`${method}: ${error}: ${message}`)),
      );
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  /** Leads the page to an address, until it has loaded. */
  async goto(url: string): Promise<void> {
    await this.#send('browsingContext.navigate', { context: this.#context, url, wait: 'complete' });
  }

  /** What a function, which may not look outside, gives on the page; anything that JSON holds. */
  async evaluate<Given, Value>(
    work: (given: Given) => Value | Promise<Value>,
    given?: Given,
  ): Promise<Value> {
    const expression = `(async () => JSON.stringify((await (${work})(${JSON.stringify(given)})) ?? null))()`;
    const { type, result, exceptionDetails } = (await this.#send('script.evaluate', {
      expression,
      target: { context: this.#context },
      awaitPromise: true,
      userActivation: true,
    })) as Evaluation;
    if (type === 'exception') throw new Error(`on the page: ${exceptionDetails?.text}`);
    return JSON.parse(result!.value!) as Value;
  }

  /** Waits until a function is true on the page. @throws Error after `seconds` */
  async until(work: () => boolean, seconds = 300): Promise<void> {
    const end = performance.now() + 1000 * seconds;
    while (!(await this.evaluate(work))) {
      if (performance.now() > end) throw new Error(`not within ${seconds} s: ${work}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    await this.#send('browser.close', {}).catch(() => this.#process.kill());
    await ended;
    rmSync(this.#profile, { recursive: true, force: true });
  }
}
