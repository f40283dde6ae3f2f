/**
 * GGUF files: block formats against ggml's own decoding, models of every architecture against the checkpoints that they were written
 * from, and what no file may do to a reader.
 */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { type ByteSource, localFolder, memorySource, openFile } from '../../models/byteSource.ts';
import { unpackBlocks } from '../../models/gguf/blocks.ts';
import { ggufFolder } from '../../models/gguf/folder.ts';
import { readGgufHeader } from '../../models/gguf/header.ts';
import { llama3Scaling } from '../../models/gguf/llama3Scaling.ts';
import { resolveModelFolder } from '../../models/hub.ts';
import {
  FAMILIES,
  loadModel,
  loadModelWeights,
  loadTokenizer,
  parseConfig,
  presetConfig,
  readConfig,
  runModel,
  SplitModel,
  streamModel,
} from '../../models/index.ts';
import { readSafetensorsHeader } from '../../models/safetensors.ts';
import { ggufBytes } from './ggufWriter.ts';

const folder = 'test/golden-gguf';
const bytesOf = async (file: string): Promise<Uint8Array> =>
  new Uint8Array(await readFile(`${folder}/${file}`));

describe('block formats', async () => {
  const blocks = memorySource('blocks.gguf', await bytesOf('blocks.gguf'));
  const decoded = memorySource('blocks.safetensors', await bytesOf('blocks.safetensors'));
  const { tensors } = await readGgufHeader(blocks);
  const { tensors: expected } = await readSafetensorsHeader(decoded);

  it('are thirteen', () =>
    expect([...tensors.keys()].sort()).toEqual(expected.map(({ name }) => name).sort()));

  it.each(expected)('$name', async ({ name, begin, end }) => {
    const tensor = tensors.get(name)!;
    const out = new Float32Array(tensor.shape.reduce((a, b) => a * b, 1));
    unpackBlocks(tensor.format, await blocks.read(tensor.begin, tensor.end), out);
    expect(new Uint8Array(out.buffer)).toEqual(await decoded.read(begin, end));
  });
});

describe('a model', () => {
  let device: Device;
  beforeAll(async () => {
    device = await openDevice();
  });
  afterAll(() => device?.destroy());
  const quiet = { onNote: () => {} };

  it.each([
    'gemma2-a',
    'gemma3-a',
    'gemma3-b',
    'gpt2-a',
    'gpt_neox-a',
    'llama3-a',
    'llama3-b',
    'mistral-a',
    'mistral-b',
    'olmo2-b',
    'phi3-b',
    'qwen2-a',
    'qwen3-a',
  ])('%s is the one that it was written from', async (name) => {
    const was = await loadModelWeights(
      await localFolder(`test/golden-families/models/${name}`),
      device,
      quiet,
    );
    const is = await loadModelWeights(await resolveModelFolder(`${folder}/${name}.gguf`), device, quiet);
    expect([...is.parameters.keys()].sort()).toEqual([...was.parameters.keys()].sort());
    // 1 is added to Gemma's norms in float32, and taken off again.
    const within = name.startsWith('gemma') ? 1e-7 : 0;
    for (const [parameter, t] of was.parameters) {
      const [a, b] = [await t.read(), await is.parameters.get(parameter)!.read()];
      expect(Math.max(...a.map((value, i) => Math.abs(value - b[i]!))), parameter).toBeLessThanOrEqual(
        within,
      );
    }
    const logits = async (model: typeof was): Promise<Float32Array> => {
      using run = await runModel(model, { ids: [[3, 17, 5, 40, 22, 9, 31]] }, { logits: [6] });
      return (await run.logits.read()) as Float32Array;
    };
    expect(await logits(is)).toEqual(await logits(was));
    for (const model of [was, is]) model.dispose();
  });

  it('is of any family that writes text', () => {
    for (const [name, { gguf, presets }] of Object.entries(FAMILIES)) {
      const { causal } = parseConfig(presetConfig(Object.keys(presets)[0]!, 2)).description;
      expect(gguf !== undefined, name).toBe(causal);
    }
  });

  it('is streamed from its file', async () => {
    const file = await resolveModelFolder(`${folder}/llama3-a.gguf`);
    const [whole, streamed] = [
      await loadModelWeights(file, device, quiet),
      await streamModel(file, device, quiet),
    ];
    const logits = await Promise.all(
      [whole, streamed].map(async (model) => {
        using run = await runModel(model, { ids: [[5, 6, 7]] }, { logits: [2] });
        return run.logits.read();
      }),
    );
    expect(logits[1]).toEqual(logits[0]);
    for (const model of [whole, streamed]) model.dispose();
  });

  it('is split over processes', { timeout: 60_000 }, async () => {
    const path = `${folder}/llama3-a.gguf`;
    const file = await resolveModelFolder(path);
    const whole = await loadModelWeights(file, device, quiet);
    const split = await SplitModel.open(path, await readConfig(file), device, 2, 'f32', quiet);
    using a = await runModel(whole, { ids: [[5, 6, 7]] }, { logits: [2] });
    using b = await runModel(split, { ids: [[5, 6, 7]] }, { logits: [2] });
    expect(await b.logits.read()).toEqual(await a.logits.read());
    for (const model of [whole, split]) model.dispose();
  });

  it('has tokens, which need not be words', async () => {
    const tokenizer = await loadTokenizer(await resolveModelFolder(`${folder}/qwen2-a.gguf`));
    expect(tokenizer.vocabularySize).toBe(97);
    expect(tokenizer.tokenOf(5)).toBe('<5>');
  });

  const real = process.env.NEURGRAD_REAL_MODEL;
  if (!real)
    console.log(
      'NEURGRAD_REAL_MODEL names no SmolLM2-135M-Instruct.Q4_1.gguf: tests of a real model are skipped',
    );
  it.skipIf(!real)('that is real answers', async () => {
    const { model, tokenizer } = await loadModel(real!, { device });
    const ids = tokenizer.encode('The capital of Japan is');
    expect(ids).toEqual([504, 3575, 282, 3085, 314]);
    using run = await runModel(model, { ids: [ids] }, { logits: [4] });
    const z = (await run.logits.read()) as Float32Array;
    const best = z.indexOf(Math.max(...z));
    expect(tokenizer.textOf(best)).toBe(' Tokyo');
    const sum = z.reduce((total, value) => total + Math.exp(value - z[best]!), 0);
    expect(Math.abs(1 / sum / 0.7031497799919497 - 1)).toBeLessThan(1e-4);
    model.dispose();
  });
});

