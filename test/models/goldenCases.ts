/** The cases of the golden sets (goldenFiles.ts): which there are, their inputs, prompts and neurons in this project's words. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Device } from '../../engine/index.ts';
import { type LanguageModel, loadModelWeights, localFolder, type WeightDtype } from '../../models/index.ts';
import type { ModelInput, Site } from '../../models/model.ts';
import { FOLDERS, type GoldenFile, readGolden } from './goldenFiles.ts';

/** Families, as manifests name them, that do not load yet. Their cases are refused, which a test looks at, and walked over by no other. */
export const NOT_YET: readonly string[] = [
  'llama3',
  'qwen2',
  'qwen3',
  'gpt2',
  'gpt_neox',
  'roberta',
  'gemma2',
  'gemma3',
  'mistral',
  'modernbert',
  'distilbert',
  'phi3',
  'olmo2',
];

/** Sites by the sets' own names, in the order of their numbers. */
const SITES = { ff: 'post', gate: 'act', up: 'pre_linear', pre: 'pre' } as const satisfies Record<
  string,
  Site
>;
export const SITE_NAMES = Object.keys(SITES) as readonly (keyof typeof SITES)[];

/** What a manifest says of a case. */
interface Entry {
  readonly model: string;
  readonly kind: string;
  readonly family?: string;
  readonly task?: 'causal' | 'masked';
  readonly brief: boolean;
  readonly legacy_names: boolean;
  readonly tolerance: Readonly<Record<string, Readonly<Record<string, { readonly atol: number }>>>>;
  readonly copies?: Readonly<Record<string, { readonly model: string; readonly same_values: boolean }>>;
}

export interface GoldenCase {
  readonly name: string;
  /** Folder of the model. */
  readonly model: string;
  readonly family: string;
  readonly causal: boolean;
  readonly brief: boolean;
  /** Its file has old names, or tensors that nobody needs. */
  readonly legacy: boolean;
  /** Other files of the model: whether their weights are equal, and the path of the logits. */
  readonly copies: readonly {
    readonly name: string;
    readonly model: string;
    readonly sameValues: boolean;
  }[];
  /** A file of the case, such as `forward`. */
  read(file: string): Promise<GoldenFile>;
  /** Tolerance of a tensor such as `ff.2`, which manifests list as `ff.{l}`. @throws Error where there is none. */
  atol(file: string, tensor: string): number;
}

function casesOf(folder: string): GoldenCase[] {
  const path = join(folder, 'manifest.json');
  if (!existsSync(path)) throw new Error(`${folder} has no manifest.json; is it a golden set?`);
  const { cases } = JSON.parse(readFileSync(path, 'utf8')) as { cases: Readonly<Record<string, Entry>> };
  return Object.entries(cases).map(
    ([name, { model, kind, family, task, brief, legacy_names, tolerance, copies }]) => ({
      name,
      model: join(folder, model),
      family: family ?? kind,
      causal: task ? task === 'causal' : kind !== 'bert',
      brief,
      legacy: legacy_names,
      copies: Object.entries(copies ?? {}).map(([copy, { model, same_values }]) => ({
        name: copy,
        model: join(folder, model),
        sameValues: same_values,
      })),
      read: (file) => readGolden(join(folder, name, file)),
      atol: (file, tensor) => {
        const table = tolerance[file] ?? {};
        const [kindOf] = tensor.split('.');
        const entry =
          table[tensor] ?? table[tensor.replace(/\.\d+$/, '.{l}')] ?? table[`${kindOf}.{parameter}`];
        if (!entry) throw new Error(`${name}: no tolerance for ${file} ${tensor}`);
        return entry.atol;
      },
    }),
  );
}

const ALL = FOLDERS.flatMap(casesOf);
const waits = ({ family }: GoldenCase): boolean => NOT_YET.includes(family);

/** Cases whose families load. */
export const CASES: readonly GoldenCase[] = ALL.filter((one) => !waits(one));
export const CAUSAL_CASES: readonly GoldenCase[] = CASES.filter(({ causal }) => causal);
export const MASKED_CASES: readonly GoldenCase[] = CASES.filter(({ causal }) => !causal);
/** Cases whose families do not. */
export const REFUSED: readonly GoldenCase[] = ALL.filter(waits);

