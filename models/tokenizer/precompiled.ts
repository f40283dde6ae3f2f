/**
 * SentencePiece's table of replacements, which files carry as one base64 text: the size of a trie in bytes, the trie as a
 * double array of 32-bit units (Darts-clone), and the replacements, each ended by a zero.
 *
 * Source: spm_precompiled 0.1.4, and `tokenizers` src/normalizers/precompiled.rs for whole clusters before characters.
 */

const leaf = (unit: number): boolean => ((unit >>> 8) & 1) === 1;
const value = (unit: number): number => unit & 0x7fffffff;
const label = (unit: number): number => (unit & 0x800000ff) >>> 0;
const offset = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);

/** @throws Error where the table is not one. */
export function precompiled(base64: string): (text: string) => string {
  const blob = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const view = new DataView(blob.buffer);
  const size = blob.length < 4 ? -1 : view.getUint32(0, true);
  if (size < 4 || size % 4 !== 0 || 4 + size > blob.length)
    throw new Error('precompiled_charsmap is cut short');
  const trie = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const replacements = blob.subarray(4 + size);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  /** The replacement of the shortest beginning of `bytes` that has one. */
  const replacementOf = (bytes: Uint8Array): string | undefined => {
    let node = offset(trie[0]!);
    for (const byte of bytes) {
      if (byte === 0) return undefined;
      node ^= byte;
      const unit = trie[node];
      if (unit === undefined || label(unit) !== byte) return undefined;
      node ^= offset(unit);
      if (leaf(unit)) {
        const from = value(trie[node] ?? 0);
        const end = replacements.indexOf(0, from);
        return decoder.decode(replacements.subarray(from, end < 0 ? undefined : end));
      }
    }
    return undefined;
  };
  const clusters = new Intl.Segmenter('en', { granularity: 'grapheme' });
  return (text) => {
    let out = '';
    for (const { segment } of clusters.segment(text)) {
      const bytes = encoder.encode(segment);
      const whole = bytes.length < 6 ? replacementOf(bytes) : undefined;
      if (whole !== undefined) out += whole;
      else for (const letter of segment) out += replacementOf(encoder.encode(letter)) ?? letter;
    }
    return out;
  };
}
