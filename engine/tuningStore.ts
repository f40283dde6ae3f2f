/** Where measurements of an adapter are kept between runs: a folder under Node, IndexedDB in a browser. */

import { environmentVariable } from './runtime.ts';

export interface TuningStore {
  /** What was kept under this name, or null. */
  read(name: string): Promise<string | null>;
  write(name: string, text: string): Promise<void>;
}

/** `NEURGRAD_CACHE`, else `neurgrad` in XDG's cache folder. */
async function folder(): Promise<string> {
  const { homedir } = await import('node:os');
  const { join } = await import('node:path');
  const cache = environmentVariable('XDG_CACHE_HOME') || join(homedir(), '.cache');
  return environmentVariable('NEURGRAD_CACHE') || join(cache, 'neurgrad');
}

const files: TuningStore = {
  async read(name) {
    const { readFile } = await import('node:fs/promises');
    const { join } = await import('node:path');
    return readFile(join(await folder(), `${name}.json`), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
  },
  async write(name, text) {
    const { makeFolder, writeWhole } = await import('./disk.ts');
    const { join } = await import('node:path');
    makeFolder(await folder());
    writeWhole(join(await folder(), `${name}.json`), text);
  },
};

/** One request of IndexedDB on the only table there is. */
function request<T>(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('neurgrad', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('tuning');
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction('tuning', mode);
      const asked = ask(transaction.objectStore('tuning'));
      transaction.oncomplete = () => {
        opening.result.close();
        resolve(asked.result);
      };
      transaction.onabort = () => reject(transaction.error);
    };
  });
}

const database: TuningStore = {
  async read(name) {
    return (await request<string | undefined>('readonly', (store) => store.get(name))) ?? null;
  },
  async write(name, text) {
    await request('readwrite', (store) => store.put(text, name));
  },
};

export const tuningStore = (): TuningStore => (typeof indexedDB === 'undefined' ? files : database);
