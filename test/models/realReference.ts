/** What `reference.json` holds, which lies beside a real model's file outside the repository: transformers in float64. */

export interface Reference {
  /** Shifts of an activation, plain axis. */
  readonly sweep: readonly number[];
  readonly cases: readonly {
    readonly prompt: string;
    readonly ids: readonly number[];
    readonly position: number;
    /** The likeliest tokens at the position. */
    readonly top: readonly (readonly [id: number, token: string, p: number])[];
    readonly p: number;
    readonly neurons: readonly {
      readonly site: 'pre_linear' | 'post';
      readonly layer: number;
      readonly index: number;
      readonly a: number;
      /** Gradient of the first token's p. */
      readonly grad: number;
      /** That p with each shift. */
      readonly p: readonly number[];
    }[];
  }[];
}
