/**
 * A call of every door, with options (or a word) of the caller's. Options are looked at before anything else, so that nothing
 * else has to be there: `none` stands for it.
 */

import * as engine from '../../engine/index.ts';
import * as models from '../../models/index.ts';
import * as neurgrad from '../../neurgrad/index.ts';
import * as study from '../../neurgrad/study/index.ts';
import * as probing from '../../probing/index.ts';

// biome-ignore lint/suspicious/noExplicitAny: what is passed is wrong on purpose
type Any = any;
const none: Any = {};
/** Where nothing can be written: a check that is left out lets the call go on. */
const NOWHERE = '/dev/null/nowhere';

/** Of options: what calls the door, and options that are right, where some must be there. */
export interface OptionsCase {
  readonly call: (options: Any) => unknown;
  readonly right?: object;
  /** How its errors begin; default the last part of the door's name. */
  readonly says?: string;
}

/** How the errors of a door begin. */
export const saysOf = (name: string, { says }: Partial<OptionsCase> = {}): string =>
  says ?? (SAYS.find(([pattern]) => pattern.test(name))?.[1] || name.split(' ')[0]!.split('.').at(-1)!);
/** Doors that speak in the name of what they do. */
const SAYS: readonly (readonly [RegExp, string])[] = [
  [/ModelInput$/, 'run: input'],
  [/^runModel|runAsync|^run /, 'run'],
  [/^AdamW readonly/, 'AdamW: a group'],
  [/^StreamedModel$|^WeightLoader$/, 'loadWeights'],
  [/prefill/, 'prefill'],
  [/runRows|^StreamedModel.runLastAsync$/, 'runRows'],
  [/^checkSampling|^chooseToken/, 'generate'],
  [/^SplitModel.open$/, 'SplitModel.open'],
  [/^SplitModel.open dtype$/, 'model'],
  [/^normLinear/, 'normLinear: norm'],
  [/^rowNorm/, 'rowNorm: norm'],
  [/^(Storage|empty|full|tensor|zeros) /, 'tensor'],
  [/ sampling$/, 'agreement'],
  [/^ProberKind.count/, 'polar.count'],
  [/^ProberKind.vote/, 'magn.vote'],
];

const reading = { site: 'post', of: 'prob', direction: 'outward', sign: '+' };
const prompts = {
  rows: 1,
  evaluationRows: 1,
  seed: 0,
  demonstrationSeed: 0,
  shots: 1,
  labelTokens: 'continuation',
};
const settings = { ...reading, ...prompts, variant: 'paper', splits: 'clean', permutations: 1 };
const patch = { name: 'x', position: 0, neuron: 0, op: 'add', value: 1 };
const objective = { of: 'prob', target: [0], position: [0] };
const input = { ids: [[1]] };
/** A model without weights, and a method of one that has not been opened. */
const BARE = models.parseConfig({
  model_type: 'bert',
  vocab_size: 1,
  hidden_size: 1,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  intermediate_size: 1,
});
const CAUSAL = models.parseConfig({ ...BARE.json, model_type: 'gpt2', n_embd: 1, n_layer: 1, n_head: 1 });
const empty = new models.Transformer(none, BARE, new Map());
const method = (of: Any, name: string): Any => of.prototype[name].bind(name === 'run' ? empty : none);
const tensor = Object.create(engine.Tensor.prototype);
const runs = {
  'Transformer.run': method(models.Transformer, 'run'),
  'StreamedModel.runAsync': method(models.StreamedModel, 'runAsync'),
  'SplitModel.runAsync': method(models.SplitModel, 'runAsync'),
  runModel: (given: Any, options: Any) =>
    neurgrad_runModel({ run: method(models.Transformer, 'run') }, given, options),
};
const neurgrad_runModel: Any = models.runModel;
const recorded = new neurgrad.PromptRecord({
  ...{ model: none, probe: none, neuronPosition: 0, target: 0, of: 'prob', names: [] },
  ...{ hooks: () => ({ target: { prob: 1 } }) as Any, bundle: null },
});

