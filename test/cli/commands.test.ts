/**
 * All commands side by side: what is the same on each of them. One meaning a name (docs/options.md), one order, --json on all, old names that
 * work, and how a check that fails ends.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command, Option } from 'commander';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { RENAMED } from '../../cli/options.ts';
import { buildProgram } from '../../cli/program.ts';
import { adapters } from '../../engine/device.ts';
import { writeSafetensors } from '../../models/safetensors.ts';
import { runHere } from './here.ts';

const folder = mkdtempSync(join(tmpdir(), 'neurgrad-commands-'));
afterAll(() => rmSync(folder, { recursive: true }));

type Named = readonly [name: string, command: Command];
const leaves = (command: Command, before = ''): Named[] =>
  command.commands.length === 0
    ? [[`${before}${command.name()}`, command]]
    : command.commands.flatMap((one) => leaves(one, command.parent ? `${before}${command.name()} ` : ''));
const commands = leaves(buildProgram());
const shown = (command: Command): readonly Option[] => command.options.filter(({ hidden }) => !hidden);

describe('every command', () => {
  it('prints JSON where that is asked for', () => {
    expect(commands.length).toBeGreaterThan(20);
    const without = commands.filter(([, { options }]) => !options.some(({ long }) => long === '--json'));
    expect(without.map(([name]) => name)).toEqual([]);
  });

  it('that is asked something is asked by file and as a chat, too, and that runs a model says how', () => {
    const has = (command: Command, names: readonly string[]): boolean =>
      names.every((name) => command.options.some(({ long }) => long === name));
    // `models` runs what is known to be asked of each.
    const asked = commands.filter(([name, command]) => name !== 'models' && has(command, ['--prompt']));
    expect(asked.length).toBeGreaterThan(10);
    for (const [name, command] of asked) {
      expect(has(command, ['--prompt-file', '--chat', '--system']), name).toBe(true);
      expect(has(command, ['--dtype', '--stream', '--memory', '--devices']), name).toBe(true);
    }
  });

  it('has its options in the order of all', () => {
    for (const [name, command] of commands)
      for (const [other, another] of commands) {
        const [own, others] = [command, another].map((one) => shown(one).map((option) => option.name()));
        const both = own!.filter((option) => others!.includes(option));
        expect(
          others!.filter((option) => own!.includes(option)),
          `${name} and ${other}`,
        ).toEqual(both);
      }
  });

  it('is in the table of options, each with its meaning', () => {
    const page = readFileSync('docs/options.md', 'utf8');
    const [, table] = /\| option \| means \| on \|\n\|---\|---\|---\|\n(.*?)\n\n/s.exec(page)!;
    const listed = table!.split('\n').map((line) => {
      const [, option, means, on] = /^\| `--([\w-]+)` \| (.+) \| (.+) \|$/.exec(line)!;
      expect(means!.length).toBeGreaterThan(5);
      return [option!, on!] as const;
    });
    const found = new Map<string, string[]>();
    for (const [name, command] of commands)
      for (const option of shown(command))
        found.set(option.name(), [...(found.get(option.name()) ?? []), name]);
    expect(Object.fromEntries(listed)).toEqual(
      Object.fromEntries([...found].map(([option, on]) => [option, on.join(', ')])),
    );
    for (const [name, { options }] of commands)
      for (const option of options.filter(({ hidden }) => hidden))
        expect(page, `${name} ${option.long}`).toMatch(
          new RegExp(`^\\| \`${option.long}[ \`].*\\b${name}\\b.*\\|$`, 'm'),
        );
  });
});

const old = commands.flatMap(([name, command]) =>
  command.options.flatMap((option) => {
    const to = RENAMED.get(option);
    return to === undefined ? [] : [[name, option.long!, to] as const];
  }),
);

describe('a name of before', () => {
  const VALUES: Readonly<Record<string, string>> = { like: 'llama2-7b', neurons: 'L0.N1', to: '0.5' };
  /** The options that a command is given, by what it would do with them. */
  const parse = async (name: string, ...args: string[]): Promise<Record<string, unknown>> => {
    const program = buildProgram();
    const [, command] = leaves(program).find(([one]) => one === name)!;
    let given: Record<string, unknown> = {};
    command.action(() => void (given = command.opts()));
    // What has to be there, but for what is asked about by either name.
    const asked = args.flatMap((arg) => [
      arg,
      ...old.filter(([of, was]) => of === name && was === arg).map(([, , to]) => to),
    ]);
    const others = command.options
      .filter((one) => one.mandatory && !asked.includes(one.long!) && !asked.includes(one.attributeName()))
      .flatMap(({ long }) => [long!, VALUES[long!.slice(2)] ?? 'x']);
    await program.parseAsync([...name.split(' '), ...others, ...args], { from: 'user' });
    return given;
  };

  it.each(old)('%s %s works, and is told', async (name, was, to) => {
    const command = commands.find(([one]) => one === name)![1];
    const now = command.options.find((option) => option.attributeName() === to)!.long!;
    const value = VALUES[to] === undefined || to === 'neurons' ? '3' : VALUES[to];
    const lines: string[] = [];
    const spy = vi.spyOn(process.stderr, 'write').mockImplementation((line) => lines.push(String(line)) > 0);
    try {
      const expected = (await parse(name, now, value))[to];
      lines.length = 0;
      expect((await parse(name, was, value))[to]).toEqual(expected);
      expect(lines.join('')).toContain(`note: ${was} is called ${now} now\n`);
      for (const both of [
        [was, value, now, value],
        [now, value, was, value],
      ])
        await expect(parse(name, ...both)).rejects.toThrow(`${was} is ${now} now; give one of them`);
    } finally {
      spy.mockRestore();
    }
  });

  it('is told of the folder of a probing run too, and a folder has to be given once', async () => {
    const was = await runHere('probe', 'report', '--out', join(folder, 'none'));
    expect(was.code).toBe(2);
    expect(was.err).toContain('note: --out DIR is DIR alone now: neurgrad probe report DIR\n');
    for (const args of [[], ['a', '--out', 'b']]) {
      const { code, err } = await runHere('probe', 'report', ...args);
      expect([code, err]).toEqual([2, expect.stringContaining('give the folder of the run')]);
    }
  });

  it('takes --rows of plan for --batch', async () => {
    const plan = (...args: string[]) =>
      runHere('plan', '--model', 'examples/models/stories260k', '--json', ...args);
    const [was, now, none] = [await plan('--rows', '3'), await plan('--batch', '3'), await plan()];
    expect(JSON.parse(was.out)).toEqual(JSON.parse(now.out));
    expect(JSON.parse(now.out).rows).toBe(3);
    expect(JSON.parse(none.out).cache).toBeLessThan(JSON.parse(now.out).cache);
  });
});

