/**
 * Which kernels the engine chooses on adapters that are not here: jobs run on stand-in devices, whose dispatches are noted and not
 * made. Dawn's null backend runs nothing, so a stand-in may say of itself what it likes.
 */

import { BERT_BASE, LLAMA_12, onDevice } from '../../bench/network.ts';
import {
  attention,
  type Capabilities,
  convert,
  Device,
  type DeviceInfo,
  type DType,
  grad,
  layerNorm,
  linear,
  logSoftmax,
  matmul,
  openDevice,
  packPanels,
  rmsNorm,
  scope,
  softmax,
  sum,
  type Tensor,
  zeros,
} from '../../engine/index.ts';
import type { Kernel } from '../../kernels/index.ts';
import type { ModelConfig } from '../../models/config.ts';
import { parametersOf } from '../../models/description.ts';
import type { LanguageModel } from '../../models/model.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { integrateLayers, integrateNeurons } from '../../neurgrad/integrated.ts';
import { intervene } from '../../neurgrad/intervene.ts';
import { neuronAt, siteHook } from '../../neurgrad/neuron.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { CASES } from '../engine/cases.ts';
import { DRAWN, drawnModel } from '../neurgrad/drawnModels.ts';

/** What a stand-in says of itself. */
export interface StandIn {
  readonly name: string;
  readonly capabilities: Partial<Capabilities>;
  readonly info?: Partial<DeviceInfo>;
}

const NOTHING = {
  subgroups: false,
  subgroupSizeFixed: false,
  f16: false,
  matrixUnit: null,
  halves: false,
} as const;
const GPU = { subgroups: true, subgroupSizeFixed: true, f16: true, halves: true, textureSide: 0 } as const;

/** By the width of their subgroups, as makers have them. */
export const STAND_INS: readonly StandIn[] = [
  { name: 'no subgroups', capabilities: { ...NOTHING, subgroupSize: 32, textureSide: 0 } },
  { name: 'no subgroups, a CPU', capabilities: { ...NOTHING, subgroupSize: 8 }, info: { software: true } },
  {
    name: '4, a CPU',
    capabilities: { ...GPU, subgroupSize: 4, halves: false, textureSide: 8192 },
    info: { software: true },
  },
  {
    name: '8, a CPU',
    capabilities: { ...GPU, subgroupSize: 8, halves: false, textureSide: 8192 },
    info: { software: true },
  },
  { name: '8, a small GPU', capabilities: { ...GPU, subgroupSize: 8, fewProcessors: true } },
  { name: '16, few registers', capabilities: { ...GPU, subgroupSize: 16, fewRegisters: true } },
  { name: '32, sizes that differ', capabilities: { ...GPU, subgroupSize: 32, subgroupSizeFixed: false } },
  { name: '32', capabilities: { ...GPU, subgroupSize: 32, matrixUnit: { m: 16, n: 16, k: 16 } } },
  {
    name: '32, a small GPU',
    capabilities: { ...GPU, subgroupSize: 32, fewProcessors: true, matrixUnit: { m: 8, n: 8, k: 8 } },
  },
  { name: '64', capabilities: { ...GPU, subgroupSize: 64, workgroupBytes: 65536, storageBuffers: 16 } },
];

/** What commands are given to where none is run: buffers hold nothing, and what is read of them is 0. */
function nothing(limits: GPUSupportedLimits, features: ReadonlySet<string>): GPUDevice {
  const holder = ({ size, usage }: { readonly size?: number; readonly usage: number }) => ({
    ...{ size, usage },
    mapAsync: async () => {},
    getMappedRange: (_: number, bytes = size ?? 0) => new ArrayBuffer(bytes),
    createView: () => ({}),
    unmap() {},
    destroy() {},
  });
  const encoder = new Proxy({}, { get: () => () => encoder });
  return {
    ...{ limits, features, lost: new Promise(() => {}) },
    queue: { submit() {}, writeBuffer() {}, writeTexture() {}, onSubmittedWorkDone: async () => {} },
    createBuffer: holder,
    createTexture: holder,
    createCommandEncoder: () => encoder,
    pushErrorScope() {},
    popErrorScope: async () => null,
    destroy() {},
  } as unknown as GPUDevice;
}

