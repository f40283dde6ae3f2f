/** Models: files, tokenizers, families of transformers with hook points. */

export type {
  AttentionSpec,
  FeedForwardSpec,
  HalfNorms,
  HeadSpec,
  LayerSpec,
  LinearSpec,
  NormSpec,
  StoredRows,
} from './block.ts';
export * from './byteSource.ts';
export * from './chat.ts';
export { type Checkpoint, type MatchOptions, matchTensors, openCheckpoint } from './checkpoint.ts';
export * from './config.ts';
export {
  type Description,
  type EmbeddingSpec,
  feedForwardOf,
  hooksOf,
  isTied,
  type Parameter,
  parametersOf,
  sitesOf,
  storedName,
  type TableSpec,
} from './description.ts';
export { type CheckpointNames, type Family, family, type GgufRecord } from './families/family.ts';
export { FAMILIES, type FamilyName } from './families/index.ts';
export * from './generate.ts';
export { ggufFolder } from './gguf/folder.ts';
export { halved } from './halved.ts';
export type { HookPoint, HookTable } from './hooks.ts';
export { isUrl, urlFolder } from './httpFolder.ts';
export * from './hub.ts';
export { initialise } from './initialise.ts';
export { KNOWN_MODELS, type KnownModel } from './known.ts';
export {
  type Kept,
  type PrefillOptions,
  Prefix,
  type RowGroup,
  type RowOptions,
  type RowPatch,
} from './kvCache.ts';
export * from './load.ts';
export * from './model.ts';
export { type ModelFiles, openModelFiles } from './modelFiles.ts';
export * from './plan.ts';
export { readSafetensorsHeader, writeSafetensors } from './safetensors.ts';
export { loadOptimiser, saveModel, saveOptimiser } from './save.ts';
export { layerRanges, type OpenText, type SplitGradients, SplitModel } from './split.ts';
export * from './stateDict.ts';
export * from './storage.ts';
export { joinStored, type Readable } from './stored.ts';
export { keepsKeys, prefillAll, StreamedModel } from './stream.ts';
export * from './synth.ts';
export * from './tokenizer.ts';
export * from './tokenText.ts';
export { Transformer } from './transformer.ts';
export { visibleText } from './visibleText.ts';
export { type LoadProgress, loadWeights, WeightLoader, type WeightOptions } from './weights.ts';
