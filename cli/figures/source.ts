/** Where a figure is from: what stands at the head of its data and in its files, and how to cite it. */

/** As far as it is recorded: a page made again from the same record is the same, byte for byte. */
export interface Source {
  /** Version of this package. */
  readonly neurgrad: string;
  /** Further lines by their names: model, hashes of its files, conventions, prompts, seeds. */
  readonly facts: Readonly<Record<string, string>>;
}

/** The entry of CITATION.cff in one line. */
export const citation = (version: string): string =>
  `The neurgrad authors. neurgrad, version ${version} [software]. Method: Zhao, Jiang and Yoshinaga, “Neuron Empirical Gradient: Discovering and Quantifying Neurons’ Global Linear Controllability”, ACL 2025.`;
