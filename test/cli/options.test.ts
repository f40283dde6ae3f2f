import { spawnSync } from 'node:child_process';
import { InvalidArgumentError } from 'commander';
import { describe, expect, it, vi } from 'vitest';
import { EXIT, reportError } from '../../cli/exit.ts';
import { html, raw } from '../../cli/html.ts';
import { integer, positive, range } from '../../cli/options.ts';
import { checkOutFile, toJson } from '../../cli/output.ts';
import { main } from '../../cli/program.ts';
import { startProgress } from '../../cli/progress.ts';
import { figure, signed, table } from '../../cli/table.ts';
import { UserError } from '../../engine/errors.ts';

describe('option values', () => {
  it('takes what it should', () => {
    expect(integer(1)('12')).toBe(12);
    expect(positive('0.5')).toBe(0.5);
    expect(range('-1:1:1')).toEqual([-1, 0, 1]);
  });
  it.each(['0', '-1', '1.5', 'x', '', ' ', '1e400', 'Infinity'])('integer(1) refuses "%s"', (text) => {
    expect(() => integer(1)(text)).toThrow(InvalidArgumentError);
  });
  it('names both bounds', () => {
    expect(() => integer(2, 5)('6')).toThrow('a whole number, 2 to 5');
  });
  it.each(['0', '-1', 'NaN', '', 'Infinity'])('positive refuses "%s"', (text) => {
    expect(() => positive(text)).toThrow(InvalidArgumentError);
  });
  it('range errors are option errors', () => {
    expect(() => range('1:0:1')).toThrow(InvalidArgumentError);
  });
});

describe('exit codes', () => {
  it('is 2 and one line for the user’s mistakes', () => {
    const lines: string[] = [];
    expect(reportError(new UserError('x', 'no\n  such thing'), (text) => lines.push(text))).toBe(EXIT.user);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('no such thing');
  });
  it('lets no name from a file steer the terminal', () => {
    const lines: string[] = [];
    reportError(new UserError('x', 'tensor \u001b[31mevil\u0007\u202e: extra'), (text) => lines.push(text));
    expect(lines[0]).toContain('tensor <U+001B>[31mevil<U+0007><U+202E>: extra');
  });
  it('is 1 and one line for ours, with a stack where it is asked for', () => {
    const lines: string[] = [];
    expect(reportError(new TypeError('oops\nand more'), (text) => lines.push(text))).toBe(EXIT.ours);
    expect(lines).toEqual([
      expect.stringMatching(/fault of neurgrad.*NEURGRAD_STACK=1.*\(TypeError: oops and more\)$/),
    ]);
    vi.stubEnv('NEURGRAD_STACK', '1');
    expect(reportError(new TypeError('oops'), (text) => lines.push(text))).toBe(EXIT.ours);
    vi.unstubAllEnvs();
    expect(lines.slice(1).join('\n')).toMatch(/TypeError: oops\n\s+at /);
    expect(reportError('only words', (text) => lines.push(text))).toBe(EXIT.ours);
    expect(lines.at(-1)).toContain('Error: only words');
  });
  it('keeps lines within 500 characters', () => {
    for (const error of [new UserError('x', 'long '.repeat(500)), new Error('long '.repeat(500))]) {
      const lines: string[] = [];
      reportError(error, (text) => lines.push(text));
      expect(lines[0]!.length).toBe(500);
    }
  });
  it('is 1 and one line for what nobody waited for', () => {
    const late = "setTimeout(() => Promise.reject(new TypeError('late')), 1); setTimeout(() => {}, 5000);";
    const program = `await import('./dist/cli/main.js'); ${late}`;
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', program, '--', '--version'],
      {
        encoding: 'utf8',
        env: { ...process.env, NO_COLOR: '1' },
      },
    );
    expect(status).toBe(EXIT.ours);
    expect(stderr).toMatch(/^error: this is a fault of neurgrad.*\(TypeError: late\)\n$/);
  });
  it('is 2 and one line for an option of any length', async () => {
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const code = await main(['predict', `--${'x'.repeat(3000)}\u009b`, '--model', 'm', '--prompt', 'p']);
    const text = written.mock.calls.map(([part]) => String(part)).join('');
    written.mockRestore();
    expect(code).toBe(EXIT.user);
    expect(text).toMatch(/^error: unknown option .{400,500}\n$/);
    expect(text).not.toMatch(/[\u007f-\u009f]/);
  });
});

describe('text', () => {
  it('writes typed arrays as arrays and NaN as null', () => {
    expect(toJson({ a: Float32Array.from([1, 0.5]), b: Number.NaN })).toBe('{"a":[1,0.5],"b":null}');
  });
  it('rounds figures', () => {
    expect([0.97216, 0, 1e-7, 123456, Number.NaN, 12].map((value) => figure(value))).toEqual([
      '0.9722',
      '0',
      '1.00e-7',
      '1.23e+5',
      '–',
      '12.00',
    ]);
    expect([signed(0.5, 2), signed(-0.5, 2), signed(0)]).toEqual(['+0.50', '-0.50', '0']);
  });
  it('sets columns of numbers to the right', () => {
    expect(
      table(
        ['token', 'p'],
        [
          ['paris', '0.9'],
          ['a', '0.05'],
        ],
      ),
    ).toContain('│  0.9 │');
  });
  it('refuses rows that are not as long as the heading', () => {
    expect(() => table(['a', 'b'], [['1', '2'], ['3']])).toThrow('row 1 has 1 cells for 2 columns');
  });
  it('refuses output paths that cannot be written', () => {
    expect(() => checkOutFile('')).toThrow('--out: the name is empty');
    expect(() => checkOutFile('package.json/x')).toThrow(UserError);
    expect(() => checkOutFile('x'.repeat(300))).toThrow('the name is too long');
    // What is named as another format than what is written.
    for (const name of ['x.csv', 'x.safetensors', 'x.html', 'x.JSONL'])
      expect(() => checkOutFile(name, ['.json'])).toThrow(`--out ${name}: `);
    for (const name of ['x.json', 'x.JSON', 'x', 'france-0.5', '/dev/stdout'])
      expect(checkOutFile(name, ['.json'])).toBe(/json$/i.test(name) ? '.json' : '');
    expect(() => checkOutFile('test')).toThrow('is a folder');
  });
  it('escapes what it is given, once', () => {
    expect(html`<b>${'<i> & "x"'}</b>${raw('<hr>')}${[html`<u>${"'"}</u>`]}`.text).toBe(
      '<b>&lt;i&gt; &amp; &quot;x&quot;</b><hr><u>&#39;</u>',
    );
  });
});

describe('progress', () => {
  it('writes plain lines where there is no terminal', () => {
    let text = '';
    const stream = { isTTY: false, write: (part: string) => (text += part) };
    const progress = startProgress('sweep', 'rows', stream as unknown as NodeJS.WriteStream);
    progress.update(10, 20);
    progress.update(20, 20);
    progress.update(20, 20);
    progress.stop();
    expect(text).toMatch(/^sweep: 20\/20 rows, \d+\/s, \d+\.\d s\n$/);
  });
});
