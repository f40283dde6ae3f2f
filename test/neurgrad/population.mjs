/**
 * Makes test/neurgrad/population.json.gz, the population that coverage.test.ts draws from: 600 prompts of facts-bert that it
 * answers right, 100 neurons each, by the study's own code. After `npm run build`:
 *
 *   node test/neurgrad/population.mjs [folder]
 *
 * Half an hour on two cores without a GPU; a folder that holds a part of it goes on. Values keep three digits: the
 * population is what the file says.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { loadModel, openDevice } from '../../dist/neurgrad/index.js';
import {
  PRESETS,
  parsePlan,
  runStudy,
  StudyFolder,
  stampModel,
  WHOLE,
} from '../../dist/neurgrad/study/index.js';

const MODEL = 'examples/models/facts-bert';
const COUNT = 600;
const folder = process.argv[2] ?? 'runs/population';
mkdirSync(folder, { recursive: true });

const templates = JSON.parse(readFileSync(join(MODEL, 'templates.json'), 'utf8'));
const prompts = readFileSync(join(MODEL, 'facts.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => {
    const { relation, subject, object } = JSON.parse(line);
    const prompt = templates[relation].train[0].replace('[Y]', '[MASK]').replace('[X]', () => subject);
    return JSON.stringify({ prompt, answer: object });
  });
const path = join(folder, 'prompts.jsonl');
writeFileSync(path, prompts.join('\n'));

const { clean } = PRESETS;
const plan = parsePlan({
  ...clean,
  models: [MODEL],
  prompts: { ...clean.prompts, path, count: COUNT },
  figure: { prompts: 0, neurons: 0 },
  integrated: { prompts: COUNT },
});
const device = await openDevice();
const { model, tokenizer } = await loadModel(MODEL, { device });
const made = { plan, models: [stampModel(MODEL, MODEL, model)], adapter: '', versions: {} };
const study = StudyFolder.open(join(folder, 'study'), made, WHOLE);
await runStudy(study, {
  shard: WHOLE,
  open: async () => ({ model, tokenizer, close: () => {} }),
  onProgress: (done, all) => process.stderr.write(`\r${done} of ${all} points`),
});
const parts = [];
for (let prompt = 0; prompt < COUNT; prompt++)
  parts.push(await study.readUnit({ model: 0, kind: 'table', prompt }));
study[Symbol.dispose]();
const numbers = (name) => parts.map((part) => Array.from(part.get(name), (x) => Number(x.toPrecision(3))));
const flags = (name, holds) =>
  parts.map((part) => Array.from(part.get(name), (x) => Number(holds(x))).join(''));
const population = {
  about: `${MODEL}, ${COUNT} prompts, 100 neurons each, seed ${plan.neurons.seed}, 20 steps of integrated gradients`,
  slope: numbers('slope'),
  gradient: numbers('gradient'),
  ig: numbers('ig'),
  r: numbers('r'),
  // NeurGrad is the gradient with this sign.
  outward: flags('activation', (a) => a >= 0),
  linear: flags('linear', (linear) => linear === 1),
};
writeFileSync('test/neurgrad/population.json.gz', gzipSync(JSON.stringify(population), { level: 9 }));
device.destroy();
