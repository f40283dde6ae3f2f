/** `neurgrad models`: what was run with this project, so that a beginner has something that works. */

import type { Command } from 'commander';
import { KNOWN_MODELS, type KnownModel } from '../../models/index.ts';
import { jsonOption, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import { table } from '../table.ts';

export function addModels(program: Command): void {
  withOptions(
    program.command('models').description('models that are known to work, and what was run with them'),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad models
  neurgrad predict --model examples/models/facts-bert --prompt "The capital of France is [MASK]."

Any model of a family in the README loads; these were run. Memory is what \`neurgrad plan\` says for 64 tokens and a backward;
the weights of a GGUF file stay packed unless --dtype says otherwise.
JSON: a list with "name", "model" (what --model takes), "hub" where it comes from there, "licence", "source", "family",
"parameters", "bytes" of the file and its "sha256", "memory" in bytes by dtype, "ran" and "compared"`,
    )
    .action(({ json }: { readonly json?: boolean }) =>
      openOutput(json ?? false).result(KNOWN_MODELS, () =>
        [
          table(
            ['model', 'family', 'parameters', 'file', 'device, f32', 'f16', 'int8, packed', 'licence'],
            KNOWN_MODELS.map(({ name, family, parameters, bytes, memory, licence }) => [
              name,
              family,
              parameters.toLocaleString('en'),
              megabytes(bytes),
              megabytes(memory.f32),
              megabytes(memory.f16),
              smallest(memory),
              licence,
            ]),
          ),
          ...KNOWN_MODELS.map(({ model, ran, compared }) =>
            [`--model ${model}`, `  run: ${ran.join(', ')}`, `  compared with ${compared}`].join('\n'),
          ),
        ].join('\n'),
      ),
    );
}

const smallest = ({ packed, int8 }: KnownModel['memory']): string => {
  const bytes = packed ?? int8;
  return bytes === undefined ? '–' : megabytes(bytes);
};
const megabytes = (bytes: number): string => `${Number((bytes / 1e6).toPrecision(2))} MB`;
