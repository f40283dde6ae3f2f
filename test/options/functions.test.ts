/**
 * Arguments of every function of the upper rooms, one after the other as something else: what is none is refused by name, in one
 * line, and no NaN comes back that the function's documentation does not speak of.
 */

import { describe, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import { fileMapFolder, loadTokenizer, localFolder } from '../../models/index.ts';
import * as neurgrad from '../../neurgrad/index.ts';
import * as study from '../../neurgrad/study/index.ts';
import * as probing from '../../probing/index.ts';
import { toyModel } from '../neurgrad/toyModel.ts';
import { documentation } from './walk.ts';

/** An argument that may be left out. */
class Maybe {
  readonly value: unknown;
  constructor(value: unknown) {
    this.value = value;
  }
}
const maybe = (value: unknown): Maybe => new Maybe(value);

const model = toyModel([[0.1, -0.2]], [[0.5, 0.25]]);
const tokenizer = await loadTokenizer(await localFolder('examples/models/facts-bert'));
const prompt = { ids: [1, 2, 3], position: 1, text: 'a b c' };
const pair = { clean: prompt, corrupt: prompt, answer: 1, other: 0 };
const row = { layer: 0, place: 0, metric: 'prob', value: 0.5, change: 0.1, recovered: 0.2 };
const table = { rows: [row] };
const space = neurgrad.neuronSpace(model);
const conventions = { site: 'post', of: 'prob', direction: 'outward', sign: '+' } as const;
const [task] = probing.parseTasks('FEVER');
const rows = probing.sortRows(task!, [
  { claim: 'x', label: 0 },
  { claim: 'y', label: 1 },
]).rows;
const data = Object.fromEntries(probing.SPLITS.map((split) => [split, { file: 'f', rows, bad: [] }]));
const plan = study.parsePlan({
  models: ['m'],
  prompts: { path: 'p.jsonl', count: 2 },
  neurons: { perPrompt: 1 },
});
const counts = probing.emptyCounts(2);
const marks = probing.markGradients(Float32Array.of(1, 2, 3, 4), 2);
const prober = probing.fitProber(probing.polar, 'paper', counts);
const sums = probing.emptySums(2, 2);
const training = probing.emptyTraining(2, 2, 0);
const few = {
  candidates: 2,
  neurons: 1,
  gradients: Float32Array.of(1, 2, 4, 3),
  activations: Float32Array.of(1, 2),
  gold: [0, 1],
};
const HALVES = [1, 2, 3].map(() => [[0.25, 0.75]]);
const audit = probing.auditTask(task!, data as never);
const byPrompt = [
  [1, 2],
  [3, 5],
];
const terms = study.pearsonTerms(byPrompt, byPrompt);
const line = { mean: 1, moment: 1, covariance: 1, variance: 1, residue: 0, extent: 1, noise: 0 };
const response = {
  of: 'prob',
  reach: null,
  stretch: 1,
  nodes: [0, 0],
  coefficients: [0, 0.1],
  plain: { prob: 0.5, logprob: Math.log(0.5), logit: 0 },
  from: -1,
  to: 1,
};
const random = (): number => 0.5;
const folder = fileMapFolder(new Map());

/** What each is called with, rightly. */
const CALLS: Readonly<Record<string, readonly unknown[]>> = {
  // neurgrad
  numbersOf: [model],
  outwardSign: [1],
  neurGrad: [1, 1, conventions],
  describeConventions: [{ ...conventions, dtype: 'float32' }],
  probeHooks: [model, prompt, 1, ['blocks.0.mlp.hook_post'], 'prob', 1],
  neuronGradients: [model, prompt],
  recordPrompt: [model, prompt],
  estimateNeurons: [
    neurgrad.ESTIMATORS[0],
    model,
    { ...prompt, target: 1, of: 'prob', direction: 'outward', sign: '+' },
    ['L0.N0'],
  ],
  integratedEstimator: [],
  attributionPatchingEstimator: [],
  conductanceEstimator: [],
  randomEstimator: [],
  activationPatching: [model, pair],
  attributionPatching: [model, pair],
  pathPatching: [model, pair],
  edgeAttribution: [model, pair],
  directLogitAttribution: [model, pair],
  logitLens: [model, pair],
  ablation: [model, pair],
  integratedGradients: [model, pair],
  conductance: [model, pair],
  tableGrid: [table, 'prob', maybe('value')],
  strongest: [[1, 2], 1],
  shiftGrid: [-1, 1, 1],
  paperGrid: [],
  parseRange: ['-1:1:1'],
  pathPoints: [2, 'right'],
  integrateLayers: [model, prompt],
  integrateNeurons: [model, prompt, ['L0.N0']],
  tooFew: [3, 'prompts'],
  jackknife: [1, [[1, 2]]],
  jackknifeT: [1, [[1, 2]], 'prompts', maybe(neurgrad.IDENTITY)],
  jackknifeShare: [0.5, [[0.5, 0.4]], 'prompts'],
  wilson: [0.5, 10, maybe(2)],
  median: [[1, 2]],
  medianInterval: [[1, 2, 3, 4, 5, 6]],
  studentQuantile: [0.9, 3],
  holm: [[0.1, 0.2]],
  generality: [[1, 2], [3, 3], maybe('capacity')],
  expectedGenerality: [3, 2, maybe('capacity'), maybe(2)],
  shuffledGenerality: [[3, 3], 2, maybe('all'), maybe(1)],
  linearity: [{ r: [[0.9]], layer: [[0]], layers: 1 }],
  neuronSpace: [model],
  siteHook: [0, 'post'],
  siteOfHook: ['blocks.0.mlp.hook_post'],
  resolveSite: ['post', space],
  parseNeuron: ['L0.N0', space, maybe('post')],
  parseNeurons: ['L0.N0', space, maybe('post')],
  formatNeuron: [{ layer: 0, index: 1, site: 'post' }],
  flatIndex: [{ layer: 0, index: 1 }, 2],
  neuronAt: [1, 2, 'post'],
  probeRows: [prompt, maybe(2)],
  neuronPosition: [prompt, maybe(1)],
  targetValues: [Float32Array.of(1, 2), 1],
  differentiated: ['prob'],
  gradientFactor: ['prob', { prob: 0.5, logprob: Math.log(0.5), logit: 0 }],
  topPredictions: [Float32Array.of(1, 2), 1],
  probeLogits: [model, prompt],
  predict: [model, prompt, maybe(1)],
  predictMany: [model, [prompt], maybe(1)],
  selectNeurons: ['L0.N1', space],
  positionOf: [{ ...prompt, tokens: ['a', 'b', 'c'], shown: ['a', 'b', 'c'] }, tokenizer, 'last'],
  encodeChat: [model, tokenizer, () => 'a', [{ role: 'user', content: 'a' }]],
  targetOrArgmax: [model, prompt, maybe(1)],
  maskToken: [model, tokenizer],
  encodePrompt: [model, tokenizer, 'Rome is [MASK].'],
  answerValues: [model, [prompt], [1]],
  resolveAnswer: [model, tokenizer, prompt, 'italy'],
  resolveTarget: [model, tokenizer, prompt, 'italy'],
  promptRemarks: [model, tokenizer, 'Rome is [MASK].'],
  unknownRemark: [tokenizer, [prompt]],
  seededRandom: [1],
  drawWithoutReplacement: [1, 3, random],
  shuffled: [3, random],
  pearson: [
    [1, 2],
    [2, 3],
  ],
  meanPearson: [byPrompt, byPrompt],
  spearman: [
    [1, 2],
    [2, 3],
  ],
  slopeThroughOrigin: [
    [1, 2],
    [2, 3],
  ],
  lineFit: [
    [1, 2],
    [2, 3],
  ],
  mean: [[1, 2]],
  signAgreement: [
    [1, 2],
    [2, 3],
  ],
  meanAbsoluteError: [
    [1, 2],
    [2, 3],
  ],
  isFlat: [[1, 2], 0.1],
  isLinear: [0.9, maybe(0.5)],
  fitCurve: [[-1, 0, 1], [1, 2, 3], maybe({}), maybe([0, 0, 0])],
  fitSums: [[-1, 0, 1], line],
  steer: [model, prompt, { target: 1, to: 0.5 }],
  additivity: [model, prompt],
  intervene: [model, prompt, [{ neurons: ['L0.N0'], shift: 1 }]],
  sweep: [model, prompt, { neurons: ['L0.N0'] }],
  atlas: [model, prompt],
  responseAt: [response, 0.5, 'prob'],
  linearRange: [
    [-1, 0, 1],
    [-2, 0, 2],
  ],
  turningPoints: [response],
  verifyConventions: [model, [prompt]],
  relativeDifference: [1, 2],
  verifyExact: [model, prompt],
  verifyParity: [model, [{ ids: [1], logits: [1, 2, 3, 4] }]],
  // study
  agreement: [byPrompt, byPrompt, 'perPrompt'],
  pearsonDifference: [byPrompt, byPrompt, byPrompt, 'perPrompt'],
  weight: [byPrompt, byPrompt],
  measureCost: [model, plan, { ...prompt, answer: 'a', target: 1 }],
  costsOf: [new Map(['gradient', 'neurgrad', 'integrated', 'integratedFull'].map((name) => [name, [1, 1]]))],
  estimateStudy: [plan, { model, tokenizer }],
  stampModel: ['m', 'examples/models/facts-bert', model],
  modelName: ['a/b'],
  paperRow: [{ source: 'a/bert-base-cased', layers: 12, width: 3072 }],
  encodePart: ['s', 'u', [{ name: 'a', type: 'DOUBLE', data: [1] }]],
  readPart: ['nowhere', 's', 'u'],
  readWholePart: ['nowhere', 's', 'u'],
  parsePlan: [plan],
  summariseAdditivity: [[[{ kind: 'top', size: 1, shift: 1, predicted: 1, reached: 1, noise: 0 }]]],
  planHash: [plan],
  modelPlans: [plan],
  estimatorsOf: [plan],
  pearsonTerms: [byPrompt, byPrompt],
  differenceTerms: [byPrompt, byPrompt, byPrompt],
  shareTerms: [[[true, null]]],
  share: [[[true, null]], 'perPrompt', maybe('prompts')],
  meanTerms: [byPrompt],
  meanAbsoluteR: [[[0.5], [0.25]], 3, 'perPrompt', maybe('prompts')],
  pearsonOfParts: [[1, 2], [2, 3], 'neurons'],
  pooled: [study.PEARSON, terms, 'perPrompt', maybe('prompts')],
  pooledSums: [study.PEARSON, [study.promptSums(terms)], maybe('prompts')],
  promptSums: [terms],
  readQuestions: [plan.prompts, '[MASK]'],
  partMetadata: ['study', 'unit'],
  readOpenQuestions: ['p.jsonl', '[MASK]'],
  fill: ['[X] is [Y].', 'a', '[MASK]'],
  runStudy: [{}, { open: random }],
  selectPrompts: [{ model, tokenizer }, 'm', { count: 1, at: random }, plan.prompts],
  drawNeurons: [model, plan.neurons, 1, 0, 0],
  parseShard: ['1/2'],
  detectShard: [{}],
  summarise: [[{}]],
  // probing
  emptySums: [2, 2],
  countActivation: [sums, Float32Array.of(1, 2), 0],
  addSums: [sums, sums],
  fitActivation: [sums],
  predictActivation: [probing.fitActivation(sums), [1, 2], 2, [1]],
  auditTask: [task, data],
  leakShare: [audit, 'train', 'test'],
  summariseAudits: [[audit]],
  openReader: [model, conventions],
  cachedReader: [model, conventions],
  fullReader: [model, conventions],
  comparePaired: [[0, 1], [1, 1], [0, 1], 1],
  pairedGains: [
    [0, 1],
    [1, 1],
    [0, 1],
  ],
  mcnemar: [1, 2],
  emptyCounts: [2],
  addCounts: [counts, counts],
  readTask: [folder, task],
  sortRows: [task, [{ claim: 'x', label: 0 }]],
  byLabel: [task, rows],
  countProblems: [[{ index: 0, problem: 'p' }]],
  resolveDataFolder: ['nowhere'],
  estimate: [probing.LLAMA2_7B, { ...probing.WHOLE_RELEASE, permutations: 0 }],
  workloadOf: [[], { causal: true }, 0],
  chooseNeurons: [few, [0]],
  evaluateMethod: [probing.polarMethod, { train: few, valid: few, test: few }],
  parseProbers: ['magn'],
  readAblated: [model, prompt, [0, 1], [[0]], 'post'],
  efficiency: [probing.polarMethod, { train: few, valid: few, test: few }],
  flexibility: [probing.polarMethod, { train: few, valid: few, test: few }, { size: 1 }],
  robustness: [probing.polarMethod, { train: few, valid: few, test: few }, [], { size: 1 }],
  keptByChance: [1, 2, 4],
  interdependency: ['magn', 2, [0], { whole: [[0.5, 0.5]], halves: HALVES, random: [] }, maybe(0)],
  readFeatures: [model, { prompts: { train: [], valid: [], test: [] }, candidates: [] }, conventions, [0]],
  writeFeatures: ['/dev/null/x', { splits: {}, labels: [], conventions, neurons: [] }, maybe({})],
  ownTask: [
    'mine',
    [{ row: { question: 'x', choices: ['y', 'z'], answer: 'y' }, where: 'row 0' }],
    maybe('f'),
  ],
  readOwnTask: ['nowhere'],
  emptyTraining: [2, 2, 0],
  train: [training, Float32Array.of(1, 2, 3, 4), Float32Array.of(1, 2), 2, [0], 'paper'],
  addTraining: [training, training],
  permutedGolds: [[0, 1], 1, 1],
  nullOf: [[0.5], 0.5],
  majorityOf: [
    [1, 2],
    [0, 1],
  ],
  evaluateTask: [training, { valid: [], test: [] }, 2, 'paper', 1],
  layerHistogram: [prober, 1, 1],
  taskMeans: [[], 1],
  permutationsFor: [3],
  markGradients: [Float32Array.of(1, 2, 3, 4), 2],
  packMarks: [marks],
  unpackMarks: [probing.packMarks(marks), 4],
  proberSizes: [4],
  fitProber: [probing.polar, 'paper', counts],
  argmax: [[1, 2]],
  proberVotes: [prober, marks, 2, 1],
  predictSizes: [prober, marks, 2, [1]],
  accuracies: [[[0], [1]], [0, 1], 1],
  selectSize: [[0.5, 0.25]],
  saveProber: ['/dev/null/x', { about: {}, prober }],
  loadProber: ['nowhere'],
  checkProberModel: [{ model: { architecture: model.family, layers: 1, width: 2 } }, model],
  applyProber: [{ about: {}, prober }, {}, prompt],
  contextOf: [{ contexts: { en: 'x' }, task: 'FEVER' }, 'en'],
  drawDemonstrations: [task, rows, 1],
  taskContexts: [task, rows],
  labelTokenIds: [model, tokenizer, task, 'release'],
  encodeQuestion: [model, tokenizer, 'x', maybe(false)],
  planTask: [model, tokenizer, task, data, {}],
  sharedPrefix: [
    [
      [1, 2],
      [1, 3],
    ],
  ],
  bootstrapMeans: [[1, 2], 1],
  bootstrap: [[true, false], 1],
  accuracyInterval: [0.5, 20],
  bootstrapInterval: [[[1, 2]], 1],
  middle: [[1, 2]],
  recordTask: [{ task, prompts: {}, candidates: [] }, tokenizer],
  unitsOf: [3],
  partsFolder: ['f', 't'],
  prefixesOf: [{ prompts: { train: [], valid: [], test: [] } }],
  collect: [model, [], { ...conventions }, 'nowhere'],
  timeBatch: [model, {}, {}],
  missingUnits: [{}, 1, {}, 'nowhere'],
  evaluateParts: [{}, { layers: 1, width: 1 }, {}, 'nowhere'],
  shuffle: [[1, 2], random],
  cleanSplits: [task, data, 1],
  readRow: [task, maybe({})],
  normalised: ['a'],
  parseTasks: ['FEVER'],
};

/** What stands for nothing of its kind. */
function wrong(right: unknown): unknown[] {
  if (typeof right === 'number') return [null, 'x', {}, Number.NaN];
  if (typeof right === 'string') return [null, 5, {}];
  if (typeof right === 'function') return [null, 5];
  if (Array.isArray(right)) {
    const inner =
      right.length > 0 ? wrong(right[0]).filter((value) => typeof value !== 'object' || value === null) : [];
    return [null, 5, {}, 'x', ...inner.map((value) => [value, ...right.slice(1)])];
  }
  if (ArrayBuffer.isView(right)) return [null, 5, {}, 'x'];
  return [null, 5, 'x', {}];
}

/** Told by what they are part of. */
const ELSEWHERE =
  /^(range|position|target id|steps|plan:) |^agreement: sampling|^\w+: parts|^\d+ values are not those of|no such file/;

const hasNaN = (value: unknown): boolean =>
  typeof value === 'object' && value !== null
    ? Object.values(value instanceof Map ? [...value.values()] : value).some(hasNaN)
    : Number.isNaN(value);

const told = (value: unknown): string =>
  typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);

