/**
 * The engines a JavaScript user could take instead. They live in `bench/node_modules` (`npm install --ignore-scripts` in
 * `bench/`), never among this project's own dependencies.
 */

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { ModelConfig } from '../models/config.ts';
import { type Jax, type JaxArray, jaxGradients } from './jax.ts';
import { BERT_BASE, type HostWeight } from './network.ts';
import { bertModel, matmulModel } from './onnx.ts';

/** Work prepared on a peer's device. */
export interface PeerJob {
  /** Does it `count` times and waits. */
  run(): Promise<void>;
  /** The result, for checking. */
  result(): Promise<Float32Array>;
  dispose(): void;
}

export interface Peer {
  readonly name: string;
  readonly version: string;
  /** Runs on the same adapter as ours; else on the CPU, and is told apart. */
  readonly gpu: boolean;
  matmul(
    a: Float32Array,
    b: Float32Array,
    shape: { readonly m: number; readonly n: number; readonly k: number },
    count: number,
  ): Promise<PeerJob>;
  /** Logits [V] of each row at its position; `result` is the first row's. */
  readonly bert?: (
    weights: ReadonlyMap<string, HostWeight>,
    ids: readonly (readonly number[])[],
    position: readonly number[],
  ) => Promise<PeerJob>;
  /**
   * One forward and one backward to every neuron after its activation, at all tokens, of the sum over rows of the target's
   * log-probability at the row's position. `result` is the middle layer's gradient [batch, length, width].
   */
  readonly gradients?: (
    config: ModelConfig,
    weights: ReadonlyMap<string, HostWeight>,
    ids: readonly (readonly number[])[],
    position: readonly number[],
    target: readonly number[],
  ) => Promise<PeerJob>;
}

/** `bench/` of the sources, also from `dist/bench`. */
export const benchFolder = fileURLToPath(
  new URL(import.meta.url.includes('/dist/bench/') ? '../../bench/' : './', import.meta.url),
);

/** The parts of the peers' interfaces that are used here; their own types are not installed with this project. */
interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}
interface Tf {
  readonly version_core: string;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor2d(data: Float32Array, shape: readonly number[]): TfTensor;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
  slice(x: TfTensor, begin: readonly number[], size: readonly number[]): TfTensor;
}
interface OrtSession {
  readonly outputNames: readonly string[];
  run(feeds: Record<string, unknown>): Promise<Record<string, { readonly data: Float32Array }>>;
  release(): Promise<void>;
}
interface Ort {
  readonly env: { readonly versions: { readonly node: string } };
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<OrtSession> };
  readonly Tensor: new (type: string, data: BigInt64Array, shape: readonly number[]) => unknown;
}

const require = createRequire(`${benchFolder}package.json`);
const packageVersion = (name: string): string =>
  (JSON.parse(readFileSync(`${benchFolder}node_modules/${name}/package.json`, 'utf8')) as { version: string })
    .version;

async function tfjs(): Promise<Peer> {
  // Loads as CommonJS only: its ES modules lack file extensions.
  const tf = require('@tensorflow/tfjs-core') as Tf;
  require('@tensorflow/tfjs-backend-webgpu');
  await tf.setBackend('webgpu');
  await tf.ready();
  return {
    name: 'tfjs',
    version: tf.version_core,
    gpu: true,
    async matmul(a, b, { m, n, k }, count) {
      const [x, y] = [tf.tensor2d(a, [m, k]), tf.tensor2d(b, [k, n])];
      return {
        async run() {
          const products = Array.from({ length: count }, () => tf.matMul(x, y));
          const last = tf.slice(products.at(-1)!, [0, 0], [1, 1]);
          await last.data();
          for (const t of [last, ...products]) t.dispose();
        },
        async result() {
          const c = tf.matMul(x, y);
          const data = await c.data();
          c.dispose();
          return data;
        },
        dispose() {
          x.dispose();
          y.dispose();
        },
      };
    },
  };
}

