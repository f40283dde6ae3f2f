/** Skill-neuron probing on MCEval8K: tasks, prompts, splits, probers, their baselines and nulls. */

export { readAblated } from './ablated.ts';
export * from './activation.ts';
export {
  type AuditSummary,
  auditTask,
  type Leak,
  leakShare,
  SAME_SPLIT,
  type SplitAudit,
  summariseAudits,
  type TaskAudit,
} from './audit.ts';
export * from './collect.ts';
export * from './comparison.ts';
export { addCounts, type Counts, emptyCounts, VARIANTS, type Variant, variantField } from './counts.ts';
export {
  type BadRow,
  byLabel,
  countProblems,
  type ProblemCount,
  readTask,
  SPLITS,
  type Split,
  type SplitRows,
  sortRows,
  type TaskData,
  type TaskRow,
} from './data.ts';
export * from './dataFolder.ts';
export * from './estimate.ts';
export * from './evaluation.ts';
export { chooseNeurons, type Examples, type Questions } from './examples.ts';
export {
  type FeatureOptions,
  type Features,
  readFeatures,
  type SplitFeatures,
  writeFeatures,
} from './features.ts';
export { forest } from './forest.ts';
export { logistic } from './logistic.ts';
export * from './macro.ts';
export { magn } from './magn.ts';
export { MARK, markGradients, packMarks, unpackMarks } from './marks.ts';
export type { FitOptions, FittedMethod, ProbeMethod } from './method.ts';
export {
  evaluateMethod,
  type MethodEvaluation,
  type MethodOptions,
  type SplitExamples,
} from './methodEvaluation.ts';
export * from './methods.ts';
export { type OwnRow, type OwnTask, ownTask, readOwnTask } from './ownTask.ts';
export * from './paper.ts';
export { polar } from './polar.ts';
export {
  accuracies,
  argmax,
  fitProber,
  LARGEST_SIZE,
  type Prober,
  type ProberKind,
  predictSizes,
  proberSizes,
  proberVotes,
  selectSize,
} from './prober.ts';
export * from './proberFile.ts';
export * from './prompts.ts';
export * from './properties.ts';
export * from './resampling.ts';
export {
  type CollectOptions,
  collect,
  evaluateParts,
  missingUnits,
  type ProberReport,
  type ProbeSettings,
  partsFolder,
  prefixesOf,
  probeSettings,
  recordTask,
  type TaskRecord,
  type TaskReport,
  timeBatch,
  unitsOf,
} from './run.ts';
export { type CleanSplits, cleanSplits, RELEASED_SIZES, shuffle } from './splits.ts';
export {
  type Field,
  LANGUAGES,
  type Language,
  normalised,
  type Question,
  type ReadRow,
  type Row,
  readRow,
  type Task,
  type Wording,
} from './task.ts';
export * from './tasks.ts';
export * from './trainer.ts';
export { actMethod, magnMethod, polarMethod } from './votingMethods.ts';
