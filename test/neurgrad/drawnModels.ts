/**
 * Small models with drawn weights, of blocks that families have and of some that none has: what differences and rows are held
 * against full passes on.
 */

import { type Device, type Tensor, tensor } from '../../engine/index.ts';
import type {
  AttentionSpec,
  HalfNorms,
  HeadSpec,
  LayerSpec,
  LinearSpec,
  NormSpec,
} from '../../models/block.ts';
import { type Description, type EmbeddingSpec, parametersOf } from '../../models/description.ts';
import type { Family } from '../../models/families/family.ts';
import { Transformer } from '../../models/transformer.ts';
import { seededRandom } from '../../neurgrad/random.ts';

const SIZES = { layers: 3, hidden: 24, width: 20, heads: 4, headSize: 6, vocabulary: 50, positions: 32 };
const { hidden, width, heads, headSize } = SIZES;

const linear = (name: string, out: number, size: number, bias: boolean): LinearSpec => ({
  weight: `${name}.weight`,
  ...(bias ? { bias: `${name}.bias` } : {}),
  out,
  in: size,
});
type Kind = NormSpec['kind'] | 'layer without bias';
const norm = (kind: Kind, name: string, hook: string, size = hidden): NormSpec => ({
  kind: kind === 'layer without bias' ? 'layer' : kind,
  weight: `${name}.weight`,
  ...(kind === 'layer' ? { bias: `${name}.bias` } : {}),
  size,
  eps: 1e-5,
  hook,
});

interface Switches {
  readonly causal: boolean;
  readonly kind: Kind;
  /** Where norms are; none before layer 0's attention where `openLayer`. */
  readonly places: readonly (keyof HalfNorms)[];
  readonly openLayer?: boolean;
  readonly parallel?: boolean;
  readonly outputsNormed?: boolean;
  readonly bias: boolean;
  readonly keyHeads?: number;
  /** Share of a head that is rotated. */
  readonly rotary?: number;
  readonly qkNorms?: 'head' | 'all';
  readonly scale?: number;
  readonly cap?: number;
  /** In even layers. */
  readonly window?: AttentionSpec['window'];
  readonly activation: LayerSpec['feedForward']['activation'];
  readonly gated: boolean;
  readonly embedding?: 'positions' | 'types' | 'scaled';
  readonly head: 'norm' | 'transform' | 'both' | 'bare';
  readonly logitCap?: number;
}

function describeLayer(number: number, of: Switches): LayerSpec {
  const at = `l.${number}`;
  const { causal, kind, places, bias, keyHeads = heads, rotary, qkNorms } = of;
  const keys = keyHeads * headSize;
  const half = (name: string, hooks: Readonly<Record<keyof HalfNorms, string>>): HalfNorms =>
    Object.fromEntries(
      places.flatMap((place) =>
        of.openLayer && number === 0 && name === 'a' && place === 'before'
          ? []
          : [[place, norm(kind, `${at}.${name}.${place}`, hooks[place])]],
      ),
    );
  const ofPart = (part: 'q' | 'k', size: number): NormSpec =>
    norm(kind, `${at}.${part}_norm`, `attn.hook_${part}_normalized`, qkNorms === 'head' ? headSize : size);
  const window = number % 2 === 0 ? of.window : undefined;
  return {
    attention: {
      q: linear(`${at}.q`, hidden, hidden, bias),
      k: linear(`${at}.k`, keys, hidden, bias),
      v: linear(`${at}.v`, keys, hidden, bias),
      out: linear(`${at}.o`, hidden, hidden, bias),
      heads,
      keyHeads,
      size: headSize,
      ...(of.scale === undefined ? {} : { scale: of.scale / (number + 1) }),
      ...(of.cap === undefined ? {} : { cap: of.cap }),
      ...(window ? { window: causal ? { ...window, after: 0 } : window } : {}),
      ...(rotary === undefined
        ? {}
        : {
            rotary: Float64Array.from({ length: (rotary * headSize) / 2 }, (_, i) => 0.7 ** (number + 2 * i)),
          }),
      ...(qkNorms ? { norms: { q: ofPart('q', hidden), k: ofPart('k', keys) } } : {}),
    },
    feedForward: {
      activation: of.activation,
      ...(of.gated ? { gate: linear(`${at}.gate`, width, hidden, bias) } : {}),
      up: linear(`${at}.up`, width, hidden, bias),
      down: linear(`${at}.down`, hidden, width, bias),
    },
    norms: {
      attention: half('a', {
        before: 'ln1.hook_normalized',
        after: 'ln1_post.hook_normalized',
        around: 'ln1_around.hook_normalized',
      }),
      feedForward: half('f', {
        before: 'ln2.hook_normalized',
        after: 'ln2_post.hook_normalized',
        around: 'hook_normalized_resid_post',
      }),
    },
    ...(of.parallel ? { parallel: true } : {}),
    ...(of.outputsNormed ? { outputsNormed: true } : {}),
  };
}

