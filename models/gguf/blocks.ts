/**
 * The block formats of ggml to float32, in its order of operations (`dequantize_row_*` in ggml-quants.c): every product and
 * sum is rounded to float32, as there.
 *
 * A row is cut into blocks of 32 or 256 numbers; a block has one or two scales in half precision, and those of 256 numbers ("K") have
 * whole ones of 4 or 6 bits for each 16 or 32.
 */

import { halfToNumber } from '../half.ts';

const f = Math.fround;

/** Numbers and bytes of a block, and what unpacks one from byte `at` on into `out` from `to` on. */
interface Block {
  readonly elements: number;
  readonly bytes: number;
  readonly unpack: (view: DataView, at: number, out: Float32Array, to: number) => void;
}

const half = (view: DataView, at: number): number => halfToNumber(view.getUint16(at, true));

/** 32 numbers in 16 bytes: the low halves of all bytes, then the high ones. */
const nibbles = (view: DataView, at: number, take: (i: number, code: number) => void): void => {
  for (let i = 0; i < 16; i++) {
    const byte = view.getUint8(at + i);
    take(i, byte & 15);
    take(i + 16, byte >> 4);
  }
};

/** The same with a fifth bit each, in four bytes before them. */
const fives = (view: DataView, at: number, take: (i: number, code: number) => void): void => {
  const high = view.getUint32(at, true);
  nibbles(view, at + 4, (i, code) => take(i, code | (((high >>> i) & 1) << 4)));
};

/** Scale and minimum `i` of eight, of 6 bits each in 12 bytes. */
function scaleAndMinimum(view: DataView, at: number, i: number): [scale: number, minimum: number] {
  const byte = (j: number): number => view.getUint8(at + j);
  return i < 4
    ? [byte(i) & 63, byte(i + 4) & 63]
    : [(byte(i + 4) & 15) | ((byte(i - 4) >> 6) << 4), (byte(i + 4) >> 4) | ((byte(i) >> 6) << 4)];
}

/** Scale `i` of sixteen, of 6 bits each in 12 bytes, as Q3_K has them. */
function scaleOfSixteen(view: DataView, at: number, i: number): number {
  const low = view.getUint8(at + (i % 8)) >> (i < 8 ? 0 : 4);
  const high = view.getUint8(at + 8 + (i % 4)) >> (2 * (i >> 2));
  return (low & 15) | ((high & 3) << 4);
}

/** Of Q4_K and Q5_K: `code(i)` is the number at i. */
function scaledByEights(
  view: DataView,
  at: number,
  out: Float32Array,
  to: number,
  code: (i: number) => number,
): void {
  const [d, dmin] = [half(view, at), half(view, at + 2)];
  for (let group = 0; group < 8; group++) {
    const [scale, minimum] = scaleAndMinimum(view, at + 4, group);
    const [by, less] = [f(d * scale), f(dmin * minimum)];
    for (let i = 32 * group; i < 32 * group + 32; i++) out[to + i] = f(by * code(i)) - less;
  }
}

