/**
 * Fields of config.json that several families have, checked as Hugging Face transformers understands them, and the parts of
 * descriptions made of them. Defaults are those of transformers' config classes.
 *
 * An absent key takes the default. Null is not absent: it takes the place of "false" or "none" where transformers takes it for
 * that, and else is refused as no value of its field.
 */

import * as v from 'valibot';
import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';
import { ACTIVATION_NAMES, ACTIVATIONS, type ActivationName } from '../../kernels/activation.ts';
import type { LayerSpec, LinearSpec, NormSpec, StoredRows } from '../block.ts';

/** @throws UserError `config`, one line naming the field. */
export function checkConfig<Schema extends v.GenericSchema>(
  schema: Schema,
  json: unknown,
  name: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const field = v.getDotPath(issue) ?? 'the file';
  const missing = issue.input === undefined;
  throw new UserError('config', `${name}: ${field} ${missing ? 'is missing' : describeIssue(issue)}`);
}

function describeIssue(issue: v.BaseIssue<unknown>): string {
  // Of JSON itself: it has no word for the infinity that 1e400 is read as, and overflows the stack where lists nest deep.
  const { input } = issue;
  const value = typeof input === 'string' ? JSON.stringify(input) : show(input);
  return value.length > 40 ? issue.message : `${issue.message}, not ${value}`;
}

/** A positive whole number; the limit only keeps a hostile file from asking for absurd memory. */
export const size = (limit: number) => {
  const message = `must be a whole number from 1 to ${limit}`;
  return v.pipe(v.number(message), v.integer(message), v.minValue(1, message), v.maxValue(limit, message));
};

export const layersField = size(1024);
export const headsField = size(1024);
export const hiddenField = size(2 ** 16);
export const widthField = size(2 ** 20);
export const vocabularyField = size(2 ** 22);
export const positionsField = size(2 ** 24);

export const headSizeField = size(2 ** 12);

export const positiveField = v.pipe(
  v.number('must be a number'),
  v.gtValue(0, 'must be above 0'),
  v.finite('must be a finite number'),
);

/** The epsilon of a norm. */
export const epsilon = (fallback: number) =>
  v.optional(
    v.pipe(
      v.number('must be a number'),
      v.minValue(0, 'must not be negative'),
      v.maxValue(0.1, 'must be small'),
    ),
    fallback,
  );

/** Null is false, as it is in Python, but refused where an absent key would mean true. */
export const yesNo = (fallback: boolean) => {
  const flag = v.boolean('must be true or false');
  return fallback ? v.optional(flag, true) : v.nullish(flag, false);
};

/** Several fields of {@link yesNo}. */
export const flags = <Name extends string>(fallback: boolean, ...names: Name[]) =>
  Object.fromEntries(names.map((name) => [name, yesNo(fallback)])) as Record<Name, ReturnType<typeof yesNo>>;

/** Absent: the default; anything but `allowed` is refused with what it would take. */
export const only = <const T>(allowed: readonly T[], fallback: T) =>
  v.optional(v.picklist(allowed as readonly never[], `must be ${allowed.join(' or ')}`), fallback as never);

/** What is not computed here: refused where it is true. */
export const forbidden = v.nullish(v.literal(false, 'must be false; true is not supported'), false);

/** What would change the numbers in a way that is not computed here: refused wherever it is there. */
export const leftOut = (why: string) =>
  v.nullish(v.custom<undefined>(() => false, `must be left out (${why})`));

/** Heads cut out of a model, by layer. */
export const emptyField = v.nullish(v.strictObject({}, 'must be empty (pruned heads are not supported)'));

/** Scores or logits s become c tanh(s / c); null: they do not. */
export const capField = (absent: number | null) => v.optional(v.nullable(positiveField), absent);

/** Keys that a query sees, its own included; null: all. */
export const windowField = (absent: number | null) => v.optional(v.nullable(positionsField), absent);

const layerTypes = v.array(
  v.picklist(['full_attention', 'sliding_attention'], 'must be full_attention or sliding_attention'),
  'must be a list',
);
/** Which layers have a window (transformers 5). */
export const layerTypesField = v.nullish(layerTypes);
/** The same of a family whose layers are all alike. */
export const alikeField = v.nullish(
  v.pipe(
    layerTypes,
    v.check((types) => new Set(types).size < 2, 'must name one kind: all layers of this family are alike'),
  ),
);

const ACTIVATION_OF: ReadonlyMap<string, ActivationName> = new Map(
  ACTIVATION_NAMES.flatMap((name) => ACTIVATIONS[name].names.map((each) => [each, name] as const)),
);

/** An activation by any of its names. */
export const activation = (fallback: ActivationName) =>
  v.pipe(
    v.optional(
      v.picklist([...ACTIVATION_OF.keys()], `must be ${[...ACTIVATION_OF.keys()].join(', ')}`),
      ACTIVATIONS[fallback].names[0]!,
    ),
    v.transform((name) => ACTIVATION_OF.get(name)!),
  );

