/**
 * Checkpoints whose files contradict each other, hold more or less than their model, or are not the files they are named
 * after: read rightly and said, or refused by what is the matter with them.
 */

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { decodeFloat32 } from '../../models/decode.ts';
import {
  fileMapFolder,
  type LanguageModel,
  loadModel,
  loadModelWeights,
  loadTokenizer,
  localFolder,
  openCheckpoint,
  openModelFiles,
  parseConfig,
  planMemory,
  readChatTemplate,
  readConfig,
  runModel,
  SplitModel,
  saveModel,
  streamModel,
} from '../../models/index.ts';
import type { Dtype } from '../../models/safetensors.ts';
import { encodePrompt, resolveTarget } from '../../neurgrad/index.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';
import { readTask } from '../../probing/data.ts';
import { task } from '../probing/rows.ts';
import {
  floats,
  readConfigJson,
  readTensors,
  type Stored,
  safetensorsFile,
  type Tensors,
  writeModel,
} from './checkpointFiles.ts';

const GOLDEN = 'test/golden/models';
const STORIES = 'examples/models/stories260k';
const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-kinds-'));
let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device.destroy();
  rmSync(scratch, { recursive: true });
});
afterEach(() => vi.restoreAllMocks());

let count = 0;
/** A folder with a golden model's tensors and config, changed. */
async function variant(
  from: string,
  change: (tensors: Tensors) => void,
  config: object = {},
  files: Parameters<typeof writeModel>[3] = {},
): Promise<string> {
  const path = join(GOLDEN, from);
  const tensors = await readTensors(path);
  change(tensors);
  return writeModel(join(scratch, String(count++)), { ...readConfigJson(path), ...config }, tensors, files);
}

const numbersOf = ({ dtype, bytes }: Stored): Float32Array => decodeFloat32(dtype as Dtype, bytes);

const IDS = [3, 17, 40, 5];

/** Final normalised values [H] and logits [V] of the last token. */
async function ends(model: LanguageModel): Promise<{ normal: Float32Array; logits: Float32Array }> {
  const last = IDS.length - 1;
  using run = await runModel(model, { ids: [IDS] }, { capture: ['ln_final.hook_normalized'] });
  const [normal, logits] = [
    await run.captures.get('ln_final.hook_normalized')!.read(),
    await run.logits.read(),
  ];
  const [H, V] = [model.sizes.hidden, model.sizes.vocabulary];
  return { normal: normal.subarray(last * H), logits: logits.subarray(last * V, (last + 1) * V) };
}

/** Largest difference of the logits from rows of a decoder times the normalised values, plus a bias. */
function offBy({ normal, logits }: Awaited<ReturnType<typeof ends>>, decoder: Stored, bias?: Stored): number {
  const [rows, add] = [numbersOf(decoder), bias ? numbersOf(bias) : null];
  return logits.reduce((worst, logit, v) => {
    let sum = add?.[v] ?? 0;
    for (let h = 0; h < normal.length; h++) sum += normal[h]! * rows[v * normal.length + h]!;
    return Math.max(worst, Math.abs(sum - logit));
  }, 0);
}

async function open(path: string, notes: string[] = [], strict = false): Promise<LanguageModel> {
  return loadModelWeights(await localFolder(path), device, { strict, onNote: (note) => notes.push(note) });
}

const fails = (work: Promise<unknown>): Promise<Error & { code: string }> =>
  work.then(
    () => expect.unreachable('it was accepted'),
    (error) => {
      expect(error.name).toBe('UserError');
      expect(error.message).not.toContain('\n');
      return error;
    },
  );

/** The same numbers in another format; the golden Llama's are half precision, which float32 and float64 hold. */
const widened = (stored: Stored, dtype: 'F32' | 'F64'): Stored => {
  const numbers = numbersOf(stored);
  const data = dtype === 'F32' ? numbers : Float64Array.from(numbers);
  return { dtype, shape: stored.shape, bytes: new Uint8Array(data.buffer) };
};
const changed = (stored: Stored, at: number): Stored => {
  const data = numbersOf(stored).slice();
  data[at]! += 0.5;
  return floats(stored.shape, data);
};

