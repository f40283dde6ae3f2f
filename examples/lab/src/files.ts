/** What the user dropped or picked: a folder, as files by their path inside it, or a GGUF file. */

import { isGguf } from '../../../models/gguf/choose.ts';
import type { ModelSource } from './protocol.ts';

/** The one folder in a folder that is a model's, where the folder itself is none. */
export function modelBelow<T>(
  files: ReadonlyMap<string, T>,
): { readonly name: string; readonly files: ReadonlyMap<string, T> } | null {
  const [found, ...more] = [...files.keys()].filter((path) => /^[^/]+\/config\.json$/.test(path));
  if (!found || more.length > 0 || files.has('config.json')) return null;
  const name = found.slice(0, found.indexOf('/'));
  const own = [...files].filter(([path]) => path.startsWith(`${name}/`));
  return { name, files: new Map(own.map(([path, file]) => [path.slice(name.length + 1), file])) };
}

/** A folder with nothing to load but one GGUF file is that file. */
function sourceFrom(name: string, files: ReadonlyMap<string, File>): ModelSource {
  const model = modelBelow(files);
  if (model) return sourceFrom(model.name, model.files);
  const [packed, ...more] = [...files.values()].filter((file) => isGguf(file.name));
  return packed && more.length === 0 && !files.has('config.json')
    ? { kind: 'gguf', name: packed.name, file: packed }
    : { kind: 'folder', name, files };
}

/** From `<input type="file" webkitdirectory>` (paths begin with the folder's name), or files. */
export function fromPicker(list: Iterable<File>): ModelSource | null {
  const files = [...list];
  const first = files[0];
  if (!first) return null;
  const name = first.webkitRelativePath.split('/')[0] || first.name;
  const path = (file: File) => file.webkitRelativePath.split('/').slice(1).join('/') || file.name;
  return sourceFrom(name, new Map(files.map((file) => [path(file), file])));
}

/** From a drop: one folder, or the files themselves. Entries must be taken before the event is over. */
export async function fromDrop(transfer: DataTransfer): Promise<ModelSource | null> {
  const loose = fromPicker(transfer.files);
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry());
  const folder = entries.find((entry): entry is FileSystemDirectoryEntry => entry?.isDirectory === true);
  if (!folder) return loose;
  const files = await filesOf(folder);
  const below = new Map<string, File>(files);
  if (!files.has('config.json')) {
    for (const entry of await children(folder)) {
      if (!entry.isDirectory) continue;
      for (const [name, file] of await filesOf(entry as FileSystemDirectoryEntry))
        below.set(`${entry.name}/${name}`, file);
    }
  }
  return sourceFrom(folder.name, below);
}

async function filesOf(folder: FileSystemDirectoryEntry): Promise<Map<string, File>> {
  const files = new Map<string, File>();
  for (const entry of await children(folder)) {
    if (entry.isFile) files.set(entry.name, await fileOf(entry as FileSystemFileEntry));
  }
  return files;
}

/** `readEntries` gives a hundred at a time, and nothing at the end. */
async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (some.length === 0) return all;
    all.push(...some);
  }
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
