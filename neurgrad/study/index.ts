/** The linearity study for programs, in Node alone: a plan, a folder that can be taken up again, a summary. `neurgrad/study` */

export * from './agreement.ts';
export * from './cost.ts';
export * from './estimate.ts';
export * from './folder.ts';
export * from './paper.ts';
export * from './part.ts';
export * from './plan.ts';
export * from './pooled.ts';
export * from './prompts.ts';
export * from './run.ts';
export * from './select.ts';
export * from './shard.ts';
export * from './summary.ts';