/** Opens a stand-in. */
async function standIn({ capabilities, info = {} }: StandIn) {
  const real = await openDevice({ backend: 'null', toggles: ['allow_unsafe_apis'] });
  const said = { workgroupBytes: 32768, storageBuffers: 10, ...capabilities };
  const device = new Device(
    real.root,
    nothing(real.limits, real.features),
    { ...real.info, ...info },
    { ...real.capabilities, ...said },
    2 ** 40,
    7200,
  );
  real.destroy();
  const kernels = new Map<string, Kernel>();
  device.queue.dispatch = (kernel) => void kernels.set(kernel.name, kernel);
  return { device, kernels };
}

const PRODUCTS = [
  [1, 64, 64],
  [1, 768, 768],
  [1, 4096, 4096],
  [2, 768, 3072],
  [3, 3072, 768],
  [4, 768, 768],
  [5, 24, 20],
  [8, 768, 3072],
  [9, 4096, 4096],
  [16, 768, 768],
  [16, 3072, 768],
  [17, 33, 65],
  [33, 768, 3072],
  [40, 2048, 768],
  [64, 768, 768],
  [64, 4096, 4096],
  [128, 768, 3072],
  [200, 768, 768],
  [512, 768, 768],
  [512, 3072, 768],
  [2048, 4096, 4096],
  [16, 768, 30522],
  [16, 30522, 768],
] as const;
const STORED: readonly DType[] = ['f32', 'f16', 'bf16', 'int8', 'int4'];

/** Memory of what was noted is free again. */
async function forget(device: Device): Promise<void> {
  await device.finish();
  device.pool.trim();
}

/** Products and their gradients, of any layout and kind of weights. */
async function products(device: Device): Promise<void> {
  for (const [m, k, n] of PRODUCTS) {
    scope(() => {
      const x = zeros(device, [m, k]).requireGrad();
      for (const [transA, transB] of [
        [false, false],
        [false, true],
        [true, false],
        [true, true],
      ] as const) {
        const a = zeros(device, transA ? [k, m] : [m, k]).requireGrad();
        const b = zeros(device, transB ? [n, k] : [k, n]).requireGrad();
        grad(sum(matmul(a, b, { transA, transB })), [a, b]);
      }
      for (const dtype of STORED) {
        if (k % 64 !== 0 && dtype.startsWith('int')) continue;
        const plain = zeros(device, [n, k], 'weights');
        const w = dtype === 'f32' ? plain : convert(plain, dtype);
        const bias = zeros(device, [n]).requireGrad();
        grad(sum(linear(x, w, bias)), [x, bias]);
      }
      const packed = zeros(device, [n, k], 'weights');
      packPanels(packed);
      grad(sum(linear(x, packed)), [x]);
      for (const precision of device.capabilities.matrixUnit ? (['f16', 'split-f16'] as const) : []) {
        const [a, b] = [zeros(device, [m, k]), zeros(device, [n, k])];
        matmul(a, b, { transB: true, precision });
      }
    });
    await forget(device);
  }
}

/** Attention of few and many rows, forward and back. */
function attentions(device: Device): void {
  for (const size of [6, 64, 80, 96, 128, 256])
    for (const [queries, keys] of [
      [1, 40],
      [1, 2048],
      [3, 40],
      [16, 16],
      [16, 1040],
      [128, 128],
      [512, 512],
      [2048, 2048],
    ] as const)
      for (const keyHeads of [1, 4])
        for (const how of [
          {},
          { causal: true },
          { causal: true, cap: 30 },
          { causal: true, window: { before: 15 } },
        ] as const)
          scope(() => {
            const q = zeros(device, [1, queries, 4, size]).requireGrad();
            const [k, v] = [0, 0].map(() => zeros(device, [1, keys, keyHeads, size]).requireGrad()) as [
              Tensor,
              Tensor,
            ];
            for (const fused of [undefined, true])
              grad(sum(attention(q, k, v, { ...how, ...(fused ? { fused } : {}) })), [q, k, v]);
          });
}

