/**
 * Every reader of files that strangers make or disks damage: a folder of valid files, and what reads it. A reader may take a
 * damaged file or refuse it with a `UserError`; anything else is a fault.
 */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { finishTask, readManifest } from '../../cli/probeRun.ts';
import { AdamW, type Device, openDevice, tensor } from '../../engine/index.ts';
import { openCheckpoint } from '../../models/checkpoint.ts';
import {
  loadModelWeights,
  loadOptimiser,
  loadTokenizer,
  localFolder,
  readChatTemplate,
  readConfig,
  saveOptimiser,
} from '../../models/index.ts';
import { parseNeurons, parseRange, UserError } from '../../neurgrad/index.ts';
import {
  detectShard,
  parsePlan,
  parseShard,
  readQuestions,
  StudyFolder,
  summarise,
} from '../../neurgrad/study/index.ts';
import { loadProber, parseTasks, readTask } from '../../probing/index.ts';

/** Files by their path in a folder. */
export type Files = Readonly<Record<string, Uint8Array | string>>;

export interface Parser {
  readonly name: string;
  /** A folder that can be read. */
  readonly files: Files;
  /** Files that are damaged; default all. */
  readonly damaged?: readonly string[];
  /** Reads the folder. */
  read(folder: string): Promise<void>;
  /** Inputs beside those of other parsers: below 1 where one takes long. */
  readonly share?: number;
}

const GOLDEN = 'test/golden/models';
const MODELS = 'examples/models';

/** All files of a folder. */
export function filesOf(folder: string, keep: (name: string) => boolean = () => true): Files {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile() && keep(name))
    .sort();
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name))]));
}

let opened: Promise<Device> | undefined;
const device = (): Promise<Device> => (opened ??= openDevice());

/** Gives the device back. */
export async function closeDevice(): Promise<void> {
  (await opened)?.destroy();
}

/** Small tokenizers of each kind of model, with the parts that real files have. */
const TOKENIZERS: Readonly<Record<string, object>> = {
  wordpiece: {
    version: '1.0',
    added_tokens: [
      {
        id: 0,
        content: '[PAD]',
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      },
      {
        id: 4,
        content: '[MASK]',
        special: true,
        single_word: false,
        lstrip: true,
        rstrip: false,
        normalized: false,
      },
    ],
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [
        { SpecialToken: { id: '[CLS]', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
        { SpecialToken: { id: '[SEP]', type_id: 0 } },
      ],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: {
        '[CLS]': { id: '[CLS]', ids: [2], tokens: ['[CLS]'] },
        '[SEP]': { id: '[SEP]', ids: [3], tokens: ['[SEP]'] },
      },
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: {
        '[PAD]': 0,
        '[UNK]': 1,
        '[CLS]': 2,
        '[SEP]': 3,
        '[MASK]': 4,
        hello: 5,
        world: 6,
        '##s': 7,
        '.': 8,
      },
    },
  },
  bytes: {
    version: '1.0',
    added_tokens: [
      {
        id: 9,
        content: '<|end|>',
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      },
    ],
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: '\\p{N}{1,3}' }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: { h: 0, e: 1, l: 2, o: 3, Ġ: 4, he: 5, ll: 6, w: 7, hell: 8 },
      merges: [
        ['h', 'e'],
        ['l', 'l'],
        ['he', 'll'],
      ],
    },
  },
  unigram: {
    version: '1.0',
    added_tokens: [],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'Unigram',
      unk_id: 0,
      vocab: [
        ['<unk>', 0],
        ['▁', -2],
        ['h', -3],
        ['e', -3],
        ['l', -3.5],
        ['o', -3],
        ['▁hello', -1.5],
      ],
    },
  },
  words: {
    added_tokens: [],
    normalizer: { type: 'Lowercase' },
    pre_tokenizer: { type: 'Whitespace' },
    model: { type: 'WordLevel', vocab: { '<unk>': 0, hello: 1, world: 2 }, unk_token: '<unk>' },
  },
};

const TEXTS = ['Hello world 12345.', 'héllo\u0301 你好 \u{1f642}', '', ' \n\t ', 'hello [MASK] <|end|>'];

