/**
 * Option values, checked at the door: a bad one is one line that names the option, and exit code 2.
 */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../engine/errors.ts';
import { WEIGHT_DTYPES } from '../models/index.ts';
import {
  DIRECTIONS,
  type Direction,
  parseRange,
  QUANTITIES,
  type Quantity,
  SIGNS,
  type Sign,
} from '../neurgrad/index.ts';

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
export const promptOption = () =>
  new Option(
    '--prompt <text>',
    'masked models: a sentence with one mask, such as [MASK]; causal ones: the text to go on from',
  ).makeOptionMandatory();
export const targetOption = () =>
  new Option('--target <word>', "target word, one token; default the model's answer");
export const targetIdOption = () =>
  new Option('--target-id <n>', 'target token by its id').argParser(integer(0)).conflicts('target');
export const siteOption = () =>
  new Option(
    '--site <name>',
    'feed-forward value: post, pre, pre_linear, act, or paper (pre_linear where it is gated, else post)',
  ).default('paper');
const ofOption = () =>
  new Option('--of <quantity>', 'what is differentiated').choices(QUANTITIES).default('prob');
const directionOption = () =>
  new Option('--direction <axis>', "axis of the shift: outward (along the activation's own sign) or plain")
    .choices(DIRECTIONS)
    .default('outward');
const signOption = () =>
  new Option('--sign <sign>', "sign of NeurGrad; - is the paper's eq. (1) to the letter")
    .choices(SIGNS)
    .default('+');
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

/** A command with options, in the order of its help. */
export const withOptions = (command: Command, ...options: readonly Option[]): Command =>
  options.reduce((c, option) => c.addOption(option), command);

export const targetOptions = () => [targetOption(), targetIdOption()];

/** What a number of neurons means. */
export interface ConventionOptions {
  readonly site: string;
  readonly of: Quantity;
  readonly direction: Direction;
  readonly sign: Sign;
}
export const conventionOptions = () => [siteOption(), ofOption(), directionOption(), signOption()];

/** Where weights are kept, and how: `WeightsOptions` of session.ts. @param whose dtype is the default, where not f32. */
export const weightsOptions = (whose?: string) => [
  whose === undefined ? dtypeOption() : dtypeOption().default(undefined, whose),
  streamOption(),
  memoryOption(),
  devicesOption(),
  strictOption(),
];