/** What a call with something else in one place comes to, or null where it is refused as it should be. */
async function fault(
  name: string,
  call: (...args: unknown[]) => unknown,
  args: unknown[],
): Promise<string | null> {
  try {
    const result = await call(...args);
    // What is changed in place keeps what it held.
    return hasNaN(result) && !args.includes(result) && !/NaN/.test(documentation(name)) ? 'gives NaN' : null;
  } catch (error) {
    const { message } = error as Error;
    if (!(error instanceof UserError)) return `${(error as Error).name}: ${message}`;
    if (/\n|\[object |undefined is|Cannot|not iterable/.test(message)) return message;
    if (ELSEWHERE.test(message)) return null;
    return message.startsWith(`${name}: `) || message.startsWith(`${name}.`)
      ? null
      : `told by another: ${message}`;
  }
}

const ROOMS = { neurgrad, study, probing };
/** Of other rooms, and what only says that something is so. */
const OTHERS = new Set(['openDevice', 'loadModel']);
const functions = new Map(
  Object.values(ROOMS).flatMap((room) =>
    Object.entries(room).filter(
      (entry): entry is [string, (...args: unknown[]) => unknown] =>
        typeof entry[1] === 'function' && !/^class/.test(String(entry[1])) && !OTHERS.has(entry[0]),
    ),
  ),
);

it('every function has a call', () => {
  expect([...functions.keys()].filter((name) => !(name in CALLS))).toEqual([]);
  expect(Object.keys(CALLS).filter((name) => !functions.has(name))).toEqual([]);
});

describe.each(Object.entries(CALLS).filter(([, args]) => args.length > 0))('%s', (name, args) => {
  it.each(args.map((_, place) => place))('says what argument %i should be', async (place) => {
    const right = args.map((arg) => (arg instanceof Maybe ? arg.value : arg));
    const optional = args[place] instanceof Maybe;
    const faults: string[] = [];
    for (const value of [...(optional ? [] : [undefined]), ...wrong(right[place])]) {
      const given = right.map((arg, i) => (i === place ? value : arg));
      const found = await fault(name, functions.get(name)!, given);
      if (found !== null) faults.push(`${told(value)}: ${found}`);
    }
    expect(faults).toEqual([]);
  });
});
