/** Readings behind a cache against full passes, on the bundled models. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  fileMapFolder,
  loadTokenizer,
  localFolder,
  streamModel,
  type Transformer,
} from '../../models/index.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import {
  type Device,
  type LanguageModel,
  loadModel,
  openDevice,
  type Tokenizer,
} from '../../neurgrad/index.ts';
import {
  cachedReader,
  fullReader,
  openReader,
  type Reading,
  type ReadingConventions,
} from '../../probing/collect.ts';
import { sortRows } from '../../probing/data.ts';
import { encodeQuestion, labelTokenIds, planTask, sharedPrefix } from '../../probing/prompts.ts';
import { prefixesOf } from '../../probing/run.ts';
import { choices, claims, task } from './rows.ts';

const conventions = (site: 'pre_linear' | 'post'): ReadingConventions => ({
  site,
  of: 'prob',
  direction: 'outward',
  sign: '+',
});

let device: Device;
let llama: { model: LanguageModel; tokenizer: Tokenizer };
let bert: { model: LanguageModel; tokenizer: Tokenizer };

beforeAll(async () => {
  device = await openDevice();
  llama = await loadModel('examples/models/stories260k', { device });
  bert = await loadModel('examples/models/facts-bert', { device });
});

afterAll(() => {
  llama?.model.dispose();
  bert?.model.dispose();
  device?.destroy();
});

/** Largest difference, against the largest value. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [error, scale] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    error = Math.max(error, Math.abs(a[i]! - b[i]!));
    scale = Math.max(scale, Math.abs(b[i]!));
  }
  return error / scale;
}

describe('a Llama behind its prefix', () => {
  let prompts: { ids: number[]; position: number }[];
  let candidates: number[];
  let whole: Reading[];

  beforeAll(async () => {
    const { model, tokenizer } = llama;
    candidates = labelTokenIds(model, tokenizer, task('MyriadLAMA'), 'continuation');
    const context = 'Pick one.\n\n### Sentence: Box 9 holds a [Y].\n### Answer:b\n\n### Sentence: ';
    prompts = ['Tom ran.\n### Answer:', 'Lily has a big red ball.\n### Answer:', 'Hi\n### Answer:'].map(
      (text) => encodeQuestion(model, tokenizer, context + text)!,
    );
    using reader = fullReader(model, conventions('pre_linear'));
    whole = await reader.read(prompts, candidates, []);
  });

  const cached = async (prefix: number[], some = prompts): Promise<Reading[]> => {
    using reader = cachedReader(llama.model as Transformer, conventions('pre_linear'));
    return await reader.read(some, candidates, prefix);
  };

  it('gives the gradients, activations and probabilities of whole prompts', async () => {
    const prefix = sharedPrefix(prompts.map(({ ids }) => ids));
    expect(prefix.length).toBeGreaterThan(20);
    const readings = await cached(prefix);
    readings.forEach((reading, p) => {
      expect(difference(reading.gradients, whole[p]!.gradients)).toBeLessThan(2e-5);
      expect(difference(reading.activation, whole[p]!.activation)).toBeLessThan(2e-5);
      reading.probabilities.forEach((probability, c) => {
        expect(Math.abs(probability / whole[p]!.probabilities[c]! - 1)).toBeLessThan(1e-4);
      });
    });
  });

  it('gives the same bits alone and among others', async () => {
    const prefix = sharedPrefix(prompts.map(({ ids }) => ids));
    const together = await cached(prefix);
    for (const [p, prompt] of prompts.entries()) {
      expect((await cached(prefix, [prompt]))[0]!.gradients).toEqual(together[p]!.gradients);
    }
  });

  it('gives the same bits with its weights on disk', async () => {
    const folder = await localFolder('examples/models/stories260k');
    const streamed = await streamModel(folder, device);
    const prefix = sharedPrefix(prompts.map(({ ids }) => ids));
    {
      using reader = openReader(streamed, conventions('pre_linear'));
      expect(await reader.read(prompts, candidates, prefix)).toEqual(await cached(prefix));
    }
    streamed.dispose();
  });

  it('is NeurGrad of each candidate', async () => {
    for (const [c, target] of candidates.entries()) {
      const one = await neuronGradients(llama.model, prompts[0]!, { target });
      const neurons = one.neurgrad.length;
      const row = whole[0]!.gradients.subarray(c * neurons, (c + 1) * neurons);
      expect(difference(row, one.neurgrad)).toBeLessThan(2e-5);
    }
  });

  it.each([
    { of: 'logprob', direction: 'plain', sign: '+' },
    { of: 'logit', direction: 'outward', sign: '-' },
  ] as const)('agrees for $of, $direction, $sign', async (choice) => {
    const chosen: ReadingConventions = { site: 'post', ...choice };
    const prefix = sharedPrefix(prompts.map(({ ids }) => ids));
    using one = cachedReader(llama.model as Transformer, chosen);
    using other = fullReader(llama.model, chosen);
    const [got] = await one.read(prompts.slice(0, 1), candidates, prefix);
    const [want] = await other.read(prompts.slice(0, 1), candidates, []);
    expect(difference(got!.gradients, want!.gradients)).toBeLessThan(2e-5);
    const [target, neurons] = [candidates[2]!, want!.activation.length];
    const reference = await neuronGradients(llama.model, prompts[0]!, { ...chosen, target });
    const row = want!.gradients.subarray(2 * neurons, 3 * neurons);
    expect(difference(row, reference.neurgrad)).toBeLessThan(2e-5);
  });

  it('leaves nothing on the device', async () => {
    const prefix = sharedPrefix(prompts.map(({ ids }) => ids));
    await cached(prefix);
    const before = device.memory.total;
    await cached(prefix);
    expect(device.memory.total).toEqual(before);
  });
});

describe('a BERT', () => {
  it('reads label words at its [MASK]', async () => {
    const { model, tokenizer } = bert;
    const rows = sortRows(task('FEVER'), claims(40)).rows;
    const plan = planTask(
      model,
      tokenizer,
      task('FEVER'),
      { train: rows.slice(0, 20), valid: rows.slice(20, 30), test: rows.slice(30) },
      { rows: 4, evaluationRows: 2, seed: 1, shots: 0, labelTokens: 'continuation' },
    );
    expect(plan.candidates.map((id) => tokenizer.tokenOf(id))).toEqual(['false', 'true']);
    using reader = openReader(model, conventions('post'));
    const prompt = plan.prompts.train[0]!;
    expect(prompt.ids[prompt.position]).toBe(tokenizer.maskId);
    const [reading] = await reader.read([prompt], plan.candidates, []);
    const one = await neuronGradients(model, prompt, { target: plan.candidates[1]! });
    const neurons = one.neurgrad.length;
    expect(difference(reading!.gradients.subarray(neurons), one.neurgrad)).toBeLessThan(2e-5);
    expect(Math.abs(reading!.probabilities[1]! - one.p)).toBeLessThan(1e-6);
  });
});

describe('prompts', () => {
  const split = (from: number, count: number) => sortRows(task('MyriadLAMA'), choices(count, from)).rows;
  const rows = { train: split(0, 40), valid: split(40, 8), test: split(48, 8) };
  const options = { rows: 8, evaluationRows: 4, seed: 3, shots: 1, labelTokens: 'continuation' } as const;

  it('begin with one demonstration a label, in label order, that no training prompt repeats', () => {
    const { model, tokenizer } = llama;
    const plan = planTask(model, tokenizer, task('MyriadLAMA'), rows, options);
    const context = plan.contexts.en!;
    expect([...context.matchAll(/### Answer:(.)\n\n/g)].map((match) => match[1])).toEqual([...'abcd']);
    expect(plan.demonstrations).toHaveLength(4);
    for (const split of Object.values(plan.prompts)) {
      expect(split.map(({ gold }) => gold).sort()).toEqual(
        split.length === 8 ? [0, 0, 1, 1, 2, 2, 3, 3] : [0, 1, 2, 3],
      );
      for (const { ids } of split) {
        const text = tokenizer.decode(ids, { skipSpecialTokens: true });
        expect(text.trimStart().startsWith(context)).toBe(true);
        expect(text.endsWith('### Answer:')).toBe(true);
      }
    }
    const trained = plan.prompts.train.map(({ index }) => index);
    expect(trained.filter((index) => plan.demonstrations.includes(index))).toEqual([]);
    expect(planTask(model, tokenizer, task('MyriadLAMA'), rows, options)).toEqual(plan);
  });

  it('ask in the language of their rows, each with demonstrations of its own', () => {
    const { tokenizer } = llama;
    const roomy = { causal: true, sizes: { positions: 4096 } } as const;
    const spoken = (count: number, from: number) =>
      sortRows(
        task('mLAMA'),
        choices(count, from).map((row, i) => ({ ...row, lang: i % 8 < 4 ? 'de' : 'zh' })),
      ).rows;
    const plan = planTask(
      roomy,
      tokenizer,
      task('mLAMA'),
      { train: spoken(40, 0), valid: spoken(8, 40), test: spoken(8, 48) },
      { ...options, rows: 16 },
    );
    const { de, zh } = plan.contexts;
    expect(de).toMatch(/^Welche .*Antworte.*### Antwort:a\n\n.*### Antwort:d\n\n$/s);
    expect(zh).toMatch(/^哪个.*### 答案:a\n\n.*### 答案:d\n\n$/s);
    expect(plan.demonstrations).toHaveLength(8);
    const prefixes = prefixesOf(plan);
    for (const { language, ids } of plan.prompts.train) {
      const prefix = prefixes.get(language)!;
      expect(prefix.length).toBeGreaterThan(200);
      expect(ids.slice(0, prefix.length)).toEqual(prefix);
    }
  });

  it('count rows that are too long, and say so where none is left', () => {
    const { tokenizer } = llama;
    const short = { causal: true, sizes: { positions: 120 } } as const;
    const long = sortRows(task('FEVER'), [...claims(8), { claim: 'long '.repeat(200), label: 1 }]).rows;
    const letters = { ...task('FEVER'), labels: ['a', 'b'] };
    const plan = planTask(
      short,
      tokenizer,
      letters,
      { train: long, valid: long, test: long },
      { ...options, rows: 99, shots: 0 },
    );
    expect(plan.left.train).toEqual([
      { problem: "prompt longer than the model's 120 positions", count: 1, rows: [8] },
    ]);
    expect(() => planTask(short, tokenizer, task('MyriadLAMA'), rows, options)).toThrow(
      /MyriadLAMA: none of 40 train prompts fits the model's 120 positions; --shots 0/,
    );
  });

  it('need labels of one token, each its own', () => {
    const { model, tokenizer } = llama;
    expect(() => labelTokenIds(model, tokenizer, task('FEVER'), 'continuation')).toThrow(
      'FEVER: label "False" is not one token of this model after "### Answer:"; its pieces: F a l se',
    );
    const released = labelTokenIds(model, tokenizer, task('GED'), 'release');
    expect(released.map((id) => tokenizer.tokenOf(id))).toEqual(['▁a', '▁b']);
    const following = labelTokenIds(model, tokenizer, task('GED'), 'continuation');
    expect(following.map((id) => tokenizer.tokenOf(id))).toEqual(['a', 'b']);
  });

  it('of a masked model are words after a space, as its mask is', async () => {
    const vocab = Object.fromEntries(
      ['True', 'ĠTrue', 'False', 'ĠFalse', 'Ġ'].map((token, id) => [token, id]),
    );
    const file = {
      added_tokens: [{ id: 5, content: '<mask>', special: true, lstrip: true }],
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
      model: { type: 'BPE', merges: [], ignore_merges: true, vocab },
    };
    const blob = new Blob([JSON.stringify(file)]);
    const roberta = await loadTokenizer(fileMapFolder(new Map([['tokenizer.json', blob]])));
    const labels = labelTokenIds(bert.model, roberta, task('FEVER'), 'continuation');
    expect(labels.map((id) => roberta.tokenOf(id))).toEqual(['ĠFalse', 'ĠTrue']);
    const { ids, position } = encodeQuestion(bert.model, roberta, 'True')!;
    expect([ids, position]).toEqual([[0, 5], 1]);
    const plain = labelTokenIds(bert.model, bert.tokenizer, task('FEVER'), 'continuation');
    expect(plain.map((id) => bert.tokenizer.tokenOf(id))).toEqual(['false', 'true']);
  });

  it('tell a label that train cannot demonstrate', () => {
    const { model, tokenizer } = llama;
    const one = rows.train.filter(({ question }) => question.gold !== 2);
    expect(() => planTask(model, tokenizer, task('MyriadLAMA'), { ...rows, train: one }, options)).toThrow(
      'train has no row of label "c"',
    );
  });
});
