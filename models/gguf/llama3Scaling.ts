/**
 * Llama 3's scaling of rotary positions from the factors that GGUF files have in its place, one for each pair of dimensions:
 * 1 for short waves, the scaling's factor for long ones, and between the two bounds a straight line in the inverse of the wave's
 * length (`convert_hf_to_gguf.py`, `Llama3`'s rope factors).
 *
 * Only the bounds count, not which of the length and the two frequency factors makes them: the lower factor is taken for 1.
 */

/** As config.json has it; null where the factors are no such line. */
export function llama3Scaling(factors: Float32Array, theta: number): Record<string, unknown> | null {
  const size = 2 * factors.length;
  const inverse = Array.from(factors, (_, i) => theta ** ((-2 * i) / size) / (2 * Math.PI));
  const factor = Math.max(...factors);
  if (!(factor > 1)) return null;
  const smooth = Array.from(factors, (f) => (1 / f - 1 / factor) / (1 - 1 / factor));
  const between = smooth.flatMap((s, i) => (s > 1e-4 && s < 1 - 1e-4 ? [i] : []));
  const [a, b] = [between[0], between.at(-1)];
  // smooth = (length * inverse - 1) / (high - 1): two of them say both, one says the length where the bound is the usual one.
  let [length, high] = [8192, 4];
  if (a !== undefined && b !== undefined) {
    if (a !== b) {
      const slope = (smooth[a]! - smooth[b]!) / (inverse[a]! - inverse[b]!);
      high = Number((1 + 1 / (slope * inverse[a]! - smooth[a]!)).toPrecision(4));
    }
    length = Math.round(((high - 1) * smooth[a]! + 1) / inverse[a]!);
  }
  const right = smooth.every((s, i) => {
    const expected = Math.min(1, Math.max(0, (length * inverse[i]! - 1) / (high - 1)));
    return Math.abs(s - expected) < 1e-3;
  });
  if (!right) return null;
  return {
    rope_type: 'llama3',
    factor: Number(factor.toPrecision(6)),
    low_freq_factor: 1,
    high_freq_factor: high,
    original_max_position_embeddings: length,
  };
}
