/** The paper's Table 3 (Llama2-7B): accuracies, and the |N_s| chosen. */

export interface PaperRow {
  readonly rand: number;
  readonly lmProb: number;
  readonly polar: number;
  readonly polarSize: number;
  readonly magn: number;
  readonly magnSize: number;
}

const row = (
  rand: number,
  lmProb: number,
  polar: number,
  polarSize: number,
  magn: number,
  magnSize: number,
): PaperRow => ({ rand, lmProb, polar, polarSize, magn, magnSize });

/** Table 3 of the paper: accuracies for Llama2-7B by task. */
export const PAPER: Readonly<Record<string, PaperRow>> = {
  GED: row(0.5, 0.506, 0.833, 16, 0.833, 64),
  POS: row(0.25, 0.573, 0.587, 4, 0.621, 16),
  CHUNK: row(0.25, 0.271, 0.282, 8192, 0.391, 64),
  NER: row(0.25, 0.361, 0.43, 4, 0.497, 64),
  Agnews: row(0.25, 0.588, 0.706, 64, 0.689, 512),
  Amazon: row(0.2, 0.484, 0.531, 1, 0.568, 128),
  IMDB: row(0.5, 0.97, 0.97, 64, 0.969, 64),
  MyriadLAMA: row(0.25, 0.738, 0.745, 256, 0.753, 4096),
  FEVER: row(0.5, 0.678, 0.8, 1, 0.803, 4),
  CSQA: row(0.2, 0.61, 0.618, 32, 0.634, 8192),
  TempLAMA: row(0.25, 0.26, 0.25, 1, 0.411, 4),
  PAWS: row(0.5, 0.524, 0.818, 16, 0.821, 32),
  MNLI: row(0.3333, 0.51, 0.578, 32, 0.586, 64),
  SWAG: row(0.25, 0.41, 0.443, 256, 0.471, 64),
  HaluEval: row(0.5, 0.52, 0.775, 2048, 0.777, 256),
  Toxic: row(0.5, 0.78, 0.825, 8, 0.826, 4),
  Stereoset: row(0.3333, 0.104, 0.7297, 128, 0.518, 16),
  LTI: row(0.2, 0.368, 0.548, 64, 0.695, 8),
  'M-POS': row(0.25, 0.444, 0.483, 4, 0.513, 8),
  'M-Amazon': row(0.2, 0.525, 0.547, 1024, 0.588, 128),
  mLAMA: row(0.25, 0.608, 0.623, 8192, 0.636, 512),
  XNLI: row(0.3333, 0.397, 0.486, 32, 0.498, 32),
};

/** Means over all 22 tasks, as the paper prints them. */
export const PAPER_MACRO = { rand: 0.3205, lmProb: 0.5104, polar: 0.6185, magn: 0.6408 } as const;
