/**
 * What experiments change or look at: components of layers by their hook points, whole or by token, head or neuron.
 */

import { UserError } from '../../engine/errors.ts';
import { either, list, one, whole } from '../../engine/options.ts';
import { hooksOf } from '../../models/description.ts';
import { type HookPoint, pointOf } from '../../models/hooks.ts';
import type { LanguageModel, Patch } from '../../models/model.ts';
import type { PlaceKeys } from './table.ts';

const HOOKS = {
  resid_pre: 'hook_resid_pre',
  resid_mid: 'hook_resid_mid',
  resid_post: 'hook_resid_post',
  attn_out: 'hook_attn_out',
  mlp_out: 'hook_mlp_out',
  q: 'attn.hook_q',
  k: 'attn.hook_k',
  v: 'attn.hook_v',
  pattern: 'attn.hook_pattern',
  z: 'attn.hook_z',
  pre: 'mlp.hook_pre',
  pre_linear: 'mlp.hook_pre_linear',
  act: 'mlp.hook_act',
  post: 'mlp.hook_post',
} as const;

/** Values of a layer, called as their hook points are. */
export type Component = keyof typeof HOOKS;
/** All of them. */
export const COMPONENTS = Object.keys(HOOKS) as readonly Component[];

/** What one place is: a token, a head at all tokens, a head at a token, a neuron at a token, or all of the component. */
export const PLACES_BY = ['position', 'head', 'head_position', 'neuron', 'layer'] as const;
/** One of {@link PLACES_BY}. */
export type PlacesBy = (typeof PLACES_BY)[number];

/** Which places. */
export interface PlaceOptions {
  /** Default `resid_pre`. */
  readonly component?: Component;
  /** Default `head` for q, k, v, z and pattern, else `position`. */
  readonly by?: PlacesBy;
  /** Default all. */
  readonly layers?: readonly number[];
  /** Negative ones count from the end; default all, with neurons the probe position. */
  readonly positions?: readonly number[];
  /** Heads, of k and v key/value heads; default all. */
  readonly heads?: readonly number[];
  /** Default all. */
  readonly neurons?: readonly number[];
}

const indices = (what: string) => list(whole(), `a list of ${what}`);
const integer = whole(-Number.MAX_SAFE_INTEGER, undefined, 'a whole number');
/** Fields of {@link PlaceOptions}. */
export const placeFields = {
  component: one(COMPONENTS),
  by: one(PLACES_BY),
  layers: indices('layers'),
  positions: list(integer, 'a list of positions'),
  heads: indices('heads'),
  neurons: indices('neurons'),
};
/** Several positions, or one. */
export const positionsField = either(integer, placeFields.positions, 'a position or a list of them');

/** A place and its hook point. */
export interface PatchPlace extends PlaceKeys {
  readonly hook: string;
  readonly layer: number;
}

/** The hook points of places, each once. */
export const hookNames = (places: readonly Pick<PatchPlace, 'hook'>[]): string[] => [
  ...new Set(places.map(({ hook }) => hook)),
];

/** The hook point of a component. */
export const componentHook = (component: Component, layer: number): string =>
  `blocks.${layer}.${HOOKS[component]}`;

const upTo = (size: number): number[] => Array.from({ length: size }, (_, i) => i);

/** Layers asked for; default all. @throws UserError for one that there is not. */
export function layersOf(
  { sizes }: Pick<LanguageModel, 'sizes'>,
  asked?: readonly number[],
): readonly number[] {
  const wrong = asked?.find((layer) => layer >= sizes.layers);
  if (wrong !== undefined)
    throw new UserError('layer', `layer ${wrong}: the model has layers 0 to ${sizes.layers - 1}`);
  return asked ?? upTo(sizes.layers);
}

