/** The command in this process: its exit code and what it writes. */

import { vi } from 'vitest';
import { main } from '../../cli/program.ts';

/** Runs a command to its end. */
export async function runHere(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const parts = { out: '', err: '' };
  const spies = (['out', 'err'] as const).map((name) =>
    vi.spyOn(process[`std${name}`], 'write').mockImplementation((part) => {
      parts[name] += typeof part === 'string' ? part : Buffer.from(part).toString('latin1');
      return true;
    }),
  );
  const before = process.exitCode;
  try {
    return { code: await main(args), ...parts };
  } finally {
    process.exitCode = before;
    for (const spy of spies) spy.mockRestore();
  }
}
