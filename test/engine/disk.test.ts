/** Writing to a disk: whole or not at all, whatever the moment of a kill; litter; locks; and nobody else writes. */

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  append,
  checkFile,
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
} from '../../engine/disk.ts';
import { Lock, lockHolder } from '../../engine/lock.ts';
import { endsAlike } from '../kills/alike.ts';

const root = mkdtempSync(join(tmpdir(), 'neurgrad-disk-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => {
  const path = join(root, `f${count++}`);
  mkdirSync(path);
  return path;
};
const read = (path: string): string => readFileSync(path, 'utf8');

/** The name that a process of this number, which is gone or at work, gives to what it is writing. */
function litterOf(pid: number, birth: string, name = 'file'): string {
  const folder = fresh();
  using file = new WholeFile(join(folder, name));
  const own = readdirSync(folder)[0]!;
  file[Symbol.dispose]();
  return own.replace(/-\d+-\d+-(\d+)\.tmp$/, `-${pid}-${birth}-$1.tmp`);
}

const gone = spawnSync(process.execPath, ['-e', '0']).pid!;

describe('a file', () => {
  it('keeps what was there until the new one is whole', () => {
    const path = join(fresh(), 'file');
    writeWhole(path, 'before');
    {
      using file = new WholeFile(path);
      file.write('after, but not all of i');
      expect(read(path)).toBe('before');
    }
    expect(read(path)).toBe('before');
    expect(readdirSync(join(path, '..'))).toEqual(['file']);
    writeWhole(path, 'after');
    expect(read(path)).toBe('after');
  });

  it('of several, none appears where one cannot be written', () => {
    const folder = fresh();
    writeWhole(join(folder, 'a'), 'old');
    mkdirSync(join(folder, 'b'));
    expect(() =>
      writeTogether([
        [join(folder, 'a'), 'new'],
        [join(folder, 'b'), 'new'],
      ]),
    ).toThrow('b: is a folder, not a file');
    expect(read(join(folder, 'a'))).toBe('old');
    expect(readdirSync(folder).sort()).toEqual(['a', 'b']);
  });

  it('is written through a link, with the rights of the one before, and into what is no file', () => {
    const folder = fresh();
    const [file, link] = [join(folder, 'file'), join(folder, 'link')];
    writeFileSync(file, 'old', { mode: 0o600 });
    symlinkSync('file', link);
    writeWhole(link, 'new');
    expect(read(file)).toBe('new');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    writeWhole('/dev/null', 'nothing');
    expect(statSync('/dev/null').isFile()).toBe(false);
    expect(() => writeWhole('/dev/full', 'x')).toThrow('/dev/full: no space left on the disk');
  });

  it('is made through a link to what is not there yet', () => {
    const folder = fresh();
    makeFolder(join(folder, 'far'));
    const link = join(folder, 'link');
    symlinkSync('far/near', link);
    symlinkSync('file', join(folder, 'far/near'));
    checkFile(link);
    expect(readdirSync(join(folder, 'far'))).toEqual(['near']);
    writeWhole(link, 'new');
    expect(read(join(folder, 'far/file'))).toBe('new');
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    symlinkSync('nowhere/file', join(folder, 'lost'));
    expect(() => writeWhole(join(folder, 'lost'), '')).toThrow(/lost: there is no such folder$/);
    symlinkSync('circle', join(folder, 'circle'));
    expect(() => writeWhole(join(folder, 'circle'), '')).toThrow(/circle: links lead in a circle$/);
    symlinkSync('far/folder', join(folder, 'folders'));
    checkFolder(join(folder, 'folders'));
    expect(readdirSync(join(folder, 'far')).sort()).toEqual(['file', 'folder', 'near']);
    symlinkSync('far/whole', join(folder, 'wholes'));
    {
      using made = new WholeFolder(join(folder, 'wholes'));
      writeWhole(join(made.path, 'file'), 'new');
      made.keep();
    }
    expect(read(join(folder, 'far/whole/file'))).toBe('new');
  });

  it('may have a name as long as the disk takes', () => {
    const path = join(fresh(), 'ä'.repeat(120));
    writeWhole(path, 'x');
    expect(read(path)).toBe('x');
    expect(() => writeWhole(join(root, 'x'.repeat(300)), '')).toThrow('the name is too long');
  });

  it('is made by one of two', () => {
    const path = join(fresh(), 'file');
    expect(createWhole(path, 'first')).toBe(true);
    expect(createWhole(path, 'second')).toBe(false);
    expect(read(path)).toBe('first');
    expect(readdirSync(join(path, '..'))).toEqual(['file']);
  });

  it('grows, is linked to, and goes', () => {
    const folder = fresh();
    append(join(folder, 'log'), 'a\n');
    append(join(folder, 'log'), 'b\n');
    expect(read(join(folder, 'log'))).toBe('a\nb\n');
    for (const target of ['log', 'elsewhere', 'log']) pointTo(join(folder, 'latest'), target);
    expect(read(join(folder, 'latest'))).toBe('a\nb\n');
    makeFolder(join(folder, 'x/y'));
    for (const name of ['x', 'log', 'never']) remove(join(folder, name));
    expect(readdirSync(folder)).toEqual(['latest']);
  });
});

describe('a folder', () => {
  const fill = (folder: WholeFolder, text: string): void => writeWhole(join(folder.path, 'file'), text);

  it('appears when it is whole, where nothing is or an empty one', () => {
    const place = join(fresh(), 'a/b');
    {
      using folder = new WholeFolder(place);
      fill(folder, 'x');
      expect(existsSync(place)).toBe(false);
    }
    expect(readdirSync(join(place, '..'))).toEqual([]);
    mkdirSync(place);
    using folder = new WholeFolder(place);
    fill(folder, 'x');
    expect(readdirSync(place)).toEqual([]);
    folder.keep();
    expect(read(join(place, 'file'))).toBe('x');
  });

  it('is refused, replaced or added to where there is another', () => {
    const place = fresh();
    writeFileSync(join(place, 'old'), 'old');
    expect(() => new WholeFolder(place)).toThrow(`${place}: is not empty; choose an empty or new folder`);
    expect(() => new WholeFolder(join(place, 'old'))).toThrow('is a file, not a folder');
    {
      using folder = new WholeFolder(place, 'merge');
      fill(folder, 'x');
      folder.keep();
    }
    expect(readdirSync(place).sort()).toEqual(['file', 'old']);
    {
      using folder = new WholeFolder(place, 'replace');
      fill(folder, 'y');
      expect(read(join(place, 'file'))).toBe('x');
      folder.keep();
    }
    expect(readdirSync(place)).toEqual(['file']);
    expect(read(join(place, 'file'))).toBe('y');
  });

  it('is not put over what came meanwhile', () => {
    const place = join(fresh(), 'made');
    using folder = new WholeFolder(place);
    mkdirSync(place);
    writeFileSync(join(place, 'other'), '');
    expect(() => folder.keep()).toThrow('made: is not empty');
    expect(readdirSync(place)).toEqual(['other']);
  });
});

describe('litter', () => {
  it('of a killed process is removed, that of one at work is not, and nothing else', () => {
    const folder = fresh();
    const dead = litterOf(gone, '1');
    // The number has been given to another since.
    const reborn = litterOf(process.pid, '1');
    const foreign = litterOf(gone, '1').replace(/neurgrad-[0-9a-f]{8}/, 'neurgrad-00000000');
    const old = foreign.replace('file', 'old');
    const others = ['file.tmp', 'report.html', foreign];
    for (const name of [dead, reborn, old, ...others]) writeFileSync(join(folder, name), '');
    utimesSync(join(folder, old), 0, 0);
    using file = new WholeFile(join(folder, 'live'));
    sweepLitter(folder);
    const [live] = readdirSync(folder).filter((name) => name.startsWith('live'));
    expect(readdirSync(folder).sort()).toEqual([live, ...others].sort());
    sweepLitter(folder, { alone: true });
    expect(readdirSync(folder)).not.toContain(foreign);
    file.keep();
    expect(existsSync(join(folder, 'live'))).toBe(true);
  });

  it('that was being replaced is put back, or removed where that was done', () => {
    for (const done of [false, true]) {
      const folder = fresh();
      const earlier = join(folder, litterOf(gone, '1', 'step-3').replace(/tmp$/, 'old'));
      mkdirSync(earlier);
      writeFileSync(join(earlier, 'weights'), 'earlier');
      if (done) mkdirSync(join(folder, 'step-3'));
      sweepLitter(folder);
      expect(readdirSync(folder)).toEqual(['step-3']);
      expect(readdirSync(join(folder, 'step-3'))).toEqual(done ? [] : ['weights']);
    }
  });
});

describe('a check before long work', () => {
  it('leaves no trace where all is well', () => {
    const folder = fresh();
    writeWhole(join(folder, 'file'), 'kept');
    checkFile(join(folder, 'file'));
    checkFile(join(folder, 'new'));
    checkFolder(folder);
    expect(readdirSync(folder)).toEqual(['file']);
    expect(read(join(folder, 'file'))).toBe('kept');
    checkFile('/dev/null');
  });

  it('tells in one line what is in the way', () => {
    const file = join(fresh(), 'file');
    writeFileSync(file, '');
    const refused: [() => void, RegExp][] = [
      [() => checkFile(join(root, 'none', 'x')), /none\/x: there is no such folder$/],
      [() => checkFile(join(file, 'x')), /file\/x: a part of the path is a file, not a folder$/],
      [() => checkFile(root), /is a folder, not a file$/],
      [() => checkFolder(join(file, 'x')), /a part of the path is a file|is there already/],
      [() => checkFolder(file), /is there already/],
      // Nobody, not even root, writes there.
      [() => checkFile('/proc/x'), /^\/proc\/x: /],
      [() => checkFolder('/sys/x'), /^\/sys\/x: /],
      [() => checkFile(file, 1e18), /needs 1000000000.0 GB, but its disk has/],
    ];
    for (const [check, message] of refused) {
      expect(check).toThrow(message);
      expect(check).toThrow(expect.objectContaining({ name: 'UserError' }));
    }
  });

  it.skipIf(process.getuid?.() === 0)('tells of rights that are missing', () => {
    const folder = fresh();
    const file = join(folder, 'file');
    writeFileSync(file, '');
    chmodSync(file, 0o400);
    expect(() => checkFile(file)).toThrow('may not be written (permission denied)');
    chmodSync(folder, 0o500);
    expect(() => checkFile(join(folder, 'x'))).toThrow('may not be written (permission denied)');
    chmodSync(folder, 0o700);
  });
});

describe('a lock', () => {
  const hold = (path: string, about: object): void => writeFileSync(path, JSON.stringify(about));

  it('is held by one process until it lets go', () => {
    const path = join(fresh(), 'lock.json');
    {
      using lock = Lock.take(path, 'runs/x');
      expect(lock).toBeInstanceOf(Lock);
      expect(() => Lock.take(path, 'runs/x')).toThrow(
        `runs/x: process ${process.pid} is at work on it; wait for it, or use another folder`,
      );
    }
    expect(existsSync(path)).toBe(false);
    Lock.take(path, '')[Symbol.dispose]();
  });

  it('of a process that is gone, of another birth, or on another machine and long silent holds nobody up', () => {
    const path = join(fresh(), 'lock.json');
    const elsewhere = { pid: 1, host: 'elsewhere', birth: '1' };
    for (const about of [
      { pid: gone, host: hostname() },
      { pid: process.pid, host: hostname(), birth: '1' },
    ]) {
      hold(path, about);
      expect(lockHolder(path)).toBeNull();
      Lock.take(path, '')[Symbol.dispose]();
    }
    hold(path, elsewhere);
    expect(() => Lock.take(path, '')).toThrow('process 1 on elsewhere');
    utimesSync(path, 0, 0);
    Lock.take(path, '')[Symbol.dispose]();
    // Cut, of a disk that has no links, or a hostile one.
    for (const text of ['', '{', '7', '{"pid": "1"}', '{"pid": -1}']) {
      writeFileSync(path, text);
      expect(lockHolder(path)).toBe('that has just begun');
      utimesSync(path, 0, 0);
      expect(lockHolder(path)).toBeNull();
    }
  });

  it('of another that took it from us meanwhile is left to it', () => {
    const path = join(fresh(), 'lock.json');
    const lock = Lock.take(path, '');
    hold(path, { pid: 1, host: 'elsewhere', birth: '1' });
    lock[Symbol.dispose]();
    expect(existsSync(path)).toBe(true);
  });

  it.runIf(process.platform === 'linux')(
    'of a killed process that nobody has waited for is free at once',
    async () => {
      const path = join(fresh(), 'lock.json');
      const program = join(fresh(), 'program.mjs');
      writeFileSync(
        program,
        `import { Lock } from ${JSON.stringify(resolve('dist/engine/lock.js'))};
        Lock.take(${JSON.stringify(path)}, 'x');
        process.kill(process.pid, 'SIGKILL');`,
      );
      // What takes the shell's place never waits for its child: a zombie as long as that one sleeps.
      const shell = spawn('sh', ['-c', `"${process.execPath}" ${program} & exec sleep 60`], {
        stdio: 'ignore',
      });
      try {
        const state = (): string => {
          const { pid } = JSON.parse(read(path)) as { pid: number };
          return / ([A-Z]) /.exec(read(`/proc/${pid}/stat`).split(')').at(-1)!)![1]!;
        };
        await expect.poll(() => existsSync(path) && state(), { timeout: 30_000 }).toBe('Z');
        expect(lockHolder(path)).toBeNull();
        Lock.take(path, 'x')[Symbol.dispose]();
      } finally {
        shell.kill('SIGKILL');
      }
    },
  );
});

it('killed at a change of the disk, what uses all of this ends with the same files', async () => {
  const work = { name: 'module', program: [resolve('test/kills/module.mjs')] };
  // At every change by `npm run kills`.
  expect(await endsAlike(work, root, 6)).toBeGreaterThan(10);
}, 300_000);

it('two at once put a folder in its place once', async () => {
  const folder = fresh();
  const program = `import { WholeFolder, writeWhole } from ${JSON.stringify(resolve('dist/engine/disk.js'))};
    const made = new WholeFolder('made'); writeWhole(made.path + '/file', String(process.pid));
    const at = Date.now() + 200; while (Date.now() < at); try { made.keep(); } finally { made[Symbol.dispose](); }`;
  const run = () =>
    new Promise((done) =>
      spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: folder, stdio: 'ignore' }).on(
        'close',
        done,
      ),
    );
  expect(await Promise.all([run(), run()])).toContain(0);
  expect(readdirSync(folder)).toEqual(['made']);
  expect(readdirSync(join(folder, 'made'))).toEqual(['file']);
});