describe('a header', () => {
  it('keeps the byte order mark that some tokens begin with', async () => {
    const tokens = ['//', '\ufeff//', 'ſ'];
    const bytes = ggufBytes({ 'tokenizer.ggml.tokens': tokens, 'x.scores': [-1, 0.5], 'x.on': true });
    const { metadata } = await readGgufHeader(memorySource('x.gguf', bytes));
    expect(Object.fromEntries(metadata)).toEqual({
      'tokenizer.ggml.tokens': tokens,
      'x.scores': [-1, 0.5],
      'x.on': true,
    });
  });
});

describe("Llama 3's scaling", () => {
  it.each([
    [8, 4, 8192, 500000, 128],
    [32, 4, 8192, 500000, 64],
    [8, 4, 128, 500000, 10],
    [4, 3, 5000, 10000, 64],
  ])('factor %d, high %d, length %d at theta %d', (factor, high, length, theta, size) => {
    const factors = Float32Array.from({ length: size / 2 }, (_, i) => {
      const wave = 2 * Math.PI * theta ** ((2 * i) / size);
      if (wave < length / high) return 1;
      if (wave > length) return factor;
      const smooth = (length / wave - 1) / (high - 1);
      return 1 / ((1 - smooth) / factor + smooth);
    });
    const found = llama3Scaling(factors, theta)!;
    expect(found).toMatchObject({ factor, low_freq_factor: 1 });
    expect(found.high_freq_factor as number).toBeCloseTo(high, 2);
    expect(Math.abs((found.original_max_position_embeddings as number) / length - 1)).toBeLessThan(2e-3);
  });

  it('is not seen in other factors', () => {
    expect(llama3Scaling(Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8]), 10000)).toBeNull();
    expect(llama3Scaling(Float32Array.from([1, 1, 1, 1]), 10000)).toBeNull();
  });
});

