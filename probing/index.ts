/** Skill-neuron probing on MCEval8K: tasks, prompts, splits, probers, their baselines and nulls. */

export * from './activation.ts';
export * from './audit.ts';
export * from './collect.ts';
export * from './comparison.ts';
export * from './counts.ts';
export * from './data.ts';
export * from './dataFolder.ts';
export * from './estimate.ts';
export * from './evaluation.ts';
export * from './macro.ts';
export { magn } from './magn.ts';
export * from './marks.ts';
export * from './paper.ts';
export { polar } from './polar.ts';
export * from './prober.ts';
export * from './proberFile.ts';
export * from './prompts.ts';
export * from './resampling.ts';
export * from './run.ts';
export * from './splits.ts';
export * from './task.ts';
export * from './tasks.ts';
export * from './trainer.ts';