const tokenizers = Object.entries(TOKENIZERS).map(
  ([name, json]): Parser => ({
    name: `tokenizer ${name}`,
    files: {
      'tokenizer.json': JSON.stringify(json),
      'tokenizer_config.json': JSON.stringify({
        mask_token: { content: '[MASK]' },
        bos_token: '<s>',
        clean_up_tokenization_spaces: false,
      }),
      'special_tokens_map.json': JSON.stringify({
        unk_token: '[UNK]',
        pad_token: { content: '[PAD]', lstrip: false },
      }),
    },
    async read(folder) {
      const tokenizer = await loadTokenizer(await localFolder(folder));
      for (const text of TEXTS) tokenizer.decode(tokenizer.encode(text));
    },
  }),
);

const weights = ['bert-s', 'bert-s-sharded', 'llama-tied', 'llama-gqa'].map(
  (name): Parser => ({
    name: `model ${name}`,
    files: filesOf(join(GOLDEN, name)),
    share: 0.3,
    async read(folder) {
      const model = await loadModelWeights(await localFolder(folder), await device());
      model.dispose();
    },
  }),
);

const RECORDS = Array.from({ length: 12 }, (_, i) => ({
  claim: `The ${i}th claim is about Rome.`,
  label: i % 2 === 0 ? 'SUPPORTS' : 'REFUTES',
  extra: i,
}));

/** FEVER's rows, by whatever fields the task has. */
function rows(): Record<string, unknown>[] {
  const { fields, gold } = parseTasks('FEVER')[0]!;
  return RECORDS.map(({ claim }, i) => ({
    ...Object.fromEntries(fields.map(({ name }) => [name, claim])),
    [gold.field]: gold.values ? gold.values[i % 2] : (gold.first ?? 0) + (i % 2),
  }));
}

function taskFiles(ending: string): Files {
  const all = rows();
  const columns = Object.keys(all[0]!);
  const text =
    ending === 'json'
      ? JSON.stringify(all)
      : ending === 'jsonl'
        ? all.map((row) => JSON.stringify(row)).join('\n')
        : new Uint8Array(
            parquetWriteBuffer({
              columnData: columns.map((name) => ({ name, data: all.map((row) => row[name]) })),
            }),
          );
  return { [`${parseTasks('FEVER')[0]!.folder}/train.${ending}`]: text };
}

const tasks = ['json', 'jsonl', 'parquet'].map(
  (ending): Parser => ({
    name: `task ${ending}`,
    files: taskFiles(ending),
    // A process each.
    share: ending === 'parquet' ? 0.1 : 1,
    async read(folder) {
      await readTask(await localFolder(folder), parseTasks('FEVER')[0]!);
    },
  }),
);

/** Lines that are texts and not files: each parser reads the file as text and parses its lines. */
function lines(name: string, valid: readonly string[], parse: (line: string) => unknown): Parser {
  return {
    name,
    files: { 'lines.txt': valid.join('\n') },
    async read(folder) {
      let refused: unknown;
      for (const line of readFileSync(join(folder, 'lines.txt'), 'utf8').split('\n')) {
        try {
          parse(line);
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          refused = error;
        }
      }
      if (refused) throw refused;
    },
  };
}

const SPACE = {
  architecture: 'bert',
  sizes: { layers: 4, width: 512 },
  sites: ['pre', 'post'],
  paperSite: 'post',
} as const;