function describe(of: Switches): Description {
  const { causal, kind, embedding, head, logitCap } = of;
  const final = norm(kind, 'final', 'ln_final.hook_normalized');
  const table = (name: string, rows: number) => ({ weight: `${name}.weight`, rows });
  const start: EmbeddingSpec = {
    word: 'word.weight',
    ...(embedding === 'scaled' ? { scale: 2.5 } : {}),
    ...(embedding === 'positions' || embedding === 'types'
      ? { position: table('position', SIZES.positions) }
      : {}),
    ...(embedding === 'types'
      ? { type: table('type', 2), norm: norm(kind, 'start', 'hook_full_embed') }
      : {}),
  };
  const transform = {
    dense: linear('dense', hidden, hidden, true),
    activation: 'gelu' as const,
    norm: { ...norm('layer', 'transform', 'ln_final.hook_normalized') },
  };
  const heading: HeadSpec = {
    ...(head === 'norm' ? { norm: final } : {}),
    ...(head === 'both' ? { norm: { ...final, hook: 'ln_last.hook_normalized' } } : {}),
    ...(head === 'transform' || head === 'both' ? { transform } : {}),
    decoder: linear('decoder', SIZES.vocabulary, hidden, of.bias),
    ...(logitCap === undefined ? {} : { cap: logitCap }),
  };
  return {
    sizes: { ...SIZES, keyValueHeads: of.keyHeads ?? heads },
    causal,
    embedding: start,
    layers: Array.from({ length: SIZES.layers }, (_, number) => describeLayer(number, of)),
    head: heading,
    modules: new Map(),
  };
}

const SWITCHES: Readonly<Record<string, Switches>> = {
  'norms around (BERT)': {
    causal: false,
    kind: 'layer',
    places: ['around'],
    bias: true,
    activation: 'gelu',
    gated: false,
    embedding: 'types',
    head: 'transform',
  },
  'norms around, capped scores in a window': {
    causal: false,
    kind: 'layer',
    places: ['around'],
    bias: true,
    scale: 0.9,
    cap: 1.5,
    window: { before: 2, after: 1 },
    activation: 'gelu_tanh',
    gated: false,
    embedding: 'positions',
    head: 'transform',
    logitCap: 4,
  },
  'rotary and windows to both sides, no norm before layer 0 (ModernBERT)': {
    causal: false,
    kind: 'layer without bias',
    places: ['before'],
    openLayer: true,
    bias: false,
    rotary: 1,
    window: { before: 2, after: 2 },
    activation: 'gelu',
    gated: true,
    head: 'both',
  },
  'both halves on one input, with norms after them': {
    causal: false,
    kind: 'layer',
    places: ['before', 'after'],
    parallel: true,
    bias: true,
    activation: 'silu',
    gated: false,
    embedding: 'positions',
    head: 'norm',
  },
  'norms at all places': {
    causal: false,
    kind: 'rms',
    places: ['before', 'after', 'around'],
    parallel: false,
    outputsNormed: true,
    bias: false,
    rotary: 1,
    keyHeads: 2,
    qkNorms: 'head',
    activation: 'silu',
    gated: true,
    head: 'bare',
  },
  'RMS norms before (Llama)': {
    causal: true,
    kind: 'rms',
    places: ['before'],
    bias: false,
    rotary: 1,
    keyHeads: 2,
    activation: 'silu',
    gated: true,
    head: 'norm',
  },
  'the same with biases, also of the decoder': {
    causal: true,
    kind: 'rms',
    places: ['before'],
    bias: true,
    rotary: 1,
    keyHeads: 1,
    activation: 'silu',
    gated: true,
    head: 'norm',
  },
  'norms before and after that count from 1, all caps (Gemma)': {
    causal: true,
    kind: 'rms1',
    places: ['before', 'after'],
    outputsNormed: true,
    bias: false,
    rotary: 1,
    keyHeads: 2,
    qkNorms: 'head',
    scale: 0.8,
    cap: 1.2,
    window: { before: 2, after: 0 },
    activation: 'gelu_tanh',
    gated: true,
    embedding: 'scaled',
    head: 'norm',
    logitCap: 3,
  },
  'norms after alone, of all queries together (OLMo 2)': {
    causal: true,
    kind: 'rms',
    places: ['after'],
    bias: false,
    rotary: 1,
    keyHeads: 2,
    qkNorms: 'all',
    activation: 'silu',
    gated: true,
    head: 'norm',
  },
  'both halves on one input, a third of each head rotated (GPT-NeoX)': {
    causal: true,
    kind: 'layer',
    places: ['before'],
    parallel: true,
    bias: true,
    rotary: 1 / 3,
    activation: 'gelu',
    gated: false,
    head: 'norm',
  },
  'a table of positions, a scale a layer (GPT-2)': {
    causal: true,
    kind: 'layer',
    places: ['before'],
    bias: true,
    scale: 0.6,
    activation: 'gelu_tanh',
    gated: false,
    embedding: 'positions',
    head: 'norm',
  },
};

export const DRAWN: readonly string[] = Object.keys(SWITCHES);

/** The description of one of {@link DRAWN}, and weights of a size at which every part of it counts. */
export function drawn(name: string): {
  description: Description;
  weights: ReadonlyMap<string, Float32Array>;
} {
  const description = describe(SWITCHES[name]!);
  const random = seededRandom(11);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const weights = new Map<string, Float32Array>();
  for (const { name, shape, kind, initial } of parametersOf(description)) {
    const scale = kind === 'matrix' ? 1.5 / Math.sqrt(shape[1]!) : kind === 'embedding' ? 1 : 0.3;
    const length = shape.reduce((a, b) => a * b, 1);
    weights.set(
      name,
      Float32Array.from({ length }, () => (initial ?? 0) + scale * normal()),
    );
  }
  return { description, weights };
}

/** One of {@link DRAWN} on a device; the caller's to dispose of. */
export function drawnModel(device: Device, name: string): Transformer {
  const { description, weights } = drawn(name);
  const family: Family = {
    type: 'drawn',
    architecture: '',
    checkpoint: { prefix: '' },
    presets: {},
    describe: () => description,
  };
  const parameters = new Map<string, Tensor>();
  for (const { name, shape } of parametersOf(description))
    parameters.set(name, tensor(device, weights.get(name)!, shape, 'weights'));
  return new Transformer(device, { family, json: {}, description, endIds: [] }, parameters);
}
