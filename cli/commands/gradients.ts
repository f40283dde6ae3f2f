/** `neurgrad gradients`: activation, G_C and NeurGrad of every neuron, by one backward. */

import { type Command, Option } from 'commander';
import { writeWhole } from '../../engine/disk.ts';
import { type TensorToWrite, writeSafetensors } from '../../models/safetensors.ts';
import { showToken, type TokenText, tokenText } from '../../models/tokenText.ts';
import {
  describeConventions,
  formatNeuron,
  type NeuronGradients,
  neuronAt,
  neuronGradients,
  resolveSite,
  strongest,
} from '../../neurgrad/index.ts';
import {
  type ConventionOptions,
  conventionOptions,
  integer,
  jsonOption,
  modelOptions,
  promptOption,
  targetOptions,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { checkOutFile, openOutput } from '../output.ts';
import { readPrompt } from '../prompt.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import { chooseTarget, type TargetOptions } from '../target.ts';

interface Options extends TargetOptions, ConventionOptions, WeightsOptions {
  readonly model: string;
  readonly prompt: string;
  readonly top: number;
  readonly out?: string;
  readonly json?: boolean;
}

export function addGradients(program: Command): void {
  withOptions(
    program.command('gradients').description('activation, G_C and NeurGrad of every neuron, by one backward'),
    ...modelOptions(),
    promptOption(),
    ...targetOptions(),
    ...conventionOptions(),
    new Option('--top <n>', 'strongest neurons to list, of either sign').argParser(integer(1)).default(10),
    new Option('--out <file>', 'write all neurons to a file: .safetensors, or .csv'),
    ...weightsOptions(),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad gradients --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --target paris
  neurgrad gradients --model examples/models/stories260k --prompt "Once upon a time" --of logprob --top 20 --json
  neurgrad gradients --model examples/models/facts-bert --prompt "Rome is in [MASK]." --out rome.safetensors

Noise is what of G_C, and so of NeurGrad, may be rounding: a value no larger is marked, and says nothing, not even by its sign.
The file holds activation in float32, gradient, neurgrad and noise in float64, each [layers, width], and the conventions as
metadata; as CSV, a line a neuron.`,
    )
    .action(runGradients);
}

async function runGradients(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const ending = options.out === undefined ? '' : checkOutFile(options.out, ['.safetensors', '.csv']);
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const prompt = readPrompt(card, options.prompt, output);
  const wanted = chooseTarget(card, prompt, options);
  await withModel(
    card,
    async ({ model, tokenizer }) => {
      const { of, direction, sign } = options;
      const found = await neuronGradients(model, prompt, { target: wanted, site, of, direction, sign });
      const { target } = found;

      const { positive, negative } = strongest(found.neurgrad, options.top);
      const describe = (flat: number) => ({
        ...neuronAt(flat, found.width, site),
        activation: found.activation[flat]!,
        gradient: found.gradient[flat]!,
        neurgrad: found.neurgrad[flat]!,
        noise: found.noise[flat]!,
        belowNoise: Math.abs(found.gradient[flat]!) <= found.noise[flat]!,
      });
      const summary = {
        model: options.model,
        prompt: prompt.text,
        position: found.position,
        target: { ...tokenText(tokenizer, target), p: found.p },
        conventions: found.conventions,
        layers: found.layers,
        width: found.width,
        zeros: found.zeros,
        belowNoise: found.belowNoise,
        positive: positive.map(describe),
        negative: negative.map(describe),
        ...(options.out === undefined ? {} : { file: options.out }),
      };
      if (options.out !== undefined) {
        if (ending === '.csv') writeWhole(options.out, gradientsCsv(found));
        else await writeGradients(options.out, found, summary);
      }
      output.result(summary, () =>
        [
          `p(${showToken(summary.target)}) = ${figure(found.p)} at position ${found.position}; ${found.neurgrad.length} neurons, ${found.zeros.activation} with activation 0, ${found.zeros.gradient} with gradient 0, ${found.belowNoise} with a gradient no larger than its noise`,
          table(
            ['neuron', 'activation', 'G_C', 'NeurGrad', '± noise'],
            [...summary.positive, ...summary.negative.toReversed()].map((neuron) => [
              formatNeuron(neuron, model.paperSite),
              figure(neuron.activation),
              signed(neuron.gradient),
              neuron.belowNoise ? `${signed(neuron.neurgrad)} (noise)` : signed(neuron.neurgrad),
              figure(neuron.noise, 2),
            ]),
          ),
          describeConventions(found.conventions),
          ...(options.out === undefined ? [] : [`wrote ${options.out}`]),
        ].join('\n'),
      );
    },
    options,
  );
}

/** All neurons as comma-separated values, every digit of them. */
function gradientsCsv({ activation, gradient, neurgrad, noise, width }: NeuronGradients): string {
  const columns = [activation, gradient, neurgrad, noise];
  const lines = Array.from(activation, (_, flat) =>
    [Math.floor(flat / width), flat % width, ...columns.map((values) => values[flat])].join(','),
  );
  return `${['layer,index,activation,gradient,neurgrad,noise', ...lines].join('\n')}\n`;
}

/** All neurons as a safetensors file, its metadata saying what they are. */
async function writeGradients(
  path: string,
  found: NeuronGradients,
  summary: {
    model: string;
    prompt: string;
    position: number;
    target: TokenText & { p: number };
  },
): Promise<void> {
  const tensor = (name: string, data: Float32Array | Float64Array): TensorToWrite => ({
    name,
    dtype: data instanceof Float32Array ? 'F32' : 'F64',
    shape: [found.layers, found.width],
    data,
  });
  await writeSafetensors(
    path,
    [
      tensor('activation', found.activation),
      tensor('gradient', found.gradient),
      tensor('neurgrad', found.neurgrad),
      tensor('noise', found.noise),
    ],
    {
      format: 'neurgrad gradients 1',
      model: summary.model,
      prompt: summary.prompt,
      position: String(summary.position),
      target_id: String(summary.target.id),
      target_token: summary.target.token,
      target_text: summary.target.text,
      target_p: String(summary.target.p),
      ...found.conventions,
    },
  );
}
