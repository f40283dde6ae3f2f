/** Records a session as the worker answers it; runs in Node (record.mjs). */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { shiftGrid, strongest } from '../../../../neurgrad/index.ts';
import { BUNDLED, BUNDLED_FILES } from '../models.ts';
import type { Scored, Shift } from '../protocol.ts';
import { START } from '../view.ts';
import { Job } from '../worker/job.ts';
import { Session } from '../worker/session.ts';
import type { Recording } from './recording.ts';

/** Moved neurons: so many of the strongest for the target, and against it. */
const EITHER_WAY = 6;
/** Tokens that a slider's answer lists. */
const TOP = 10;
/** What the page sweeps. */
const RANGES = [10, 2];
const STEP = 0.2;

/** Fine where curves are straight, coarser outside. */
const GRID: readonly number[] = [...shiftGrid(-10, 10, 0.5).filter(far), ...shiftGrid(-2, 2, STEP)].sort(
  (a, b) => a - b,
);

function far(shift: number): boolean {
  return Math.abs(shift) > 2;
}

/**
 * The first example of the first bundled model, as the page asks it.
 * @param models folder of the bundled models
 * @param made what the recording says of its making
 */
export async function record(models: string, made: Recording['made']): Promise<Recording> {
  const [{ name, examples }] = BUNDLED as [(typeof BUNDLED)[number]];
  const files = new Map<string, File>();
  for (const file of BUNDLED_FILES)
    files.set(file, new File([await readFile(join(models, name, file))], file));
  const { dtype, direction } = START;
  const job = new Job(() => {});
  const session = await Session.open({ kind: 'folder', name, files }, dtype, job);
  try {
    const { card } = session;
    const site = card.paperSite;
    const question = { text: examples[0]!, chat: false, at: null, target: null, site, direction };
    const study = await session.study(await session.answer(question));
    const follow = [study.target.id, study.predictions[0]!.id];
    const tokens = new Map<number, Recording['tokens'][number]>();
    const note = (all: readonly Scored[]) => {
      for (const { id, token, text } of all) tokens.set(id, { id, token, text });
    };
    const neurons: Recording['neurons'] = [];
    const { positive, negative } = strongest(study.neurgrad, EITHER_WAY);
    for (const at of [...positive, ...negative]) {
      const neuron: Omit<Shift, 'shift'> = {
        layer: Math.floor(at / card.width),
        index: at % card.width,
        site,
      };
      const rows: (readonly Scored[])[] = [];
      for (const shift of GRID) {
        const { predictions } = await session.run({
          question,
          shifts: [{ ...neuron, shift }],
          follow,
          top: TOP,
        });
        note(predictions);
        rows.push(predictions);
      }
      const curves: Recording['neurons'][number]['curves'] = [];
      for (const reach of RANGES) {
        const { curve } = await session.sweep(
          { question, neuron, shifts: shiftGrid(-reach, reach, STEP) },
          job,
        );
        curves.push({ ...curve });
      }
      neurons.push({
        layer: neuron.layer,
        index: neuron.index,
        ids: rows.map((row) => Int32Array.from(row, ({ id }) => id)),
        p: rows.map((row) => Float64Array.from(row, ({ p }) => p)),
        curves,
      });
    }
    return {
      format: 'neurgrad laboratory recording',
      version: 1,
      made,
      model: name,
      dtype,
      card: { ...card, sites: [...card.sites] },
      study: {
        ...study,
        question,
        remarks: [...study.remarks],
        tokens: [...study.tokens],
        unknown: [...study.unknown],
        predictions: [...study.predictions],
        activation: Float32Array.from(study.activation),
        gradient: Float64Array.from(study.gradient),
        neurgrad: Float64Array.from(study.neurgrad),
        noise: Float64Array.from(study.noise),
      },
      tokens: [...tokens.values()].sort((a, b) => a.id - b.id),
      grid: GRID,
      neurons,
    };
  } finally {
    session.close();
  }
}
