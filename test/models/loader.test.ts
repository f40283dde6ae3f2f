/** Whole loads that go wrong, or go through the network: one line each, and nothing left on the device. */

import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { type ByteFolder, loadModel, loadModelWeights, localFolder, urlFolder } from '../../models/index.ts';

const STORIES = 'examples/models/stories260k';
const SHARDED = 'test/golden/models/llama-s-f16-sharded';
const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-loader-'));
let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device.destroy();
  rmSync(scratch, { recursive: true });
});

let count = 0;
/** A copy of a model's folder, changed. */
function copy(from: string, change: (folder: string) => void): string {
  const folder = join(scratch, String(count++));
  cpSync(from, folder, { recursive: true });
  change(folder);
  return folder;
}
const config = (changes: object) => (folder: string) => {
  const file = join(folder, 'config.json');
  const json = { ...JSON.parse(readFileSync(file, 'utf8')), ...changes };
  writeFileSync(file, JSON.stringify(json));
};
describe('bad input', () => {
  const cases: [string, string, (folder: string) => void, RegExp][] = [
    ['a key is missing', STORIES, config({ hidden_size: undefined }), /config.json: hidden_size is missing/],
    ['heads do not divide', STORIES, config({ num_attention_heads: 7 }), /64 is not divisible by .*7/],
    ['key heads do not divide', STORIES, config({ num_key_value_heads: 3 }), /8 is not divisible by .*3/],
    ['another size', STORIES, config({ intermediate_size: 200 }), /of another shape than config.json says/],
    ['more layers', STORIES, config({ num_hidden_layers: 6 }), /9 tensors missing: model.layers.5/],
    [
      'a vocabulary that does not match',
      STORIES,
      config({ vocab_size: 500 }),
      /is \[512,64\], should be \[500,64\]/,
    ],
    [
      'a shard that is not there',
      SHARDED,
      (folder) => rmSync(join(folder, 'model-00002-of-00002.safetensors')),
      /lists model-00002-of-00002.safetensors, which is not there/,
    ],
    [
      'a shard cut short',
      SHARDED,
      (folder) => truncateSync(join(folder, 'model-00001-of-00002.safetensors'), 5000),
      /model-00001-of-00002.safetensors: /,
    ],
    [
      'an index that disagrees',
      SHARDED,
      (folder) => {
        const file = join(folder, 'model.safetensors.index.json');
        const text = readFileSync(file, 'utf8');
        writeFileSync(file, text.replace('model-00001', 'model-00002'));
      },
      /says that .* is in model-00002.*, but it is in model-00001/,
    ],
  ];
  test.each(cases)('%s', async (_, from, change, message) => {
    const folder = copy(from, change);
    const { total, pooled } = device.memory;
    const loading =
      from === STORIES ? loadModel(folder, { device }) : loadModelWeights(await localFolder(folder), device);
    const error = await loading.then(
      () => null,
      (e: Error) => e,
    );
    expect(error?.message).toMatch(message);
    expect(error?.message).not.toContain('\n');
    expect(error?.name).toBe('UserError');
    // Told before anything was uploaded.
    expect(device.memory.total - device.memory.pooled).toBe(total - pooled);
  });

  test.each(['I8', 'F8_E4M3'])('%s tensors', async (dtype) => {
    const name = 'model.layers.0.mlp.up_proj.weight';
    const folder = copy(STORIES, (at) => {
      const path = join(at, 'model.safetensors');
      const bytes = readFileSync(path);
      const length = Number(bytes.readBigUInt64LE(0));
      const json = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<
        string,
        { dtype: string; shape: number[] }
      >;
      // A byte an element: the same bytes are four times as many.
      json[name]!.dtype = dtype;
      json[name]!.shape = [172, 256];
      const text = Buffer.from(JSON.stringify(json));
      const size = Buffer.alloc(8);
      size.writeBigUInt64LE(BigInt(text.length));
      writeFileSync(path, Buffer.concat([size, text, bytes.subarray(8 + length)]));
    });
    await expect(loadModel(folder, { device })).rejects.toThrow(
      new RegExp(`not stored as floats: ${name} is ${dtype}`),
    );
  });

  test('a disk that ends while it is read leaves nothing on the device', async () => {
    const whole = await localFolder(STORIES);
    const failing: ByteFolder = {
      ...whole,
      async open(name) {
        const source = await whole.open(name);
        return {
          ...source,
          async readInto(begin: number, target: Uint8Array) {
            if (begin > 600_000) throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
            await source.readInto(begin, target);
          },
        };
      },
    };
    const { weights, scratch: room } = device.memory;
    for (const dtype of ['f32', 'int8'] as const)
      await expect(loadModelWeights(failing, device, { dtype })).rejects.toThrow('EIO');
    expect(device.memory.weights).toBe(weights);
    expect(device.memory.scratch).toBe(room);
  });
});

describe('over HTTP', () => {
  /** Serves the repository's files by ranges; `hurdle` may answer instead. */
  async function serve(hurdle: (n: number, ...args: Parameters<RequestListener>) => boolean) {
    let n = 0;
    const server = createServer((request, response) => {
      if (hurdle(n++, request, response)) return;
      let bytes: Buffer;
      try {
        bytes = readFileSync(decodeURIComponent(request.url!.slice(1)));
      } catch {
        response.writeHead(404).end();
        return;
      }
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      const [begin, end] = [Number(first), Math.min(Number(last) + 1, bytes.length)];
      response.writeHead(206, { 'Content-Range': `bytes ${begin}-${end - 1}/${bytes.length}` });
      response.end(bytes.subarray(begin, end));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      requests: () => n,
      async [Symbol.asyncDispose]() {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  }
  const logits = async (folder: ByteFolder): Promise<Float32Array> => {
    const model = await loadModelWeights(folder, device);
    try {
      using run = model.run({ ids: [[1, 4, 9]] });
      return await run.logits.read();
    } finally {
      model.dispose();
    }
  };

  test('a model by ranges, though the server stumbles', async () => {
    let stumbles = 0;
    await using server = await serve((n, request, response) => {
      if (n % 3 !== 1 || !request.url!.endsWith('.safetensors')) return false;
      stumbles++;
      if (n % 2) response.writeHead(503).end();
      else response.destroy();
      return true;
    });
    const url = `${server.url}/${SHARDED}`;
    const got = await logits(urlFolder(url, { pause: 1 }));
    expect(got).toEqual(await logits(await localFolder(SHARDED)));
    expect(stumbles).toBeGreaterThan(1);
  });

  test('by its address, with the tokenizer', async () => {
    await using server = await serve(() => false);
    const { model, tokenizer } = await loadModel(`${server.url}/${STORIES}/`, { device });
    expect(tokenizer.vocabularySize).toBe(512);
    model.dispose();
    await expect(loadModel(`${server.url}/nothing`, { device })).rejects.toThrow('has no tokenizer.json');
  });
});
