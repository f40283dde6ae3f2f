/** A profile in Chrome's trace format: every dispatch with its rates. Open it in chrome://tracing or Perfetto. */

import { type Ceiling, ratesOf } from './ceiling.ts';
import type { KernelSpan } from './profiler.ts';

/** Spans as JSON; with a ceiling each also says its share of the nearer one, from 0 to 1. */
export function chromeTrace(spans: readonly KernelSpan[], ceiling?: Ceiling): string {
  return JSON.stringify({
    displayTimeUnit: 'ns',
    traceEvents: spans.map(({ kernel, flops, bytes, begin, end }) => {
      const { gflops, gbytes, share } = ratesOf({ flops, bytes, nanoseconds: end - begin }, ceiling);
      return {
        name: kernel,
        cat: 'kernel',
        ph: 'X',
        ts: begin / 1000,
        dur: (end - begin) / 1000,
        pid: 1,
        tid: 1,
        args: { 'GFLOP/s': gflops, 'GB/s': gbytes, 'share of ceiling': share },
      };
    }),
  });
}
