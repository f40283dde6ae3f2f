/** `neurgrad verify`: checks on the user's own model. Exit code 1 where one fails. */

import { type Command, Option } from 'commander';
import { UserError } from '../../engine/errors.ts';
import { openFile } from '../../models/byteSource.ts';
import { decodeFloat32 } from '../../models/decode.ts';
import { readSafetensorsHeader } from '../../models/safetensors.ts';
import { type ReferenceLogits, verifyConventions, verifyExact, verifyParity } from '../../neurgrad/verify.ts';
import { EXIT } from '../exit.ts';
import {
  drawnNeuronsOption,
  jsonOption,
  modelOptions,
  promptWays,
  seedOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import { startProgress } from '../progress.ts';
import { describePrompt, type PromptOptions, readTexts } from '../prompt.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, table } from '../table.ts';

interface Options extends Pick<PromptOptions, 'promptFile' | 'chat' | 'system'>, WeightsOptions {
  readonly model: string;
  readonly prompt?: readonly string[];
  readonly neurons: number;
  readonly seed: number;
  readonly reference?: string;
  readonly json?: boolean;
}

/** How to make a reference with the program most people trust. */
const RECIPE = `
  from transformers import AutoTokenizer, AutoModelForMaskedLM as Model   # causal: AutoModelForCausalLM
  from safetensors.numpy import save_file
  import torch
  ids = AutoTokenizer.from_pretrained(DIR)(PROMPT, return_tensors="pt").input_ids
  with torch.no_grad(): logits = Model.from_pretrained(DIR, torch_dtype=torch.float32)(ids).logits
  save_file({"input_ids.0": ids[0].numpy().astype("int32"), "logits.0": logits[0].numpy()}, "reference.safetensors")`;

export function addVerify(program: Command): void {
  const verify = program
    .command('verify')
    .description('checks on your own model: conventions, exact, parity');
  const common = (name: string, description: string, ...own: Option[]): Command =>
    withOptions(
      verify.command(name).description(description),
      ...modelOptions(),
      ...own,
      jsonOption(),
      ...weightsOptions(),
    );
  const sampled = (name: string, description: string): Command =>
    common(
      name,
      description,
      new Option('--prompt <text...>', 'prompts to look at'),
      ...promptWays(),
      drawnNeuronsOption('neurons a prompt').default(40, 'random:40'),
      seedOption('of the draw').default(1),
    );
  sampled('conventions', 'Pearson of G_C, IG and NeurGrad of either sign with G_E, on both axes').action(
    conventions,
  );
  sampled('exact', 'the sweep by differences against full forward passes, curves against differences').action(
    exact,
  );
  common(
    'parity',
    "logits against another program's",
    new Option(
      '--reference <file>',
      'safetensors with input_ids.N [S] and logits.N [S, V]',
    ).makeOptionMandatory(),
  )
    .addHelpText('after', `\nA reference by Hugging Face transformers:\n${RECIPE}`)
    .action(parity);
}

/** What the library is told of the draw. */
const sampleOf = ({ neurons, seed }: Options) => ({ neurons, seed });

async function conventions(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const card = await readModelCard(options.model);
  const prompts = await readTexts(card, options, output);
  await withModel(
    card,
    async ({ model }) => {
      const progress = startProgress('verify', 'prompts');
      const found = await verifyConventions(model, prompts, {
        ...sampleOf(options),
        onProgress: progress.update,
      }).finally(progress.stop);
      output.result({ model: options.model, ...found, asked: prompts.map(describePrompt) }, () =>
        [
          table(
            ['axis', 'G_C', 'IG', '+sign(A) G_C', '-sign(A) G_C'],
            found.rows.map((row) =>
              [row.direction, row.gradient, row.integrated, row.plus, row.minus].map((value) =>
                typeof value === 'string' ? value : value.toFixed(4),
              ),
            ),
          ),
          `Pearson with the measured G_E over ${found.pairs} neurons of ${prompts.length} prompts; ${(100 * found.negative).toFixed(1)}% of activations are negative, ${found.zeros} exactly 0; seed ${found.seed}.`,
          'The outward row is the predicted row of the paper’s Table 1; NeurGrad there is +sign(A) G_C.',
        ].join('\n'),
      );
    },
    options,
  );
}

async function exact(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const card = await readModelCard(options.model);
  const prompts = await readTexts(card, options, output);
  await withModel(
    card,
    async ({ model }) => {
      const progress = startProgress('naive sweep', 'rows');
      const found = await verifyExact(model, prompts, {
        ...sampleOf(options),
        onProgress: progress.update,
      }).finally(progress.stop);
      output.result({ model: options.model, ...found, asked: prompts.map(describePrompt) }, () =>
        [
          `${found.passed ? 'passed' : 'FAILED'}: ${found.rows} rows of ${found.prompts} prompt${found.prompts === 1 ? '' : 's'}; p differs by at most ${figure(found.largest)} of itself (allowed ${figure(found.tolerance)})${found.prompts > 1 ? `, with “${prompts[found.worst]!.text}”` : ''}; seed ${found.seed}`,
          `a row alone ${found.sameBits ? 'has the same bits as' : 'DIFFERS from the same row'} in a batch`,
          `curves from ${found.curves.ran} of ${found.curves.points} points of ±2 are off by at most ${figure(found.curves.worst, 2)} of their bound and noise`,
          `slope at a shift of 1e-4 against G_C, median relative error: ${figure(found.small.differences)} by differences, ${figure(found.small.naive)} by subtracting forwards`,
        ].join('\n'),
      );
      if (!found.passed) process.exitCode = EXIT.failed;
    },
    options,
  );
}

async function readReferences(path: string): Promise<ReferenceLogits[]> {
  const source = await openFile(path);
  try {
    const { tensors } = await readSafetensorsHeader(source);
    const read = async (name: string): Promise<Float32Array> => {
      const entry = tensors.find((tensor) => tensor.name === name);
      if (!entry) throw new UserError('verify', `${path}: has no ${name}`);
      return decodeFloat32(entry.dtype, await source.read(entry.begin, entry.end));
    };
    const numbers = tensors.flatMap(({ name }) => /^input_ids\.(\d+)$/.exec(name)?.[1] ?? []);
    if (numbers.length === 0)
      throw new UserError('verify', `${path}: has no input_ids.0; see neurgrad verify parity --help`);
    const found: ReferenceLogits[] = [];
    for (const n of numbers)
      found.push({ ids: [...(await read(`input_ids.${n}`))], logits: await read(`logits.${n}`) });
    return found;
  } finally {
    await source.close();
  }
}

async function parity(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const card = await readModelCard(options.model);
  const references = await readReferences(options.reference!);
  await withModel(
    card,
    async ({ model }) => {
      const found = await verifyParity(model, references);
      output.result(
        found,
        () =>
          `${found.passed ? 'passed' : 'FAILED'}: ${found.prompts} prompts, ${found.positions} positions; logits differ by at most ${figure(found.largest)} of ${figure(found.scale)}; ${found.disagreements} positions answer otherwise`,
      );
      if (!found.passed) process.exitCode = EXIT.failed;
    },
    options,
  );
}
