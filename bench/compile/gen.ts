/** Gen, the assembly of Intel's GPUs, as Mesa's ANV prints it. */

import { type Classified, type InstructionSet, jumpsOf } from './assembly.ts';
import type { SealLine } from './seals.ts';

const INSTRUCTION = /^(?:\([^)]*\) )?(\w+)[\w.]*(?: \w+)?\((\d+)\)/;

function classify(line: string, wave: number): Classified {
  const [, name = 'nop', lanes = '1'] = INSTRUCTION.exec(line) ?? [];
  if (name === 'sync' || name === 'nop') return { kind: 'waits' };
  if (/^(if|else|endif|while|break|cont|halt|jmpi|do|call|ret|brd|brc)/.test(name))
    return { kind: 'branches' };
  if (name.startsWith('send')) return message(line, Number(lanes), wave);
  if (Number(lanes) === 1) return { kind: 'salu' };
  const fused = /^(mad|mac)$/.test(name) && />H?F\b/.test(line);
  return {
    kind: 'valu',
    fmaOps: fused ? Number(lanes) / wave : name === 'dpas' ? 128 : 0,
    matrixOps: name === 'dpas' ? 1 : 0,
  };
}

/** A message to another unit. */
function message(line: string, lanes: number, wave: number): Classified {
  // Xe HPG says how wide an element is, the generation before it the registers that come back.
  const elements = /\bd32, V(\d+)/.exec(line)?.[1];
  const registers = /\brlen (\d+)/.exec(line)?.[1] ?? 0;
  const bytes = elements === undefined ? (32 * Number(registers)) / wave : 4 * Number(elements);
  if (/gateway/.test(line)) return { kind: 'barriers' };
  if (/\bss \)|(bti|Surface =) 25[35]\b|scratch/.test(line)) return { kind: 'vmem', scratch: 1 };
  if (/slm MsgDesc: \( (load|store|atomic)|Surface = 254\b/.test(line))
    return { kind: 'shared', sharedBytes: bytes };
  if (lanes === 1) return { kind: 'smem' };
  return /\( ?load|read/.test(line) ? { kind: 'vmem', loads: 1, loadBytes: bytes } : { kind: 'vmem' };
}

function seals(line: string, wave: number): SealLine[] {
  const [, name = '', lanes = '1'] = INSTRUCTION.exec(line) ?? [];
  // The number of a register, and where in it a value begins: two values of half a wave lie in one.
  const [first, ...reads] = [...line.matchAll(/\bg(\d+)(?:\.\d+)?(?:<|U|D|F)/g)].map(([, n]) => `g${n}`);
  const writes = first && !/\bnull/.test(line.split(/\s+g/, 1)[0]!) ? [first] : [];
  const xor = name === 'xor' && reads.length === 2;
  const add = name === 'add' && />F\b/.test(line);
  return [{ kind: xor ? 'xor' : add ? 'add' : 'other', reads, writes, lanes: Number(lanes) / wave }];
}

function read(text: string): ReturnType<InstructionSet['read']> {
  const code: string[] = [];
  const labels = new Map<string, number>();
  for (const raw of text.split('\n')) {
    const label = /^(LABEL\d+):/.exec(raw)?.[1];
    if (label) labels.set(label, code.length);
    else if (/^\s+\w[\w ]* MsgDesc:/.test(raw)) code.push(`${code.pop()} ${raw.trim()}`);
    else if (/^(\([^)]*\) )?[a-z]\w*[\w.]*(?: \w+)?\(\d+\)/.test(raw)) code.push(raw.trim());
  }
  return { code, jumps: jumpsOf(code, labels, /^(?:\([^)]*\) )?while\(\d+\)\s+JIP:\s+(LABEL\d+)/) };
}

export const GEN: InstructionSet = { read, classify, seals, drains: false };
