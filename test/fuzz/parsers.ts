/**
 * Every reader of files that strangers make or disks damage: a folder of valid files, and what reads it. A reader may take a
 * damaged file or refuse it with a `UserError`; anything else is a fault.
 */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { tableFromArrays, tableToIPC } from '@uwdata/flechette';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { questionsOf } from '../../cli/commands/probe.ts';
import { readManifest } from '../../cli/probeFiles.ts';
import { finishRun, finishTask } from '../../cli/probeRun.ts';
import { AdamW, type Device, openDevice, sizeOf, tensor } from '../../engine/index.ts';
import { tuneProducts } from '../../engine/tune.ts';
import { checkCheckpoint, TrainingFolder, writeNotes } from '../../examples/training/folder.ts';
import { openFile } from '../../models/byteSource.ts';
import { openCheckpoint } from '../../models/checkpoint.ts';
import { passBytes } from '../../models/cost.ts';
import { hooksOf, parametersOf } from '../../models/description.ts';
import type { Family } from '../../models/families/family.ts';
import { unpackBlocks } from '../../models/gguf/blocks.ts';
import { readGgufHeader } from '../../models/gguf/header.ts';
import { Metadata } from '../../models/gguf/metadata.ts';
import { tokenizerOf } from '../../models/gguf/tokenizerOf.ts';
import {
  FAMILIES,
  loadModelWeights,
  loadOptimiser,
  loadTokenizer,
  localFolder,
  presetConfig,
  readChatTemplate,
  readConfig,
  resolveModelFolder,
  saveOptimiser,
} from '../../models/index.ts';
import { parseJson } from '../../models/json.ts';
import { storedTensors } from '../../models/stored.ts';
import { parseNeurons, parseRange, UserError } from '../../neurgrad/index.ts';
import {
  detectShard,
  parsePlan,
  parseShard,
  readQuestions,
  StudyFolder,
  summarise,
} from '../../neurgrad/study/index.ts';
import { readOpenQuestions } from '../../neurgrad/study/prompts.ts';
import {
  auditTask,
  cleanSplits,
  loadProber,
  parseTasks,
  readOwnTask,
  readTask,
  SPLITS,
  summariseAudits,
} from '../../probing/index.ts';
import { makeTokenizerFile } from '../models/tokenizerFiles.ts';
import { commands } from './commands.ts';

/** Files by their path in a folder. */
export type Files = Readonly<Record<string, Uint8Array | string>>;

export interface Parser {
  readonly name: string;
  /** A folder that can be read. */
  readonly files: Files;
  /** Files that are damaged; default all. */
  readonly damaged?: readonly string[];
  /** Files that carry their own digest: no change of them may be taken. */
  readonly sealed?: (file: string) => boolean;
  /** Reads the folder, of which a file may be damaged. */
  read(folder: string, file: string): Promise<void>;
  /** Inputs beside those of other parsers: below 1 where one takes long. */
  readonly share?: number;
}

const GOLDEN = 'test/golden/models';
const GOLDEN_FAMILIES = 'test/golden-families/models';
const GGUF = 'test/golden-gguf';
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
/** One without blocks through workgroup memory, which a CPU's driver compiles for minutes. */
let tuned: Promise<Device> | undefined;

/** Gives the devices back. */
export async function closeDevices(): Promise<void> {
  for (const each of [opened, tuned]) (await each)?.destroy();
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

/** Of every kind that is let in, as the comparison with the reference makes them. */
const kinds: Parser = {
  name: 'tokenizer kinds',
  files: Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [`${i}/tokenizer.json`, makeTokenizerFile(i)]),
  ),
  share: 2,
  async read(folder, file) {
    const tokenizer = await loadTokenizer(await localFolder(join(folder, dirname(file))));
    for (const text of TEXTS) {
      const ids = tokenizer.encode(text);
      tokenizer.decode(ids);
      ids.map(tokenizer.textOf);
    }
  },
};

/** Of each family a published config, and what is made of one before there are weights. */
const configs: Parser = {
  name: 'config',
  files: Object.fromEntries(
    Object.values<Family>(FAMILIES).map(({ type, presets }) => [
      `${type}/config.json`,
      JSON.stringify(presetConfig(Object.keys(presets)[0]!, 2)),
    ]),
  ),
  share: 3,
  async read(folder, file) {
    const { description } = await readConfig(await localFolder(dirname(join(folder, file))));
    hooksOf(description);
    storedTensors(parametersOf(description));
    passBytes(description, { rows: 2, tokens: 5, keys: 5, tape: true });
  },
};

