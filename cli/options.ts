/**
 * Option values, checked at the door: a bad one is one line that names the option, and exit code 2.
 */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../engine/errors.ts';
import { WEIGHT_DTYPES } from '../models/index.ts';
import {
  DIRECTIONS,
  type Direction,
  MEASURES,
  type Measure,
  parseRange,
  QUANTITIES,
  type Quantity,
  SIGNS,
  type Sign,
} from '../neurgrad/index.ts';
import { note } from './output.ts';
import { ROW_FORMATS } from './rows.ts';

/** A whole number from `low` to `high`. */
export function integer(low: number, high = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < low || value > high) {
      const upper = high === Number.MAX_SAFE_INTEGER ? `at least ${low}` : `${low} to ${high}`;
      throw new InvalidArgumentError(`It must be a whole number, ${upper}.`);
    }
    return value;
  };
}

/** A finite number above 0. */
export function positive(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
}

/** from:to:step as a grid of shifts. */
export function range(text: string): number[] {
  try {
    return parseRange(text);
  } catch (error) {
    if (error instanceof UserError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
}

export const modelOption = () =>
  new Option(
    '--model <dir>',
    'folder of a checkpoint, a .gguf file, or a Hugging Face id, also with a file (org/name/file.gguf)',
  ).makeOptionMandatory();
export const fileOption = () =>
  new Option('--file <name>', "of the model's GGUF files this one, by its name or a part such as Q4_K_M");
export const modelOptions = () => [modelOption(), fileOption()];
const promptTextOption = () =>
  new Option(
    '--prompt <text>',
    'masked models: a sentence with one mask, such as [MASK]; causal ones: the text to go on from',
  );
const promptFileOption = () => new Option('--prompt-file <file>', 'the text of one prompt, from a file');
const chatOptions = () => [
  new Option('--chat', "write the prompt as a user's message, by the tokenizer's chat template"),
  new Option('--system <text>', 'with --chat: the system message'),
];
/** How a prompt may be given besides as text, and asked. */
export const promptWays = () => [promptFileOption(), ...chatOptions()];
/** One prompt. */
export const promptOptions = () => [promptTextOption(), ...promptWays()];
/** One prompt, or many. */
export const promptsOptions = () => [
  promptTextOption(),
  promptFileOption(),
  new Option(
    '--prompts <path>',
    'many prompts: JSONL, CSV, Parquet or Arrow, or a folder, as they are published (docs/prompts.md)',
  ),
  new Option('--num-prompts <n>', 'so many of them, drawn by --seed; default all').argParser(integer(1)),
  ...chatOptions(),
];
export const seedOption = (what = 'of the draws of prompts and neurons') =>
  new Option('--seed <n>', what).argParser(integer(0, 2 ** 32 - 1)).default(0);
export const neuronsOption = (whole = 'all') =>
  new Option(
    '--neurons <list>',
    `L3.N327, L3.*, L3.N0-99, L2.N5@pre, top:20, bottom:20 (by NeurGrad), random:100, all, or @FILE; default ${whole}`,
  );
/** A number of neurons, which are drawn. */
export const drawnNeuronsOption = (what: string, low = 1, high?: number) =>
  new Option('--neurons <random:N>', `${what}, drawn by the seed`).argParser((text) => {
    const [, count] = /^(?:random:)?(\d+)$/.exec(text) ?? [];
    if (count === undefined) throw new InvalidArgumentError('It must be random:N, such as random:100.');
    if (!text.startsWith('random:')) note(`note: --neurons ${text} is called --neurons random:${text} now`);
    return integer(low, high)(count);
  });
export const positionOption = () =>
  new Option(
    '--position <where>',
    'token whose neurons: a number, -1 for the last, mask, last, or a word of the prompt',
  );
const formatOption = () =>
  new Option(
    '--format <name>',
    'of the rows; default by the ending of --out, else a table for people',
  ).choices(ROW_FORMATS);
export const targetOption = () =>
  new Option('--target <word>', "target word, one token; default the model's answer");
/** The same where it may be several tokens. */
const answerOption = () =>
  new Option(
    '--target <text>',
    "target word, of causal models also of several tokens, whose p is the product of theirs; default the model's answer",
  );
export const targetIdOption = () =>
  new Option('--target-id <n>', 'target token by its id').argParser(integer(0)).conflicts('target');
export const siteOption = () =>
  new Option(
    '--site <name>',
    'feed-forward value: post, pre, pre_linear, act, or paper (pre_linear where it is gated, else post)',
  ).default('paper');
export const ofOption = () =>
  new Option('--of <quantity>', 'what is differentiated').choices(QUANTITIES).default('prob');
/** The same where it may be the difference of two logits. */
export const measureOptions = () => [
  new Option('--of <quantity>', "what is differentiated; logit_diff: the target's logit less that of --other")
    .choices(MEASURES)
    .default('prob'),
  new Option('--other <word>', 'with --of logit_diff: the word whose logit is subtracted, one token'),
];
const directionOption = () =>
  new Option('--direction <axis>', "axis of the shift: outward (along the activation's own sign) or plain")
    .choices(DIRECTIONS)
    .default('outward');
const signOption = () =>
  new Option('--sign <sign>', "sign of NeurGrad; - is the paper's eq. (1) to the letter")
    .choices(SIGNS)
    .default('+');
/** Options by the names that they had, and the attribute of what they are called now. */
export const RENAMED = new WeakMap<Option, string>();

/** Where the value of {@link RENAMED} options is said to come from, at the option that took their place. */
export const BY_OLD_NAME = 'renamed';

/** A name of before: it works as it did, is not in the help, and is told by a line on standard error. @param to attribute of the option that took its place. */
export function renamedOption<Value = string>(
  flags: string,
  to: string,
  parse?: (text: string, before?: Value) => Value,
): Option {
  const option = new Option(flags).hideHelp();
  if (parse) option.argParser(parse);
  RENAMED.set(option, to);
  return option;
}

/** As PyTorch calls them. */
const LONG_NAMES: Readonly<Record<string, string>> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };
export const dtypeOption = () => {
  const option = new Option('--dtype <type>', 'how weight matrices are kept; arithmetic is float32').choices(
    WEIGHT_DTYPES,
  );
  const choose = option.parseArg!;
  return option
    .argParser((given: string, before) => choose(LONG_NAMES[given] ?? given, before))
    .default(undefined, "f32; packed where weights come in a GGUF file's blocks");
};
const streamOption = () =>
  new Option('--stream', 'leave the weights on disk and read each layer when its turn comes (causal models)');
const devicesOption = () =>
  new Option('--devices <n>', 'split the layers over this many processes, each with a device (causal models)')
    .argParser(integer(2))
    .conflicts(['stream', 'memory']);
export const memoryOption = () =>
  new Option(
    '--memory <GB>',
    "the device's memory; a causal model that needs more is streamed, what needs more even so is refused",
  ).argParser(positive);
export const strictOption = () =>
  new Option('--strict', 'refuse a checkpoint with tensors that the model does not use; else they are named');
export const jsonOption = () => new Option('--json', 'print one JSON document on standard output');

/** Where results go, and as what. @param others files that hold something else than rows. */
export const resultOptions = (others = '') => [
  new Option(
    '--out <path>',
    `write the rows to .parquet, .csv, .jsonl or .json${others}; of many prompts also into a folder, resumable`,
  ),
  formatOption(),
  jsonOption(),
];

/** The order of options on every command: what is looked at, where and how it is counted; the command's own; where results and weights go. */
const FIRST = [
  ...[
    'model',
    'file',
    'data',
    'tasks',
    'task',
    'prompt',
    'prompt-file',
    'prompts',
    'num-prompts',
    'chat',
    'system',
  ],
  ...['target', 'target-id', 'neurons', 'position', 'site', 'of', 'other', 'direction', 'sign'],
  ...['seed', 'range'],
];
const LAST = ['shard', 'out', 'format', 'json', 'dtype', 'stream', 'memory', 'devices', 'strict'];
const placeOf = (option: Option): number => {
  const [first, last] = [FIRST, LAST].map((names) => names.indexOf(option.name())) as [number, number];
  return first >= 0 ? first : last >= 0 ? FIRST.length + 1 + last : FIRST.length;
};

/** A command with options, in the order that all commands have them in. */
export function withOptions(command: Command, ...options: readonly Option[]): Command {
  for (const option of [...options].sort((a, b) => placeOf(a) - placeOf(b))) {
    command.addOption(option);
    const to = RENAMED.get(option);
    if (to === undefined) continue;
    // At once: an option that has to be there may come by its old name.
    command.on(`option:${option.name()}`, () => {
      if (command.getOptionValueSource(to) === 'cli') return;
      command.setOptionValueWithSource(to, command.getOptionValue(option.attributeName()), BY_OLD_NAME);
    });
  }
  return command;
}

export const targetOptions = () => [targetOption(), targetIdOption()];
export const answerOptions = () => [answerOption(), targetIdOption()];

/** What a number of neurons means. */
export interface ConventionOptions {
  readonly site: string;
  readonly of: Quantity;
  readonly direction: Direction;
  readonly sign: Sign;
}
export const conventionOptions = () => [siteOption(), ofOption(), directionOption(), signOption()];

/** The same where it may be of the difference of two logits. */
export interface MeasureOptions extends Omit<ConventionOptions, 'of'> {
  readonly of: Measure;
  readonly other?: string;
}
export const measureConventionOptions = () => [
  siteOption(),
  ...measureOptions(),
  directionOption(),
  signOption(),
];

/** Where weights are kept, and how: `WeightsOptions` of session.ts. @param whose dtype is the default, where not f32. */
export const weightsOptions = (whose?: string) => [
  whose === undefined ? dtypeOption() : dtypeOption().default(undefined, whose),
  streamOption(),
  memoryOption(),
  devicesOption(),
  strictOption(),
];
