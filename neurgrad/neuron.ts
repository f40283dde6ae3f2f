/**
 * Neurons and sites by name (docs/conventions.md#sites): `L20.N3781`, `L20.N3781@pre`, `blocks.20.mlp.hook_post`.
 *
 * A neuron is a layer, an index along the feed-forward width and the site that holds its value. Flat numbers run layer
 * by layer: layer * width + index.
 */

import { UserError } from '../engine/errors.ts';
import { checkValue, like, list, one, show, whole } from '../engine/options.ts';
import type { ModelConfig } from '../models/config.ts';
import { sitesOf } from '../models/description.ts';
import type { LanguageModel, Site } from '../models/model.ts';

/** One feed-forward value of one layer. */
export interface Neuron {
  readonly layer: number;
  /** 0 to width - 1. */
  readonly index: number;
  readonly site: Site;
}

/** Names of sites, and `paper`, which stands for the paper's in each model. */
export const SITES = ['paper', 'pre', 'pre_linear', 'act', 'post'] as const;

const placeField = whole();
const widthField = whole(1);
const textField = like<string>((value) => typeof value === 'string', "a neuron's name, such as 'L3.N327'");
const placedField = like<Pick<Neuron, 'layer' | 'index'>>((value) => {
  const { layer, index } = (value ?? {}) as Partial<Neuron>;
  return isPlace(layer) && isPlace(index);
}, 'a neuron: { layer, index, site }, each a whole number, 0 or more');
const isPlace = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0;
const siteField = one<Site>(['pre', 'pre_linear', 'act', 'post']);

/** A neuron, or its name as {@link parseNeuron} reads it. */
export type NeuronOrName = Neuron | string;

const hookField = like<string>(
  (value) => typeof value === 'string',
  "a hook's name, such as 'blocks.3.mlp.hook_post'",
);
const siteNameField = like<string>((value) => typeof value === 'string', "a site's name, such as 'post'");

/** Neurons or their names, as a field of options. What there is depends on the model. */
export const neuronList = list<NeuronOrName>(
  like((value) => {
    if (typeof value === 'string') return true;
    const { layer, index } = (value ?? {}) as Partial<Neuron>;
    return typeof layer === 'number' && typeof index === 'number';
  }, "a neuron: { layer, index, site }, or its name, such as 'L3.N327'"),
  "a list of neurons: [{ layer, index, site }], or their names, such as ['L3.N327']",
);

/** The part of a model that says which neurons there are. */
export type NeuronSpace = Pick<LanguageModel, 'family' | 'sites' | 'paperSite'> & {
  readonly sizes: Pick<LanguageModel['sizes'], 'layers' | 'width'>;
};

const spaceField = like<NeuronSpace | ModelConfig>(
  (value) => typeof value === 'object' && value !== null && ('sites' in value || 'description' in value),
  'a model, or its config, which readConfig gives',
);

const knownSpace = like<NeuronSpace>((value) => {
  const { sites, sizes } = (value ?? {}) as Partial<NeuronSpace>;
  return Array.isArray(sites) && typeof sizes === 'object';
}, 'a model, or what neuronSpace gives');

/** What neurons a model has, which its config.json says before its weights are read. */
export function neuronSpace(of: NeuronSpace | ModelConfig): NeuronSpace {
  checkValue('neuronSpace', 'of', spaceField, of);
  if ('sites' in of) return { family: of.family, sizes: of.sizes, sites: of.sites, paperSite: of.paperSite };
  const { family, description } = of;
  return { family: family.type, sizes: description.sizes, ...sitesOf(description) };
}

/** Hook name of a site in a layer: `blocks.3.mlp.hook_post`. */
export function siteHook(layer: number, site: Site): string {
  checkValue('siteHook', 'site', siteField, site);
  if (!isPlace(layer)) checkValue('siteHook', 'layer', placeField, layer);
  return `blocks.${layer}.mlp.hook_${site}`;
}

/** The layer and the site of a name that {@link siteHook} made. @throws UserError for another. */
export function siteOfHook(hook: string): Pick<Neuron, 'layer' | 'site'> {
  if (typeof hook !== 'string') checkValue('siteOfHook', 'hook', hookField, hook);
  const [, layer, site] = /^blocks\.(\d+)\.mlp\.hook_(\w+)$/.exec(hook) ?? [];
  if (layer === undefined)
    throw new UserError('hook', `${show(hook)} is no feed-forward hook, such as blocks.3.mlp.hook_post`);
  return { layer: Number(layer), site: site as Site };
}

/**
 * A site by name: `paper` (post, or pre_linear where the feed-forward gates), `post`, or `hook_post`.
 * @throws UserError naming the model's sites.
 */
export function resolveSite(name: string, space: NeuronSpace): Site {
  checkValue('resolveSite', 'space', knownSpace, space);
  checkValue('resolveSite', 'name', siteNameField, name);
  if (name === 'paper') return space.paperSite;
  const site = space.sites.find((known) => known === name || `hook_${known}` === name);
  if (site) return site;
  const known = ['paper', ...space.sites].join(', ');
  throw new UserError('site', `unknown site "${name}" for a ${space.family} model; it has ${known}`);
}

