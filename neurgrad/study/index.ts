/** The linearity study for programs (Node): a plan, a folder that can be taken up again, a summary. */

export * from './agreement.ts';
export * from './folder.ts';
export * from './part.ts';
export * from './plan.ts';
export * from './prompts.ts';
export * from './run.ts';
export * from './select.ts';
export * from './shard.ts';
export * from './summary.ts';
