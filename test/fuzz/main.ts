/**
 * `npm run fuzz`: damages the files that neurgrad reads, by seed, and expects each to be taken or refused in one line, soon.
 *
 *   npm run fuzz -- [--seed N] [--inputs N] [--only NAME]
 *
 * Parsers are fed in processes apart. The exit code is 1 where anything else happened; the line of a fault names
 * parser, seed and number, by which it is made again.
 */

import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Feed, News } from './child.ts';
import { MADE, parsers } from './parsers.ts';

/** An input that takes longer hangs. Parquet and chat templates have processes with bounds of their own, 60 s at most. */
const PATIENCE = 90_000;
/** Parsers that are fed at a time. */
const PROCESSES = 2;
const CHILD = fileURLToPath(new URL('./child.js', import.meta.url));

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    inputs: { type: 'string', default: '250' },
    first: { type: 'string', default: '0' },
    only: { type: 'string' },
  },
});

/** A finished study and a finished probing run, as small as they get. */
function makeRuns(work: string): { study: string; probe: string } {
  const [study, probe, data] = ['study', 'probe', 'data'].map((name) => join(work, name)) as [
    string,
    string,
    string,
  ];
  const prompts = join(work, 'prompts.jsonl');
  const row = (country: string) => ({ prompt: `The capital of ${country} is [MASK].`, answer: 'paris' });
  writeFileSync(
    prompts,
    ['France', 'Italy', 'Spain'].map((country) => JSON.stringify(row(country))).join('\n'),
  );
  const plan = join(work, 'plan.json');
  writeFileSync(
    plan,
    JSON.stringify({
      models: ['examples/models/facts-bert'],
      prompts: { path: prompts, count: 3, answeredRight: false },
      neurons: { perPrompt: 4 },
      grid: { from: -1, to: 1, step: 0.5 },
      figure: { prompts: 1, neurons: 2, grid: { from: -1, to: 1, step: 0.5 } },
      integrated: { prompts: 1, steps: 2 },
    }),
  );
  const claims = Array.from({ length: 8 }, (_, i) => ({
    claim: `Claim number ${i} is about Rome.`,
    label: i % 2,
  }));
  mkdirSync(join(data, 'fact/fever'), { recursive: true });
  for (const split of ['train', 'valid', 'test'])
    writeFileSync(
      join(data, `fact/fever/${split}.json`),
      JSON.stringify(
        claims.map((claim, i) => ({
          ...claim,
          claim: `${split} ${i}: ${claim.claim}`,
          label: i % 2 === 0,
        })),
      ),
    );
  const model = ['--model', 'examples/models/facts-bert'];
  neurgrad('study', '--plan', plan, '--out', study);
  neurgrad(
    'probe',
    'run',
    ...model,
    '--data',
    data,
    '--tasks',
    'FEVER',
    '--shots',
    '0',
    '--permutations',
    '0',
    '--keep-parts',
    '--out',
    probe,
  );
  return { study, probe };
}

function neurgrad(...args: string[]): void {
  const { status, stderr } = spawnSync(process.execPath, ['dist/cli/main.js', ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`neurgrad ${args.slice(0, 2).join(' ')}: ${stderr}`);
}

interface Tally {
  taken: number;
  refused: number;
  readonly faults: string[];
}

/** A process that reads; it is begun anew after an input that has ended it. */
class Reader {
  readonly #args: readonly string[];
  #child: ChildProcess | null = null;

  constructor(args: readonly string[]) {
    this.#args = args;
  }

  /** Feeds a parser; after an input that ends the process the next one goes on behind it. */
  async feed(name: string, count: number): Promise<Tally> {
    const tally: Tally = { taken: 0, refused: 0, faults: [] };
    const first = Number(values.first);
    for (let next = first; next < first + count; )
      next = await this.#watch({ name, first: next, count: first + count - next }, tally);
    return tally;
  }

  close(): void {
    this.#child?.disconnect();
  }

  /** @returns the number of the input that comes next. */
  #watch(feed: Feed, tally: Tally): Promise<number> {
    this.#child ??= fork(CHILD, this.#args, { execArgv: ['--max-old-space-size=1024'], silent: true });
    const child = this.#child;
    const { name, first } = feed;
    let at = first - 1;
    let stderr = '';
    let timer: NodeJS.Timeout | undefined;
    let hung = false;
    const waiting = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        hung = true;
        child.kill('SIGKILL');
      }, PATIENCE);
    };
    waiting();
    const listen = (part: Buffer): void => {
      stderr = `${stderr}${part}`.slice(-2000);
    };
    child.stderr!.on('data', listen);
    child.stdout!.resume();
    const fault = (number: number, what: string) =>
      tally.faults.push(`${name}, --seed ${values.seed} --first ${number} --inputs 1: ${what}`);
    return new Promise((resolve) => {
      const end = (next: number): void => {
        clearTimeout(timer);
        child.off('message', hear).off('close', gone);
        child.stderr!.off('data', listen);
        resolve(next);
      };
      const hear = (news: News): void => {
        waiting();
        if ('fed' in news) end(Number.POSITIVE_INFINITY);
        else if ('at' in news) at = news.at;
        else if ('fault' in news) fault(news.done, news.fault);
        else tally[news.outcome]++;
      };
      const gone = (status: number | null): void => {
        this.#child = null;
        fault(
          at,
          hung
            ? `hangs: no answer in ${PATIENCE / 1000} s`
            : `ends the process (${status}): ${stderr.trim().split('\n').slice(-6).join(' | ')}`,
        );
        // Nothing was read yet: it is not the input's fault, and would come again.
        end(at < first ? Number.POSITIVE_INFINITY : at + 1);
      };
      child.on('message', hear).on('close', gone);
      child.send(feed);
    });
  }
}

const work = mkdtempSync(join(tmpdir(), 'neurgrad-fuzz-'));
try {
  const runs = makeRuns(work);
  const shares = new Map(parsers(runs).map(({ name, share = 1 }) => [name, share]));
  for (const name of MADE) shares.set(name, name.startsWith('tuning') ? 0.03 : 1);
  const left = [...shares].filter(([name]) => values.only === undefined || name.includes(values.only));
  let [inputs, faults] = [0, 0];
  const feedAll = async (): Promise<void> => {
    const reader = new Reader([values.seed, work, runs.study, runs.probe]);
    for (let next = left.shift(); next; next = left.shift()) {
      const [name, share] = next;
      const count = Math.max(1, Math.round(Number(values.inputs) * share));
      const began = performance.now();
      const tally = await reader.feed(name, count);
      inputs += count;
      faults += tally.faults.length;
      console.log(
        `${name}: ${count} inputs, ${tally.taken} taken, ${tally.refused} refused, ${tally.faults.length} faults, ${((performance.now() - began) / 1000).toFixed(1)} s`,
      );
      for (const fault of tally.faults) console.log(`  ${fault}`);
    }
    reader.close();
  };
  await Promise.all(Array.from({ length: PROCESSES }, feedAll));
  console.log(`fuzz: ${inputs} inputs, ${faults} faults`);
  process.exitCode = faults > 0 ? 1 : 0;
} finally {
  rmSync(work, { recursive: true, force: true });
}