describe('a file that lies', async () => {
  const whole = await bytesOf('qwen2-a.gguf');
  /** The file with bytes put in at a place, read. */
  const changed = (at: number, bytes: readonly number[], from = whole): Promise<unknown> => {
    const copy = from.slice();
    copy.set(bytes, at);
    return readGgufHeader(memorySource('x.gguf', copy));
  };
  const ff = Array.from({ length: 8 }, () => 255);
  const huge = [0, 0, 0, 0, 0, 0, 0, 128];

  it.each([
    ['another magic', 0, [65], 'does not begin with GGUF'],
    ['version 1', 4, [1, 0, 0, 0], 'is of version 1; 2 and 3 are read'],
    ['big-endian', 4, [0, 0, 0, 3], 'is big-endian'],
    ['2^64 - 1 tensors', 8, ff, 'its number of tensors has 18446744073709551615'],
    ['2^63 pairs', 16, huge, 'its number of metadata pairs has 9223372036854775808'],
    ['a million pairs', 16, [64, 66, 15, 0, 0, 0, 0, 0], 'more than the rest of the file has room for'],
    ['a key of 2^32 letters', 24, [0, 0, 0, 0, 1, 0, 0, 0], 'the length of metadata key 0 is 4294967296'],
  ])('%s', async (_, at, bytes, message) => {
    await expect(changed(at, bytes)).rejects.toThrow(message);
  });

  // Key `a` of a list of one text: its type at 37, its count at 41, the length of its text at 49.
  const listed = ggufBytes({ a: ['x'] });
  it.each([
    ['a list of 2^63 texts', 41, huge, 'the length of metadata'],
    ['a list of 2^64 - 1 texts', 41, ff, 'the length of metadata'],
    ['a text of 2^63 bytes', 49, huge, 'the length of metadata'],
    ['a text of 200 bytes in a list', 49, [200], 'more than the rest of the file has room for'],
    ['lists of lists of lists', 37, [9, 0, 0, 0], 'metadata'],
    ['a type that is none', 33, [13], 'is of the unknown type 13'],
    ['a list of a type that is none', 37, [13], 'metadata'],
  ])('%s', async (_, at, bytes, message) => {
    await expect(changed(at, bytes, listed)).rejects.toThrow(message);
  });

  it('has more values than any vocabulary, in no more time and memory than its bytes take', async () => {
    const count = 2 ** 24 + 1;
    const file = new Uint8Array(49 + count);
    file.set(listed.subarray(0, 49));
    const view = new DataView(file.buffer);
    view.setUint32(37, 7, true);
    view.setBigUint64(41, BigInt(count), true);
    const source = memorySource('x.gguf', file);
    await expect(readGgufHeader(source)).rejects.toThrow('has lists of more than 16777216 values');
    view.setBigUint64(41, BigInt(count - 1), true);
    const [began, held] = [process.cpuUsage().user, process.memoryUsage().rss];
    await readGgufHeader(source);
    expect((process.cpuUsage().user - began) / 1e6).toBeLessThan(10);
    expect(process.memoryUsage().rss - held).toBeLessThan(1e9);
  });

  it('ends anywhere', async () => {
    for (let length = 0; length < whole.length; length += length < 3000 ? 7 : 997)
      await expect(readGgufHeader(memorySource('x.gguf', whole.subarray(0, length)))).rejects.toMatchObject({
        name: 'UserError',
      });
  });

  it('has any byte changed', { timeout: 60_000 }, async () => {
    const { tensors } = await readGgufHeader(memorySource('x.gguf', whole));
    const header = Math.min(...[...tensors.values()].map(({ begin }) => begin));
    for (let at = 0; at < header; at += 5) {
      const copy = whole.slice();
      copy[at]! ^= 1 << (at % 8);
      const read = async (): Promise<void> => {
        const file = await ggufFolder(async () => memorySource('x.gguf', copy));
        const source = await file.open('model.safetensors');
        await source.read(0, source.size);
      };
      await read().catch((error: Error) => expect(error.name, `${at}: ${error.stack}`).toBe('UserError'));
    }
  });

  it('names what it cannot be', async () => {
    const text = (from: string, to: string): Promise<unknown> => {
      const at = Buffer.from(whole).indexOf(from);
      const copy = whole.slice();
      copy.set(Buffer.from(to), at);
      return ggufFolder(async (): Promise<ByteSource> => memorySource('x.gguf', copy));
    };
    await expect(text('qwen2', 'qwenX')).rejects.toThrow(
      "its architecture 'qwenX' is not supported; supported: gemma2, gemma3",
    );
    await expect(text('qwen2', 'bert2')).rejects.toThrow(
      'whose GGUF files have no head that predicts tokens',
    );
    await expect(text('gpt-2', 'gpt-9')).rejects.toThrow("its pre-tokenizer 'gpt-9' is not supported");
    await expect(text('qwen2.block_count', 'qwen2.block_cXunt')).rejects.toThrow(
      'does not say its qwen2.block_count',
    );
  });

  it('is no GGUF file', async () => {
    await expect(resolveModelFolder('test/golden-gguf/README.md')).rejects.toThrow('is a file, not a folder');
    const source = await openFile('test/golden-gguf/blocks.safetensors');
    await expect(readGgufHeader(source)).rejects.toThrow('does not begin with GGUF');
    await source.close();
  });
});
