/**
 * Measures the neurons again at every checkpoint of a training, with other prompts and neurons than it took itself:
 *
 *   node dist/examples/train-facts-bert/study.js --out runs/facts-bert [--prompts 64] [--neurons 48]
 *
 * Writes `study.jsonl` and `study.svg` there.
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runProgram } from '../../cli/exit.ts';
import { bundledModel } from '../../cli/package.ts';
import { checkFile, writeTogether } from '../../engine/disk.ts';
import { openDevice, UserError } from '../../engine/index.ts';
import { loadModelWeights, loadTokenizer, localFolder } from '../../models/index.ts';
import { listFolder } from '../../neurgrad/study/textFile.ts';
import { readNotes } from '../training/folder.ts';
import { figureSvg } from '../training/page.ts';
import { Course } from './course.ts';
import { neuronFigure } from './figures.ts';
import { type NeuronStudyRow, studyNeurons } from './neurons.ts';

await runProgram(async () => {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: 'runs/facts-bert' },
      data: { type: 'string', default: bundledModel },
      prompts: { type: 'string', default: '64' },
      neurons: { type: 'string', default: '48' },
    },
  });
  const { out, data } = values;
  const steps = listFolder(out)
    .flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
  if (steps.length === 0) throw new UserError('checkpoint', `${out}: has no checkpoints`);
  const { facts, seed } = readNotes(join(out, `step-${steps[0]}`));
  const files = ['study.jsonl', 'study.svg'].map((name) => join(out, name));
  for (const file of files) checkFile(file);
  const tokenizer = await loadTokenizer(await localFolder(data));
  const course = new Course(data, tokenizer, facts, seed);
  const prompts = course.trainPrompts.slice(-Number(values.prompts));
  const device = await openDevice();
  const rows: NeuronStudyRow[] = [];
  for (const step of steps) {
    const model = await loadModelWeights(await localFolder(join(out, `step-${step}`)), device);
    const row = await studyNeurons(model, prompts, Number(values.neurons), step);
    model.dispose();
    rows.push(row);
    console.log(
      `step ${step}: mean p ${row.meanP.toFixed(4)}, linear in p ${row.linear.toFixed(3)}, in log p ${row.linearLog.toFixed(3)}, mean |r| ${row.meanAbsR.toFixed(3)}, corr(NeurGrad, G_E) ${row.pearson.toFixed(4)}`,
    );
  }
  writeTogether([
    [files[0]!, rows.map((row) => `${JSON.stringify(row)}\n`).join('')],
    [files[1]!, figureSvg(neuronFigure(rows))],
  ]);
  device.destroy();
});