describe('tensors that the config calls one', () => {
  const EMBED = 'model.embed_tokens.weight';
  const WORDS = 'bert.embeddings.word_embeddings.weight';
  const [HEAD, DECODER, BIAS, OTHER] = [
    'lm_head.weight',
    'cls.predictions.decoder.weight',
    'cls.predictions.decoder.bias',
    'cls.predictions.bias',
  ];
  const last = (stored: Stored) => stored.shape.reduce((a, b) => a * b, 1) - 1;

  it.each(['all', 'the first number', 'the last number'])(
    'Llama: a head that differs in %s is used',
    async (where) => {
      let head!: Stored;
      const path = await variant('llama-tied', (tensors) => {
        const embed = tensors.get(EMBED)!;
        head =
          where === 'all'
            ? floats(
                embed.shape,
                numbersOf(embed).map((x, i) => x + Math.sin(i)),
              )
            : changed(embed, where === 'the first number' ? 0 : last(embed));
        tensors.set(HEAD, head);
      });
      const notes: string[] = [];
      const model = await open(path, notes);
      const resident = await ends(model);
      expect(offBy(resident, head)).toBeLessThan(1e-5);
      expect(notes).toEqual([
        expect.stringMatching(/lm_head\.weight and model\.embed_tokens\.weight should be one/),
      ]);

      // By every other way to the same model.
      const folder = await localFolder(path);
      const onNote = () => {};
      const streamed = await streamModel(folder, device, { onNote });
      expect((await ends(streamed)).logits).toEqual(resident.logits);
      const { config, checkpoint } = await openModelFiles(folder, { onNote });
      await checkpoint.close();
      expect(planMemory(config, checkpoint).weights.decoder).toBe(4 * head.shape[0]! * head.shape[1]!);
      // What is written says what it holds, to transformers too.
      const copy = join(scratch, String(count++));
      await saveModel(copy, model, await readConfig(folder));
      expect(readConfigJson(copy).tie_word_embeddings).toBe(false);
      const again: string[] = [];
      const saved = await open(copy, again);
      expect((await ends(saved)).logits).toEqual(resident.logits);
      expect(again).toEqual([]);
      for (const each of [model, streamed, saved]) each.dispose();
    },
  );

  it('Llama: split over processes too', async () => {
    let head!: Stored;
    const path = await variant('llama-tied', (tensors) => {
      head = changed(tensors.get(EMBED)!, 7);
      tensors.set(HEAD, head);
    });
    const notes: string[] = [];
    // As a caller has it who has read the config alone.
    const config = parseConfig(readConfigJson(path));
    const split = await SplitModel.open(path, config, device, 2, 'f32', {
      onNote: (note) => notes.push(note),
    });
    expect(offBy(await ends(split), head)).toBeLessThan(1e-5);
    expect(notes).toHaveLength(1);
    split.dispose();
  }, 30_000);

  it.each([
    ['as stored', (s: Stored) => s],
    ['as float32', (s: Stored) => widened(s, 'F32')],
    ['as float64', (s: Stored) => widened(s, 'F64')],
  ])('Llama: equal contents %s are ignored silently', async (_, copy) => {
    const plain = await open(join(GOLDEN, 'llama-tied'));
    const notes: string[] = [];
    const twice = await open(
      await variant('llama-tied', (tensors) => tensors.set(HEAD, copy(tensors.get(EMBED)!))),
      notes,
      true,
    );
    expect(twice.parameters.size).toBe(plain.parameters.size);
    expect((await ends(twice)).logits).toEqual((await ends(plain)).logits);
    expect(notes).toEqual([]);
    for (const each of [plain, twice]) each.dispose();
  });

  it.each<[string, boolean, boolean, boolean | undefined]>([
    ['weight', true, false, undefined],
    ['bias', false, true, undefined],
    ['weight and bias', true, true, true],
    ['bias, not tied', false, true, false],
  ])('BERT: %s of the decoder', async (_, weight, bias, tie) => {
    const path = await variant(
      'bert-s',
      (tensors) => {
        const words = tensors.get(WORDS)!;
        tensors.set(DECODER, weight ? changed(words, last(words)) : words);
        const other = tensors.get(OTHER)!;
        tensors.set(
          BIAS,
          bias
            ? floats(
                other.shape,
                numbersOf(other).map((x, i) => x + Math.cos(i)),
              )
            : other,
        );
      },
      tie === undefined ? {} : { tie_word_embeddings: tie },
    );
    const tensors = await readTensors(path);
    const notes: string[] = [];
    const model = await open(path, notes);
    expect(offBy(await ends(model), tensors.get(DECODER)!, tensors.get(BIAS)!)).toBeLessThan(1e-5);
    expect(notes).toHaveLength(Number(weight) + Number(bias));
    for (const note of notes)
      expect(note).toMatch(/cls\.predictions\.decoder\.(weight|bias) and .* should be one tensor/);
    model.dispose();
  });

  it('old names count', async () => {
    let head!: Stored;
    const path = await variant('llama-tied', (tensors) => {
      for (const [name, stored] of [...tensors]) {
        tensors.delete(name);
        tensors.set(name.replace(/^model\./, ''), stored);
      }
      head = changed(tensors.get('embed_tokens.weight')!, 1);
      tensors.set(HEAD, head);
    });
    const notes: string[] = [];
    const model = await open(path, notes);
    expect(offBy(await ends(model), head)).toBeLessThan(1e-5);
    expect(notes).toHaveLength(1);
    model.dispose();
  });

  it('a head of another shape is refused', async () => {
    const path = await variant('llama-tied', (tensors) => tensors.set(HEAD, floats([130, 32])));
    expect((await fails(open(path))).message).toMatch(/another shape.*lm_head\.weight is \[130,32\]/);
  });
});

