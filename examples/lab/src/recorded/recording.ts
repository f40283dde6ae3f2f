/**
 * A session of the laboratory in a file: what was answered to one sentence, the study of its neurons, and for a few of them the
 * answers along a grid of shifts and the swept curves. Numbers are base64 of their little-endian bytes, so none loses a digit.
 */

import * as v from 'valibot';
import { checkJson, parseJson } from '../../../../models/json.ts';
import type { Site } from '../../../../models/model.ts';
import { WEIGHT_DTYPES } from '../../../../models/storage.ts';
import { DIRECTIONS } from '../../../../neurgrad/conventions.ts';
import type { NeuronCurve } from '../../../../neurgrad/index.ts';

const KINDS = { float32: Float32Array, float64: Float64Array, int32: Int32Array } as const;
type Kind = keyof typeof KINDS;

const bytes = v.pipe(
  v.string(),
  // The library's own takes letters such as the Kelvin sign for theirs of the same case.
  v.regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, 'is no base64'),
  v.transform((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer),
);
/** Of elements of `size` bytes, all of them whole. */
const whole = (size: number) =>
  v.pipe(
    bytes,
    v.check(({ byteLength }) => byteLength % size === 0, `is not made of whole numbers of ${size} bytes`),
  );
const float32 = v.pipe(
  v.object({ float32: whole(4) }),
  v.transform((one) => new Float32Array(one.float32)),
);
const float64 = v.pipe(
  v.object({ float64: whole(8) }),
  v.transform((one) => new Float64Array(one.float64)),
);
const int32 = v.pipe(
  v.object({ int32: whole(4) }),
  v.transform((one) => new Int32Array(one.int32)),
);
const numbers = v.pipe(
  float64,
  v.transform((all): readonly number[] => [...all]),
);

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const site = v.picklist(['pre', 'pre_linear', 'act', 'post'] satisfies Site[]);
const token = { id: count, token: v.string(), text: v.string() };

const cardSchema = v.object({
  serial: count,
  name: v.string(),
  family: v.string(),
  chat: v.boolean(),
  mask: v.nullable(v.string()),
  layers: count,
  width: count,
  vocabulary: count,
  sites: v.array(site),
  paperSite: site,
  adapter: v.string(),
  software: v.boolean(),
  bytes: count,
  notice: v.nullable(v.string()),
});

const studySchema = v.object({
  question: v.object({
    text: v.string(),
    chat: v.boolean(),
    at: v.null(),
    target: v.null(),
    site,
    direction: v.picklist(DIRECTIONS),
  }),
  remarks: v.array(v.string()),
  tokens: v.array(v.string()),
  unknown: v.array(count),
  position: count,
  target: v.object(token),
  p: v.number(),
  predictions: v.pipe(v.array(v.object({ ...token, p: v.number() })), v.minLength(1)),
  activation: float32,
  gradient: float64,
  neurgrad: float64,
  noise: float64,
});

const curveSchema = v.object({
  layer: count,
  index: count,
  site,
  activation: v.number(),
  gradient: v.number(),
  gradientNoise: v.number(),
  neurgrad: v.number(),
  slope: v.number(),
  intercept: v.number(),
  r: v.number(),
  polarity: v.picklist([-1, 0, 1]),
  linear: v.boolean(),
  flat: v.boolean(),
  noise: v.number(),
  valueNoise: numbers,
  changes: numbers,
  shifts: numbers,
  p: numbers,
  values: numbers,
  ran: count,
  bound: v.number(),
  // What a curve is computed from; the page shows its points.
  response: v.nullable(
    v.custom<NonNullable<NeuronCurve['response']>>((one) => typeof one === 'object', 'is not a curve'),
  ),
});

const neuronSchema = v.object({
  layer: count,
  index: count,
  /** Of the likeliest tokens at each shift of the grid, best first, then of those followed. */
  ids: v.array(int32),
  p: v.array(float64),
  curves: v.array(curveSchema),
});

const recordingSchema = v.pipe(
  v.object({
    format: v.literal('neurgrad laboratory recording'),
    version: v.literal(1),
    made: v.object({ at: v.pipe(v.string(), v.isoTimestamp()), by: v.string(), neurgrad: v.string() }),
    model: v.string(),
    dtype: v.picklist(WEIGHT_DTYPES),
    card: cardSchema,
    study: studySchema,
    /** Every token that occurs. */
    tokens: v.array(v.object(token)),
    /** Shifts that the neurons were moved by, ascending. */
    grid: numbers,
    neurons: v.array(neuronSchema),
  }),
  v.check(
    ({ card, study }) =>
      [study.activation, study.gradient, study.neurgrad, study.noise].every(
        ({ length }) => length === card.layers * card.width,
      ),
    'has not one value for each neuron of the model',
  ),
  v.check(
    ({ grid, neurons }) =>
      neurons.every(
        ({ ids, p }) =>
          ids.length === grid.length &&
          p.length === grid.length &&
          ids.every((row, at) => row.length === p[at]!.length),
      ),
    'has not one answer for each shift of its grid',
  ),
  v.check(
    ({ grid }) => grid.includes(0) && grid.every((shift, at) => at === 0 || shift > grid[at - 1]!),
    'has a grid that does not ascend through 0',
  ),
  v.check(({ tokens, neurons }) => {
    const known = new Set(tokens.map(({ id }) => id));
    return neurons.every(({ ids }) => ids.every((row) => row.every((id) => known.has(id))));
  }, 'names tokens that it does not write out'),
);

export type Recording = v.InferOutput<typeof recordingSchema>;

/** A file's text as a recording. @throws UserError `recording`, naming the first field that is not as it should be. */
export const readRecording = (text: string, name: string): Recording =>
  checkJson(recordingSchema, parseJson(text, name, 'recording'), name, 'recording');

/** A recording as a file's text. */
export function writeRecording(recording: Recording): string {
  const curves = (all: Recording['neurons'][number]['curves']) =>
    all.map((curve) => ({
      ...curve,
      valueNoise: Float64Array.from(curve.valueNoise),
      changes: Float64Array.from(curve.changes),
      shifts: Float64Array.from(curve.shifts),
      p: Float64Array.from(curve.p),
      values: Float64Array.from(curve.values),
    }));
  const packed = {
    ...recording,
    grid: Float64Array.from(recording.grid),
    neurons: recording.neurons.map((neuron) => ({ ...neuron, curves: curves(neuron.curves) })),
  };
  return `${JSON.stringify(packed, pack)}\n`;
}

function pack(_: string, value: unknown): unknown {
  for (const [kind, Numbers] of Object.entries(KINDS) as [Kind, (typeof KINDS)[Kind]][]) {
    if (!(value instanceof Numbers)) continue;
    const all = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return { [kind]: btoa(Array.from(all, (byte) => String.fromCharCode(byte)).join('')) };
  }
  return value;
}
