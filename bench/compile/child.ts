/**
 * The process under the layer: opens a device that executes nothing and runs workloads on it.
 *
 *     node child.js WORKLOAD... FILE.wgsl...     with the variables of `compileOnly`
 */

import { appendFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { runProgram } from '../../cli/exit.ts';
import { UserError } from '../../engine/errors.ts';
import { type Device, type DType, empty, openDevice, type Tensor } from '../../engine/index.ts';
import { fileOf } from './record.ts';
import { compileFile, type Phase, WORKLOADS, type WorkloadName } from './workloads.ts';

const folder = process.env.NEURGRAD_COMPILE_DIR ?? '';
/** Hands labels on to Vulkan, where the layer reads them. */
const LABELS = 'use_user_defined_labels_in_backend';
const WARM = 2;

/** Has the WGSL of every kernel saved under its label. */
function saveTexts(device: Device): void {
  const { createShaderModule } = device.gpu;
  device.gpu.createShaderModule = (descriptor) => {
    writeFileSync(join(folder, `${fileOf(descriptor.label ?? 'wgsl')}.wgsl`), descriptor.code);
    return createShaderModule.call(device.gpu, descriptor);
  };
}

async function open(...toggles: string[]): Promise<Device> {
  const device = await openDevice({ autotune: false, toggles: [LABELS, ...toggles] });
  saveTexts(device);
  return device;
}

const phaseOn =
  (device: Device): Phase =>
  async (name, once) => {
    // Between two readings the layer's log is whole, and its lines and ours stand in order.
    const mark = (line: string): void => appendFileSync(join(folder, 'log'), `${line}\n`);
    for (let i = 0; i < WARM; i++) await once();
    await device.finish();
    mark(`M ${name}`);
    await once();
    await device.finish();
    mark('M');
  };

const unwritten =
  (device: Device) =>
  (shape: readonly number[], dtype: DType): Tensor =>
    empty(device, shape, dtype, 'weights');

async function main(names: readonly string[]): Promise<void> {
  // The layer writes on; where nothing is compiled this is all.
  appendFileSync(join(folder, 'log'), '');
  const device = await open();
  const files = names.filter((name) => name.endsWith('.wgsl'));
  for (const file of files) {
    device.gpu.pushErrorScope('validation');
    await compileFile(device, file);
    const error = await device.gpu.popErrorScope();
    if (error) throw new UserError('isa', `${file}: ${error.message.split('\n')[0]}`);
  }
  for (const name of names.filter((name) => name in WORKLOADS) as WorkloadName[]) {
    const on = name === 'units' ? await open('allow_unsafe_apis') : device;
    if (name === 'units' && !on.capabilities.matrixUnit)
      console.error(`${basename(folder)}: its driver offers no matrix units`);
    await WORKLOADS[name]({ device: on, phase: phaseOn(on), weights: unwritten(on) });
    on.pool.trim();
  }
}

await runProgram(() => main(process.argv.slice(2)));
