/** `neurgrad predict`: what the model answers at the probe position. */

import { type Command, Option } from 'commander';
import { showToken, tokenText } from '../../models/tokenText.ts';
import { answerMany } from '../../neurgrad/answers.ts';
import type { AnswerValues } from '../../neurgrad/index.ts';
import { topPredictions } from '../../neurgrad/predict.ts';
import {
  integer,
  modelOptions,
  promptsOptions,
  resultOptions,
  seedOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import { inUnits, PROMPT_COLUMNS, promptCells, questionOf } from '../perPrompt.ts';
import { asksMany, describePrompt, type PromptOptions, readAnswerCases } from '../prompt.ts';
import { destinationOf, openRows, type ResultOptions } from '../results.ts';
import type { RowBlock, RowSchema } from '../rows.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, table } from '../table.ts';

interface Options extends PromptOptions, ResultOptions, WeightsOptions {
  readonly model: string;
  readonly seed: number;
  readonly top: number;
}

/** A row a (model, prompt, rank). */
export const PREDICTION_ROWS: RowSchema = {
  format: 'neurgrad predictions 1',
  columns: {
    ...PROMPT_COLUMNS,
    answer_id: 'whole',
    answer_ids: 'text',
    answer_p: 'number',
    position: 'whole',
    rank: 'whole',
    token: 'text',
    text: 'text',
    id: 'whole',
    p: 'number',
    right: 'flag',
  },
};

export function addPredict(program: Command): void {
  withOptions(
    program.command('predict').description('the most probable tokens at the mask, or after the prompt'),
    ...modelOptions(),
    ...promptsOptions(),
    seedOption('of the draw of --num-prompts'),
    new Option('--top <n>', 'how many').argParser(integer(1)).default(5),
    ...resultOptions(),
    ...weightsOptions(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad predict --model examples/models/facts-bert --prompt "The capital of France is [MASK]."
  neurgrad predict --model examples/models/stories260k --prompt "Once upon a time" --top 10 --json
  neurgrad predict --model examples/models/facts-bert --prompts examples/models/facts-bert --num-prompts 100 --out answers.parquet

JSON: {"model", "prompt" as written out, "ids", "tokens", "position", "predictions": [{"id", "token" as the vocabulary spells it, "text", "p"}]}`,
    )
    .action(runPredict);
}

async function runPredict(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const many = asksMany(options);
  const destination = destinationOf(options, { many });
  const card = await readModelCard(options.model);
  const cases = await readAnswerCases(card, options, output);
  await withModel(
    card,
    async (session) => {
      const { model, tokenizer } = session;
      using sink = openRows(destination, PREDICTION_ROWS, () => ({
        ...questionOf(options.model, card, session, cases),
        top: options.top,
      }));
      const found: (ReturnType<typeof describePrompt> & {
        id: string;
        answer?: string;
        /** Of the answer that the prompt's file says is right. */
        answerP?: number;
        predictions: (ReturnType<typeof tokenText> & { p: number })[];
      })[] = [];
      const answers: (AnswerValues | null)[] = [];
      await inUnits('predict', cases, sink, async (some) => {
        const best = await answerMany(
          'predict',
          model,
          some.map(({ prompt }) => prompt),
          some.map(({ target }) => target),
          (logits) => topPredictions(logits, options.top),
        );
        return some.map((one, i): RowBlock => {
          const { made, answer: right } = best[i]!;
          const { target } = one;
          const predictions = made.map(({ id, p }) => ({ ...tokenText(tokenizer, id), p }));
          found.push({
            id: one.id,
            ...describePrompt(one.prompt),
            ...(one.answer === null ? {} : { answer: one.answer }),
            ...(right ? { answerP: right.p } : {}),
            predictions,
          });
          answers.push(right);
          return {
            count: predictions.length,
            same: {
              ...promptCells(options.model, one),
              answer_id: (typeof target === 'object' ? target[0] : target) ?? null,
              answer_ids: typeof target === 'object' ? target.join(' ') : null,
              answer_p: right?.p ?? null,
              position: one.prompt.position,
            },
            each: {
              rank: predictions.map((_, rank) => rank + 1),
              token: predictions.map(({ token }) => token),
              text: predictions.map(({ text }) => text),
              id: predictions.map(({ id }) => id),
              p: predictions.map(({ p }) => p),
              right: predictions.map(({ id }, rank) =>
                target === undefined
                  ? null
                  : typeof target === 'object'
                    ? rank === 0 && right!.best
                    : id === target,
              ),
            },
          };
        });
      });
      const written = sink?.end();
      if (destination.kind === 'output') return;
      const file = written === undefined ? {} : { file: written };
      if (!many) {
        const [{ id: _, ...one }] = found as [(typeof found)[0]];
        output.result({ model: options.model, ...one, ...file }, () =>
          [
            table(
              ['token', 'id', 'p'],
              one.predictions.map((each) => [showToken(each), each.id, figure(each.p)]),
            ),
            ...(written === undefined ? [] : [`wrote ${written}`]),
          ].join('\n'),
        );
        return;
      }
      const known = answers.filter((one) => one !== null).length;
      const right = answers.filter((one) => one?.best).length;
      output.result(
        { format: PREDICTION_ROWS.format, model: options.model, prompts: found, known, right, ...file },
        () =>
          [
            ...(written === undefined
              ? [
                  table(
                    ['id', 'prompt', 'answer', 'best', 'p'],
                    found.map(({ id, prompt, answer = '', predictions: [best] }) => [
                      id,
                      prompt.length > 60 ? `${prompt.slice(0, 59)}…` : prompt,
                      answer,
                      showToken(best!),
                      figure(best!.p),
                    ]),
                  ),
                ]
              : [`wrote ${written}: ${cases.length} prompts`]),
            ...(known > 0 ? [`${right} of ${known} answers are the most probable`] : []),
          ].join('\n'),
      );
    },
    options,
  );
}