describe('study --file', () => {
  const plan = (...args: string[]) =>
    runHere('study', '--preset', 'paper', '--prompts', 'p.jsonl', '--print-plan', ...args);
  it('chooses the GGUF file of the model', async () => {
    const { code, out } = await plan('--model', 'test/golden-gguf', '--file', 'gpt2-a');
    expect(code).toBe(0);
    expect(JSON.parse(out).models).toEqual(['test/golden-gguf:gpt2-a']);
  });
  it('is of one model', async () => {
    for (const models of [['--model', 'a', 'b'], []]) {
      const { code, err } = await plan(...models, '--file', 'x');
      expect([code, err]).toEqual([2, expect.stringContaining('--file goes with one --model')]);
    }
  });
});

describe('prompts of a check', { timeout: 60_000 }, () => {
  it('come as texts and from a file, and are written out', async () => {
    const path = join(folder, 'prompt.txt');
    writeFileSync(path, 'Rome is in [MASK].\n');
    const asked = ['--model', 'facts-bert', '--neurons', 'random:2', '--json'];
    const ways = ['--prompt', 'Oslo is in [MASK].', '--prompt-file', path];
    const { code, out, err } = await runHere('verify', 'conventions', ...asked, ...ways);
    expect(code, err).toBe(0);
    const found = JSON.parse(out);
    expect(found).toMatchObject({ model: 'facts-bert', pairs: 4 });
    expect(found.asked.map(({ prompt }: { prompt: string }) => prompt)).toEqual([
      'Oslo is in [MASK].',
      'Rome is in [MASK].',
    ]);
    expect(found.asked[1].tokens.at(-1)).toBe('[SEP]');
    const none = await runHere('verify', 'exact', ...asked);
    expect([none.code, none.err]).toEqual([2, expect.stringContaining('nothing is asked')]);
    const two = await runHere('demo', '--prompt', 'a', '--prompt-file', path);
    expect([two.code, two.err]).toEqual([2, expect.stringContaining('give one of --prompt')]);
  });
});

describe('a check that fails ends in exit code 1', { timeout: 60_000 }, () => {
  it('verify', async () => {
    const reference = join(folder, 'reference.safetensors');
    const vocabulary = 512;
    await writeSafetensors(reference, [
      { name: 'input_ids.0', dtype: 'F32', shape: [2], data: Float32Array.of(1, 403) },
      { name: 'logits.0', dtype: 'F32', shape: [2, vocabulary], data: new Float32Array(2 * vocabulary) },
    ]);
    const { code, out } = await runHere(
      ...['verify', 'parity', '--model', 'examples/models/stories260k', '--reference', reference, '--json'],
    );
    expect(code).toBe(1);
    expect(JSON.parse(out).passed).toBe(false);
  });
  it('doctor', async () => {
    const spy = vi.spyOn(adapters, 'ask').mockResolvedValue(null);
    try {
      const { code, out } = await runHere('doctor', '--json');
      expect(code).toBe(1);
      expect(JSON.parse(out)).toMatchObject({
        ok: false,
        adapter: null,
        advice: expect.arrayContaining([expect.stringContaining('no WebGPU adapter')]),
      });
    } finally {
      spy.mockRestore();
    }
  });
});