export const BLOCKS = {
  F32: {
    elements: 1,
    bytes: 4,
    unpack: (view, at, out, to) => {
      out[to] = view.getFloat32(at, true);
    },
  },
  F16: {
    elements: 1,
    bytes: 2,
    unpack: (view, at, out, to) => {
      out[to] = half(view, at);
    },
  },
  BF16: {
    elements: 1,
    bytes: 2,
    unpack: (view, at, out, to) => {
      new DataView(out.buffer, out.byteOffset).setUint32(4 * to, view.getUint16(at, true) << 16, true);
    },
  },
  Q8_0: {
    elements: 32,
    bytes: 34,
    unpack: (view, at, out, to) => {
      const d = half(view, at);
      for (let i = 0; i < 32; i++) out[to + i] = d * view.getInt8(at + 2 + i);
    },
  },
  Q4_0: {
    elements: 32,
    bytes: 18,
    unpack: (view, at, out, to) => {
      const d = half(view, at);
      nibbles(view, at + 2, (i, code) => {
        out[to + i] = d * (code - 8);
      });
    },
  },
  Q4_1: {
    elements: 32,
    bytes: 20,
    unpack: (view, at, out, to) => {
      const [d, m] = [half(view, at), half(view, at + 2)];
      nibbles(view, at + 4, (i, code) => {
        out[to + i] = f(d * code) + m;
      });
    },
  },
  Q5_0: {
    elements: 32,
    bytes: 22,
    unpack: (view, at, out, to) => {
      const d = half(view, at);
      fives(view, at + 2, (i, code) => {
        out[to + i] = d * (code - 16);
      });
    },
  },
  Q5_1: {
    elements: 32,
    bytes: 24,
    unpack: (view, at, out, to) => {
      const [d, m] = [half(view, at), half(view, at + 2)];
      fives(view, at + 4, (i, code) => {
        out[to + i] = f(d * code) + m;
      });
    },
  },
  Q2_K: {
    elements: 256,
    bytes: 84,
    unpack: (view, at, out, to) => {
      const [d, dmin] = [half(view, at + 80), half(view, at + 82)];
      for (let i = 0; i < 256; i++) {
        const scales = view.getUint8(at + (i >> 4));
        const byte = view.getUint8(at + 16 + 32 * (i >> 7) + (i % 32));
        const code = (byte >> (2 * ((i >> 5) % 4))) & 3;
        out[to + i] = f(f(d * (scales & 15)) * code) - f(dmin * (scales >> 4));
      }
    },
  },
  Q3_K: {
    elements: 256,
    bytes: 110,
    unpack: (view, at, out, to) => {
      const d = half(view, at + 108);
      for (let i = 0; i < 256; i++) {
        const byte = view.getUint8(at + 32 + 32 * (i >> 7) + (i % 32));
        const low = (byte >> (2 * ((i >> 5) % 4))) & 3;
        const high = (view.getUint8(at + (i % 32)) >> (i >> 5)) & 1;
        const scale = scaleOfSixteen(view, at + 96, i >> 4) - 32;
        out[to + i] = f(d * scale) * (low - (high ? 0 : 4));
      }
    },
  },
  Q4_K: {
    elements: 256,
    bytes: 144,
    unpack: (view, at, out, to) =>
      scaledByEights(view, at, out, to, (i) => {
        const byte = view.getUint8(at + 16 + 32 * (i >> 6) + (i % 32));
        return (i >> 5) % 2 ? byte >> 4 : byte & 15;
      }),
  },
  Q5_K: {
    elements: 256,
    bytes: 176,
    unpack: (view, at, out, to) =>
      scaledByEights(view, at, out, to, (i) => {
        const byte = view.getUint8(at + 48 + 32 * (i >> 6) + (i % 32));
        const high = (view.getUint8(at + 16 + (i % 32)) >> (i >> 5)) & 1;
        return ((i >> 5) % 2 ? byte >> 4 : byte & 15) + 16 * high;
      }),
  },
  Q6_K: {
    elements: 256,
    bytes: 210,
    unpack: (view, at, out, to) => {
      const d = half(view, at + 208);
      for (let i = 0; i < 256; i++) {
        const [side, quarter] = [i >> 7, (i >> 5) % 4];
        const byte = view.getUint8(at + 64 * side + 32 * (quarter % 2) + (i % 32));
        const low = quarter > 1 ? byte >> 4 : byte & 15;
        const high = (view.getUint8(at + 128 + 32 * side + (i % 32)) >> (2 * quarter)) & 3;
        out[to + i] = f(d * view.getInt8(at + 192 + (i >> 4))) * ((low | (high << 4)) - 32);
      }
    },
  },
} as const satisfies Record<string, Block>;

/** How the numbers of a tensor are stored. */
export type BlockFormat = keyof typeof BLOCKS;

/** Whole blocks to float32; `bytes` holds as many as `out` has room for. */
export function unpackBlocks(format: BlockFormat, bytes: Uint8Array, out: Float32Array): void {
  const { elements, bytes: size, unpack }: Block = BLOCKS[format];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0, to = 0; to < out.length; at += size, to += elements) unpack(view, at, out, to);
}
