import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import {
  checkSampling,
  chooseToken,
  fileMapFolder,
  generate,
  type LoadedModel,
  loadModel,
  readChatTemplate,
  streamText,
} from '../../models/index.ts';

let device: Device;
let loaded: LoadedModel;
beforeAll(async () => {
  device = await openDevice();
  loaded = await loadModel('examples/models/stories260k', { device });
});
afterAll(() => device.destroy());

const STORY =
  ', there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.';

describe('stories260k', () => {
  test('continues "Once upon a time" greedily, streamed as it comes', async () => {
    const { tokenizer } = loaded;
    const model = loaded.model;
    const prompt = tokenizer.encode('Once upon a time');
    const held = device.memory.activations;
    const stream = streamText((ids) => tokenizer.decode(ids, { skipSpecialTokens: true }), prompt);
    const told: number[] = [];
    let text = '';
    const { ids, end } = await generate(model, prompt, {
      maxTokens: 200,
      onToken(id) {
        told.push(id);
        text += stream(told);
        return text.length < STORY.length;
      },
    });
    expect(text).toBe(STORY);
    expect(ids).toEqual(told);
    expect(end).toBe('callback');
    expect(device.memory.activations).toBe(held);
  });

  test('each greedy token is the argmax of the full forward', async () => {
    const model = loaded.model;
    const prompt = loaded.tokenizer.encode('The dog');
    const { ids, end } = await generate(model, prompt, { maxTokens: 12 });
    expect(end).toBe('length');
    const all = [...prompt, ...ids];
    using run = model.run({ ids: [all] });
    const logits = await run.logits.read();
    const { vocabulary } = model.sizes;
    ids.forEach((id, i) => {
      const at = (prompt.length + i - 1) * vocabulary;
      expect(chooseToken(logits.subarray(at, at + vocabulary))).toBe(id);
    });
  });

  test('ends at a stop token and at the last position', async () => {
    const model = loaded.model;
    const prompt = loaded.tokenizer.encode('Once upon a time');
    const first = await generate(model, prompt, { maxTokens: 5 });
    const stopped = await generate(model, prompt, { stopIds: [first.ids[3]!] });
    expect(stopped).toEqual({ ids: first.ids.slice(0, 3), end: 'stop' });
    const long = Array.from({ length: 511 }, (_, i) => 3 + (i % 400));
    expect(await generate(model, long, { stopIds: [] })).toMatchObject({ end: 'positions' });
    await expect(generate(model, prompt, { stopIds: [2, 512] })).rejects.toThrow(
      'generate: stopIds[1] is 512, expected a whole number from 0 to 511',
    );
    await expect(generate(model, [])).rejects.toThrow('no tokens');
  });
});

describe('sampling', () => {
  const logits = [Math.log(0.1), Math.log(0.4), Math.log(0.2), Math.log(0.3)];
  /** Share of each token over evenly spread draws. */
  const shares = (options: object): number[] => {
    const count = [0, 0, 0, 0];
    for (let i = 0; i < 1000; i++)
      count[chooseToken(logits, { temperature: 1, ...options, random: () => (i + 0.5) / 1000 })]!++;
    return count.map((n) => n / 1000);
  };
  test('draws by probability', () => {
    expect(shares({})).toEqual([0.1, 0.4, 0.2, 0.3]);
    expect(shares({ topK: 1 })).toEqual([0, 1, 0, 0]);
    expect(shares({ topK: 2 })[1]).toBeCloseTo(4 / 7, 2);
    expect(shares({ topP: 0.65 })[3]).toBeCloseTo(3 / 7, 2);
    expect(shares({ topP: 0.75 })[2]).toBeCloseTo(2 / 9, 2);
    expect(shares({ temperature: 0.5 })[1]).toBeCloseTo(16 / 30, 2);
  });
  test('greedy by lower id, whatever the rest', () => {
    expect(chooseToken([1, 3, 3, 2])).toBe(1);
    expect(chooseToken([1, 3, 3, 2], { temperature: 0, topK: 1, random: () => 0.9 })).toBe(1);
  });
  test('no token of logits that are no numbers', () => {
    for (const options of [{}, { temperature: 1, random: () => 0.5 }])
      expect(() => chooseToken([1, Number.NaN, 2], options)).toThrow('not finite (NaN at token 1)');
  });
  test('refuses bad options', () => {
    const random = Math.random;
    expect(() => checkSampling({ temperature: -1 })).toThrow('temperature is -1');
    expect(() => checkSampling({ temperature: Number.NaN })).toThrow('temperature is NaN');
    expect(() => checkSampling({ topK: 0 })).toThrow('topK is 0');
    expect(() => checkSampling({ topP: 0 })).toThrow('topP is 0');
    expect(() => checkSampling({ temperature: 1 })).toThrow('random');
    checkSampling({ temperature: 1, topK: 3, topP: 0.5, random });
  });
});

