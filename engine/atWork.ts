/**
 * Whether a process is still at work (Node alone): what tells a lock that is held, and a file being written, from what a
 * kill has left. A number alone does not, as it is given to another process later, in containers soon.
 */

import { readFileSync, readlinkSync } from 'node:fs';

/** The numbers of one container mean nothing in another, though both may have the host's name; null where there are none. */
export const NAMESPACE: string | null = namespaceOf();

/** When this process began, in the kernel's ticks; null where the system does not tell. */
export const BIRTH: string | null = lookUp(process.pid)?.birth ?? null;

function namespaceOf(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return null;
  }
}

/** When a process began, and whether it is ending: proc(5). Null where the system does not tell. */
function lookUp(pid: number): { readonly birth: string; readonly ending: boolean } | null {
  try {
    // The name before it, in brackets, may hold spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').at(-1)!.trim().split(' ');
    const pending = /^SigPnd:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    // Killed, though its number is still there: one that nobody has waited for (Z), one on its way out (PF_EXITING), and
    // one that has yet to notice (SIGKILL pending).
    const left = /[ZXx]/.test(fields[0]!) || (Number(fields[6]) & 4) !== 0;
    const killed = (BigInt(`0x${pending ?? 0}`) & (1n << 8n)) !== 0n;
    return { birth: fields[19]!, ending: left || killed };
  } catch {
    return null;
  }
}

/** Whether the process of this number and birth is at work on this machine. */
export function isAtWork(pid: number, birth: string | null): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as { code?: string }).code !== 'EPERM') return false;
  }
  const found = lookUp(pid);
  return found === null || (found.birth === birth && !found.ending);
}
