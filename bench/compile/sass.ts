/** SASS, the assembly of NVIDIA's GPUs, as nvdisasm prints it. */

import { type Classified, type InstructionSet, jumpsOf } from './assembly.ts';
import type { SealLine } from './seals.ts';

const withoutPredicate = (line: string): string => line.replace(/^@!?U?P\w+\s+/, '');

function classify(line: string): Classified {
  const name = withoutPredicate(line).split(/\s/, 1)[0]!;
  const operation = name.split('.', 1)[0]!;
  const bytes = Number(/\.(32|64|96|128)\b/.exec(name)?.[1] ?? 32) / 8;
  if (/^(FFMA|DFMA)$/.test(operation)) return { kind: 'valu', fmaOps: 1 };
  if (operation === 'HFMA2') return { kind: 'valu', fmaOps: 2 };
  if (/^(LDG|LD)$/.test(operation)) return { kind: 'vmem', loads: 1, loadBytes: bytes };
  if (/^(STG|ST|RED|ATOMG|ATOM)$/.test(operation)) return { kind: 'vmem' };
  if (/^(LDL|STL)$/.test(operation)) return { kind: 'vmem', scratch: 1 };
  if (/^(LDS|STS|ATOMS)$/.test(operation)) return { kind: 'shared', sharedBytes: bytes };
  if (operation === 'BAR') return { kind: 'barriers' };
  if (/^(BRA|EXIT|BSYNC|BSSY|CALL|RET|WARPSYNC|BREAK|NOP)$/.test(operation)) return { kind: 'branches' };
  if (/^(LDC|ULDC)/.test(operation)) return { kind: 'smem' };
  return { kind: operation.startsWith('U') ? 'salu' : 'valu' };
}

/** Truth tables of LOP3 that are the XOR of two operands, the third one left out. */
const XOR = /\b0x(3c|5a|66)\b/;

function seals(line: string): SealLine[] {
  const [name = '', ...operands] = withoutPredicate(line).split(/[\s,]+/);
  const registers = operands.map((operand) => /^-?\|?(U?R\d+)\b/.exec(operand)?.[1]);
  const stores = /^(ST|RED|ATOM)/.test(name);
  const writes = stores || !registers[0] ? [] : [registers[0]];
  const reads = registers.slice(stores ? 0 : 1).filter((register) => register !== undefined);
  const xor = name.startsWith('LOP3') && XOR.test(line) && !operands.slice(1, 4).some((o) => /^-?0x/.test(o));
  return [{ kind: xor ? 'xor' : name.startsWith('FADD') ? 'add' : 'other', reads, writes, lanes: 1 }];
}

function read(text: string): ReturnType<InstructionSet['read']> {
  const code: string[] = [];
  const labels = new Map<string, number>();
  for (const line of text.split('\n')) {
    const label = /^(\.L_\w+):/.exec(line)?.[1];
    const instruction = /^\s+\/\*[0-9a-f]{4,}\*\/\s+(.*?)\s*;/.exec(line)?.[1];
    if (label) labels.set(label, code.length);
    else if (instruction) code.push(instruction.replaceAll('.reuse', ''));
  }
  while (/^(NOP|BRA)/.test(code.at(-1) ?? '')) code.pop(); // what follows the end
  return { code, jumps: jumpsOf(code, labels, /\bBRA\b.*?(\.L_\w+)/) };
}

export const SASS: InstructionSet = { read, classify, seals, drains: false };