const tokenId = v.pipe(v.number(), v.integer('must be a whole number'));
/** A token id, or a list of them. */
export const idsField = v.nullish(
  v.union([tokenId, v.array(tokenId)], 'must be a token id or a list of them'),
);

/** Fields that transformers reads of any decoder. */
export const causalFields = {
  is_causal: v.nullish(v.literal(true, 'must be true; attention to later tokens is not supported')),
  num_experts: leftOut('mixtures of experts are not supported'),
  num_local_experts: leftOut('mixtures of experts are not supported'),
};

/** The fields of most families. */
export const commonFields = {
  vocab_size: vocabularyField,
  hidden_size: hiddenField,
  num_hidden_layers: layersField,
  num_attention_heads: headsField,
  intermediate_size: widthField,
};

/** @throws UserError where a does not divide into b equal parts. */
export function divides(name: string, whole: string, a: number, part: string, b: number): void {
  if (a % b !== 0) throw new UserError('config', `${name}: ${whole} ${a} is not divisible by ${part} ${b}`);
}

/** A linear map under a module's name. */
export const linearSpec = (module: string, out: number, size: number, bias: boolean): LinearSpec => ({
  weight: `${module}.weight`,
  ...(bias ? { bias: `${module}.bias` } : {}),
  out,
  in: size,
});

/** A decoder without bias: the word embedding, or one of its own. */
export const decoderSpec = (vocabulary: number, hidden: number, tied: string | false): LinearSpec => ({
  weight: tied || 'lm_head.weight',
  out: vocabulary,
  in: hidden,
});

/** A linear map that is a part of a stored one, `module.weight[part]`. */
export const partSpec = (
  module: string,
  part: string,
  stored: StoredRows,
  size: number,
  bias: boolean,
): LinearSpec => ({
  weight: `${module}.weight[${part}]`,
  ...(bias ? { bias: `${module}.bias[${part}]` } : {}),
  out: stored.rows.reduce((sum, [, count]) => sum + count, 0),
  in: size,
  stored,
});

/** Parts of a stored linear map that lie in blocks of rows one after the other. */
export function partsOf<Part extends string>(
  module: string,
  counts: Readonly<Record<Part, number>>,
  size: number,
  bias: boolean,
  transposed = false,
): Record<Part, LinearSpec> {
  const entries = Object.entries(counts) as [Part, number][];
  const of = entries.reduce((sum, [, count]) => sum + count, 0);
  let first = 0;
  const parts = entries.map(([part, count]): [Part, LinearSpec] => {
    const rows = [[first, count]] as const;
    first += count;
    return [part, partSpec(module, part, { rows, of, ...(transposed ? { transposed } : {}) }, size, bias)];
  });
  return Object.fromEntries(parts) as Record<Part, LinearSpec>;
}

/** A norm under a module's name; layer norms have a bias unless it is said that there is none. */
export const normSpec = (
  kind: NormSpec['kind'],
  module: string,
  size: number,
  eps: number,
  hook: string,
  bias: boolean = kind === 'layer',
): NormSpec => ({
  kind,
  weight: `${module}.weight`,
  ...(bias ? { bias: `${module}.bias` } : {}),
  size,
  eps,
  hook,
});

/**
 * Whether each layer has the window, by `layer_types`, else by the family's own rule.
 * @throws UserError where `layer_types` is of another length, or asks for a window that there is not.
 */
export function slidingLayers(
  name: string,
  layers: number,
  {
    layer_types: types,
    window,
  }: { layer_types?: readonly string[] | null | undefined; window: number | null },
  rule: (layer: number) => boolean,
): boolean[] {
  if (types && types.length !== layers)
    throw new UserError('config', `${name}: layer_types names ${types.length} layers of ${layers}`);
  const slides = Array.from({ length: layers }, (_, i) =>
    types ? types[i] === 'sliding_attention' : rule(i),
  );
  if (types && window === null && slides.includes(true))
    throw new UserError('config', `${name}: layer_types asks for sliding_attention without a sliding_window`);
  return slides;
}

/** A layer of a decoder whose queries see so many keys, their own included; null: all. */
export const windowed = (layer: LayerSpec, keys: number | null): LayerSpec =>
  keys === null
    ? layer
    : { ...layer, attention: { ...layer.attention, window: { before: keys - 1, after: 0 } } };

/** Modules of each layer of a list and the hook points at their outputs; the module '' is the layer itself. */
export const layerModules = (
  layers: number,
  list: string,
  hooks: Readonly<Record<string, string>>,
): Map<string, string> =>
  new Map(
    Array.from({ length: layers }, (_, i) =>
      Object.entries(hooks).map(([module, hook]): [string, string] => [
        `${list}.${i}${module && `.${module}`}`,
        `blocks.${i}.${hook}`,
      ]),
    ).flat(),
  );

/** The sizes that all presets have. */
export const presetSizes = (hidden: number, width: number, layers: number, heads: number) => ({
  hidden_size: hidden,
  intermediate_size: width,
  num_hidden_layers: layers,
  num_attention_heads: heads,
});
