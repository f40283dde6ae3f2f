/**
 * Rotary positions as config.json asks for them (Su et al. 2021): angles a position for each pair of dimensions, their scalings
 * `linear` and `llama3`, a share of the head, and where all that stands in files of transformers 4 and 5.
 */

import * as v from 'valibot';
import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';
import { positiveField } from './fields.ts';

/** The base of the angles: below 1 they would grow along the head, at 0 or less they are no numbers. */
export const theta = v.pipe(
  v.number('must be a number'),
  v.minValue(1, 'must be at least 1'),
  v.finite('must be a finite number'),
);
export const thetaField = v.nullish(theta);

const positive = v.nullish(positiveField);

/** The share of a head's dimensions that is rotated. */
export const shareField = v.nullish(
  v.pipe(v.number('must be a number'), v.gtValue(0, 'must be above 0'), v.maxValue(1, 'must be at most 1')),
);

/** The same where heads are rotated whole. */
export const wholeField = v.nullish(v.literal(1, 'must be 1'));

const kind = v.nullish(
  v.picklist(
    ['default', 'linear', 'llama3'],
    'must be default, linear or llama3; other scalings are not supported',
  ),
);

const unknown = v.nullish(v.custom<undefined>(() => false, 'must be left out (not supported)'));
const isObject = v.custom<object>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'must be an object or null',
);

/** Whatever else there is asks for positions that are turned in another way. */
const scaling = v.objectWithRest(
  {
    rope_type: kind,
    type: kind,
    factor: positive,
    low_freq_factor: positive,
    high_freq_factor: positive,
    original_max_position_embeddings: positive,
    partial_rotary_factor: shareField,
    rope_theta: thetaField,
  },
  unknown,
);

/** `rope_scaling`, or `rope_parameters` of transformers 5, which has the theta inside. */
export const ropeField = v.nullish(v.pipe(isObject, scaling));
/** `rope_parameters` of models whose layers differ. */
export const ropeByLayerField = v.nullish(
  v.pipe(isObject, v.objectWithRest({ full_attention: ropeField, sliding_attention: ropeField }, unknown)),
);
/** What such have of it. */
export const ropeByKindFields = {
  rope_parameters: ropeByLayerField,
  rope_scaling: ropeField,
  partial_rotary_factor: wholeField,
};

export type Rope = NonNullable<v.InferOutput<typeof ropeField>>;

/** What config.json may say in several fields, and what it means where it says nothing. */
export interface Said {
  readonly fields: Readonly<Record<string, number | null | undefined>>;
  readonly absent: number;
}

/** A value that several fields may give, which must agree: nobody could say which of them the weights were trained with. */
export function agreed<T extends number | string, Absent>(
  name: string,
  fields: Readonly<Record<string, T | null | undefined>>,
  absent: Absent,
): T | Absent {
  const [first, ...others] = Object.entries(fields).filter(([, value]) => value != null);
  const other = others.find(([, value]) => value !== first![1]);
  if (other)
    throw new UserError(
      'config',
      `${name}: ${first![0]} ${show(first![1])} and ${other[0]} ${show(other[1])} differ; leave one of them out`,
    );
  return (first?.[1] as T | undefined) ?? absent;
}

/** Numbers in the table of rotary positions, a gibibyte: 2^21 positions at head size 128. */
const LARGEST_TABLE = 2 ** 28;

/** What the angles are made of. */
export interface RotaryOptions {
  /** Of the whole head. */
  readonly headSize: number;
  /** Longest text. */
  readonly positions: number;
  /** The base, where it stands outside the scalings. */
  readonly theta: Said;
  /** The share of a head that is rotated, where it stands outside the scalings; left out: whole heads alone. */
  readonly share?: Said;
  /** `rope_scaling` and `rope_parameters`, by these names: what both say must agree. */
  readonly scalings: Readonly<Record<string, Rope | null | undefined>>;
  /** `original_max_position_embeddings`, where it stands outside the scalings. */
  readonly original?: number | null | undefined;
}

