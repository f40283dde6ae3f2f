/** `neurgrad synth`: a checkpoint with a published model's names and shapes and no knowledge, to try loading and streaming with. */

import { type Command, Option } from 'commander';
import { UserError } from '../../engine/errors.ts';
import { localFolder, PRESETS, type SynthDtype, synthesise } from '../../models/index.ts';
import { integer, jsonOption, renamedOption, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import { startProgress } from '../progress.ts';

interface Options {
  readonly like: string;
  readonly layers?: number;
  readonly dtype: SynthDtype;
  readonly out: string;
  readonly random?: boolean;
  readonly seed?: number;
  readonly tokenizer?: string;
  readonly json?: boolean;
}

const likeOption = () =>
  new Option('--like <name>', 'the model whose names and sizes it has').choices([...PRESETS.keys()]);

export function addSynth(program: Command): void {
  withOptions(
    program
      .command('synth')
      .description("a checkpoint with a published model's names, shapes and shards, sparse or random"),
    likeOption().makeOptionMandatory(),
    renamedOption('--preset <name>', 'like', (text) => likeOption().parseArg!<string>(text, '')),
    new Option('--layers <n>', "instead of that model's").argParser(integer(1)),
    new Option('--random', 'draw the weights; default a sparse file, whose matrices are zeros'),
    new Option('--seed <n>', 'of the draws of --random; default 0').argParser(integer(0)),
    new Option('--tokenizer <dir>', 'folder to copy a tokenizer from'),
    new Option('--out <dir>', 'empty or new folder').makeOptionMandatory(),
    jsonOption(),
    new Option('--dtype <type>', 'how the weights are stored')
      .choices(['bf16', 'f16', 'f32'])
      .default('bf16'),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad synth --like llama2-70b --out /tmp/llama2-70b --tokenizer examples/models/stories260k
  neurgrad synth --like llama2-7b --layers 2 --random --seed 1 --out /tmp/two-layers

JSON: {"files", "bytes"}; bytes are those of the tensors, a sparse file takes next to none of the disk`,
    )
    .action(runSynth);
}

async function runSynth(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const { like, layers, dtype, out, tokenizer } = options;
  if (options.seed !== undefined && !options.random)
    throw new UserError('synth', '--seed goes with --random only; add --random, or leave it out');
  const from = tokenizer === undefined ? undefined : await localFolder(tokenizer);
  if (from && !(await from.has('tokenizer.json')))
    throw new UserError('tokenizer', `${tokenizer}: has no tokenizer.json`);
  const progress = startProgress('write', 'MB');
  const made = await synthesise(out, {
    preset: like,
    layers,
    dtype,
    seed: options.random ? (options.seed ?? 0) : undefined,
    tokenizer: from,
    onProgress: (bytes, total) => progress.update(Math.round(bytes / 1e6), Math.round(total / 1e6)),
  }).finally(() => progress.stop());
  output.result(
    made,
    () => `${out}: ${(made.bytes / 1e9).toFixed(1)} GB of tensors in ${made.files.length} files`,
  );
}