/**
 * Reads `L20.N3781` or `L20.N3781@post`.
 * @param defaultSite the site of a neuron that names none: a name as {@link resolveSite} takes it.
 * @throws UserError for bad text, an unknown site, or a layer or index that the model does not have.
 * @example
 * ```ts
 * import { flatIndex, formatNeuron, neuronSpace, parseNeuron } from 'neurgrad';
 * import { parseConfig, presetConfig } from 'neurgrad/models';
 *
 * const config = parseConfig(presetConfig('llama2-7b'));
 * const neuron = parseNeuron('L20.N3781@post', neuronSpace(config));
 * console.log(flatIndex(neuron, 11008), formatNeuron(neuron)); // → 223941 L20.N3781@post
 * ```
 */
export function parseNeuron(text: string, space: NeuronSpace, defaultSite = 'paper'): Neuron {
  checkValue('parseNeuron', 'text', textField, text);
  checkValue('parseNeuron', 'space', knownSpace, space);
  checkValue('parseNeuron', 'defaultSite', siteNameField, defaultSite);
  const match = /^L(\d+)\.N(\d+)(?:@(\w+))?$/i.exec(text.trim());
  if (!match) {
    throw new UserError('neuron', `"${text}" is not a neuron; write L20.N3781 or L20.N3781@post`);
  }
  const neuron: Neuron = {
    layer: Number(match[1]),
    index: Number(match[2]),
    site: resolveSite(match[3] ?? defaultSite, space),
  };
  checkNeuron(neuron, space);
  return neuron;
}

/**
 * Reads neurons separated by commas or white space.
 * @throws UserError as {@link parseNeuron}, for an empty list and for a neuron named twice.
 */
export function parseNeurons(text: string, space: NeuronSpace, defaultSite = 'paper'): Neuron[] {
  checkValue('parseNeurons', 'text', textField, text);
  checkValue('parseNeurons', 'space', knownSpace, space);
  checkValue('parseNeurons', 'defaultSite', siteNameField, defaultSite);
  const neurons = text
    .split(/[\s,]+/)
    .filter((part) => part !== '')
    .map((part) => parseNeuron(part, space, defaultSite));
  if (neurons.length === 0) throw new UserError('neuron', 'no neurons given; write L20.N3781,L3.N7');
  const seen = new Set<string>();
  for (const neuron of neurons) {
    const name = formatNeuron(neuron);
    if (seen.has(name)) throw new UserError('neuron', `${name} is named twice`);
    seen.add(name);
  }
  return neurons;
}

/**
 * Neurons of a model, given as such or by name; one that names no site has the paper's.
 * @param door whose argument they are, for the error.
 * @throws UserError for what is no neuron, or none of this model.
 */
export function neuronsOf(door: string, neurons: readonly NeuronOrName[], space: NeuronSpace): Neuron[] {
  checkValue(door, 'neurons', neuronList, neurons);
  return neurons.map((given) => {
    if (typeof given === 'string') return parseNeuron(given, space);
    const neuron = { ...given, site: resolveSite(given.site ?? 'paper', space) };
    checkNeuron(neuron, space);
    return neuron;
  });
}

/** @throws UserError where the model has no such layer, index or site. */
export function checkNeuron(neuron: Neuron, space: NeuronSpace): void {
  const { layers, width } = space.sizes;
  const name = `L${neuron.layer}.N${neuron.index}`;
  if (!Number.isInteger(neuron.layer) || neuron.layer < 0 || neuron.layer >= layers) {
    throw new UserError('neuron', `${name}: the model has layers L0 to L${layers - 1}`);
  }
  if (!Number.isInteger(neuron.index) || neuron.index < 0 || neuron.index >= width) {
    throw new UserError('neuron', `${name}: a layer has neurons N0 to N${width - 1}`);
  }
  resolveSite(neuron.site, space);
}

/** `L20.N3781@post`; without the site where it is the default one given, or the neuron has none. @throws UserError for what is no neuron */
export function formatNeuron(neuron: Neuron, defaultSite?: Site): string {
  checkValue('formatNeuron', 'neuron', placedField, neuron);
  const name = `L${neuron.layer}.N${neuron.index}`;
  return neuron.site === defaultSite || neuron.site === undefined ? name : `${name}@${neuron.site}`;
}

/** layer * width + index. @throws UserError for what is no neuron, or none of this width */
export function flatIndex(neuron: Pick<Neuron, 'layer' | 'index'>, width: number): number {
  checkValue('flatIndex', 'neuron', placedField, neuron);
  checkValue('flatIndex', 'width', widthField, width);
  checkValue('flatIndex', 'neuron.index', whole(0, width - 1), neuron.index);
  return neuron.layer * width + neuron.index;
}

/**
 * The neuron with a flat number.
 * @example
 * ```ts
 * import { formatNeuron, neuronAt } from 'neurgrad';
 *
 * console.log(formatNeuron(neuronAt(1029, 512, 'post'), 'post')); // → L2.N5
 * ```
 */
export function neuronAt(flat: number, width: number, site: Site): Neuron {
  checkValue('neuronAt', 'site', siteField, site);
  checkValue('neuronAt', 'flat', placeField, flat);
  checkValue('neuronAt', 'width', widthField, width);
  return { layer: Math.floor(flat / width), index: flat % width, site };
}
