/** Work on prompts, some at a time: what is there already is not done again, and each unit's rows are written as they are finished. */

import { showToken, type TokenText, tokenText } from '../models/tokenText.ts';
import type { Target } from '../neurgrad/answers.ts';
import {
  type LanguageModel,
  type ManyGradientOptions,
  type NeuronGradients,
  neuronGradients,
  numbersOf,
  type Sweep,
} from '../neurgrad/index.ts';
import { stampModel } from '../neurgrad/study/folder.ts';
import { startProgress } from './progress.ts';
import type { Case } from './prompt.ts';
import type { RowSink } from './results.ts';
import type { ColumnKind, RowBlock } from './rows.ts';
import type { ModelCard, Session } from './session.ts';
import { figure } from './table.ts';

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

/** Columns of a neuron that was swept: what was foretold, and what was measured. */
export const MEASURED_COLUMNS = {
  layer: 'whole',
  neuron: 'whole',
  activation: 'number',
  g_c: 'number',
  neurgrad: 'number',
  g_c_noise: 'number',
  g_e: 'number',
  intercept: 'number',
  r: 'number',
  noise: 'number',
  flat: 'flag',
  linear: 'flag',
  fit_range: 'number',
} as const satisfies Record<string, ColumnKind>;

/** Columns of the tokens beside the target: of an answer of several tokens all of them, and what logit_diff subtracts. */
export const OTHER_COLUMNS = {
  target_ids: 'text',
  other: 'text',
  other_id: 'whole',
} as const satisfies Record<string, ColumnKind>;

/** The cells of {@link PROMPT_COLUMNS}. @param model as it was named. */
export const promptCells = (model: string, { id, prompt, answer }: Case<Target>) => ({
  model,
  prompt_id: id,
  prompt: prompt.text,
  answer,
});

/** A target as results hold it: of several tokens the text is of all, and `id` the first one's. */
export interface TargetText extends TokenText {
  readonly ids?: readonly number[];
}

/** A question's tokens, as they are shown. */
export interface ShownTokens {
  readonly target: TargetText;
  /** What logit_diff subtracts. */
  readonly other: TokenText | null;
}

/** The tokens of a result. */
export const shownTokens = (
  tokenizer: Parameters<typeof tokenText>[0],
  {
    target,
    answer,
    other,
  }: {
    readonly target: number;
    readonly answer?: readonly number[] | undefined;
    readonly other?: number | undefined;
  },
): ShownTokens => ({
  target: answer ? answerText(tokenizer, answer) : tokenText(tokenizer, target),
  other: other === undefined ? null : tokenText(tokenizer, other),
});

function answerText(tokenizer: Parameters<typeof tokenText>[0], ids: readonly number[]): TargetText {
  const tokens = ids.map((id) => tokenText(tokenizer, id));
  const joined = (of: 'token' | 'text'): string => tokens.map((one) => one[of]).join('');
  return { id: ids[0]!, token: joined('token'), text: joined('text'), ids };
}

/** For people: `p(paris) = 0.98`, and what is subtracted. */
export const targetWords = (target: TokenText & { readonly p: number }, other: TokenText | null): string =>
  `p(${showToken(target)}) = ${figure(target.p)}${other ? `, logit less that of ${showToken(other)},` : ''}`;

/** The cells of {@link OTHER_COLUMNS}. */
export const otherCells = ({ target, other }: ShownTokens) => ({
  target_ids: target.ids?.join(' ') ?? null,
  other: other?.text ?? null,
  other_id: other?.id ?? null,
});

/** The cells of {@link TARGET_COLUMNS} and {@link OTHER_COLUMNS}; a sweep's neurons bring a site each. */
export const targetCells = (
  tokens: ShownTokens,
  {
    target,
    p,
    neuronPosition,
    conventions,
  }: Pick<NeuronGradients, 'target' | 'p' | 'neuronPosition'> & {
    readonly conventions: Sweep['conventions'];
  },
) => ({
  target: tokens.target.text,
  target_id: target,
  p,
  position: neuronPosition,
  ...conventions,
  ...otherCells(tokens),
});

/** What rows of a command depend on, but for its own options: a folder is of one of it. */
export const questionOf = (
  name: string,
  card: ModelCard,
  { model, folder, placement }: Session,
  cases: readonly Case<Target>[],
) => ({
  files: stampModel(name, folder, card).files,
  name,
  placement,
  dtype: numbersOf(model),
  cases: cases.map(({ id, prompt, target, other, at, answer }) => [
    id,
    prompt.ids,
    prompt.position,
    target ?? null,
    at ?? null,
    answer,
    // A folder of a quantity of one token is of the same question as it was before there were differences.
    ...(other === undefined ? [] : [other]),
  ]),
});

/**
 * @param work on the cases of a unit; tells how many of them are done meanwhile.
 * @param size of a unit; default {@link UNIT}.
 */
export async function inUnits<Asked extends Case<Target>>(
  label: string,
  cases: readonly Asked[],
  sink: RowSink | null,
  work: (some: readonly Asked[], told: (done: number) => void) => Promise<readonly RowBlock[]>,
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

/** What was asked for, or else the model's own answer, as what is asked for next. */
export const askedAgain = ({ target, answer }: Pick<NeuronGradients, 'target' | 'answer'>): Target =>
  answer ?? target;

/** Gradients that a unit's neurons are ranked by. */
export const rankedBy = (
  model: LanguageModel,
  some: readonly Case<Target>[],
  options: ManyGradientOptions,
): Promise<NeuronGradients[]> =>
  neuronGradients(
    model,
    some.map(({ prompt }) => prompt),
    {
      ...options,
      target: some.map(({ target }) => target),
      other: some.map(({ other }) => other),
      neuronPosition: some.map(({ at }) => at),
    },
  );