describe('tensors that a model has no place for', () => {
  const extra: [string, string, string[]][] = [
    ['a classifier', 'bert-s', ['classifier.weight', 'classifier.bias']],
    ['a question head', 'bert-s', ['qa_outputs.weight', 'qa_outputs.bias']],
    ['a reward head', 'llama-s', ['score.weight', 'v_head.summary.bias']],
    ['another tower', 'llama-s', ['vision.layers.0.norm.weight', 'vision.layers.0.fc.bias']],
    ['a buffer in a layer', 'llama-s', ['model.layers.0.self_attn.cache']],
  ];
  it.each(extra)('%s: named once, and the model is as without; --strict refuses', async (_, from, names) => {
    const plain = await open(join(GOLDEN, from));
    const path = await variant(from, (tensors) => {
      for (const name of names) tensors.set(name, floats([3]));
    });
    const notes: string[] = [];
    const model = await open(path, notes);
    expect((await ends(model)).logits).toEqual((await ends(plain)).logits);
    expect(notes).toEqual([`${path}: not read, as the model has no place for it: ${names.join(', ')}`]);
    expect(await fails(open(path, [], true))).toMatchObject({ code: 'tensor-extra' });
    for (const each of [plain, model]) each.dispose();
  });

  it('the library tells the console where nobody is asked for', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    const path = await variant('bert-s', (tensors) => tensors.set('classifier.bias', floats([3])));
    (await loadModelWeights(await localFolder(path), device)).dispose();
    expect(warn.mock.calls).toEqual([[expect.stringContaining('classifier.bias')]]);
  });

  it.each([
    ['llama-s', 'model.layers.0.self_attn.q_proj.bias'],
    ['llama-s', 'model.layers.1.mlp.gate_proj.bias'],
    ['llama-s', 'model.layers.0.self_attn.q_norm.weight'],
    ['llama-s', 'model.layers.1.post_feedforward_layernorm.weight'],
    ['llama-s', 'model.layers.0.mlp.up_proj.weight_scale'],
    ['llama-s', 'model.layers.0.self_attn.v_proj.lora_A.default.weight'],
    ['llama-s', 'model.layers.2.mlp.up_proj.weight'],
    ['llama-s', 'lm_head.bias'],
    ['llama-tied', 'lm_head.bias'],
    ['llama-s', 'model.norm.bias'],
    ['bert-s', 'bert.encoder.layer.0.attention.output.adapter_norm.weight'],
    ['bert-s', 'encoder.layer.1.crossattention.self.query.bias'],
  ])('%s with %s would have other numbers: refused', async (from, name) => {
    const path = await variant(from, (tensors) => tensors.set(name, floats([3])));
    const error = await fails(open(path));
    expect(error.code).toBe('tensor-extra');
    expect(error.message).toContain(`that this architecture does not compute with: ${name}`);
  });

  /** The golden Llama in two shards, with more in the second than the index says. */
  async function sharded(more: Tensors): Promise<string> {
    const names = ['a.safetensors', 'b.safetensors'] as const;
    const tensors = await readTensors(join(GOLDEN, 'llama-s'));
    const half = Math.floor(tensors.size / 2);
    const parts = [new Map([...tensors].slice(0, half)), new Map([...tensors].slice(half))];
    const map = Object.fromEntries(
      parts.flatMap((part, i) => [...part.keys()].map((name) => [name, names[i]])),
    );
    const path = writeModel(
      join(scratch, String(count++)),
      readConfigJson(join(GOLDEN, 'llama-s')),
      new Map(),
      {
        [names[0]]: safetensorsFile(parts[0]!),
        [names[1]]: safetensorsFile(new Map([...parts[1]!, ...more])),
        'model.safetensors.index.json': { weight_map: map },
      },
    );
    rmSync(join(path, 'model.safetensors'));
    return path;
  }

  it.each<[string, Tensors]>([
    ['something old', new Map([['old.expert', floats([3])]])],
    ['what would be refused if it were read', new Map([['model.layers.0.mlp.up_proj.bias', floats([80])]])],
    // In the first shard, says the index, with other numbers.
    ['another copy of a tensor', new Map([['lm_head.weight', floats([101, 48])]])],
  ])('shards: the index says what is read, not %s', async (_, more) => {
    const plain = await open(join(GOLDEN, 'llama-s'));
    const path = await sharded(more);
    const notes: string[] = [];
    const model = await open(path, notes);
    expect((await ends(model)).logits).toEqual((await ends(plain)).logits);
    const name = [...more.keys()][0]!;
    // A copy of the head is among what may always be left over.
    expect(notes).toEqual(
      name === 'lm_head.weight' ? [] : [expect.stringContaining(`index.json does not name it: ${name}`)],
    );
    for (const each of [plain, model]) each.dispose();
    if (notes.length > 0) expect((await fails(open(path, [], true))).message).toContain(name);
  });
});