describe('chat templates', () => {
  const folder = (config: object | string, file?: string) =>
    fileMapFolder(
      new Map([
        ['tokenizer_config.json', new Blob([typeof config === 'string' ? config : JSON.stringify(config)])],
        ...(file === undefined ? [] : ([['chat_template.jinja', new Blob([file])]] as const)),
      ]),
      'somewhere',
    );
  const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: ' Why? ' },
  ] as const;
  // Llama 2's own, shortened.
  const llama2 =
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set system = false %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'].strip() %}{% else %}{% set content = m['content'].strip() %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content + ' [/INST]' }}{% else %}{{ ' ' + content + ' ' + eos_token }}{% endif %}{% endfor %}";

  test('as the tokenizer writes them', async () => {
    const config = { bos_token: '<s>', eos_token: { content: '</s>' }, chat_template: llama2 };
    const chat = await readChatTemplate(folder(config));
    expect(chat(messages)).toBe('<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST]');
    expect(() => chat([{ role: 'assistant', content: 'No.' }])).toThrow('roles must alternate');
    const named = {
      chat_template: [
        { name: 'tool', template: 'x' },
        { name: 'default', template: 'd' },
      ],
    };
    expect((await readChatTemplate(folder(named)))(messages)).toBe('d');
    const file = await readChatTemplate(folder(config, '{{ messages | length }}{{ add_generation_prompt }}'));
    expect(file(messages)).toBe('2true');
  });
  test.each([
    [
      'goes on for ever',
      '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}',
      'it takes more than 5 seconds',
    ],
    [
      'fills the memory',
      '{% for i in range(1000000000) %}x{% endfor %}',
      // Whichever comes first on this machine.
      'it takes more than ',
    ],
    [
      'writes without end',
      "{% set all = namespace(text='x') %}{% for i in range(20) %}{% set all.text = all.text + all.text %}{% endfor %}{{ all.text }}",
      'it writes 1048576 characters',
    ],
  ])('one that %s is ended', { timeout: 20_000 }, async (_, chat_template, reason) => {
    const chat = await readChatTemplate(folder({ chat_template }));
    expect(() => chat(messages)).toThrow(`somewhere: its chat template refuses this conversation (${reason}`);
  });
  test('one that cannot be read in time', { timeout: 20_000 }, async () => {
    // The library looks for the end of every run of spaces from each of them.
    await expect(readChatTemplate(folder({ chat_template: ' '.repeat(2e6) }))).rejects.toThrow(
      'its chat template cannot be read (it takes more than',
    );
  });
  test('none, or not one', async () => {
    await expect(readChatTemplate(folder({}))).rejects.toThrow(
      'somewhere: its tokenizer has no chat template',
    );
    await expect(readChatTemplate(folder({ chat_template: '{% if %}' }))).rejects.toThrow('cannot be read');
    await expect(readChatTemplate(folder('[]'))).rejects.toThrow('not an object');
  });
});