describe('nobody else writes', () => {
  /** May write otherwise, and why. */
  const OTHERS = new Map([
    ['engine/disk.ts', 'is the one way'],
    ['engine/lock.ts', 'takes locks over'],
    ['cli/setup.mjs', 'runs before anything is built'],
    ['cli/nativeWarnings.ts', 'catches what Dawn prints in a file of its own'],
    ['cli/sharedMemory.ts', 'turns a switch of the kernel'],
    ['bench/bundle.ts', 'makes a bundle in a folder of its own'],
    ['bench/compile/child.ts', 'leaves kernels for the compilers in a folder of its own'],
    ['bench/compile/compilers.ts', 'builds the layer of the compilers in its cache'],
    ['bench/compile/main.ts', 'makes and removes folders for the compilers'],
    ['bench/compile/nvidia.ts', 'writes what nvcc compiles'],
    ['bench/suites/gpu.ts', 'makes and removes a folder for what the golden tests found'],
    ['bench/suites/load.ts', 'makes and removes folders to load from'],
    ['bench/suites/prompts.ts', 'makes and removes a folder with prompts'],
    ['bench/suites/sweep.ts', 'makes and removes a folder'],
    ['examples/dtypes.ts', 'makes and removes a folder'],
    ['examples/lab/setup.mjs', 'installs a browser for tests'],
  ]);
  const WRITES =
    /\b(writeFile|appendFile|createWriteStream|rename|mkdir|mkdtemp|rm|rmdir|unlink|symlink|link|f?truncate|copyFile|cp|utimes|write)(Sync)?\b/;
  /** A file opened otherwise than to be read. */
  const OPENS = /\bopen(?:Sync)?\([^(),]*,\s*'(?!r')[a-z+]+'/g;

  it('in any room: files import none of the calls that change a disk', () => {
    const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
      encoding: 'utf8',
    })
      .split('\n')
      .filter((name) =>
        /^(kernels|engine|models|neurgrad|probing|cli|examples|bench)\/.*\.(ts|mts|mjs|js)$/.test(name),
      );
    expect(files.length).toBeGreaterThan(200);
    const wrong = files.flatMap((file) => {
      if (OTHERS.has(file)) return [];
      const source = read(file).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
      // What is imported from fs by name, or taken from it after `await import`; all of it by another name is refused.
      const named = [
        ...source.matchAll(/import\s*(\{[^}]*\}|\*\s*as\s+\w+|\w+)\s*from\s*'node:fs(?:\/promises)?'/g),
        ...source.matchAll(/(?:const|let)\s*(\{[^}]*\}|\w+)\s*=\s*await import\('node:fs(?:\/promises)?'\)/g),
      ].map((match) => match[1]!);
      const opened = [...source.matchAll(OPENS)].map(([call]) => `${file}: ${call}`);
      const imported = named.flatMap((names) => {
        if (!names.startsWith('{'))
          return usesOf(source, names.replace(/^\*\s*as\s+/, '')).map((use) => `${file}: ${use}`);
        return WRITES.test(names) ? [`${file}: ${names.replace(/\s+/g, ' ')}`] : [];
      });
      return [...opened, ...imported];
    });
    expect(wrong).toEqual([]);
  });

  const usesOf = (source: string, name: string): string[] =>
    [...source.matchAll(new RegExp(`\\b${name}\\.(\\w+)`, 'g'))]
      .map(([, use]) => use!)
      .filter((use) => WRITES.test(use));

  it('and the list of those that may has no file too many', () => {
    for (const file of OTHERS.keys()) expect(existsSync(file), file).toBe(true);
  });
});
