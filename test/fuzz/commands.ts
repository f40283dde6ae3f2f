/**
 * Whole commands over damaged files: the built command has to end with 0, or with 2 and one line of error behind its remarks.
 */

import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '../../neurgrad/index.ts';
import { neurgrad } from '../cli/command.ts';
import type { Files, Parser } from './parsers.ts';

const LONGEST_LINE = 500;
/** Of a process each, and most open a device. */
const SHARE = 0.02;

/** Runs a command and refuses what it refuses. @throws Error where it ends in another way than it may. */
async function command(...args: string[]): Promise<void> {
  const { code, out, err } = await neurgrad(...args);
  const lines = err.split('\n').filter((line) => line !== '');
  const wrong = (what: string): Error => new Error(`neurgrad ${args[0]}: ${what}: ${err.slice(0, 1000)}`);
  if (code !== 0 && code !== 2) throw wrong(`exit code ${code}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  if (/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/.test(out + err)) throw wrong('control characters');
  if (lines.some((line) => line.length > LONGEST_LINE)) throw wrong('a line too long');
  const errors = lines.filter((line) => line.startsWith('error: '));
  if (errors.length !== (code === 0 ? 0 : 1)) throw wrong(`${errors.length} errors with exit code ${code}`);
  if (code === 2 && out !== '') throw wrong('a result beside an error');
  if (code === 2) throw new UserError('command', errors[0]!.slice('error: '.length));
}

/** Runs a command on a copy of a folder that it writes into. */
async function onCopy(folder: string, run: (copy: string) => Promise<void>): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'neurgrad-fuzz-copy-'));
  try {
    mkdirSync(work, { recursive: true });
    cpSync(folder, work, { recursive: true });
    await run(work);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** @param given files of readers, which the commands get as well. */
export function commands(given: {
  readonly study: Files;
  readonly probe: Files;
  readonly prober: Files;
  readonly splits: Files;
}): Parser[] {
  const sealed = (): boolean => true;
  const model = 'examples/models/stories260k';
  const names = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'];
  const share = SHARE;
  return [
    {
      name: 'command predict',
      files: Object.fromEntries(names.map((name) => [name, readFileSync(join(model, name))])),
      share,
      read: (folder) => command('predict', '--model', folder, '--prompt', 'Once upon a time'),
    },
    {
      name: 'command report',
      files: given.study,
      sealed: (file) => /parquet$|manifest/.test(file),
      share,
      read: (folder) => onCopy(folder, (copy) => command('report', copy)),
    },
    {
      name: 'command probe report',
      files: given.probe,
      damaged: Object.keys(given.probe).filter((name) => /manifest|^tasks\//.test(name)),
      sealed,
      share,
      read: (folder) => onCopy(folder, (copy) => command('probe', 'report', copy)),
    },
    {
      name: 'command probe apply',
      files: given.prober,
      sealed,
      share,
      read: (folder) =>
        command(
          ...['probe', 'apply', '--model', 'examples/models/facts-bert', '--prober', join(folder, 'prober')],
          ...['--question', '### Claim: Paris is in France.'],
        ),
    },
    {
      name: 'command data audit',
      files: given.splits,
      share,
      read: (folder) => command('data', 'audit', folder),
    },
    {
      name: 'command data build',
      files: given.splits,
      share,
      read: (folder) => onCopy(folder, (copy) => command('data', 'build', copy, '--out', join(copy, 'out'))),
    },
  ];
}
