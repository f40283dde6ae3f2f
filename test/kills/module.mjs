/** Everything that engine/disk.ts and engine/lock.ts can do, once, in the current folder; started again it does the same. */

import { existsSync, readdirSync } from 'node:fs';
import {
  append,
  checkFolder,
  createWhole,
  makeFolder,
  pointTo,
  remove,
  sweepLitter,
  WholeFile,
  WholeFolder,
  writeTogether,
  writeWhole,
} from '../../dist/engine/disk.js';
import { Lock } from '../../dist/engine/lock.js';

checkFolder('work');
const lock = Lock.take('work/lock.json', 'work');
sweepLitter('work', { levels: 1, alone: true });
makeFolder('work/deep/er');
createWhole('work/first.json', '{"first": true}');
writeWhole('work/file', 'new');
writeTogether([
  ['work/one', '1'],
  ['work/two', '2'],
]);
writeWhole('work/log', '');
append('work/log', 'line\n');
const file = new WholeFile('work/deep/holes');
file.resize(1000);
file.write('here', 500);
file.keep();
/** @param write puts the folder's files where they are to be written. */
function makeWhole(place, existing, write) {
  const folder = new WholeFolder(place, existing);
  write(folder.path);
  folder.keep();
  folder[Symbol.dispose]();
}
for (const round of [1, 2]) {
  makeWhole('work/step', 'replace', (path) => {
    writeWhole(`${path}/a`, `a${round}`);
    writeWhole(`${path}/b`, `b${round}`);
  });
  pointTo('work/latest', 'step');
}
makeWhole('work/mixed', 'merge', (path) => writeWhole(`${path}/a`, 'a'));
makeFolder('work/parts/task');
writeWhole('work/parts/task/1', '1');
remove('work/parts/task');
if (!existsSync('made') || readdirSync('made').length === 0)
  makeWhole('made', 'refuse', (path) => writeWhole(`${path}/whole`, 'whole'));
lock[Symbol.dispose]();
