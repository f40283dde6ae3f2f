/** `neurgrad study`: the paper's linearity study from a plan, in a folder that can be taken up again and shared out. */

import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { checkFolder } from '../../engine/disk.ts';
import { UserError } from '../../engine/errors.ts';
import { Reopening } from '../../engine/index.ts';
import { isPlain, show } from '../../engine/options.ts';
import { openModelFiles, planMemory } from '../../models/index.ts';
import { parseJson } from '../../models/json.ts';
import { chooseEstimators } from '../../neurgrad/estimators/estimator.ts';
import { ESTIMATORS, openDevice } from '../../neurgrad/index.ts';
import { estimateStudy } from '../../neurgrad/study/estimate.ts';
import { StudyFolder, stampModel } from '../../neurgrad/study/folder.ts';
import {
  estimatorsOf,
  modelPlans,
  type Plan,
  type PlanInput,
  PRESETS,
  type Preset,
  parsePlan,
} from '../../neurgrad/study/plan.ts';
import { type OpenedModel, runStudy } from '../../neurgrad/study/run.ts';
import { checkNeurons } from '../../neurgrad/study/select.ts';
import { detectShard, parseShard, type Shard } from '../../neurgrad/study/shard.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';
import {
  fileOption,
  integer,
  jsonOption,
  neuronsOption,
  renamedOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { note, openOutput, printJson } from '../output.ts';
import { dependencyVersion, version } from '../package.ts';
import { startProgress } from '../progress.ts';
import {
  describeAdapter,
  type ModelCard,
  noteOnce,
  opened,
  openModel,
  type Placement,
  placeWeights,
  readModelCard,
  type WeightsOptions,
} from '../session.ts';

interface Options extends WeightsOptions {
  readonly plan?: string;
  readonly preset?: Preset;
  readonly model?: readonly string[];
  readonly prompts?: string;
  readonly format?: string;
  readonly numPrompts?: number;
  readonly neurons?: string;
  readonly figure?: string;
  readonly ig?: number;
  readonly estimators?: readonly string[];
  readonly out?: string;
  readonly shard?: string;
  readonly printPlan?: boolean;
  readonly estimate?: boolean;
  readonly json?: boolean;
}

export function addStudy(program: Command): void {
  withOptions(
    program
      .command('study')
      .description('sweep many neurons of many prompts: linearity, G_C, IG and NeurGrad against G_E'),
    new Option('--plan <file>', 'the plan, as JSON; it may name a "preset" to start from'),
    new Option('--preset <name>', "paper: the paper's protocol; clean: its stricter one").argParser(presetOf),
    new Option('--model <dir...>', "folders or Hugging Face ids, instead of the plan's"),
    fileOption(),
    new Option('--prompts <path>', 'file or folder, as they are published (docs/prompts.md)'),
    // Prompts are told by their fields; kept for scripts of before.
    new Option('--format <name>').choices(['jsonl', 'myriadlama', 'pararel']).hideHelp(),
    new Option('--num-prompts <n>', 'prompts to take').argParser(integer(1)),
    renamedOption('--count <n>', 'numPrompts', integer(1)),
    studyNeuronsOption(),
    new Option('--figure <PxN>', 'prompts and neurons of Figure 2, such as 10x300; 0x0 leaves it out'),
    new Option('--ig <n>', 'prompts with integrated gradients; 0 for none').argParser(integer(0)),
    new Option(
      '--estimators <list>',
      `rows of Table 1: ${ESTIMATORS.map(({ name }) => name).join(', ')}; default gradient, neurgrad and, by --ig, integrated`,
    ).argParser((list) => list.split(',').map((name) => name.trim())),
    new Option('--out <dir>', 'folder of the study'),
    new Option(
      '--shard <i/n>',
      'this process takes share i of n, from 1; default what Slurm or Kubernetes says',
    ),
    ...weightsOptions("the plan's"),
    new Option('--print-plan', 'print the whole plan and end'),
    new Option('--estimate', 'time a few neurons, print what the study will take, and end'),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
--estimate first says how long it will take. Started again with the same plan it goes on where it stopped. Then: neurgrad report DIR

A plan may name neurons ("neurons": "L3.N327,L3.*,top:20,random:100"), and give each model prompts and neurons of its own:
"models": [{ "path": …, "prompts": …, "neurons": … }]. JSON: {"folder", "study", "models", "shard", "done", "found"} in units of work.

Examples:
  neurgrad study --preset paper --model facts-bert --prompts examples/models/facts-bert --num-prompts 200 --out runs/paper
  neurgrad study --plan study.json --out runs/linearity --shard 1/4`,
    )
    .action(runCommand);
}

/** `random:N` alone is a draw by the plan's sampling; before, its number alone was asked for. */
const studyNeuronsOption = () =>
  neuronsOption("the plan's").argParser((text: string) => {
    if (!/^\d+$/.test(text)) return text;
    note(`note: --neurons ${text} is called --neurons random:${text} now`);
    return `random:${text}`;
  });

/** A preset by its name, or the one of before. */
function presetOf(name: string): Preset {
  if (name === 'seed') {
    note('note: the preset seed is called paper now');
    return 'paper';
  }
  if (Object.hasOwn(PRESETS, name)) return name as Preset;
  throw new UserError('plan', `unknown preset ${show(name)}; there are ${Object.keys(PRESETS).join(', ')}`);
}

/** A plan file's JSON, over its preset. @throws UserError where it is no plan. */
export function readPlan(options: Options): Plan {
  let json: Partial<PlanInput> & { preset?: string } = {};
  if (options.plan !== undefined) {
    const parsed = parseJson(readTextFile(options.plan), options.plan, 'plan');
    if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed))
      throw new UserError('plan', `${options.plan}: is ${show(parsed)}, expected an object`);
    json = parsed;
  }
  const { preset: named, ...given } = json;
  const preset = options.preset ?? (typeof named === 'string' ? presetOf(named) : named);
  if (preset !== undefined && !(typeof preset === 'string' && Object.hasOwn(PRESETS, preset)))
    throw new UserError(
      'plan',
      `unknown preset ${show(preset)}; there are ${Object.keys(PRESETS).join(', ')}`,
    );
  if (options.plan === undefined && preset === undefined)
    throw new UserError('plan', 'a study needs --plan or --preset');
  const figure = options.figure === undefined ? undefined : parseFigure(options.figure);
  const asked = {
    ...(options.model ? { models: options.model } : {}),
    dtype: options.dtype,
    prompts: { path: options.prompts, format: options.format, count: options.numPrompts },
    neurons: options.neurons === undefined ? {} : { list: options.neurons },
    figure,
    integrated: options.ig === undefined ? undefined : { prompts: options.ig },
    estimators: options.estimators,
  };
  const base = preset === undefined ? {} : { name: preset, ...PRESETS[preset as Preset] };
  const merged = over(over(base, given), asked) as { models?: unknown; prompts?: { count?: unknown } };
  const models = Array.isArray(merged.models) ? merged.models.map((model) => asOthers(model, options)) : [];
  // Integrated gradients and the figure follow a number of prompts that is turned down.
  const counts = models.map((model) => Object(Object(model).prompts).count ?? merged.prompts?.count);
  const fewest = Math.min(...counts.filter((count) => typeof count === 'number'));
  for (const part of ['integrated', 'figure'] as const) {
    const { prompts } = Object((merged as Plan)[part]) as { prompts?: number };
    if (prompts !== undefined && prompts > fewest)
      Object.assign(merged, { [part]: { ...(merged as Plan)[part], prompts: fewest } });
  }
  if (models.length > 0) merged.models = models;
  return parsePlan(merged, options.plan ?? `preset ${preset}`);
}

function parseFigure(text: string): { prompts: number; neurons: number } {
  const match = /^(\d+)x(\d+)$/.exec(text);
  if (!match) throw new UserError('figure', `figure "${text}" is not PxN, such as 10x300`);
  return { prompts: Number(match[1]), neurons: Number(match[2]) };
}

/** A model of a plan without what the command line says for all. */
function asOthers(model: unknown, { prompts, numPrompts, neurons }: Options): unknown {
  if (!isPlain(model)) return model;
  const { prompts: ofPlan, neurons: ownNeurons, ...rest } = model;
  const own = typeof ofPlan === 'string' ? { path: ofPlan } : ofPlan;
  const { path, count, ...others } = Object(own) as Record<string, unknown>;
  const kept = {
    ...others,
    ...(prompts === undefined && path !== undefined ? { path } : {}),
    ...(numPrompts === undefined && count !== undefined ? { count } : {}),
  };
  return {
    ...rest,
    ...(own === undefined || (isPlain(own) && Object.keys(kept).length === 0)
      ? {}
      : { prompts: isPlain(own) ? kept : own }),
    ...(neurons === undefined && ownNeurons !== undefined ? { neurons: ownNeurons } : {}),
  };
}

/** A plan's fields over those of another: a list of neurons takes the place of a number of them, and the other way round. */
function over(base: object, given: { readonly neurons?: unknown }): object {
  const neurons = typeof given.neurons === 'string' ? { list: given.neurons } : given.neurons;
  const merged = merge(base, { ...given, neurons }) as { neurons?: Record<string, unknown> };
  if (isPlain(neurons) && isPlain(merged.neurons)) {
    if (neurons.list !== undefined && neurons.perPrompt === undefined) delete merged.neurons.perPrompt;
    if (neurons.list === undefined && neurons.perPrompt !== undefined) delete merged.neurons.list;
  }
  return merged;
}

/** Values of `over` where it has any, field by field. */
function merge(base: unknown, over: unknown, depth = 0): unknown {
  const isRecord = (value: unknown): value is Record<string, unknown> =>
    value !== null && typeof value === 'object' && !Array.isArray(value);
  if (over === undefined) return base;
  // No plan nests so deep; its check will say what is wrong.
  if (!isRecord(over) || depth > 10) return over;
  const result: Record<string, unknown> = isRecord(base) ? { ...base } : {};
  for (const [key, value] of Object.entries(over)) {
    const merged = merge(result[key], value, depth + 1);
    if (merged !== undefined && !(isRecord(merged) && Object.keys(merged).length === 0)) result[key] = merged;
  }
  return result;
}

/** What a model's part of the study will take. */
async function costOf(
  plan: Plan,
  number: number,
  card: ModelCard,
  place: Placement,
  open: (number: number) => Promise<OpenedModel>,
) {
  const { config, checkpoint } = await openModelFiles(card.folder, { onNote: noteOnce });
  // Its headers have been read, which is all that a plan needs.
  await checkpoint.close();
  const memory = planMemory(config, checkpoint, { dtype: plan.dtype });
  const opened = await open(number);
  const found = await estimateStudy(plan, opened, number).finally(() => opened.close());
  return {
    model: modelPlans(plan)[number]!.path,
    ...found,
    weights: place,
    memory: place === 'disk' ? memory.streamed : memory.resident,
  };
}

function describeCost(found: Awaited<ReturnType<typeof costOf>>, shard: Shard): string {
  const size = (bytes: number): string =>
    bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
  const time = (seconds: number): string =>
    seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  const { integrated } = found;
  return [
    `${found.model}: ${found.units} units, ${found.points} points; about ${size(found.bytes)} of parts`,
    `  memory of the device: ${size(found.memory)}${found.weights === 'device' ? '' : `, weights on ${found.weights}`}`,
    `  ${Math.round(found.pointsPerSecond)} points a second${integrated.prompts > 0 ? `, integrated gradients ${integrated.seconds.toPrecision(2)} s a prompt` : ''}: ${time(found.seconds)}${shard.count > 1 ? `, ${time(found.seconds / shard.count)} for one share of ${shard.count}` : ''}`,
  ].join('\n');
}

async function runCommand(options: Options): Promise<void> {
  if (options.format !== undefined)
    note('note: --format is not needed: prompts are told by their fields (docs/prompts.md)');
  const output = openOutput(options.json ?? false);
  const plan = readPlan(options);
  chooseEstimators(estimatorsOf(plan), ESTIMATORS, []);
  if (options.printPlan) {
    printJson(plan);
    return;
  }
  const { out } = options;
  if (out === undefined && !options.estimate)
    throw new UserError('out', 'a study needs --out, its folder (--estimate and --print-plan do not)');
  const shard = options.shard === undefined ? detectShard(process.env) : parseShard(options.shard);
  const models = modelPlans(plan);
  for (const { prompts } of models)
    if (!existsSync(prompts.path)) throw new UserError('prompts', `${prompts.path}: no such file or folder`);
  if (out !== undefined && !options.estimate) checkFolder(out);
  const cards: ModelCard[] = [];
  for (const { path } of models) cards.push(await readModelCard(path));
  for (const [number, card] of cards.entries()) checkNeurons(card, models[number]!, plan.figure);
  using devices = new Reopening({
    open: () => openDevice({ autotune: 'hardware' }),
    close: (device) => device.destroy(),
    onLost: note,
  });
  const device = await opened(devices);
  const keep = { ...options, dtype: plan.dtype };
  const progress = startProgress('study', 'points');
  const choosing = startProgress('choose prompts', 'prompts');
  try {
    const places: Placement[] = [];
    for (const card of cards) places.push(await placeWeights(card, device, keep));
    const open = async (number: number): Promise<OpenedModel> => {
      const card = cards[number]!;
      if ((await opened(devices)).ended) devices.close();
      const model = await openModel(card, await opened(devices), places[number]!, keep);
      return { model, tokenizer: card.tokenizer, close: () => model.dispose() };
    };
    if (options.estimate || out === undefined) {
      const costs: Awaited<ReturnType<typeof costOf>>[] = [];
      for (const [number, card] of cards.entries())
        costs.push(await costOf(plan, number, card, places[number]!, open));
      output.result({ study: plan.name, shard, models: costs }, () =>
        costs.map((cost) => describeCost(cost, shard)).join('\n'),
      );
      return;
    }
    using folder = StudyFolder.open(
      out,
      {
        plan,
        models: cards.map((card, i) => stampModel(models[i]!.path, card.folder.name, card, places[i]!)),
        adapter: describeAdapter(device),
        versions: { neurgrad: version, node: process.versions.node, webgpu: dependencyVersion('webgpu') },
      },
      shard,
    );
    const { done, found } = await runStudy(folder, {
      shard,
      open,
      onProgress: (points, all) => {
        choosing.stop();
        progress.update(points, all);
      },
      onPrompts: choosing.update,
      onNote: note,
    });
    progress.stop();
    const share = shard.count > 1 ? ` of share ${shard.index + 1}/${shard.count}` : '';
    output.result(
      { folder: out, study: plan.name, models: models.map(({ path }) => path), shard, done, found },
      () => `${done} units done${share}, ${found} were there; next: neurgrad report ${out}`,
    );
  } finally {
    choosing.stop();
    progress.stop();
  }
}
