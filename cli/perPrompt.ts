/** Work on prompts, some at a time: what is there already is not done again, and each unit's rows are written as they are finished. */

import type { TokenText } from '../models/tokenText.ts';
import { type NeuronGradients, numbersOf, type Sweep } from '../neurgrad/index.ts';
import { stampModel } from '../neurgrad/study/folder.ts';
import { startProgress } from './progress.ts';
import type { Case } from './prompt.ts';
import type { RowSink } from './results.ts';
import type { ColumnKind, RowBlock } from './rows.ts';
import type { ModelCard, Session } from './session.ts';

/** Prompts whose rows are written together: some fill a pass, and not much is lost with them. */
export const UNIT = 32;

/** Columns that all tables begin with: what was asked. */
export const PROMPT_COLUMNS = {
  model: 'text',
  prompt_id: 'text',
  prompt: 'text',
  answer: 'text',
} as const satisfies Record<string, ColumnKind>;

/** Columns of the target and of what numbers mean. */
export const TARGET_COLUMNS = {
  target: 'text',
  target_id: 'whole',
  p: 'number',
  position: 'whole',
  site: 'text',
  direction: 'text',
  sign: 'text',
  of: 'text',
  dtype: 'text',
} as const satisfies Record<string, ColumnKind>;

/** The cells of {@link PROMPT_COLUMNS}. @param model as it was named. */
export const promptCells = (model: string, { id, prompt, answer }: Case) => ({
  model,
  prompt_id: id,
  prompt: prompt.text,
  answer,
});

/** The cells of {@link TARGET_COLUMNS}; a sweep's neurons bring a site each. @param token the target, as it is shown. */
export const targetCells = (
  token: TokenText,
  {
    target,
    p,
    neuronPosition,
    conventions,
  }: Pick<NeuronGradients, 'target' | 'p' | 'neuronPosition'> & {
    readonly conventions: Sweep['conventions'];
  },
) => ({
  target: token.text,
  target_id: target,
  p,
  position: neuronPosition,
  ...conventions,
});

/** What rows of a command depend on, but for its own options: a folder is of one of it. */
export const questionOf = (
  name: string,
  card: ModelCard,
  { model, folder, placement }: Session,
  cases: readonly Case[],
) => ({
  files: stampModel(name, folder, card).files,
  name,
  placement,
  dtype: numbersOf(model),
  cases: cases.map(({ id, prompt, target, at, answer }) => [
    id,
    prompt.ids,
    prompt.position,
    target ?? null,
    at ?? null,
    answer,
  ]),
});

/**
 * @param work on the cases of a unit; tells how many of them are done meanwhile.
 * @param size of a unit; default {@link UNIT}.
 */
export async function inUnits(
  label: string,
  cases: readonly Case[],
  sink: RowSink | null,
  work: (some: readonly Case[], told: (done: number) => void) => Promise<readonly RowBlock[]>,
  size = UNIT,
): Promise<void> {
  const progress = startProgress(label, 'prompts');
  try {
    for (let from = 0; from < cases.length; from += size) {
      const unit = from / size;
      const some = cases.slice(from, from + size);
      if (!(await sink?.has(unit))) {
        const blocks = await work(some, (done) => progress.update(from + done, cases.length));
        sink?.put(unit, blocks);
      }
      if (cases.length > 1) progress.update(from + some.length, cases.length);
    }
  } finally {
    progress.stop();
  }
}