/** Positions of a prompt asked for. @throws UserError for one that there is not. */
export function positionsOf(length: number, asked: readonly number[] | undefined): readonly number[] {
  return (asked ?? upTo(length)).map((position) => {
    const at = position < 0 ? position + length : position;
    if (at < 0 || at >= length)
      throw new UserError('position', `position ${position}: the prompt has positions 0 to ${length - 1}`);
    return at;
  });
}

/**
 * The places asked for, by layer.
 * @param length tokens of the prompt. @param position its probe's.
 * @throws UserError for a component, layer, head or neuron that the model does not have.
 */
export function placesOf(
  model: LanguageModel,
  length: number,
  position: number,
  options: PlaceOptions,
): PatchPlace[] {
  const { component = 'resid_pre' } = options;
  const byHeads = ['q', 'k', 'v', 'z', 'pattern'].includes(component);
  const by = options.by ?? (byHeads ? 'head' : 'position');
  const within = (what: string, asked: readonly number[] | undefined, size: number): readonly number[] => {
    const wrong = asked?.find((n) => n >= size);
    if (wrong !== undefined)
      throw new UserError('place', `${what} ${wrong} of ${component}: there are 0 to ${size - 1}`);
    return asked ?? upTo(size);
  };
  const table = hooksOf(model.description);
  return layersOf(model, options.layers).flatMap((layer): PatchPlace[] => {
    const hook = componentHook(component, layer);
    const { width, heads: ofPattern, parts: count = ofPattern } = pointOf(table, hook);
    const place = { component, hook, layer, position: null, head: null, neuron: null };
    if ((by === 'head' || by === 'head_position') && count === undefined)
      throw new UserError('place', `${component} has no heads; take by 'position', 'neuron' or 'layer'`);
    if ((by === 'position' || by === 'neuron' || by === 'head_position') && ofPattern !== undefined)
      throw new UserError('place', "a pattern is patched by 'head' or 'layer'");
    if (by === 'layer') return [place];
    const positions = positionsOf(length, options.positions ?? (by === 'neuron' ? [position] : undefined));
    if (by === 'position') return positions.map((at) => ({ ...place, position: at }));
    if (by === 'neuron')
      return positions.flatMap((at) =>
        within('neuron', options.neurons, width).map((neuron) => ({ ...place, position: at, neuron })),
      );
    const heads = within('head', options.heads, count!);
    if (by === 'head') return heads.map((head) => ({ ...place, head }));
    return heads.flatMap((head) => positions.map((at) => ({ ...place, head, position: at })));
  });
}

/** A patch that sets a place to the values of another run. @param first position of the first token at hand. */
export function patchOf(
  { hook, position, head, neuron }: PatchPlace,
  row: number,
  from: NonNullable<Patch['from']>,
  first = 0,
): Patch {
  return {
    name: hook,
    row,
    position: position === null ? 'all' : position - first,
    ...(head === null ? {} : { head }),
    ...(neuron === null ? {} : { neuron }),
    op: 'set',
    from,
  };
}

/** Flat indices of a place's numbers in a value [1, tokens, …], or a pattern [1, heads, tokens, keys]. @param first as of {@link patchOf}. */
export function* indicesOf(
  { position, head, neuron }: PatchPlace,
  { width, heads, parts }: Pick<HookPoint, 'width' | 'heads' | 'parts'>,
  shape: readonly number[],
  first = 0,
): Iterable<number> {
  if (heads !== undefined) {
    const each = shape[2]! * shape[3]!;
    const [from, to] = head === null ? [0, heads * each] : [head * each, (head + 1) * each];
    for (let i = from; i < to; i++) yield i;
    return;
  }
  const each = head === null ? width : width / parts!;
  const [from, to] = neuron === null ? [(head ?? 0) * each, ((head ?? 0) + 1) * each] : [neuron, neuron + 1];
  const tokens = position === null ? upTo(shape[1]!) : [position - first];
  for (const token of tokens) for (let n = from; n < to; n++) yield token * width + n;
}