describe('vocabularies of another size', () => {
  const rename = (path: string, change: (json: { added_tokens: object[] }) => void): void => {
    const file = join(path, 'tokenizer.json');
    const json = JSON.parse(readFileSync(file, 'utf8'));
    change(json);
    writeFileSync(file, JSON.stringify(json));
  };
  const copyOf = (from: string): string => {
    const path = join(scratch, String(count++));
    cpSync(from, path, { recursive: true });
    return path;
  };

  it('more tokens than rows: only a prompt or target that uses one is refused', async () => {
    const path = copyOf(STORIES);
    rename(path, (json) =>
      json.added_tokens.push({ id: 512, content: '<extra>', special: false, normalized: false }),
    );
    const { model, tokenizer } = await loadModel(path, { device });
    const prompt = encodePrompt(model, tokenizer, 'Once upon a');
    expect(resolveTarget(model, tokenizer, prompt, 'time')).toBeGreaterThan(0);
    expect(() => encodePrompt(model, tokenizer, 'Once <extra>')).toThrow(
      /the prompt "Once <extra>" has the token "<extra>" \(512\), but the model knows ids 0 to 511 alone/,
    );
    expect(() => resolveTarget(model, tokenizer, prompt, '<extra>')).toThrow(
      /the target "<extra>" has the token/,
    );
    model.dispose();
  });

  it('more rows than tokens load', async () => {
    const path = copyOf(STORIES);
    const tensors = await readTensors(STORIES);
    const embed = tensors.get('model.embed_tokens.weight')!;
    tensors.set('model.embed_tokens.weight', floats([520, 64], numbersOf(embed)));
    tensors.delete('lm_head.weight');
    writeModel(path, { ...readConfigJson(STORIES), vocab_size: 520 }, tensors);
    const { model } = await loadModel(path, { device });
    expect((await ends(model)).logits.length).toBe(520);
    model.dispose();
  });
});