/** By the door's name and, where it has several objects of options, the type of this one. */
export function optionsCases(tokenizer: models.Tokenizer): Record<string, OptionsCase> {
  return {
    openDevice: { call: (o) => engine.openDevice(o) },
    grad: { call: (o) => engine.grad(none, none, o) },
    LossScale: { call: (o) => new engine.LossScale(o) },
    Reopening: {
      call: (o) => new engine.Reopening(o),
      right: { open: async () => null, close: () => {} },
    },
    attention: { call: (o) => engine.attention(none, none, none, o) },
    attentionTwin: { call: (o) => engine.attentionTwin(none, none, none, o) },
    attentionBackwardTwin: { call: (o) => engine.attentionBackwardTwin(none, none, 0, o) },
    attentionPattern: { call: (o) => engine.attentionPattern(none, 1, o) },
    prefixAttention: { call: (o) => engine.prefixAttention(none, none, none, null, o) },
    prefixAttentionTwin: { call: (o) => engine.prefixAttentionTwin(none, none, none, null, o) },
    gelu: { call: (o) => engine.gelu(none, o) },
    matmul: { call: (o) => engine.matmul(none, none, o) },
    softmax: { call: (o) => engine.softmax(none, o) },
    logSoftmax: { call: (o) => engine.logSoftmax(none, o) },
    warmupCosine: { call: (o) => engine.warmupCosine(o), right: { peak: 1, steps: 1 } },
    warmupLinear: { call: (o) => engine.warmupLinear(o), right: { peak: 1, steps: 1 } },
    rand: { call: (o) => engine.rand(none, [], 1, o) },
    randn: { call: (o) => engine.randn(none, [], 1, o) },
    xavierUniform: { call: (o) => engine.xavierUniform(none, none, 1, o) },
    xavierNormal: { call: (o) => engine.xavierNormal(none, none, 1, o) },
    kaimingUniform: { call: (o) => engine.kaimingUniform(none, none, 1, o) },
    kaimingNormal: { call: (o) => engine.kaimingNormal(none, none, 1, o) },
    sort: { call: (o) => engine.sort(none, -1, o) },
    argsort: { call: (o) => engine.argsort(none, -1, o) },
    variance: { call: (o) => engine.variance(none, undefined, o) },
    std: { call: (o) => engine.std(none, undefined, o) },
    mseLoss: { call: (o) => engine.mseLoss(none, none, o) },
    l1Loss: { call: (o) => engine.l1Loss(none, none, o) },
    huberLoss: { call: (o) => engine.huberLoss(none, none, o) },
    binaryCrossEntropy: { call: (o) => engine.binaryCrossEntropy(none, none, o) },
    binaryCrossEntropyWithLogits: { call: (o) => engine.binaryCrossEntropyWithLogits(none, none, o) },
    klDiv: { call: (o) => engine.klDiv(none, none, o) },
    conv1d: { call: (o) => engine.conv1d(none, none, null, o) },
    conv2d: { call: (o) => engine.conv2d(none, none, null, o) },
    maxPool2d: { call: (o) => engine.maxPool2d(none, 2, o) },
    avgPool2d: { call: (o) => engine.avgPool2d(none, 2, o) },
    SGD: { call: (o) => new engine.SGD([], o) },
    'Adam AdamWOptions': { call: (o) => new engine.Adam([], o) },
    'Adam readonly Tensor[] | readonly ParameterGroup[]': {
      call: (o) => new engine.Adam([o]),
      right: { parameters: [] },
      says: 'AdamW: a group',
    },
    'AdamW AdamWOptions': { call: (o) => new engine.AdamW([], o) },
    'AdamW readonly Tensor[] | readonly ParameterGroup[]': {
      call: (o) => new engine.AdamW([o]),
      right: { parameters: [] },
    },

    loadModel: { call: (o) => models.loadModel(NOWHERE, o) },
    loadModelWeights: { call: (o) => models.loadModelWeights(none, none, o) },
    streamModel: { call: (o) => models.streamModel(none, none, o) },
    StreamedModel: { call: (o) => new models.StreamedModel(none, CAUSAL, none, o) },
    loadWeights: { call: (o) => models.loadWeights(none, none, none, o) },
    WeightLoader: { call: (o) => new models.WeightLoader(none, none, none, o) },
    matchTensors: { call: (o) => models.matchTensors(none, none, o) },
    openModelFiles: { call: (o) => models.openModelFiles(none, o) },
    planMemory: { call: (o) => models.planMemory(none, none, o) },
    synthesise: {
      call: (o) => models.synthesise(NOWHERE, o),
      right: { preset: 'llama2-7b', dtype: 'bf16' },
    },
    urlFolder: { call: (o) => models.urlFolder('http://localhost', o) },
    hubFolder: { call: (o) => models.hubFolder('org/name', o) },
    hubFiles: { call: (o) => models.hubFiles('org/name', o) },
    resolveModelFolder: { call: (o) => models.resolveModelFolder(NOWHERE, o) },
    'SplitModel.open': {
      call: (o) => (models.SplitModel.open as Any)(NOWHERE, none, none, 2, 'f32', o),
    },
    ...Object.fromEntries(
      Object.entries(runs).flatMap(([name, run]) => [
        [`${name} ModelInput`, { call: (o: Any) => run(o, {}), right: input }],
        [`${name} RunOptions`, { call: (o: Any) => run(input, o) }],
      ]),
    ),
    'Transformer.prefill': { call: (o) => method(models.Transformer, 'prefill')([1], o) },
    'StreamedModel.prefillAsync': {
      call: (options) => method(models.StreamedModel, 'prefillAsync')([{ ids: [1], options }]),
    },
    'Transformer.runRows RowOptions': { call: (o) => method(models.Transformer, 'runRows')([], o) },
    'Transformer.runRows RowGroup | readonly RowGroup[]': {
      call: (o) => method(models.Transformer, 'runRows')([o], {}),
      right: { prefix: { segments: 0 } },
    },
    'StreamedModel.runRowsAsync RowOptions': {
      call: (o) => method(models.StreamedModel, 'runRowsAsync')([], o),
    },
    'StreamedModel.runRowsAsync RowGroup | readonly RowGroup[]': {
      call: (o) => method(models.StreamedModel, 'runRowsAsync')([o], {}),
      right: { prefix: { segments: 0 } },
    },
    'StreamedModel.runLastAsync': { call: (o) => method(models.StreamedModel, 'runLastAsync')([1], o) },
    'SplitModel.runLastAsync': { call: (o) => method(models.SplitModel, 'runLastAsync')([1], o) },
    checkSampling: { call: (o) => models.checkSampling(o) },
    chooseToken: { call: (o) => models.chooseToken([0], o) },
    generate: { call: (o) => models.generate(none, [1], o) },
    'Tokenizer.encode': { call: (o) => tokenizer.encode('x', o) },
    'Tokenizer.decode': { call: (o) => tokenizer.decode([1], o) },
    'Tokenizer.singleToken': { call: (o) => tokenizer.singleToken('x', o), right: { kind: 'masked' } },

    neuronGradients: { call: (o) => neurgrad.neuronGradients(none, none, o) },
    'neuronGradients ManyGradientOptions': { call: (o) => neurgrad.neuronGradients(none, [], o) },
    selectNeurons: { call: (o) => neurgrad.selectNeurons('L0.N0', neurgrad.neuronSpace(BARE), o) },
    integrateLayers: { call: (o) => neurgrad.integrateLayers(none, none, o) },
    'integrateLayers ManyLayerOptions': { call: (o) => neurgrad.integrateLayers(none, [], o) },
    integrateNeurons: { call: (o) => neurgrad.integrateNeurons(none, none, none, o) },
    'integrateNeurons ManyIntegratedOptions': { call: (o) => neurgrad.integrateNeurons(none, [], [], o) },
    fitCurve: { call: (o) => neurgrad.fitCurve([-1, 0, 1], [0, 1, 2], o) },
    fitSums: { call: (o) => neurgrad.fitSums([1], none, o) },
    steer: { call: (o) => neurgrad.steer(none, none, o), right: { target: 0, to: 0.5 } },
    sweep: { call: (o) => neurgrad.sweep(none, none, o), right: { neurons: [] } },
    'sweep ManySweepOptions': { call: (o) => neurgrad.sweep(none, [], o), right: { neurons: [] } },
    atlas: { call: (o) => neurgrad.atlas(none, none, o) },
    activationPatching: { call: (o) => neurgrad.activationPatching(none, none, o) },
    ablation: { call: (o) => neurgrad.ablation(none, none, o) },
    conductance: { call: (o) => neurgrad.conductance(none, none, o) },
    directLogitAttribution: { call: (o) => neurgrad.directLogitAttribution(none, none, o) },
    integratedGradients: { call: (o) => neurgrad.integratedGradients(none, none, o) },
    pathPatching: { call: (o) => neurgrad.pathPatching(none, none, o) },
    edgeAttribution: { call: (o) => neurgrad.edgeAttribution(none, none, o) },
    logitLens: { call: (o) => neurgrad.logitLens(none, none, o) },
    attributionPatching: { call: (o) => neurgrad.attributionPatching(none, none, o) },
    integratedEstimator: { call: (o) => neurgrad.integratedEstimator(o) },
    attributionPatchingEstimator: { call: (o) => neurgrad.attributionPatchingEstimator(o) },
    conductanceEstimator: { call: (o) => neurgrad.conductanceEstimator(o) },
    randomEstimator: { call: (o) => neurgrad.randomEstimator(o) },
    additivity: { call: (o) => neurgrad.additivity(none, none, o) },
    intervene: { call: (o) => neurgrad.intervene(none, none, none, o) },
    recordPrompt: { call: (o) => neurgrad.recordPrompt(none, none, o) },
    verifyConventions: { call: (o) => neurgrad.verifyConventions(none, [], o) },
    verifyExact: { call: (o) => neurgrad.verifyExact(none, none, o) },

    runStudy: {
      call: (o) => study.runStudy({ manifest: { plan: { models: [], prompts: {}, neurons: {} } } } as Any, o),
      right: { shard: { index: 0, count: 1 }, open: () => none },
    },
    summarise: { call: (o) => study.summarise([], o) },

    openReader: { call: (o) => probing.openReader(none, o), right: reading },
    cachedReader: { call: (o) => probing.cachedReader(none, o), right: reading },
    fullReader: { call: (o) => probing.fullReader(none, o), right: reading },
    resolveDataFolder: { call: (o) => probing.resolveDataFolder(NOWHERE, o) },
    evaluateMethod: { call: (o) => (probing.evaluateMethod as Any)(none, none, o) },
    'readFeatures ReadingConventions': {
      call: (o) => probing.readFeatures(none, none, o, []),
      right: reading,
      says: 'readFeatures: conventions',
    },
    'readFeatures FeatureOptions': { call: (o) => probing.readFeatures(none, none, reading as Any, [], o) },
    efficiency: { call: (o) => (probing.efficiency as Any)(none, none, o) },
    flexibility: { call: (o) => (probing.flexibility as Any)(none, none, o), right: { size: 1 } },
    robustness: { call: (o) => (probing.robustness as Any)(none, none, [], o), right: { size: 1 } },
    'ProbeMethod.fit': { call: (o) => probing.forest.fit(none, o), says: 'fit' },
    planTask: { call: (o) => probing.planTask(none, none, none, none, o), right: prompts },
    'collect ProbeSettings': {
      call: (o) => probing.collect(none, [], o, NOWHERE),
      right: settings,
      says: 'collect: settings',
    },
    'collect CollectOptions': { call: (o) => probing.collect(none, [], settings as Any, NOWHERE, o) },
    timeBatch: {
      call: (o) => probing.timeBatch(none, none, o),
      right: settings,
      says: 'timeBatch: settings',
    },
    missingUnits: {
      call: (o) => probing.missingUnits(none, 1, o, NOWHERE),
      right: settings,
      says: 'missingUnits: settings',
    },
    evaluateParts: {
      call: (o) => (probing.evaluateParts as Any)(none, none, o, NOWHERE),
      right: settings,
      says: 'evaluateParts: settings',
    },
  };
}

