/**
 * What the user has made: one immutable record, and its form in the address. Results are not in it: they follow from it,
 * so a link, a reload and a lost device all come back to the same place.
 */

import type { Site } from '../../../models/model.ts';
import { WEIGHT_DTYPES, type WeightDtype } from '../../../models/storage.ts';
import { DIRECTIONS, type Direction } from '../../../neurgrad/conventions.ts';
import { COMPARED_BY, type ComparedBy, type Target } from './protocol.ts';
import { SCALES, type ScaleName } from './scale.ts';

/** What the map shows. */
export type Quantity = 'neurgrad' | 'gradient' | 'activation';

/** How the map orders the neurons of a layer. */
export type Order = 'number' | 'strongest';

export interface State {
  /** `facts-bert`, `stories260k`, `hub:organisation/name`, `gguf:name` or `folder:name`. */
  readonly model: string;
  /** How weight matrices are kept on the device; arithmetic is float32. */
  readonly dtype: WeightDtype;
  readonly text: string;
  /** The text is a message to a model that converses. */
  readonly chat: boolean;
  /** The token whose neurons are looked at; null: where the model is asked. */
  readonly at: number | null;
  readonly target: Target;
  /** Null: the paper's site of the model. */
  readonly site: Site | null;
  readonly direction: Direction;
  readonly quantity: Quantity;
  readonly scale: ScaleName;
  readonly order: Order;
  /** The layer that the map has open in place. */
  readonly layer: number | null;
  /** A neuron by layer and index, at the state's site. */
  readonly selected: NeuronId | null;
  readonly shifts: readonly (NeuronId & { readonly shift: number })[];
  /** What the sentence and its target are compared with. */
  readonly versus: Versus | null;
}

/** Another sentence, another word, or both; empty: the same one. */
export interface Versus {
  readonly text: string;
  readonly word: string;
  readonly of: ComparedBy;
}

export interface NeuronId {
  readonly layer: number;
  readonly index: number;
}

export const sameNeuron = (a: NeuronId | null, b: NeuronId | null): boolean =>
  a?.layer === b?.layer && a?.index === b?.index;

export const nameOf = ({ layer, index }: NeuronId): string => `L${layer}.N${index}`;

const SITES: readonly Site[] = ['pre', 'pre_linear', 'act', 'post'];
const QUANTITIES: readonly Quantity[] = ['neurgrad', 'gradient', 'activation'];

/** The state as the part of an address after `#`. */
export function toHash(state: State): string {
  const fields: Record<string, string | null> = {
    m: state.model,
    b: state.dtype === 'f32' ? null : state.dtype,
    t: state.text,
    h: state.chat ? 'chat' : null,
    p: state.at === null ? null : String(state.at),
    w: state.target && 'word' in state.target ? state.target.word : null,
    id: state.target && 'id' in state.target ? String(state.target.id) : null,
    site: state.site,
    d: state.direction,
    q: state.quantity === 'neurgrad' ? null : state.quantity,
    c: state.scale === SCALES[0] ? null : state.scale,
    o: state.order === 'strongest' ? 'strongest' : null,
    l: state.layer === null ? null : `L${state.layer}`,
    n: state.selected && nameOf(state.selected),
    v: state.versus?.of ?? null,
    vt: state.versus?.text || null,
    vw: state.versus?.word || null,
    s: state.shifts.map((one) => `${nameOf(one)}:${one.shift}`).join(',') || null,
  };
  const given = Object.entries(fields).filter((field): field is [string, string] => field[1] !== null);
  return new URLSearchParams(given).toString();
}

/** What an address says; whatever it does not say, or says wrongly, is left out. */
export function fromHash(hash: string): Partial<State> {
  const fields = new URLSearchParams(hash.replace(/^#/, ''));
  const model = fields.get('m');
  const text = fields.get('t');
  const at = fields.get('p') ?? '';
  const word = fields.get('w');
  const id = fields.get('id');
  const dtype = WEIGHT_DTYPES.find((known) => known === fields.get('b'));
  const site = SITES.find((known) => known === fields.get('site'));
  // Links of a model that name no axis are from when there was one alone.
  const direction = DIRECTIONS.find((known) => known === (fields.get('d') ?? (model ? 'outward' : null)));
  const quantity = QUANTITIES.find((known) => known === fields.get('q'));
  const scale = SCALES.find((known) => known === fields.get('c'));
  const versus = COMPARED_BY.find((known) => known === fields.get('v'));
  const layer = /^L(\d{1,4})$/.exec(fields.get('l') ?? '')?.[1];
  const selected = parseId(fields.get('n') ?? '');
  const shifts = (fields.get('s') ?? '').split(',').flatMap((part) => {
    const [name = '', value = ''] = part.split(':');
    const neuron = parseId(name);
    const shift = Number(value);
    return neuron && value !== '' && Number.isFinite(shift) ? [{ ...neuron, shift }] : [];
  });
  return {
    ...(model ? { model } : {}),
    ...(dtype ? { dtype } : {}),
    ...(text !== null ? { text } : {}),
    ...(fields.get('h') === 'chat' ? { chat: true } : {}),
    ...(/^\d{1,6}$/.test(at) ? { at: Number(at) } : {}),
    ...(word ? { target: { word } } : id && /^\d+$/.test(id) ? { target: { id: Number(id) } } : {}),
    ...(site ? { site } : {}),
    ...(direction ? { direction } : {}),
    ...(quantity ? { quantity } : {}),
    ...(scale ? { scale } : {}),
    ...(fields.get('o') === 'strongest' ? { order: 'strongest' as const } : {}),
    ...(layer ? { layer: Number(layer) } : {}),
    ...(selected ? { selected } : {}),
    ...(shifts.length > 0 ? { shifts } : {}),
    ...(versus ? { versus: { of: versus, text: fields.get('vt') ?? '', word: fields.get('vw') ?? '' } } : {}),
  };
}

function parseId(text: string): NeuronId | null {
  const match = /^L(\d{1,4})\.N(\d{1,7})$/.exec(text);
  return match ? { layer: Number(match[1]), index: Number(match[2]) } : null;
}
