/**
 * Tests of single kernels compile hundreds of them and run each once. On Mesa's CPU driver LLVM's optimisation is a third of their time and
 * changes no bit, so there it is left out; tests of models, which run what they compile, keep it.
 */

import { expect } from 'vitest';

if (/[\\/]test[\\/](engine|kernels)[\\/]/.test(expect.getState().testPath ?? ''))
  process.env.GALLIVM_PERF ??= 'nopt';
