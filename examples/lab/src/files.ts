/** What the user dropped or picked: a folder, as files by their path inside it, or a GGUF file. */

import { isGguf } from '../../../models/gguf/choose.ts';
import type { ModelSource } from './protocol.ts';

/** A folder with nothing to load but one GGUF file is that file. */
function sourceFrom(name: string, files: ReadonlyMap<string, File>): ModelSource {
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
  const files = new Map<string, File>();
  for (const entry of await children(folder)) {
    if (entry.isFile) files.set(entry.name, await fileOf(entry as FileSystemFileEntry));
  }
  return sourceFrom(folder.name, files);
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