/** Row kernels of any width. */
function rows(device: Device): void {
  for (const width of [5, 64, 768, 3072, 4096, 32000, 50257])
    for (const count of [1, 16, 512])
      scope(() => {
        const x = zeros(device, [count, width]).requireGrad();
        const [w, b] = [zeros(device, [width]).requireGrad(), zeros(device, [width]).requireGrad()];
        grad(sum(layerNorm(x, w, b, 1e-5)), [x, w, b]);
        grad(sum(rmsNorm(x, w, 1e-5)), [x, w]);
        grad(sum(softmax(x)), [x]);
        grad(sum(logSoftmax(x)), [x]);
      });
}

/** The table of operations, and its gradients. */
function operations(device: Device): void {
  for (const { inputs, run, gradient = [] } of CASES)
    scope(() => {
      const xs = inputs.map(({ shape }) => zeros(device, shape));
      // What reads numbers of its input finds zeros, and may refuse them.
      try {
        const wanted = gradient.map((i) => xs[i]!.requireGrad());
        const y = run(xs, device);
        if (wanted.length > 0) grad(sum(y), wanted, { unconnected: 'zero' });
      } catch {
        return;
      }
    });
}

/** What is asked of a model. */
async function jobs(model: LanguageModel, tokens: readonly number[]): Promise<void> {
  const { layers, width, vocabulary } = model.sizes;
  for (const length of tokens)
    for (const batch of [1, 3]) {
      const ids = Array.from({ length: batch }, () => Array.from({ length }, (_, i) => i % vocabulary));
      const site = model.paperSite;
      const at = Array.from({ length: layers }, (_, layer) => siteHook(layer, site));
      const position = ids.map(() => length - 1);
      using _ = await model.run(
        { ids },
        { logits: position, grad: { at, of: { of: 'logprob', target: ids.map(() => 1), position } } },
      );
    }
  const length = tokens[0]!;
  const probe = { ids: Array.from({ length }, (_, i) => i % vocabulary), position: length - 1 };
  const neurons = [0, 1, width + 1].map((flat) => neuronAt(flat, width, model.paperSite));
  const shifts = [-1, -0.5, 0.5, 1, 1.5, 2];
  await neuronGradients(model, probe, { target: 1 });
  for (const engine of ['naive', 'differences'] as const)
    await sweep(model, probe, { neurons, shifts, target: 1, engine });
  await sweep(model, probe, { neurons, shifts, target: 1, of: 'logit', engine: 'differences' });
  await intervene(model, probe, [{ neurons, shift: 1 }], { target: 1 });
  for (const engine of ['auto', 'naive'] as const) {
    await integrateLayers(model, probe, { target: 1, steps: 3, engine });
    await integrateNeurons(model, probe, neurons, { target: 1, steps: 3, engine });
  }
}

/** A model of its true size, its weights zeros. */
function sized(device: Device, config: ModelConfig): LanguageModel {
  const weights = new Map(
    parametersOf(config.description).map(({ name, shape }) => [
      name,
      { shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) },
    ]),
  );
  return onDevice(device, config, weights);
}

/** All that a stand-in chooses for the jobs. */
export async function chosenBy(one: StandIn): Promise<ReadonlyMap<string, Kernel>> {
  const { device, kernels } = await standIn(one);
  operations(device);
  await products(device);
  attentions(device);
  await forget(device);
  rows(device);
  await forget(device);
  for (const name of DRAWN) {
    const model = drawnModel(device, name);
    await jobs(model, [5, 12]);
    model.dispose();
  }
  for (const [config, tokens] of [
    [BERT_BASE, [16, 128]],
    [LLAMA_12, [40, 200]],
  ] as const) {
    const model = sized(device, config);
    await jobs(model, tokens);
    model.dispose();
    await forget(device);
  }
  device.destroy();
  return kernels;
}
