/** Models: files, tokenizers, BERT and Llama with patch points. */

export { Bert, bertHooks, bertShapes } from './bert.ts';
export * from './build.ts';
export * from './byteSource.ts';
export * from './chat.ts';
export { type Checkpoint, type MatchOptions, matchTensors, openCheckpoint } from './checkpoint.ts';
export * from './config.ts';
export * from './generate.ts';
export { halved } from './halved.ts';
export { isUrl, urlFolder } from './httpFolder.ts';
export * from './hub.ts';
export { initialise } from './initialise.ts';
export {
  type Kept,
  type PrefillOptions,
  Prefix,
  type RowGroup,
  type RowOptions,
  type RowPatch,
} from './kvCache.ts';
export { Llama, llamaHooks, llamaShapes } from './llama.ts';
export * from './load.ts';
export * from './model.ts';
export { type ModelFiles, openModelFiles } from './modelFiles.ts';
export * from './plan.ts';
export { readSafetensorsHeader, writeSafetensors } from './safetensors.ts';
export { configToJson, loadOptimiser, saveModel, saveOptimiser } from './save.ts';
export { layerRanges, type OpenText, type SplitGradients, SplitLlama } from './split.ts';
export * from './storage.ts';
export { prefillAll, StreamedLlama } from './stream.ts';
export * from './synth.ts';
export * from './tokenizer.ts';
export * from './tokenText.ts';
export { visibleText } from './visibleText.ts';
export { type LoadProgress, loadWeights, WeightLoader, type WeightOptions } from './weights.ts';
