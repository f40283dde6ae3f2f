/** No file stays open where a later step fails: Node would close it some day, with a warning, in the midst of something else. */

import { readdirSync, readlinkSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { main } from '../../cli/program.ts';
import { type Device, openDevice } from '../../engine/index.ts';
import {
  loadModel,
  loadModelWeights,
  localFolder,
  openCheckpoint,
  readConfig,
  SplitModel,
  streamModel,
} from '../../models/index.ts';
import { readTensorFile } from '../../probing/tensorFile.ts';

const LLAMA = 'test/golden/models/llama-tied';
const SHARDED = 'test/golden/models/bert-s-sharded';

let device: Device;
let home: string;
beforeAll(async () => {
  device = await openDevice();
  home = await mkdtemp(join(tmpdir(), 'neurgrad-handles-'));
  const prompts = ['France', 'Italy'].map((name, i) => ({
    id: `${i}`,
    text: `The capital of ${name} is [MASK].`,
  }));
  await writeFile(
    join(home, 'prompts.jsonl'),
    prompts.map((prompt) => `${JSON.stringify(prompt)}\n`).join(''),
  );
});
afterAll(async () => {
  device.destroy();
  await rm(home, { recursive: true, force: true });
});

/** Open files under a folder, as the kernel tells them. */
function openUnder(folder: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const file = readlinkSync(`/proc/self/fd/${fd}`);
      return file.startsWith(folder) ? [file] : [];
    } catch {
      return [];
    }
  });
}
/** Closing may come after the error: reads that are under way are waited for. */
async function closed(folder: string): Promise<void> {
  await vi.waitFor(() => expect(openUnder(folder)).toEqual([]), { timeout: 10_000, interval: 5 });
}

/** A copy of a model whose files `spoil` changes. */
async function spoilt(name: string, from: string, spoil: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(home, name);
  await cp(from, folder, { recursive: true });
  await spoil(folder);
  return folder;
}
/** Changes a safetensors header, whose length stays. */
const header = (file: string, change: (text: string) => string) => async (folder: string) => {
  const bytes = await readFile(join(folder, file));
  const length = Number(bytes.readBigUInt64LE(0));
  const text = change(bytes.subarray(8, 8 + length).toString());
  bytes.write(text.slice(0, length).padEnd(length), 8);
  await writeFile(join(folder, file), bytes);
};
const WEIGHTS = 'model.safetensors';
const SPOILT: [string, string, (folder: string) => Promise<void>][] = [
  ['cut off in its data', LLAMA, (folder) => truncate(join(folder, WEIGHTS), 20_000)],
  ['cut off in its header', LLAMA, (folder) => truncate(join(folder, WEIGHTS), 100)],
  ['empty', LLAMA, (folder) => truncate(join(folder, WEIGHTS), 0)],
  ['a tensor is missing', LLAMA, header(WEIGHTS, (text) => text.replace('down_proj', 'down_prok'))],
  ['a tensor is of integers', LLAMA, header(WEIGHTS, (text) => text.replace(/"B?F(16|32)"/, '"I$1"'))],
  ['a shape differs', LLAMA, (folder) => rewrite(folder, 'intermediate_size', 64)],
  ['a shard is missing', SHARDED, (folder) => lastShard(folder, (file) => rm(file))],
  ['a shard is cut off', SHARDED, (folder) => lastShard(folder, (file) => truncate(file, 10))],
  [
    'a shard is a folder',
    SHARDED,
    (folder) =>
      lastShard(folder, async (file) => {
        await rm(file);
        await mkdir(file);
      }),
  ],
];
async function rewrite(folder: string, field: string, value: unknown): Promise<void> {
  const path = join(folder, 'config.json');
  await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), [field]: value }));
}
async function lastShard(folder: string, act: (file: string) => Promise<void>): Promise<void> {
  const shards = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
  await act(join(folder, shards.sort().at(-1)!));
}