describe('generation_config.json', () => {
  const llama = readConfigJson(join(GOLDEN, 'llama-tied'));
  const endIds = async (generation: object | string | null, eos: unknown = 2): Promise<unknown> => {
    const files = generation === null ? {} : { 'generation_config.json': generation };
    const path = writeModel(
      join(scratch, String(count++)),
      { ...llama, eos_token_id: eos },
      new Map(),
      files,
    );
    return (await readConfig(await localFolder(path))).endIds;
  };

  it.each<[unknown, object | null, unknown]>([
    [[2, 7], { eos_token_id: [2, 7] }, 2],
    [[7], { eos_token_id: 7 }, 2],
    [[7], { eos_token_id: 7 }, null],
    [[2], { eos_token_id: null }, 2],
    [[2, 3], { bos_token_id: 1 }, [2, 3]],
    [[2], { eos_token_id: [] }, 2],
    [[2], null, 2],
    [[], {}, null],
  ])('ends at %j: it says %j, config.json %j', async (ids, generation, eos) => {
    expect(await endIds(generation, eos)).toEqual(ids);
  });

  it.each<[object | string, RegExp]>([
    ['{', /generation_config\.json: is not JSON/],
    [[], /generation_config\.json: the file must hold an object/],
    [
      { eos_token_id: 'x' },
      /generation_config\.json: eos_token_id must be a token id or a list of them, not "x"/,
    ],
    [{ eos_token_id: [1.5] }, /eos_token_id\.0 must be a whole number, not 1\.5/],
    [
      { eos_token_id: [2, 1e6] },
      /generation_config\.json: eos_token_id 1000000 is outside the vocabulary, 0\.\.\d+$/,
    ],
    [{ eos_token_id: -1 }, /generation_config\.json: eos_token_id -1 is outside the vocabulary, 0\.\.\d+$/],
  ])('%j is refused', async (generation, message) => {
    expect((await fails(endIds(generation))).message).toMatch(message);
  });

  it('is of no concern to a BERT', async () => {
    const path = await variant('bert-s', () => {}, {}, { 'generation_config.json': '{' });
    expect((await readConfig(await localFolder(path))).family.type).toBe('bert');
  });
});

