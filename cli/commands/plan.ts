/** `neurgrad plan`: the bytes a model will take on the device, and what fits, before anything is loaded. */

import { totalmem } from 'node:os';
import { type Command, Option } from 'commander';
import {
  type MemoryPlan,
  openModelFiles,
  planMemory,
  resolveModelFolder,
  WEIGHT_DTYPES,
  type WeightDtype,
} from '../../models/index.ts';
import {
  dtypeOption,
  integer,
  jsonOption,
  memoryOption,
  modelOptions,
  renamedOption,
  strictOption,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import { noteOnce } from '../session.ts';
import { table } from '../table.ts';

interface Options {
  readonly model: string;
  readonly dtype?: WeightDtype;
  readonly tokens?: number;
  readonly batch: number;
  readonly memory?: number;
  readonly strict?: boolean;
  readonly json?: boolean;
}

export function addPlan(program: Command): void {
  withOptions(
    program.command('plan').description('device memory by purpose, and what fits, before anything is loaded'),
    ...modelOptions(),
    new Option('--tokens <n>', 'of a prompt; default 64').argParser(integer(1)),
    new Option('--batch <n>', 'prompts in one pass').argParser(integer(1)).default(1),
    renamedOption('--rows <n>', 'batch', integer(1)),
    jsonOption(),
    dtypeOption(),
    memoryOption(),
    strictOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad plan --model examples/models/stories260k
  neurgrad plan --model meta-llama/Llama-2-7b-hf --dtype int4 --memory 8 --tokens 500 --batch 4

JSON: the plan in bytes, and "fits": for each dtype "resident", "streamed" or "no"`,
    )
    .action(runPlan);
}

type Fit = 'resident' | 'streamed' | 'no';

async function runPlan(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const folder = await resolveModelFolder(options.model, { onNote: noteOnce });
  const { config, checkpoint } = await openModelFiles(folder, { onNote: noteOnce });
  try {
    const { dtype, batch: rows, tokens, strict } = options;
    const asked = { rows, strict, onNote: noteOnce, ...(tokens === undefined ? {} : { tokens }) };
    const planFor = (each?: WeightDtype) =>
      planMemory(config, checkpoint, { ...(each === undefined ? {} : { dtype: each }), ...asked });
    const memory = options.memory === undefined ? totalmem() : options.memory * 1e9;
    const { causal: streams, sizes } = config.description;
    const placeOf = (each: MemoryPlan): Fit => {
      if (each.resident <= memory) return 'resident';
      return streams && each.streamed <= memory ? 'streamed' : 'no';
    };
    const plan = planFor(dtype);
    const fits = Object.fromEntries(WEIGHT_DTYPES.map((each) => [each, placeOf(planFor(each))]));
    output.result({ ...plan, memory, fits }, () => {
      const { weights } = plan;
      const size = (bytes: number) =>
        bytes >= 1e8 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(2)} MB`;
      const list = (kind: Fit) => WEIGHT_DTYPES.filter((each) => fits[each] === kind).join(', ');
      return [
        `${options.model}: ${size(plan.stored.bytes)} on disk in ${plan.stored.shards} file${plan.stored.shards === 1 ? '' : 's'}; ${sizes.layers} layers of ${sizes.width} neurons`,
        table(
          ['purpose', `bytes (${plan.dtype})`],
          [
            ['weights: embedding', size(weights.embedding)],
            ['weights: layers', size(weights.layers)],
            ['weights: decoder', weights.decoder > 0 ? size(weights.decoder) : 'the embedding'],
            ['weights: norms and tables', size(weights.small)],
            [`keys and values, ${plan.rows} x ${plan.tokens} tokens`, size(plan.cache)],
            ['activations', size(plan.activations)],
            ['saved for a backward', size(plan.backward)],
            ['all, weights resident', size(plan.resident)],
            ['all, weights streamed', streams ? size(plan.streamed) : 'only a causal model can be'],
          ],
        ),
        `in ${size(memory)}: resident ${list('resident') || 'none'}; streamed from disk ${list('streamed') || 'none'}${list('no') ? `; too large ${list('no')}` : ''}`,
      ].join('\n');
    });
  } finally {
    await checkpoint.close();
  }
}