/** All parsers. @param runs folders of a finished study and of a probing run. */
export function parsers(runs: { readonly study: string; readonly probe: string }): Parser[] {
  const study = filesOf(runs.study, (name) => !/html|lock|svg/.test(name));
  const probe = filesOf(runs.probe, (name) => !/html|lock/.test(name));
  const prober = Object.keys(probe).find((name) => /^probers\/.*\.json$/.test(name))!;
  return [
    ...tokenizers,
    {
      name: 'config',
      files: { 'config.json': readFileSync(join(GOLDEN, 'llama-gqa/config.json')) },
      read: async (folder) => void (await readConfig(await localFolder(folder))),
    },
    {
      name: 'config bert',
      files: { 'config.json': readFileSync(join(MODELS, 'facts-bert/config.json')) },
      read: async (folder) => void (await readConfig(await localFolder(folder))),
    },
    {
      name: 'chat template',
      files: {
        'tokenizer_config.json': JSON.stringify({
          bos_token: '<s>',
          eos_token: { content: '</s>' },
          chat_template:
            "{% for m in messages %}{{ bos_token + m['role'] + ': ' + m['content'] }}{% endfor %}",
        }),
      },
      share: 0.05,
      async read(folder) {
        (await readChatTemplate(await localFolder(folder)))([{ role: 'user', content: 'Hello' }]);
      },
    },
    {
      name: 'checkpoint',
      files: filesOf(join(GOLDEN, 'llama-s-f16-sharded')),
      damaged: ['model.safetensors.index.json', 'model-00001-of-00002.safetensors'],
      async read(folder) {
        const checkpoint = await openCheckpoint(await localFolder(folder));
        try {
          for (const name of checkpoint.tensors.keys()) await checkpoint.readFloat32(name);
        } finally {
          await checkpoint.close();
        }
      },
    },
    ...weights,
    ...tasks,
    {
      name: 'study plan',
      files: {
        'plan.json': JSON.stringify({
          models: ['examples/models/facts-bert'],
          prompts: { path: 'prompts.jsonl', count: 10, seed: 3 },
          neurons: { perPrompt: 5 },
          grid: { from: -2, to: 2, step: 0.5 },
          figure: { prompts: 1, neurons: 4, grid: { from: -1, to: 1, step: 0.5 } },
        }),
      },
      read: async (folder) => {
        const text = readFileSync(join(folder, 'plan.json'), 'utf8');
        parsePlan(parseLoosely(text));
      },
    },
    {
      name: 'prompts',
      files: {
        'prompts.jsonl': Array.from({ length: 5 }, (_, i) =>
          JSON.stringify({ prompt: `The ${i} of Rome is [MASK].`, answer: 'x', uuid: i }),
        ).join('\n'),
      },
      async read(folder) {
        const found = readQuestions({ ...QUESTIONS, path: join(folder, 'prompts.jsonl') }, 'bert');
        for (let i = 0; i < found.count; i++) found.at(i);
      },
    },
    {
      name: 'facts and templates',
      files: {
        'objects/P1.jsonl':
          '{"sub_label":"Rome","obj_label":"Italy"}\n{"sub_label":"Paris","obj_label":"France"}',
        'templates/P1.jsonl': '{"pattern":"[X] is in [Y]."}\n{"pattern":"[X] lies in [Y]."}',
      },
      async read(folder) {
        const found = readQuestions({ ...QUESTIONS, format: 'pararel', path: folder }, 'bert');
        for (let i = 0; i < found.count; i++) found.at(i);
      },
    },
    {
      name: 'study folder',
      files: study,
      read: async (folder) => void (await summarise([StudyFolder.read(folder)])),
    },
    {
      name: 'probing run',
      files: probe,
      damaged: Object.keys(probe).filter((name) => /manifest|^parts\/|^tasks\//.test(name)),
      async read(folder) {
        for (const { task } of readManifest(folder).tasks) await finishTask(folder, task, true);
      },
    },
    {
      name: 'prober',
      files: {
        'prober.json': probe[prober]!,
        'prober.safetensors': probe[prober.replace('.json', '.safetensors')]!,
      },
      read: async (folder) => void (await loadProber(join(folder, 'prober'))),
    },
    lines('neurons', ['L0.N1', 'L3.N511@pre', 'L1.N2,L2.N3'], (line) => parseNeurons(line, SPACE)),
    lines('ranges', ['-2:2:0.2', '0:1:0.5', '-10:10:1'], parseRange),
    lines('shards', ['1/2', '2/2', '3/64'], parseShard),
    lines('shards of a cluster', ['0 4', '3 4'], (line) => {
      const [SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_COUNT] = line.split(' ');
      detectShard({ SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_COUNT });
    }),
  ];
}

const QUESTIONS = {
  path: '',
  format: 'jsonl',
  count: 5,
  seed: 0,
  answeredRight: true,
  onePerFact: false,
  hideAnswer: false,
} as const;

/** What the command does with a plan's text before it is checked. */
function parseLoosely(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError('plan', 'is not JSON', { cause });
  }
}

/** An optimiser's file, written by the engine itself. */
export async function optimiserParser(folder: string): Promise<Parser> {
  const gpu = await device();
  const names = ['a.weight', 'b.weight'];
  const parameters = names.map(() => tensor(gpu, Float32Array.of(1, 2, 3, 4), [2, 2]).requireGrad());
  const path = join(folder, 'optimizer.safetensors');
  const optimiser = new AdamW(parameters);
  await saveOptimiser(path, optimiser, names);
  return {
    name: 'optimiser',
    files: { 'optimizer.safetensors': readFileSync(path) },
    read: (from) => loadOptimiser(join(from, 'optimizer.safetensors'), gpu, optimiser, names),
  };
}