/** The first case of each family: for what costs too much to be done with all. */
export const oneAFamily = (cases: readonly GoldenCase[]): GoldenCase[] =>
  cases.filter(({ family }, i) => cases.findIndex((other) => other.family === family) === i);

/** For `describe.each`. */
export const named = (cases: readonly GoldenCase[]): [name: string, one: GoldenCase][] =>
  cases.map((one) => [one.name, one]);

export async function openCase(
  { model }: Pick<GoldenCase, 'model'>,
  device: Device,
  dtype: WeightDtype = 'f32',
): Promise<LanguageModel> {
  return loadModelWeights(await localFolder(model), device, { dtype });
}

/** Hook of a site by the set's name. */
export const siteHookOf = (name: string, layer: number): string =>
  `blocks.${layer}.mlp.hook_${SITES[name as keyof typeof SITES]}`;

/** A prompt without padding, and the columns of padding that were before it. */
export interface GoldenPrompt {
  readonly ids: readonly number[];
  /** Where the target is read. */
  readonly position: number;
  readonly tokenTypeIds?: readonly number[];
  readonly target: number;
  readonly pad: number;
}

/** Inputs of a case. */
export interface GoldenInputs {
  readonly input: Required<Pick<ModelInput, 'ids' | 'attentionMask' | 'positionIds'>> &
    Pick<ModelInput, 'tokenTypeIds'>;
  readonly rows: number;
  readonly length: number;
  /** Where each row's target is read. */
  readonly position: readonly number[];
  /** Targets of each row, of which the first is meant where one is. */
  readonly targets: readonly (readonly number[])[];
  /** Any table of the file. */
  readonly table: GoldenFile['of'];
  /** A row as a prompt of its own. */
  prompt(row: number): GoldenPrompt;
}

export async function inputsOf(one: Pick<GoldenCase, 'read'>): Promise<GoldenInputs> {
  const file = await one.read('inputs');
  const rowsOf = (tensor: string): number[][] =>
    Array.from({ length: file.of(tensor).shape[0]! }, (_, i) => file.of(tensor).row(i));
  const input = {
    ids: rowsOf('input_ids'),
    attentionMask: rowsOf('attention_mask'),
    positionIds: rowsOf('position_ids'),
    ...(file.names.includes('token_type_ids') ? { tokenTypeIds: rowsOf('token_type_ids') } : {}),
  };
  const position = [...file.of('target_pos').data];
  const targets = rowsOf('target_ids');
  return {
    input,
    rows: input.ids.length,
    length: input.ids[0]!.length,
    position,
    targets,
    table: file.of,
    prompt: (row) => {
      const mask = input.attentionMask[row]!;
      const real = (table: readonly (readonly number[])[]) => table[row]!.filter((_, i) => mask[i] === 1);
      const pad = mask.indexOf(1);
      return {
        ids: real(input.ids),
        position: position[row]! - pad,
        ...(input.tokenTypeIds ? { tokenTypeIds: real(input.tokenTypeIds) } : {}),
        target: targets[row]![0]!,
        pad,
      };
    },
  };
}

/** A neuron that `neurons` has a line for. */
export interface GoldenNeuron {
  readonly line: number;
  readonly layer: number;
  readonly index: number;
  readonly site: Site;
}

/** The listed neurons by prompt and position, which ride one sweep. */
export function neuronGroups({ table }: GoldenInputs): {
  readonly row: number;
  /** Column of the neurons, padding included. */
  readonly column: number;
  readonly neurons: readonly GoldenNeuron[];
}[] {
  const groups = new Map<string, { row: number; column: number; neurons: GoldenNeuron[] }>();
  for (const [line, row] of table('row').data.entries()) {
    const at = (tensor: string): number => table(tensor).data[line]!;
    const column = at('pos');
    const key = `${row} ${column}`;
    const group = groups.get(key) ?? { row, column, neurons: [] };
    groups.set(key, group);
    group.neurons.push({
      line,
      layer: at('layer'),
      index: at('neuron'),
      site: SITES[SITE_NAMES[at('site')]!],
    });
  }
  return [...groups.values()];
}