/** Models whose files differ in kind, and how many inputs of them. */
const MODEL_SHARES: Readonly<Record<string, number>> = {
  ...{
    'bert-s': 0.3,
    'bert-s-sharded': 0.3,
    'llama-tied': 0.3,
    'llama-gqa': 0.3,
    'llama-s-f16-sharded': 0.3,
  },
  ...{ 'gpt2-a': 0.1, 'gpt_neox-a': 0.1, 'phi3-a': 0.1, 'modernbert-a': 0.1, 'gemma2-a': 0.1 },
};

/** GGUF files: a model of each architecture as it is opened and read, and vocabularies of each kind. */
const ggufs: readonly Parser[] = [
  {
    name: 'GGUF model',
    files: filesOf(GGUF, (name) => /^(?!blocks)[^/]+\.gguf$/.test(name)),
    share: 2,
    async read(folder, file) {
      const opened = await resolveModelFolder(join(folder, file));
      await readConfig(opened);
      await loadTokenizer(opened);
      const checkpoint = await openCheckpoint(opened);
      try {
        for (const name of checkpoint.tensors.keys()) await checkpoint.readFloat32(name);
      } finally {
        await checkpoint.close();
      }
    },
  },
  {
    name: 'GGUF blocks',
    files: filesOf(GGUF, (name) => name === 'blocks.gguf'),
    async read(folder, file) {
      const source = await openFile(join(folder, file));
      try {
        for (const { format, shape, begin, end } of (await readGgufHeader(source)).tensors.values())
          unpackBlocks(format, await source.read(begin, end), new Float32Array(sizeOf(shape)));
      } finally {
        await source.close();
      }
    },
  },
  {
    name: 'GGUF vocabulary',
    files: filesOf(join(GGUF, 'tokenizers'), (name) => name.endsWith('.gguf')),
    share: 2,
    async read(folder, file) {
      const source = await openFile(join(folder, file));
      try {
        const { tokenizer } = tokenizerOf(new Metadata(file, await readGgufHeader(source)));
        writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
        const made = await loadTokenizer(await localFolder(folder));
        for (const text of TEXTS) made.decode(made.encode(text));
      } finally {
        await source.close();
      }
    },
  },
];

