/**
 * Tests compile thousands of kernels and run most of them once. On Mesa's CPU driver LLVM's optimisation is a third of their time and changes no
 * bit, so it is left out; where results are compared with reference values, kernels are compiled as users have them.
 */

import { expect } from 'vitest';

if (!/golden/i.test(expect.getState().testPath ?? '')) process.env.GALLIVM_PERF ??= 'nopt';
