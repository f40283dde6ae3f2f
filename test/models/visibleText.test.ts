import { describe, expect, it } from 'vitest';
import { visibleJson, visibleText } from '../../models/visibleText.ts';

const ALL = Array.from({ length: 0x2100 }, (_, code) => code)
  .filter((code) => code < 0xa1 || code >= 0x2000)
  .concat(0x61c, 0xad, 0xfeff, 0xfffa, 0xe0041, 0xd800)
  .map((code) => String.fromCodePoint(code))
  .join('');

/** What steers a terminal, turns the writing, or breaks lines. */
const STEERS =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/u;

describe('visible text', () => {
  it('nothing that steers is left', () => {
    expect(visibleText(ALL)).not.toMatch(STEERS);
    expect(visibleText(ALL)).not.toContain('\n');
    expect(visibleJson(JSON.stringify({ ALL }, null, 2))).not.toMatch(STEERS);
  });
  it.each([
    ['\u001b[31m', '<U+001B>[31m'],
    ['\u009b31m', '<U+009B>31m'],
    ['a\nb\r\tc', 'a\\nb\\r\\tc'],
    ['\u202eabc', '<U+202E>abc'],
    ['\u{e0041}', '<U+E0041>'],
    ['Ärger 你好 👩\u200d👧 नमस्ते', 'Ärger 你好 👩\u200d👧 नमस्ते'],
  ])('%j', (text, visible) => {
    expect(visibleText(text)).toBe(visible);
  });
  it('keeps what it is told to', () => {
    expect(visibleText('a\nb\tc\u0007', '\n\t')).toBe('a\nb\tc<U+0007>');
  });
  it('JSON has the same values', () => {
    expect(JSON.parse(visibleJson(JSON.stringify({ ALL }, null, 2)))).toEqual({ ALL });
  });
});