describe('checkpoints of something else', () => {
  const renamed = (change: (name: string) => string) => (tensors: Tensors) => {
    for (const [name, stored] of [...tensors]) {
      tensors.delete(name);
      tensors.set(change(name), stored);
    }
  };
  const only = (keep: RegExp) => (tensors: Tensors) => {
    for (const name of [...tensors.keys()]) if (!keep.test(name)) tensors.delete(name);
  };

  it.each<[string, string, (tensors: Tensors) => void, RegExp]>([
    [
      'model. twice',
      'llama-s',
      renamed((name) => name.replace(/^model\./, 'model.model.')),
      /have the prefix "model\." twice \(model\.model\./,
    ],
    ['model. twice, head included', 'llama-s', renamed((name) => `model.${name}`), /prefix "model\." twice/],
    [
      'bert. twice',
      'bert-s',
      renamed((name) => name.replace(/^bert\./, 'bert.bert.')),
      /prefix "bert\." twice \(bert\.bert\./,
    ],
    ['bert. twice, head included', 'bert-s', renamed((name) => `bert.${name}`), /prefix "bert\." twice/],
    ['a wrapper', 'bert-s', renamed((name) => `module.${name}`), /names begin with "module\.bert\."/],
    [
      'a compiled model',
      'llama-tied',
      renamed((name) => `_orig_mod.${name}`),
      /names begin with "_orig_mod\.model\."/,
    ],
    [
      'the encoder alone',
      'bert-s',
      only(/^bert\./),
      /is an encoder without the masked-word head.*BertForMaskedLM/,
    ],
    [
      'the encoder alone, without its prefix',
      'bert-s',
      (tensors) => {
        only(/^bert\./)(tensors);
        renamed((name) => name.slice(5))(tensors);
      },
      /is an encoder without the masked-word head/,
    ],
    [
      'a classifier',
      'bert-s',
      (tensors) => {
        only(/^bert\./)(tensors);
        tensors.set('classifier.weight', floats([2, 32]));
      },
      /is an encoder without the masked-word head/,
    ],
    [
      'a decoder without head',
      'llama-s',
      only(/^model\./),
      /is a decoder without its head.*LlamaForCausalLM/,
    ],
    [
      'packed matrices',
      'llama-s',
      renamed((name) => name.replace(/(proj)\.weight$/, '$1.qweight')),
      /packed by GPTQ or AWQ/,
    ],
  ])('%s', async (_, from, change, message) => {
    const error = await fails(open(await variant(from, change)));
    expect(error.code).toBe('tensor-missing');
    expect(error.message).toMatch(message);
    expect(error.message.length).toBeLessThan(700);
  });

  it.each<[string, object, RegExp]>([
    [
      'GPTQ',
      { quantization_config: { quant_method: 'gptq', bits: 4, group_size: 128 } },
      /says gptq, 4 bits: quantised/,
    ],
    ['AWQ', { quantization_config: { quant_method: 'awq', bits: 4, zero_point: true } }, /says awq, 4 bits/],
    ['AWQ, old', { quantization_config: { w_bit: 4, quant_method: 'awq' } }, /says awq, 4 bits/],
    [
      'bitsandbytes',
      { quantization_config: { load_in_8bit: true, quant_method: 'bitsandbytes' } },
      /bitsandbytes, 8 bits/,
    ],
    [
      'bitsandbytes, old',
      { quantization_config: { load_in_4bit: true, load_in_8bit: false } },
      /says 4 bits/,
    ],
    ['FP8', { quantization_config: { quant_method: 'fp8' } }, /says fp8: quantised/],
    [
      'compressed tensors',
      { quantization_config: { format: 'pack-quantized', quant_method: 'compressed-tensors' } },
      /says compressed-tensors:/,
    ],
    [
      'an old field',
      { compression_config: { format: 'int-quantized' } },
      /compression_config says int-quantized/,
    ],
    [
      'an unknown method',
      { quantization_config: { quant_method: 'x'.repeat(9999) } },
      /quantization_config says x{200}…:/,
    ],
    ['nothing said', { quantization_config: {} }, /quantization_config is there: quantised/],
    ['no object', { quantization_config: true }, /quantization_config is there/],
  ])('a config of %s', async (_, config, message) => {
    for (const from of ['llama-s', 'bert-s'])
      expect((await fails(open(await variant(from, () => {}, config)))).message).toMatch(message);
  });

  it.each<[string, string, RegExp]>([
    ['adapter_config.json', '{}', /has neither .* it is an adapter: merge it/],
    ['pytorch_model.bin', 'x', /only PyTorch files; convert it with save_pretrained/],
  ])('no safetensors, but %s', async (file, content, message) => {
    const path = await variant('llama-s', () => {}, {}, { [file]: content });
    rmSync(join(path, 'model.safetensors'));
    expect((await fails(open(path))).message).toMatch(message);
  });
});

describe('Git LFS pointers', () => {
  const pointer = (spec = 'git-lfs') =>
    `version https://${spec}.github.com/spec/v1\noid sha256:${'4d7a2146'.repeat(8)}\nsize 1049000\n`;
  const said = (file: string) =>
    new RegExp(
      `${file.replaceAll('.', '\\.')}: is a Git LFS pointer, not the file of 1049000 bytes itself; run .git lfs pull`,
    );

  const FILES: [string, 'config' | 'weights' | 'tokenizer' | 'chat'][] = [
    ['config.json', 'config'],
    ['generation_config.json', 'config'],
    ['model.safetensors', 'weights'],
    ['tokenizer.json', 'tokenizer'],
    ['tokenizer_config.json', 'tokenizer'],
    ['special_tokens_map.json', 'tokenizer'],
    ['chat_template.jinja', 'chat'],
  ];
  it.each(FILES)('%s', async (file, use) => {
    const path = join(scratch, String(count++));
    cpSync(STORIES, path, { recursive: true });
    for (const spec of ['git-lfs', 'hawser']) {
      writeFileSync(join(path, file), pointer(spec));
      const folder = await localFolder(path);
      const reading = {
        config: () => readConfig(folder),
        weights: () => openCheckpoint(folder),
        tokenizer: () => loadTokenizer(folder),
        chat: () => readChatTemplate(folder),
      }[use];
      const error = await fails(reading());
      expect(error.code).toBe('lfs-pointer');
      expect(error.message).toMatch(said(file));
    }
  });

  it('every file of a sharded folder', async () => {
    const from = join(GOLDEN, 'llama-gqa');
    for (const file of readdirSync(from)) {
      const path = join(scratch, String(count++));
      cpSync(from, path, { recursive: true });
      writeFileSync(join(path, file), pointer());
      expect((await fails(open(path))).message).toMatch(said(file));
    }
  });

  it.each(['test.json', 'test.jsonl', 'test.parquet'])('a data set, %s', async (file) => {
    const folder = fileMapFolder(new Map([[`fact/fever/${file}`, new Blob([pointer()])]]));
    expect((await fails(readTask(folder, task('FEVER')))).message).toMatch(said(file));
  });

  it('prompts and plans', () => {
    const path = join(scratch, 'prompts.jsonl');
    writeFileSync(path, pointer());
    expect(() => readTextFile(path)).toThrow(said('prompts.jsonl'));
  });

  it('a small file that is none is judged as what it should be', async () => {
    const path = await variant('llama-s', () => {}, {}, { 'model.safetensors': 'version 2 of my model' });
    expect((await fails(open(path))).code).toBe('safetensors');
  });
});
