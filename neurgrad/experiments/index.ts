/** The field's experiments, each one call, in one shape of table. */

export {
  type ActivationPatchingOptions,
  activationPatching,
  activationPatchingOptions,
  type ContrastOptions,
} from './activationPatching.ts';
export {
  type AttributionPatchingOptions,
  attributionPatching,
  attributionPatchingOptions,
} from './attributionPatching.ts';
export { type Answers, METRICS, type Metric, type MetricValues } from './metric.ts';
export type { PromptAnswers, PromptPair } from './pairs.ts';
export type { RunsOptions } from './patchedRuns.ts';
export {
  COMPONENTS,
  type Component,
  PLACES_BY,
  type PlaceOptions,
  type PlacesBy,
} from './places.ts';
export {
  DIRECTIONS_OF_PATCHING,
  type ExperimentRow,
  type ExperimentTable,
  type PairValues,
  type PatchDirection,
  type PlaceKeys,
  tableGrid,
} from './table.ts';