const weights = Object.entries(MODEL_SHARES).map(
  ([name, share]): Parser => ({
    name: `model ${name}`,
    files: filesOf([GOLDEN, GOLDEN_FAMILIES].map((set) => join(set, name)).find(existsSync)!),
    share,
    async read(folder) {
      const model = await loadModelWeights(await localFolder(folder), await device());
      try {
        using run = model.run({ ids: [[1, 2, 3]] });
        await run.logits.read();
      } finally {
        model.dispose();
      }
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

const asLines = (records: readonly object[]): string =>
  records.map((record) => JSON.stringify(record)).join('\n');

/** Prompts as they are published: tables of each kind, rows of each form. */
function promptTables(): Parser[] {
  const places = ['Rome', 'Paris', 'Oslo'];
  const columns = {
    uuid: places.map((_, i) => `P1-${i}`),
    prompt: places.map((place) => `${place} is in [MASK].`),
    answer: places.map(() => 'x'),
  };
  const names = Object.keys(columns) as (keyof typeof columns)[];
  const rows = places.map((_, i) => names.map((name) => columns[name][i]!));
  const files: Files = {
    'table.csv': [names, ...rows].map((cells) => cells.join(',')).join('\n'),
    'table.tsv': [names, ...rows].map((cells) => cells.join('\t')).join('\n'),
    'table.parquet': new Uint8Array(
      parquetWriteBuffer({ columnData: names.map((name) => ({ name, data: columns[name] })) }),
    ),
    'table.arrow': tableToIPC(tableFromArrays(columns), { format: 'file' })!,
    'stream.feather': tableToIPC(tableFromArrays(columns), { format: 'stream' })!,
    'lama.jsonl': asLines(
      places.map((place) => ({
        masked_sentences: [`${place} is in [MASK].`],
        obj_label: 'x',
        sub_label: place,
      })),
    ),
    'counterfact.json': JSON.stringify(
      places.map((subject) => ({
        case_id: 1,
        requested_rewrite: {
          prompt: '{} is in',
          subject,
          target_true: { str: 'x' },
          target_new: { str: 'y' },
        },
      })),
    ),
  };
  return Object.entries(files).map(([file, content]) => ({
    name: `prompts in ${file}`,
    files: { [file]: content },
    // A process each.
    share: /parquet|arrow|feather/.test(file) ? 0.1 : 1,
    async read(folder) {
      const found = readOpenQuestions(join(folder, file), '[MASK]');
      for (let i = 0; i < found.count; i++) found.at(i);
    },
  }));
}

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
  family: 'bert',
  sizes: { layers: 4, width: 512 },
  sites: ['pre', 'post'],
  paperSite: 'post',
} as const;

/** All parsers. @param runs folders of a finished study and of a probing run. */
export function parsers(runs: { readonly study: string; readonly probe: string }): Parser[] {
  const study = filesOf(runs.study, (name) => !/html|lock|svg/.test(name));
  const probe = filesOf(runs.probe, (name) => !/html|lock/.test(name));
  const proberName = Object.keys(probe).find((name) => /^probers\/.*\.json$/.test(name))!;
  const prober: Files = {
    'prober.json': probe[proberName]!,
    'prober.safetensors': probe[proberName.replace('.json', '.safetensors')]!,
  };
  const splits: Files = Object.fromEntries(
    SPLITS.map((split) => [`${parseTasks('FEVER')[0]!.folder}/${split}.json`, JSON.stringify(rows())]),
  );
  return [
    ...commands({ study, probe, prober, splits }),
    ...tokenizers,
    kinds,
    {
      name: 'generation config',
      files: {
        'config.json': readFileSync(join(GOLDEN, 'llama-gqa/config.json')),
        'generation_config.json': JSON.stringify({ bos_token_id: 1, eos_token_id: [2, 3], max_length: 20 }),
      },
      damaged: ['generation_config.json'],
      read: async (folder) => void (await readConfig(await localFolder(folder))),
    },
    configs,
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
    ...ggufs,
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
        parsePlan(parseJson(text, 'plan.json', 'plan'));
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
        const found = readQuestions({ ...QUESTIONS, path: join(folder, 'prompts.jsonl') }, '[MASK]');
        for (let i = 0; i < found.count; i++) found.at(i);
      },
    },
    ...promptTables(),
    {
      name: 'facts and templates',
      files: {
        'objects/P1.jsonl':
          '{"sub_label":"Rome","obj_label":"Italy"}\n{"sub_label":"Paris","obj_label":"France"}',
        'templates/P1.jsonl': '{"pattern":"[X] is in [Y]."}\n{"pattern":"[X] lies in [Y]."}',
      },
      async read(folder) {
        const found = readQuestions({ ...QUESTIONS, format: 'pararel', path: folder }, '[MASK]');
        for (let i = 0; i < found.count; i++) found.at(i);
      },
    },
    {
      name: 'rows of a prober',
      files: { 'rows.json': JSON.stringify(rows()) },
      async read(folder) {
        const about = { task: 'FEVER', labels: ['a', 'b'], contexts: { en: 'Is the claim right?\n\n' } };
        questionsOf({ questions: join(folder, 'rows.json'), language: 'en' }, about);
      },
    },
    {
      name: 'questions of one’s own',
      files: {
        'own.jsonl': asLines(
          RECORDS.map(({ claim }, i) => ({ question: claim, choices: ['y', 'z'], answer: 'yz'[i % 2] })),
        ),
      },
      read: async (folder) => void (await readOwnTask(join(folder, 'own.jsonl'))),
    },
    {
      name: 'splits of a task',
      files: splits,
      async read(folder) {
        const [task] = parseTasks('FEVER');
        const data = await readTask(await localFolder(folder), task!);
        if (!data) throw new UserError('data', 'no files');
        summariseAudits([auditTask(task!, data)]);
        cleanSplits(task!, data, 1);
      },
    },
    {
      name: 'cache of the Hub',
      files: {
        'models--a--b/refs/main': COMMIT,
        [`models--a--b/snapshots/${COMMIT}/config.json`]: readFileSync(join(GOLDEN, 'llama-gqa/config.json')),
        [`models--a--b/snapshots/${COMMIT}/tokenizer.json`]: JSON.stringify(TOKENIZERS.bytes),
        ...Object.fromEntries(
          Object.entries(
            filesOf(join(GOLDEN, 'llama-s-f16-sharded'), (name) => /safetensors/.test(name)),
          ).map(([name, data]) => [`models--a--b/snapshots/${COMMIT}/${name}`, data]),
        ),
      },
      async read(folder) {
        const env = { HF_HUB_CACHE: folder, HF_HUB_OFFLINE: '1' };
        const found = await resolveModelFolder('a/b', { env });
        await readConfig(found);
        await (await openCheckpoint(found)).close();
        await loadTokenizer(found);
      },
    },
    {
      name: 'log of a training',
      files: { 'loss.jsonl': [0, 0, 0].map((step) => `${JSON.stringify({ step, loss: 1.5 })}\n`).join('') },
      async read(folder) {
        using training = new TrainingFolder(folder);
        training.readLog('loss.jsonl');
      },
    },
    {
      name: 'study folder',
      files: study,
      sealed: (file) => /parquet$|manifest/.test(file),
      read: async (folder) => void (await summarise([StudyFolder.read(folder)])),
    },
    {
      name: 'probing run',
      files: probe,
      damaged: Object.keys(probe).filter((name) => /manifest|^parts\//.test(name)),
      sealed: () => true,
      share: 2,
      async read(folder) {
        for (const { task } of readManifest(folder).tasks) {
          rmSync(join(folder, 'tasks'), { recursive: true, force: true });
          await finishTask(folder, task, true);
        }
      },
    },
    {
      name: 'results of a probing run',
      files: probe,
      damaged: Object.keys(probe).filter((name) => /manifest|^tasks\//.test(name)),
      sealed: () => true,
      read: async (folder) => void (await finishRun(folder, true)),
    },
    {
      name: 'prober',
      sealed: () => true,
      files: prober,
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

const COMMIT = '0123456789abcdef0123456789abcdef01234567';

/** Parsers whose files the engine writes. */
export const MADE: readonly string[] = ['optimiser', 'checkpoint of a training', 'tuning cache'];

/** They and their files. @param folder where those are made. */
export async function makeParsers(folder: string): Promise<Parser[]> {
  const gpu = await device();
  const names = ['a.weight', 'b.weight'];
  const parameters = names.map(() => tensor(gpu, Float32Array.of(1, 2, 3, 4), [2, 2]).requireGrad());
  const path = join(folder, 'optimizer.safetensors');
  const optimiser = new AdamW(parameters);
  await saveOptimiser(path, optimiser, names);
  const checkpoint = join(folder, 'checkpoint');
  mkdirSync(checkpoint);
  renameSync(path, join(checkpoint, 'optimizer.safetensors'));
  writeFileSync(
    join(checkpoint, 'model.safetensors'),
    readFileSync(join(MODELS, 'stories260k/model.safetensors')),
  );
  writeNotes(checkpoint, { step: 3, seconds: 5, seed: 1, facts: 10, lossScale: { value: 1024, steps: 2 } });
  tuned = openDevice({ mask: { workgroupBytes: 0 } });
  const tuning = await tuned;
  let kept = '';
  const store = (path: string) => ({
    read: async () => readFileSync(path, 'utf8'),
    write: async (_: string, text: string) => void (kept = text),
  });
  writeFileSync(join(folder, 'kept.json'), '');
  await tuneProducts(tuning, store(join(folder, 'kept.json')));
  return [
    {
      name: 'tuning cache',
      files: { 'kept.json': kept },
      // Kernels are measured anew where it is of no use.
      share: 0.03,
      read: async (from) => void (await tuneProducts(tuning, store(join(from, 'kept.json')))),
    },
    {
      name: 'optimiser',
      files: filesOf(checkpoint, (name) => name.startsWith('optimizer')),
      sealed: () => true,
      read: (from) => loadOptimiser(join(from, 'optimizer.safetensors'), gpu, optimiser, names),
    },
    {
      name: 'checkpoint of a training',
      files: filesOf(checkpoint),
      // The notes hold the digests of the others.
      sealed: (file) => file === 'training.json',
      read: async (from) => void checkCheckpoint(from),
    },
  ];
}
