/**
 * The test files where vitest does not run: in Deno, and on a page. An import of `vitest` leads here, to vitest's own packages for
 * describing, running and expecting, so that there is no second copy of any case. Snapshots and module mocks are vitest's alone.
 */

import {
  ASYMMETRIC_MATCHERS_OBJECT,
  chai,
  customMatchers,
  type ExpectStatic,
  GLOBAL_EXPECT,
  getState,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  type MatcherState,
  setState,
} from '@vitest/expect';
import { type File, getCurrentTest, startTests, type Task, type VitestRunner } from '@vitest/runner';

export { afterAll, afterEach, beforeAll, beforeEach, describe, it, test } from '@vitest/runner';

for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin);

// Failures are told in text alone, so whole.
chai.config.truncateThreshold = 0;

const global = globalThis as Record<PropertyKey, unknown>;

/** vitest's `expect`, but for what waits (`poll`). */
export const expect = ((value: unknown, message?: string) => {
  const assertion = chai.expect(value, message) as unknown as { withTest(of: unknown): unknown };
  const current = getCurrentTest();
  return current ? assertion.withTest(current) : assertion;
}) as ExpectStatic;
Object.assign(expect, chai.expect, global[ASYMMETRIC_MATCHERS_OBJECT]);
expect.getState = () => getState(expect) as never;
expect.setState = (state) => setState(state as Partial<MatcherState>, expect);
global[GLOBAL_EXPECT] = expect;
expect.setState({ assertionCalls: 0 });
(chai.expect as unknown as { extend(of: ExpectStatic, matchers: unknown): void }).extend(
  expect,
  customMatchers,
);

/** What became of the tests of a file. */
export interface FileOutcome {
  readonly file: string;
  readonly seconds: number;
  readonly passed: number;
  /** Not asked for, or for a feature that is not here. */
  readonly skipped: number;
  /** Each with its name and what was wrong. */
  readonly failures: readonly string[];
}

/** What went wrong in a test, a group or a file itself. */
function faultsOf(task: Task, within: string): string[] {
  const name = [within, task.name].filter(Boolean).join(' > ');
  const own = (task.result?.errors ?? []).map(
    ({ message, stack }) => `${name}: ${message}\n${stack?.split('\n').slice(0, 6).join('\n') ?? ''}`,
  );
  return task.type === 'suite' ? [...own, ...task.tasks.flatMap((one) => faultsOf(one, name))] : own;
}

function count(task: Task, states: readonly (string | undefined)[]): number {
  if (task.type === 'suite') return task.tasks.reduce((sum, one) => sum + count(one, states), 0);
  return states.includes(task.result?.state ?? 'skip') ? 1 : 0;
}

/** Runs a test file that `load` imports; of its tests those whose full names fit the pattern. Each is told when it has ended. */
export async function runFile(
  file: string,
  load: () => Promise<unknown>,
  pattern?: RegExp,
  ended: (name: string, state: string) => void = () => {},
): Promise<FileOutcome> {
  const runner: VitestRunner = {
    config: {
      root: '/',
      setupFiles: [],
      name: undefined,
      passWithNoTests: false,
      testNamePattern: pattern,
      allowOnly: false,
      sequence: { seed: 1, hooks: 'stack', setupFiles: 'list' },
      chaiConfig: undefined,
      maxConcurrency: 1,
      testTimeout: 600_000,
      hookTimeout: 600_000,
      retry: 0,
      includeTaskLocation: false,
      tags: [],
      tagsFilter: undefined,
      strictTags: false,
    },
    importFile: load,
    onAfterRunTask: ({ name, result }) => ended(name, result?.state ?? 'skip'),
  };
  const began = performance.now();
  const [ran] = (await startTests([file], runner)) as [File];
  const failures = ran.tasks.flatMap((task) => faultsOf(task, ''));
  return {
    file,
    seconds: (performance.now() - began) / 1000,
    passed: count(ran, ['pass']),
    skipped: count(ran, ['skip', 'todo']),
    failures: [...(ran.result?.errors ?? []).map(({ message }) => message), ...failures],
  };
}
