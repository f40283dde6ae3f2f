/** The field's experiments, each one call, in one shape of table. */

export { type AblationOptions, ablation, ablationOptions } from './ablation.ts';
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
export {
  type AttributionTable,
  type ConductanceOptions,
  conductance,
  conductanceOptions,
  type IntegratedGradientsOptions,
  integratedGradients,
  integratedGradientsOptions,
} from './attributions.ts';
export {
  type DirectLogitAttributionOptions,
  type DirectTable,
  directLogitAttribution,
  directLogitAttributionOptions,
} from './directLogitAttribution.ts';
export {
  type CircuitResult,
  type EdgeOptions,
  type EdgeRow,
  type EdgeTable,
  edgeAttribution,
  edgeOptions,
  type Reader,
} from './edges.ts';
export {
  type LensReading,
  type LensTable,
  type LogitLensOptions,
  logitLens,
  logitLensOptions,
} from './logitLens.ts';
export { type Answers, METRICS, type Metric, type MetricValues } from './metric.ts';
export type { PromptAnswers, PromptPair } from './pairs.ts';
export type { RunsOptions } from './patchedRuns.ts';
export {
  type PathPatchingOptions,
  pathPatching,
  pathPatchingOptions,
  RECEIVERS,
  type Receiver,
  type Sender,
} from './pathPatching.ts';
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