async function jaxjs(): Promise<Peer> {
  const jax = (await import(`${benchFolder}node_modules/@jax-js/jax/dist/index.js`)) as Jax;
  await jax.init('webgpu');
  jax.defaultDevice('webgpu');
  return {
    name: 'jax-js',
    version: packageVersion('@jax-js/jax'),
    gpu: true,
    async matmul(a, b, { m, n, k }, count) {
      const [x, y] = [jax.numpy.array(a).reshape([m, k]), jax.numpy.array(b).reshape([k, n])];
      const product = (): JaxArray => jax.numpy.matmul(x.ref, y.ref);
      return {
        async run() {
          const products = Array.from({ length: count }, product);
          await Promise.all(products.map((c) => c.blockUntilReady()));
          for (const c of products) c.dispose();
        },
        result: () => product().data(),
        dispose() {
          x.dispose();
          y.dispose();
        },
      };
    },
    async gradients(config, weights, ids, position, target) {
      const job = jaxGradients(jax, config, weights, ids, position, target);
      return {
        async run() {
          const all = Object.values(job.run());
          await Promise.all(all.map((gradient) => gradient.blockUntilReady()));
          for (const gradient of all) gradient.dispose();
        },
        async result() {
          const all = job.run();
          const middle = await all[config.description.sizes.layers >> 1]!.ref.data();
          jax.tree.dispose(all);
          return middle;
        },
        dispose: job.dispose,
      };
    },
  };
}

/** ONNX Runtime on its WebGPU provider, or on its CPU provider, whose hand-written assembly is no rival but a yardstick. */
function onnxRuntime(provider: 'webgpu' | 'cpu'): Peer {
  const ort = require('onnxruntime-node') as Ort;
  const session = (model: Uint8Array, optimise: boolean): Promise<OrtSession> =>
    ort.InferenceSession.create(model, {
      executionProviders: [provider],
      // Identical products would be merged into one.
      graphOptimizationLevel: optimise ? 'all' : 'disabled',
      logSeverityLevel: 3,
      // Threads that wait by spinning would count as the next contender's processor time.
      extra: { session: { intra_op: { allow_spinning: '0' }, inter_op: { allow_spinning: '0' } } },
    });
  const first = (outputs: Record<string, { readonly data: Float32Array }>): Float32Array =>
    Object.values(outputs)[0]!.data;
  return {
    name: `ort-${provider}`,
    version: ort.env.versions.node,
    gpu: provider === 'webgpu',
    async matmul(a, b, shape, count) {
      const many = await session(matmulModel(a, b, shape, count, false), false);
      return {
        async run() {
          await many.run({});
        },
        async result() {
          const one = await session(matmulModel(a, b, shape, 1, true), false);
          const data = first(await one.run({}));
          await one.release();
          return data;
        },
        dispose() {
          void many.release();
        },
      };
    },
    async bert(weights, ids, position) {
      const [batch, length] = [ids.length, ids[0]!.length];
      const network = await session(bertModel(BERT_BASE, weights, batch, length, position), true);
      const feeds = { ids: new ort.Tensor('int64', BigInt64Array.from(ids.flat(), BigInt), [batch, length]) };
      return {
        async run() {
          await network.run(feeds);
        },
        async result() {
          return first(await network.run(feeds)).slice(0, BERT_BASE.description.sizes.vocabulary);
        },
        dispose() {
          void network.release();
        },
      };
    },
  };
}

/** The peers that are installed, sharing this process and the adapter. */
export async function loadPeers(): Promise<Peer[]> {
  if (!existsSync(`${benchFolder}node_modules`))
    throw new Error('peers are not installed: run `npm install --ignore-scripts` in bench/ first');
  const dawn = await import('webgpu');
  Object.assign(globalThis, dawn.globals);
  // Node has a navigator without gpu that cannot be assigned to.
  Object.defineProperty(globalThis, 'navigator', {
    value: { gpu: dawn.create([]), userAgent: 'node' },
    configurable: true,
  });
  return [await jaxjs(), await tfjs(), onnxRuntime('webgpu'), onnxRuntime('cpu')];
}