/** Objects within options that lists or functions hide from the schema's own names. */
export const innerCases: Record<string, OptionsCase> = {
  'run patch': { call: (o) => runs['Transformer.run'](input, { patch: [o] }), right: patch },
  'run objective': {
    call: (of) => runs['Transformer.run'](input, { grad: { at: [], of } }),
    right: objective,
  },
  'runRows patch': {
    call: (o) => method(models.Transformer, 'runRows')([], { patch: [o] }),
    right: { name: 'x', neuron: 0, op: 'add', value: 1 },
  },
  'rowNorm norm': {
    call: (o) => engine.rowNorm(none, o),
    right: { kind: 'layer', weight: tensor, eps: 0 },
  },
  'normLinear norm': {
    call: (o) => engine.normLinear(none, o, none),
    right: { kind: 'layer', weight: tensor, eps: 0 },
  },
};

/** Words out of some, by door and argument. */
export const choiceCases: Record<string, (word: Any) => unknown> = {
  'patchValues mode': (w) => engine.patchValues(none, [], w, none),
  'toF32 purpose': (w) => engine.toF32(none, w),
  'standardiseTwin kind': (w) => engine.standardiseTwin(w, none, 0),
  'normStatistics kind': (w) => engine.normStatistics(none, w, 0),
  'normBackwardTwin kind': (w) => engine.normBackwardTwin(w, none, none, none, 0),
  'convert dtype': (w) => engine.convert(none, w),
  'convert purpose': (w) => engine.convert(none, 'f32', w),
  'bytesOf dtype': (w) => engine.bytesOf(w),
  'Storage dtype': (w) => new engine.Storage(none, w, [1], 'weights'),
  'Storage purpose': (w) => new engine.Storage(none, 'f32', [1], w),
  'Storage writer': (w) => new engine.Storage(none, 'f32', [1], 'weights', w),
  'empty dtype': (w) => engine.empty(none, [1], w),
  'empty purpose': (w) => engine.empty(none, [1], 'f32', w),
  'full purpose': (w) => engine.full(none, [1], 0, w),
  'tensor purpose': (w) => engine.tensor(none, [1], [1], w),
  'zeros purpose': (w) => engine.zeros(none, [1], w),
  'SplitModel.open dtype': (w) => (models.SplitModel.open as Any)(NOWHERE, none, none, 2, w),
  'storedAs wanted': (w) => models.storedAs({ kind: 'matrix', stage: 0, shape: [1, 1] }, 'F32', w),
  'presetConfig preset': (w) => models.presetConfig(w),
  'presetConfig dtype': (w) => models.presetConfig('llama2-7b', 1, w),
  'probeHooks of': (w) => neurgrad.probeHooks(none, none, 0, [], w, 0),
  'PromptRecord.hooks of': (w) => recorded.hooks([], w),
  'responseAt of': (w) => neurgrad.responseAt(none, 0, w),
  'differentiated of': (w) => neurgrad.differentiated(w),
  'gradientFactor of': (w) => neurgrad.gradientFactor(w, none),
  'tableGrid metric': (w) => neurgrad.tableGrid({ rows: [] } as Any, w),
  'tableGrid of': (w) => neurgrad.tableGrid({ rows: [] } as Any, 'logit', w),
  'pathPoints endpoints': (w) => neurgrad.pathPoints(3, w),
  'generality option': (w) => neurgrad.generality([1], [1], w),
  'expectedGenerality option': (w) => neurgrad.expectedGenerality(1, 1, w),
  'shuffledGenerality option': (w) => neurgrad.shuffledGenerality([1], 1, w),
  'linearity option': (w) => neurgrad.linearity({ r: [], layer: [], layers: 1 }, w),
  'siteHook site': (w) => neurgrad.siteHook(0, w),
  'neuronAt site': (w) => neurgrad.neuronAt(0, 1, w),
  'agreement sampling': (w) => study.agreement([], [], w),
  'pearsonDifference sampling': (w) => (study.pearsonDifference as Any)([], [], [], w),
  'meanAbsoluteR sampling': (w) => (study as Any).meanAbsoluteR([], 3, w),
  'pooled sampling': (w) => (study as Any).pooled(none, [], w),
  'share sampling': (w) => (study as Any).share([], w),
  'leakShare from': (w) => probing.leakShare(none, w, 'test'),
  'leakShare other': (w) => probing.leakShare(none, 'test', w),
  'leakShare by': (w) => probing.leakShare(none, 'test', 'train', w),
  'Trainer variant': (w) => new probing.Trainer(none, 1, w),
  'train variant': (w) => probing.train(none, none, none, 1, [], w),
  'evaluateTask variant': (w) => (probing.evaluateTask as Any)(none, none, 1, w, 0),
  'ProberKind.count variant': (w) => probing.polar.count(none, none, 1, 0, w),
  'ProberKind.vote variant': (w) => probing.magn.vote(none, none, 1, 0, 1, w),
  'fitProber variant': (w) => probing.fitProber(none, w, none),
  'contextOf language': (w) => (probing.contextOf as Any)(none, w),
  'readAblated site': (w) => probing.readAblated(none, none, [], [], w),
  'labelTokenIds mode': (w) => probing.labelTokenIds(none, none, none, w),
};
