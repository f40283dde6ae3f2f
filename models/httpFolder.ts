/**
 * A model's folder behind any HTTP server that knows byte ranges: `https://host/path/` with the files beneath it.
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions, optionsSchema } from '../engine/options.ts';
import { refuseCredentials, shownAddress } from './address.ts';
import { type ByteFolder, type ByteSource, folderOf } from './byteSource.ts';
import { type HttpOptions, httpOptions, openUrl } from './httpSource.ts';

/** Whether a model's name is an address. */
export const isUrl = (text: string): boolean => /^https?:\/\//.test(text);

/**
 * The folder's address with `/` at its end. A query cannot go along: it would sign one file, or be lost with the last name.
 * @throws UserError `http-address`
 */
function rootOf(base: string): string {
  refuseCredentials(base, shownAddress(base));
  if (!URL.canParse(base))
    throw new UserError(
      'http-address',
      `${shownAddress(base)}: is no address; give http(s)://host/path/ of the model's folder`,
    );
  if (/[?#]/.test(base)) {
    throw new UserError(
      'http-address',
      `${shownAddress(base).replace(/#.*$/s, '#…')}: a model's folder has no "?" or "#" in its address; leave them out, or download the files and give their folder`,
    );
  }
  return base.endsWith('/') ? base : `${base}/`;
}

const { name: _, ...ofFolder } = httpOptions.entries;
const folderOptions = optionsSchema<Omit<HttpOptions, 'name'>>(ofFolder);

/** @throws UserError `http-address` for what is no folder's address; `http-*` as `openUrl`, when its files are opened. */
export function urlFolder(base: string, options: Omit<HttpOptions, 'name'> = {}): ByteFolder {
  checkOptions('urlFolder', folderOptions, options);
  const root = rootOf(base);
  /** Files that were looked for: opening asks for a byte, so it is done once. */
  const opened = new Map<string, Promise<ByteSource>>();
  const open = (file: string): Promise<ByteSource> => {
    let source = opened.get(file);
    if (!source) {
      const path = file.split('/').map(encodeURIComponent).join('/');
      source = openUrl(new URL(path, root).href, { ...options, name: root + file });
      opened.set(file, source);
      // What failed may be there next time.
      source.catch(() => opened.delete(file));
    }
    return source;
  };
  return folderOf(base, {
    has: (file) =>
      open(file).then(
        () => true,
        (error) => {
          if (error instanceof UserError && error.code === 'http-missing') return false;
          throw error;
        },
      ),
    open,
  });
}
