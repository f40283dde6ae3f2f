/** Models that come with the package, by their names alone: in a checkout and where it is installed. Node's. */

import { KNOWN_MODELS } from './known.ts';

/** Where they lie, seen from the package's folder. */
const FOLDER = 'examples/models/';

/** Names of the models that the package brings. */
export const BUNDLED_MODELS: readonly string[] = KNOWN_MODELS.filter(({ model }) =>
  model.startsWith(FOLDER),
).map(({ model }) => model.slice(FOLDER.length));

/** The folder of a bundled model, by its name or its path in the repository; undefined for what is none, or is not there. */
export async function bundledFolder(name: string): Promise<string | undefined> {
  const own = name.startsWith(FOLDER) ? name.slice(FOLDER.length) : name;
  if (!BUNDLED_MODELS.includes(own)) return undefined;
  const { stat } = await import('node:fs/promises');
  const { dirname, join } = await import('node:path');
  const { fileURLToPath } = await import('node:url');
  const there = async (path: string): Promise<boolean> => (await stat(path).catch(() => null)) !== null;
  // As source and built this file is not equally deep.
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const found = join(folder, FOLDER, own);
    if (await there(join(found, 'config.json'))) return found;
    if ((await there(join(folder, 'package.json'))) || folder === dirname(folder)) return undefined;
  }
}
