/**
 * The GPU compilers of this machine: Mesa's RADV (AMD) and ANV (Intel) behind a layer that lets them compile without their GPU,
 * and nvcc (NVIDIA). What is missing is a UserError that says how to get it.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../cli/package.ts';
import { UserError } from '../../engine/errors.ts';

/** Families by name: Intel's with the PCI id of a device. */
export const FAMILIES: Readonly<
  Record<string, { readonly maker: 'amd' | 'intel' | 'nvidia'; readonly id?: string }>
> = {
  navi31: { maker: 'amd' },
  navi21: { maker: 'amd' },
  vega10: { maker: 'amd' },
  dg2: { maker: 'intel', id: '56a0' },
  mtl: { maker: 'intel', id: '7d55' },
  tgl: { maker: 'intel', id: '9a49' },
  sm_75: { maker: 'nvidia' },
  sm_80: { maker: 'nvidia' },
  sm_89: { maker: 'nvidia' },
  sm_90: { maker: 'nvidia' },
};

/** Where this file's C sources are, built or not. */
export const sourceFolder = join(packageRoot, 'bench', 'compile');
const MANIFESTS = '/usr/share/vulkan/icd.d';
const LIBDRM = '/usr/include/libdrm';

const missing = (what: string, packages: string): UserError =>
  new UserError('isa', `${what} is missing; on Debian: apt-get install ${packages}`);

/** The driver's manifest, whose name has the architecture in some releases. */
function manifest(driver: 'radeon' | 'intel'): string {
  const name = new RegExp(`^${driver}_icd\\.([\\w-]+\\.)?json$`);
  const found = existsSync(MANIFESTS) ? readdirSync(MANIFESTS).find((file) => name.test(file)) : undefined;
  if (!found)
    throw missing(
      `Mesa's Vulkan driver for ${driver === 'intel' ? 'Intel' : 'AMD'}`,
      'mesa-vulkan-drivers (25 or newer: Debian 12 has it in bookworm-backports)',
    );
  return join(MANIFESTS, found);
}

function hasHeader(name: string): boolean {
  const run = spawnSync('gcc', ['-E', '-x', 'c', `-I${LIBDRM}`, '-'], { input: `#include <${name}>\n` });
  return run.status === 0;
}

function compile(source: string, library: string): void {
  const flags = ['-O2', '-shared', '-fPIC', `-I${LIBDRM}`];
  const made = spawnSync('gcc', [...flags, '-o', library, join(sourceFolder, source), '-ldl', '-lpthread'], {
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`bench/compile/${source} does not compile: ${made.stderr}`);
}

/**
 * Variables of a process whose Vulkan driver compiles for `family` and executes nothing; what it compiled comes to lie in `folder`.
 * @throws UserError that names a missing compiler, driver or header
 */
export function compileOnly(family: string, folder: string): Record<string, string> {
  const { maker, id = '' } = FAMILIES[family]!;
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new UserError('isa', 'compiling without a GPU needs Linux on x64');
  if (spawnSync('gcc', ['--version']).error) throw missing('gcc', 'gcc libc6-dev');
  if (!hasHeader('vulkan/vk_layer.h')) throw missing('the header vulkan/vk_layer.h', 'libvulkan-dev');
  const intel = maker === 'intel';
  const driver = manifest(intel ? 'intel' : 'radeon');
  if (intel && !hasHeader('i915_drm.h'))
    throw missing(
      'the header i915_drm.h, which Intel needs,',
      'libdrm-dev (Debian 12: from bookworm-backports), or leave Intel out with --family',
    );
  mkdirSync(folder, { recursive: true });
  const layer = 'VK_LAYER_compile_only';
  compile('layer.c', join(folder, 'layer.so'));
  if (intel) compile('intel.c', join(folder, 'intel.so'));
  writeFileSync(
    join(folder, 'layer.json'),
    JSON.stringify({
      file_format_version: '1.0.0',
      layer: {
        name: layer,
        type: 'GLOBAL',
        library_path: join(folder, 'layer.so'),
        api_version: '1.3.239',
        implementation_version: '1',
        description: 'compiles, executes nothing',
        functions: {
          vkGetInstanceProcAddr: 'compileOnlyInstanceProc',
          vkGetDeviceProcAddr: 'compileOnlyDeviceProc',
        },
      },
    }),
  );
  return {
    NEURGRAD_COMPILE_DIR: folder,
    VK_DRIVER_FILES: driver,
    VK_ICD_FILENAMES: driver,
    VK_LAYER_PATH: folder,
    VK_INSTANCE_LAYERS: layer,
    VK_LOADER_LAYERS_DISABLE: '~implicit~',
    RADV_DEBUG: 'nocache',
    MESA_SHADER_CACHE_DISABLE: 'true',
    ...(intel
      ? { NEURGRAD_COMPILE_INTEL: id, LD_PRELOAD: join(folder, 'intel.so') }
      : { RADV_FORCE_FAMILY: family }),
  };
}

/** NVIDIA's compiler and disassembler. */
export interface Nvcc {
  readonly nvcc: string;
  readonly nvdisasm: string;
}

/** From `NVCC` or the PATH; nvdisasm from beside it or the PATH. @throws UserError that names what is missing */
export function findNvcc(): Nvcc {
  const runs = (program: string): boolean => !spawnSync(program, ['--version']).error;
  const nvcc = process.env.NVCC ?? 'nvcc';
  if (!runs(nvcc))
    throw new UserError(
      'isa',
      `no nvcc: set NVCC to NVIDIA's compiler, or have it in the PATH (${nvcc} does not run)`,
    );
  const beside = join(dirname(nvcc), 'nvdisasm');
  const nvdisasm = nvcc.includes('/') && existsSync(beside) ? beside : 'nvdisasm';
  if (!runs(nvdisasm))
    throw new UserError('isa', 'no nvdisasm beside nvcc or in the PATH: it reads what nvcc compiled');
  return { nvcc, nvdisasm };
}
