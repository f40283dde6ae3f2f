/**
 * What the layer wrote down while the workloads ran, line by line in the order of recording:
 *
 * | line | |
 * |---|---|
 * | `P pipeline hash label` | a pipeline was made; its SPIR-V and assembly are `hash.spv` and `hash.isa` |
 * | `D pipeline x y z parameters bytes...` | a dispatch: workgroups, immediates in hex or `-`, bytes of each binding |
 * | `C bytes` | a copy between buffers |
 * | `S barriers` | a submit, and the barriers since the last one |
 * | `M name`, `M` | a phase begins, and ends |
 * | `E text` | the driver refused |
 */

import type { Launch } from './evaluate.ts';

/** Dispatches alike, of one phase. */
export interface Stream extends Launch {
  readonly hash: string;
  readonly times: number;
}

export interface Phase {
  readonly name: string;
  readonly dispatches: number;
  readonly submits: number;
  readonly barriers: number;
  readonly copies: number;
  readonly streams: readonly Stream[];
}

export interface Recording {
  /** Label by hash. */
  readonly pipelines: ReadonlyMap<string, string>;
  readonly phases: readonly Phase[];
  /** The first dispatch of each pipeline, in a phase or not. */
  readonly launches: ReadonlyMap<string, Launch>;
  readonly errors: readonly string[];
}

/** A label as a file's name. */
export const fileOf = (label: string): string => label.replace(/[^\w.+=-]+/g, '_');

/** Dawn puts what it is in front of a label. */
const label = (name: string): string => name.replace(/^.*?Dawn_ShaderModule_?/, '');

function parseLaunch([x = '1', y = '1', z = '1', parameters = '-', ...bound]: readonly string[]): Launch {
  return {
    grid: [Number(x), Number(y), Number(z)],
    parameters: Buffer.from(parameters === '-' ? '' : parameters, 'hex'),
    bound: bound.map(Number),
  };
}

export function readRecording(text: string): Recording {
  const pipelines = new Map<string, string>();
  const launches = new Map<string, Launch>();
  const hashes = new Map<string, string>();
  const errors: string[] = [];
  const phases: Phase[] = [];
  type Count = 'dispatches' | 'submits' | 'barriers' | 'copies';
  let open: ({ name: string; streams: Map<string, number> } & Record<Count, number>) | null = null;
  const count = (what: Count, by = 1): void => {
    if (open) open[what] += by;
  };
  for (const line of text.split('\n')) {
    const [kind, first = '', ...rest] = line.split(' ');
    if (kind === 'P') {
      hashes.set(first, rest[0]!);
      pipelines.set(rest[0]!, label(rest.slice(1).join(' ')));
    } else if (kind === 'D') {
      const hash = hashes.get(first);
      if (hash === undefined) continue;
      if (!launches.has(hash)) launches.set(hash, parseLaunch(rest));
      count('dispatches');
      const key = `${hash} ${rest.join(' ')}`;
      open?.streams.set(key, (open.streams.get(key) ?? 0) + 1);
    } else if (kind === 'C') count('copies');
    else if (kind === 'S') {
      count('submits');
      count('barriers', Number(first));
    } else if (kind === 'E') errors.push(line.slice(2));
    else if (kind === 'M') {
      if (open)
        phases.push({
          ...open,
          streams: [...open.streams].map(([key, times]) => {
            const [hash = '', ...launch] = key.split(' ');
            return { hash, times, ...parseLaunch(launch) };
          }),
        });
      const name = line.slice(2);
      open = name ? { name, dispatches: 0, submits: 0, barriers: 0, copies: 0, streams: new Map() } : null;
    }
  }
  return { pipelines, phases, launches, errors };
}
