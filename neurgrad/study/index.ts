/** The linearity study for programs, in Node alone: a plan, a folder that can be taken up again, a summary. `neurgrad/study` */

export * from './additivity.ts';
export * from './agreement.ts';
export * from './cost.ts';
export * from './estimate.ts';
export {
  type Manifest,
  type ModelStamp,
  StudyFolder,
  stampModel,
  type Unit,
} from './folder.ts';
export * from './paper.ts';
export * from './part.ts';
export {
  estimatorsOf,
  type ModelPlan,
  modelPlans,
  type NeuronsPlan,
  type Plan,
  type PlanInput,
  PRESETS,
  type Preset,
  type PromptsPlan,
  parsePlan,
  planHash,
} from './plan.ts';
export {
  type ByPrompt,
  differenceTerms,
  meanAbsoluteR,
  meanTerms,
  PEARSON,
  PEARSON_DIFFERENCE,
  pearsonOfParts,
  pearsonTerms,
  pooled,
  pooledSums,
  promptSums,
  SAMPLINGS,
  type Sampling,
  SHARE,
  type Statistic,
  share,
  shareTerms,
  type Terms,
} from './pooled.ts';
export * from './prompts.ts';
export { type OpenedModel, runStudy, type StudyOptions, type StudyOutcome } from './run.ts';
export {
  drawNeurons,
  REASONS,
  type Reason,
  type SelectedPrompt,
  type Selection,
  selectPrompts,
} from './select.ts';
export * from './shard.ts';
export {
  type ExampleCurve,
  type LayerCount,
  type ModelSummary,
  type Pair,
  type RangePoint,
  type StudySummary,
  type SummaryOptions,
  summarise,
  type Table1,
} from './summary.ts';