/** Angles a position of each pair of dimensions. @throws UserError for what cannot be rotated. */
export function rotaryAngles(
  name: string,
  { headSize, positions, theta, share, scalings, original }: RotaryOptions,
): Float64Array {
  const inside = <Key extends keyof Rope>(key: Key): Record<string, Rope[Key]> =>
    Object.fromEntries(Object.entries(scalings).map(([field, rope]) => [`${field}.${key}`, rope?.[key]]));
  const base = agreed(name, { ...theta.fields, ...inside('rope_theta') }, theta.absent);
  const part = agreed(name, { ...share?.fields, ...inside('partial_rotary_factor') }, share?.absent ?? 1);
  if (!share && part !== 1)
    throw new UserError('config', `${name}: partial_rotary_factor must be 1, not ${part}`);
  const rotated = Math.trunc(headSize * part);
  if (rotated % 2 !== 0 || rotated === 0)
    throw new UserError(
      'config',
      `${name}: ${part === 1 ? `the head size ${headSize}` : `the rotated part ${rotated} of a head of ${headSize}`} is ${rotated === 0 ? 'empty' : 'odd'}; rotary positions turn pairs of numbers`,
    );
  if (positions * rotated > LARGEST_TABLE)
    throw new UserError(
      'config',
      `${name}: max_position_embeddings ${positions} needs a table of ${(positions * rotated) / 2 ** 28} GiB at head size ${rotated}; write the longest text you need there, at most ${Math.floor(LARGEST_TABLE / rotated)} tokens`,
    );
  const angles = Float64Array.from({ length: rotated / 2 }, (_, i) => base ** ((-2 * i) / rotated));
  const type = agreed(name, { ...inside('rope_type'), ...inside('type') }, 'default');
  const need = (field: keyof Rope, outside: Said['fields'] = {}): number => {
    const value = agreed(name, { ...outside, ...inside(field) }, undefined);
    if (typeof value !== 'number')
      throw new UserError('config', `${name}: RoPE scaling ${type} needs ${field}, which is missing`);
    return value;
  };
  if (type === 'default') {
    const factor = agreed(name, inside('factor'), 1);
    if (factor !== 1)
      throw new UserError(
        'config',
        `${name}: RoPE scaling has a factor ${factor} and no rope_type; write linear or llama3`,
      );
    return angles;
  }
  const factor = need('factor');
  if (type === 'linear') return angles.map((f) => f / factor);
  const [low, high, trained] = [
    need('low_freq_factor'),
    need('high_freq_factor'),
    need('original_max_position_embeddings', { original_max_position_embeddings: original }),
  ];
  if (!(high > low))
    throw new UserError('config', `${name}: high_freq_factor ${high} must be above low_freq_factor ${low}`);
  // Three zones of wavelengths, the middle one a mixture (Llama 3.1).
  return angles.map((f) => {
    const turns = (trained * f) / (2 * Math.PI);
    const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return kept * f + ((1 - kept) * f) / factor;
  });
}

/**
 * Angles of layers without and with a window, by `rope_parameters` of both kinds and by what else there is: one object where they
 * are the same, so that both have one table.
 */
export function rotaryByKind(
  name: string,
  ropes: v.InferOutput<typeof ropeByLayerField>,
  whole: RotaryOptions,
  window: RotaryOptions,
): { readonly full: Float64Array; readonly sliding: Float64Array } {
  const angles = (kind: 'full_attention' | 'sliding_attention', of: RotaryOptions): Float64Array =>
    rotaryAngles(name, { ...of, scalings: { [`rope_parameters.${kind}`]: ropes?.[kind], ...of.scalings } });
  const [full, sliding] = [angles('full_attention', whole), angles('sliding_attention', window)];
  const same = full.length === sliding.length && full.every((angle, i) => angle === sliding[i]);
  return { full, sliding: same ? full : sliding };
}
