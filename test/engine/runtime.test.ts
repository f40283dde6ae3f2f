/** Runtimes are told apart by what they have, and WebGPU is found by what there is. */

import { describe, expect, it } from 'vitest';
import { openDevice } from '../../engine/index.ts';
import { environmentVariable, hasNodeModules, implementationOf, runtimeName } from '../../engine/runtime.ts';

const SAFARI =
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15';
const CHROME =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36';
const node = { versions: { node: '22.0.0' } };
const at = (userAgent: string) => ({ navigator: { userAgent } });

describe('runtimes', () => {
  it.each([
    ['Deno 2.9.0', 'wgpu', { Deno: { version: { deno: '2.9.0' } }, process: node }],
    ['Bun 1.3.0', 'unknown', { Bun: { version: '1.3.0' }, process: node }],
    ['Node 22.0.0', 'unknown', { process: node, ...at('Node.js/22') }],
    ['Firefox 153.0', 'wgpu', at('Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0')],
    ['Chrome 150.0.0.0', 'Dawn', at(CHROME)],
    ['Edge 150.0.0.0', 'Dawn', at(`${CHROME} Edg/150.0.0.0`)],
    ['Safari 26.0', 'WebKit', at(SAFARI)],
    ['an unknown runtime', 'unknown', {}],
  ])('%s, with WebGPU by %s', (name, implementation, globals) => {
    expect(runtimeName(globals)).toBe(name);
    expect(implementationOf(name)).toBe(implementation);
  });

  it('a variable that may not be read is none', () => {
    const env = new Proxy({} as Record<string, string>, {
      get: () => {
        throw new Error('Requires env access, run again with --allow-env');
      },
    });
    expect(environmentVariable('HOME', { process: { ...node, env } })).toBeUndefined();
    expect(environmentVariable('HOME', {})).toBeUndefined();
    expect(environmentVariable('A', { process: { env: { A: 'b' } } })).toBe('b');
    expect([hasNodeModules({}), hasNodeModules({ process: node })]).toEqual([false, true]);
  });

  it('a device names what opened it', async () => {
    const device = await openDevice();
    expect(device.info.runtime).toBe(runtimeName());
    // Node has none of its own, but the addon.
    const own = implementationOf(runtimeName());
    expect(device.info.implementation).toBe(own === 'unknown' ? 'Dawn' : own);
    device.destroy();
  });
});
