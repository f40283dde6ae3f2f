/**
 * What runs this code: runtimes are told by what they have, since Deno and Bun call themselves Node, too. Nothing here throws:
 * Deno asks its user before it lets anybody read a variable.
 */

/** Who wrote the WebGPU that was opened. */
export type Implementation = 'Dawn' | 'wgpu' | 'WebKit' | 'unknown';

interface Globals {
  readonly Deno?: { readonly version?: { readonly deno?: string } };
  readonly Bun?: { readonly version?: string };
  readonly process?: {
    readonly versions?: { readonly node?: string };
    readonly env?: Readonly<Record<string, string>>;
  };
  readonly navigator?: { readonly userAgent?: string; readonly gpu?: GPU };
}

/** The global objects that runtimes differ in. */
const globals = (): Globals => globalThis as Globals;

/** A browser's name and version, of what it says of itself. Most name others as well, the newcomers before the old ones. */
function browser(userAgent: string): string {
  for (const name of ['Firefox', 'Edg', 'Chrome', 'Version']) {
    const version = userAgent.match(new RegExp(`${name}/([\\d.]+)`))?.[1];
    if (version) return `${{ Edg: 'Edge', Version: 'Safari' }[name] ?? name} ${version}`;
  }
  return 'an unknown runtime';
}

/** Name and version of the runtime, e.g. `Node 20.20.2`, `Deno 2.9.0`, `Firefox 153.0`. */
export function runtimeName(of: Globals = globals()): string {
  if (of.Deno?.version?.deno) return `Deno ${of.Deno.version.deno}`;
  if (of.Bun?.version) return `Bun ${of.Bun.version}`;
  if (of.process?.versions?.node) return `Node ${of.process.versions.node}`;
  return browser(of.navigator?.userAgent ?? '');
}

/** Whose `navigator.gpu` a runtime has. */
export function implementationOf(runtime: string): Implementation {
  if (/^(Deno|Firefox) /.test(runtime)) return 'wgpu';
  if (/^Safari /.test(runtime)) return 'WebKit';
  return /^(Chrome|Edge) /.test(runtime) ? 'Dawn' : 'unknown';
}

/** Whether there is a Node, whose modules bring addons and processes: a page has none. */
export const hasNodeModules = (of: Globals = globals()): boolean => of.process?.versions?.node !== undefined;

/** A variable of the environment; undefined as well where it may not be read. */
export function environmentVariable(name: string, of: Globals = globals()): string | undefined {
  try {
    return of.process?.env?.[name];
  } catch {
    return undefined;
  }
}
