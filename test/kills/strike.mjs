/**
 * Preloaded into a process (`node --import`), counts every change it makes to a disk, and kills it at one of them:
 *
 *   KILLS_AT=n      SIGKILL in place of the n-th change, from 1; of a write the first half is done
 *   KILLS_LIST=file the changes, one a line, at the end of a process that is left alive
 *
 * All ways to the disk that Node has are taken: the synchronous calls, those with callbacks, promises and file handles.
 */

import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';

const at = Number(process.env.KILLS_AT ?? 0);
const list = process.env.KILLS_LIST;
const changes = [];
const { writeFileSync, writeSync } = fs;
const real = { ...fs };

if (list) process.on('exit', () => writeFileSync(list, changes.map((line) => `${line}\n`).join('')));

function die() {
  process.kill(process.pid, 'SIGKILL');
  // Until the signal is here.
  for (;;);
}

/** Counts one change. @param half does a part of it, where there is one. */
function strike(what, half) {
  changes.push(what);
  if (changes.length !== at) return;
  half?.();
  die();
}

const writes = (flags) =>
  typeof flags === 'number'
    ? (flags & (fs.constants.O_CREAT | fs.constants.O_TRUNC)) !== 0
    : /[wa]/.test(String(flags ?? 'r'));
/** Standard output and error are no disk. */
const isOurs = (file) => typeof file !== 'number' || file > 2;
const bytesOf = (data) =>
  typeof data === 'string'
    ? Buffer.from(data)
    : Buffer.from(data.buffer ?? data, data.byteOffset, data.byteLength);

/** What of a call is to be counted: its name in the list, and how to do half of it. */
const COUNTED = {
  open: ([path, flags]) => (writes(flags) ? [path] : null),
  write: ([file, data, offset, length, position]) => {
    if (!isOurs(file)) return null;
    const whole =
      typeof data === 'string'
        ? Buffer.from(data)
        : bytesOf(data).subarray(offset ?? 0, (offset ?? 0) + (length ?? data.byteLength));
    return [
      file,
      () => writeSync(file, whole.subarray(0, whole.length >> 1), 0, whole.length >> 1, position ?? null),
    ];
  },
  writev: ([file]) => (isOurs(file) ? [file] : null),
  writeFile: ([path, data]) =>
    isOurs(path)
      ? [path, () => writeFileSync(path, bytesOf(data).subarray(0, bytesOf(data).length >> 1))]
      : null,
  appendFile: ([path, data]) =>
    isOurs(path)
      ? [path, () => real.appendFileSync(path, bytesOf(data).subarray(0, bytesOf(data).length >> 1))]
      : null,
  ...Object.fromEntries(
    [
      'rename',
      'unlink',
      'rmdir',
      'mkdir',
      'mkdtemp',
      'symlink',
      'link',
      'truncate',
      'ftruncate',
      'copyFile',
      'cp',
    ].map((name) => [
      name,
      (given) => [
        given
          .slice(0, 2)
          .filter((x) => typeof x === 'string')
          .join(' -> '),
      ],
    ]),
  ),
};

function count(name, given) {
  const found = COUNTED[name](given);
  if (found) strike(`${name} ${found[0]}`, found[1]);
}

/** One change for each thing in a folder: Node's own way there cannot be counted from here. */
function removeAll(path) {
  const about = real.lstatSync(path, { throwIfNoEntry: false });
  if (about?.isDirectory()) for (const name of real.readdirSync(path)) removeAll(join(path, name));
  if (!about) return;
  strike(`rm ${path}`);
  about.isDirectory() ? real.rmdirSync(path) : real.unlinkSync(path);
}

const wrapped = (name, call) =>
  function (...given) {
    count(name, given);
    return call.apply(this, given);
  };

for (const name of Object.keys(COUNTED)) {
  for (const key of [name, `${name}Sync`]) if (fs[key]) fs[key] = wrapped(name, fs[key]);
  if (fs.promises[name]) fs.promises[name] = wrapped(name, fs.promises[name]);
}
const removing = (rm) =>
  function (path, options) {
    if (options?.recursive || !real.lstatSync(path, { throwIfNoEntry: false })?.isDirectory())
      removeAll(path);
    // For what it says where there was nothing to remove, or not all might be removed.
    return rm.call(this, path, { ...options, force: true });
  };
fs.rmSync = removing(real.rmSync);
fs.promises.rm = removing(real.promises.rm);

const probe = await fs.promises.open(new URL(import.meta.url).pathname, 'r');
const handle = Object.getPrototypeOf(probe);
await probe.close();
for (const name of ['write', 'writeFile', 'appendFile', 'truncate', 'writev']) {
  const call = handle[name];
  handle[name] = function (...given) {
    strike(`handle.${name}`, () => {
      const [data] = given;
      if (data?.byteLength || typeof data === 'string')
        writeSync(this.fd, bytesOf(data).subarray(0, bytesOf(data).length >> 1));
    });
    return call.apply(this, given);
  };
}
syncBuiltinESMExports();
