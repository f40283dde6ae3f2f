/**
 * Which GGUF file of a folder or repository is meant: by its name, or by a part of it such as Q4_K_M, as llama.cpp's `org/repo:Q4_K_M`
 * has it. Repositories have one file for each block format, so without a word only an only file is taken.
 */

import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';

export interface NamedFile {
  readonly name: string;
  readonly size: number;
}

const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;

export const isGguf = (name: string): boolean => /\.gguf$/i.test(name);

/**
 * @param owner of the files, for errors.
 * @param wanted a file's name, or a part of it that no other has.
 * @throws UserError `gguf-file`, listing the files where none or several are meant; naming one that is a part of a model.
 */
export function chooseGguf(owner: string, files: readonly NamedFile[], wanted?: string): string {
  const fail = (what: string): UserError => new UserError('gguf-file', `${owner}: ${what}`);
  const ggufs = files.filter(({ name }) => isGguf(name));
  if (ggufs.length === 0) throw fail('has no GGUF file');
  const found = wanted === undefined ? ggufs : meant(ggufs, wanted);
  // The parts of one model are one choice.
  const whole = [...new Map(found.map((file) => [file.name.replace(PART, ''), file])).values()];
  if (whole.length === 1) {
    const [{ name }] = whole as [NamedFile];
    const [, , parts] = PART.exec(name) ?? [];
    if (parts === undefined) return name;
    throw fail(
      `${name} is one of ${Number(parts)} parts, which are not read; join them with llama-gguf-split --merge and give the file`,
    );
  }
  const list = (whole.length > 0 ? whole : ggufs)
    .toSorted((a, b) => a.size - b.size)
    .map(({ name, size }) => `${name} (${Number((size / 1e6).toPrecision(3))} MB)`)
    .join(', ');
  if (whole.length === 0) throw fail(`has no GGUF file ${show(wanted)}; it has ${list}`);
  throw fail(
    wanted === undefined
      ? `has several GGUF files; choose one with --file, or ${owner}:NAME, by its name or a part such as Q4_K_M: ${list}`
      : `several files are called ${show(wanted)}: ${list}`,
  );
}

/** Of that name; else with it between separators (Q4_K, but not Q4_K_M); else with it anywhere. */
function meant(files: readonly NamedFile[], wanted: string): readonly NamedFile[] {
  const exact = files.filter(({ name }) => name === wanted);
  if (exact.length > 0) return exact;
  const small = wanted.toLowerCase();
  const having = files.filter(({ name }) => name.toLowerCase().includes(small));
  const apart = having.filter(({ name }) => {
    const [before = '', after = ''] = name.toLowerCase().split(small);
    return !/[a-z0-9]$/.test(before) && !/^[a-z0-9_]/.test(after);
  });
  return apart.length > 0 ? apart : having;
}
