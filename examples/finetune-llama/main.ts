/**
 * Fine-tunes the bundled story-telling Llama on one story, and shows what it tells before and after:
 *
 *   npm run build && node dist/examples/finetune-llama/main.js [--out runs/finetune-llama] [--steps 30]
 *     [--precision f32|mixed|auto]
 */

import { join } from 'node:path';
import { Command } from 'commander';
import { runProgram } from '../../cli/exit.ts';
import { integer } from '../../cli/options.ts';
import { packageRoot } from '../../cli/package.ts';
import { startProgress } from '../../cli/progress.ts';
import { WholeFolder } from '../../engine/disk.ts';
import {
  crossEntropyRows,
  openDevice,
  reshape,
  scope,
  sum,
  type Tensor,
  UserError,
  warmupLinear,
} from '../../engine/index.ts';
import {
  generate,
  loadModelWeights,
  loadTokenizer,
  localFolder,
  readConfig,
  visibleText,
} from '../../models/index.ts';
import { writeModel } from '../../models/save.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';
import { TrainingFolder } from '../training/folder.ts';
import { passRandom } from '../training/order.ts';
import { thinned, writePage } from '../training/page.ts';
import { checkPrecision, type StepReport, Trainer } from '../training/trainer.ts';

const LENGTH = 64;
const ROWS = 4;
const ACCUMULATED = 2;

const values = new Command('main.js')
  .description('Fine-tunes a Llama on one story, and shows what it tells before and after.')
  .option('--model <dir>', 'the model to begin with', join(packageRoot, 'examples/models/stories260k'))
  .option('--text <file>', 'what it learns', join(packageRoot, 'examples/finetune-llama/story.txt'))
  .option('--out <dir>', 'checkpoint and page', 'runs/finetune-llama')
  .option('--steps <n>', 'steps of training', integer(1), 30)
  .option('--prompt <text>', 'how the stories before and after begin', 'Pip was')
  .option('--precision <name>', 'f32, mixed or auto', 'f32')
  .addHelpText(
    'after',
    '\nExample:\n  node dist/examples/finetune-llama/main.js --text my-story.txt --prompt "One day"',
  )
  .parse()
  .opts<Record<'model' | 'text' | 'out' | 'prompt' | 'precision', string> & { steps: number }>();

await runProgram(async () => {
  const { steps } = values;
  const precision = checkPrecision(values.precision);
  using _ = new TrainingFolder(values.out);
  const device = await openDevice();
  const folder = await localFolder(values.model);
  const config = await readConfig(folder);
  const tokenizer = await loadTokenizer(folder);
  const model = await loadModelWeights(folder, device);
  if (!model.causal) throw new UserError('model', `${values.model}: a ${model.family} tells no stories`);

  const ids = tokenizer.encode(readTextFile(values.text).replace(/\s*\n\s*/g, '\n'));
  const split = Math.floor(ids.length * 0.85);
  const [train, held] = [ids.slice(0, split), ids.slice(split)];

  /** Summed cross-entropy of every next token in windows of one length. */
  function lossOf(windows: readonly (readonly number[])[]): Tensor {
    using run = trainer.model.run({ ids: windows.map((w) => w.slice(0, -1)) });
    const { vocabulary } = trainer.model.sizes;
    return sum(
      crossEntropyRows(
        reshape(run.logits, [-1, vocabulary]),
        windows.flatMap((w) => w.slice(1)),
      ),
    );
  }

  /** Mean loss per token of the part that is not trained on. */
  async function heldOut(): Promise<number> {
    const loss = scope(() => lossOf([held]).detach());
    const value = await loss.item();
    loss.dispose();
    return value / (held.length - 1);
  }

  async function tell(): Promise<string> {
    const prompt = tokenizer.encode(values.prompt);
    const { ids } = await generate(model, prompt, { maxTokens: 60 });
    return visibleText(tokenizer.decode([...prompt, ...ids], { skipSpecialTokens: true }), '\n');
  }

  /** Windows at random places, the same for a step in every run. */
  function windows(step: number): number[][] {
    const random = passRandom(0, step);
    return Array.from({ length: ROWS * ACCUMULATED }, () => {
      const begin = Math.floor(random() * (train.length - LENGTH));
      return train.slice(begin, begin + LENGTH + 1);
    });
  }

  const schedule = warmupLinear({ peak: 1e-3, warmup: 5, steps });
  const trainer = new Trainer(model, { schedule, precision });
  console.log(`before: ${await tell()}\nheld-out loss ${(await heldOut()).toFixed(3)}\n`);
  const progress = startProgress('fine-tuning', 'steps');
  const reports: StepReport[] = [];
  while (trainer.steps < steps) {
    const rows = windows(trainer.steps);
    const batches = Array.from({ length: ACCUMULATED }, (_, k) => rows.slice(k * ROWS, (k + 1) * ROWS));
    const report = await trainer.step(
      batches.map((batch) => () => lossOf(batch)),
      rows.length * LENGTH,
    );
    reports.push(report);
    progress.update(report.step, steps);
  }
  progress.stop();
  console.log(`after: ${await tell()}\nheld-out loss ${(await heldOut()).toFixed(3)}`);
  {
    using whole = new WholeFolder(join(values.out, 'model'), 'replace');
    await writeModel(whole.path, model, config, folder);
    whole.keep();
  }
  const points = thinned(reports.map(({ step, loss }) => ({ x: step, y: loss })));
  const figure = { title: 'Loss', x: 'step', y: 'nats a token', series: [{ name: 'training', points }] };
  writePage(join(values.out, 'training.html'), 'A Llama learning a story', [figure], false);
  trainer.dispose();
  model.dispose();
  device.destroy();
});