describe.runIf(process.platform === 'linux')('files', () => {
  test.each(SPOILT)('a checkpoint: %s', async (name, from, spoil) => {
    const folder = await spoilt(name, from, spoil);
    const source = await localFolder(folder);
    await expect(
      (async () => {
        const model = await loadModelWeights(source, device);
        model.dispose();
      })(),
    ).rejects.toThrow();
    await closed(folder);
    await expect(loadModel(folder, { device })).rejects.toThrow();
    await expect(streamModel(source, device)).rejects.toThrow();
    await closed(folder);
    if (from === LLAMA) {
      const config = await readConfig(source);
      await expect(SplitModel.open(folder, config, device, 2)).rejects.toThrow();
    }
    await closed(folder);
  });

  test('a BERT that is to be streamed, a folder without weights', async () => {
    const folder = await localFolder('test/golden/models/bert-s');
    await expect(streamModel(folder, device)).rejects.toThrow(/only causal models/);
    await closed(join(process.cwd(), folder.name));
    await expect(openCheckpoint(await localFolder('test/golden'))).rejects.toThrow();
  });

  test.each([0, 2, 10])(
    'a streamed model disposed of %i ms into a run, and its device destroyed',
    async (pause) => {
      const folder = await spoilt(`streamed ${pause}`, LLAMA, async () => {});
      const own = await openDevice();
      const model = await streamModel(await localFolder(folder), own);
      const run = model.runAsync({ ids: [[1, 2, 3]] });
      const ended = run.then(
        (result) => result.dispose(),
        () => {},
      );
      await new Promise((resolve) => setTimeout(resolve, pause));
      model.dispose();
      own.destroy();
      await ended;
      await closed(folder);
    },
  );

  test('a streamed model whose file ends during a run', async () => {
    const folder = await spoilt('shrinks', LLAMA, async () => {});
    const model = await streamModel(await localFolder(folder), device);
    (await model.runAsync({ ids: [[1, 2]] })).dispose();
    await truncate(join(folder, WEIGHTS), 3000);
    await expect(model.runAsync({ ids: [[1, 2]] })).rejects.toThrow(/changed while being read/);
    model.dispose();
    await closed(folder);
  });

  test('tables of numbers that are none', async () => {
    const folder = await spoilt(
      'tables',
      LLAMA,
      header(WEIGHTS, (text) => text.replace(/"B?F(16|32)"/, '"I$1"')),
    );
    await expect(readTensorFile(join(folder, WEIGHTS))).rejects.toThrow();
    await closed(folder);
  });

  describe('commands', () => {
    afterEach(() => vi.restoreAllMocks());
    const facts = 'examples/models/facts-bert';
    const prompt = ['--prompt', 'The capital of France is [MASK].'];
    const commands: [string, (model: string) => string[]][] = [
      ['predict', (model) => ['predict', '--model', model, ...prompt]],
      ['predict --memory', (model) => ['predict', '--model', model, ...prompt, '--memory', '8']],
      ['plan', (model) => ['plan', '--model', model]],
      ['sweep', (model) => ['sweep', '--model', model, ...prompt, '--neurons', 'L0.N1']],
      [
        'study --estimate',
        (model) => [
          'study',
          '--preset',
          'clean',
          '--model',
          model,
          '--prompts',
          join(home, 'prompts.jsonl'),
          '--count',
          '2',
          '--neurons',
          '2',
          '--figure',
          '0x0',
          '--ig',
          '0',
          '--estimate',
        ],
      ],
    ];
    test.each(commands)('%s of a checkpoint that lacks a tensor', async (name, argv) => {
      const lacking = header(WEIGHTS, (text) => text.replace('output.dense.weight', 'output.dense.weighs'));
      const folder = await spoilt(name, facts, lacking);
      const said: string[] = [];
      vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
        said.push(String(text));
        return true;
      });
      vi.spyOn(process.stdout, 'write').mockReturnValue(true);
      expect(await main(argv(folder))).toBe(2);
      vi.restoreAllMocks();
      expect(said.join('')).toMatch(/missing/);
      await closed(folder);
    });
  });
});
