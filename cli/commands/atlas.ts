/** `neurgrad atlas`: G_E and the linear range of every neuron of a model for one prompt. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { checkFolder, makeFolder, writeWhole } from '../../engine/disk.ts';
import { Lock } from '../../engine/lock.ts';
import { digestOf } from '../../models/seal.ts';
import { showToken, tokenText } from '../../models/tokenText.ts';
import { checkResponse } from '../../neurgrad/curve/response.ts';
import {
  type AtlasNeuron,
  atlas,
  formatNeuron,
  mean,
  type PromptRecord,
  pearson,
  type Response,
  recordPrompt,
  resolveSite,
  targetOrArgmax,
} from '../../neurgrad/index.ts';
import { stampModel } from '../../neurgrad/study/folder.ts';
import { type Column, encodePart, type ObjectColumn, readWholePart } from '../../neurgrad/study/part.ts';
import { ATLAS_COLUMNS, type AtlasRow, atlasPage } from '../atlasPage.ts';
import {
  type ConventionOptions,
  conventionOptions,
  jsonOption,
  modelOptions,
  promptOptions,
  range,
  targetOptions,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput } from '../output.ts';
import { startProgress } from '../progress.ts';
import { asksMany, describePrompt, type PromptOptions, readOne } from '../prompt.ts';
import { writePage } from '../reportPage.ts';
import { readModelCard, type WeightsOptions, withModel } from '../session.ts';
import { figure, signed, table } from '../table.ts';
import { chooseTarget, type TargetOptions } from '../target.ts';

interface Options extends Omit<PromptOptions, 'prompts'>, TargetOptions, ConventionOptions, WeightsOptions {
  readonly model: string;
  readonly range: number[];
  readonly out: string;
  readonly json?: boolean;
}

export function addAtlas(program: Command): void {
  withOptions(
    program
      .command('atlas')
      .description(
        'measured slope G_E and linear range of every neuron for one prompt, by curves; resumable',
      ),
    ...modelOptions(),
    ...promptOptions(),
    ...targetOptions(),
    ...conventionOptions(),
    new Option('--range <from:to:step>', 'shifts; 0 is always among them. Slope and r are of ±2')
      .argParser(range)
      .default(range('-4:4:0.2'), '-4:4:0.2'),
    new Option(
      '--out <dir>',
      'folder of the atlas; one that was begun is gone on with',
    ).makeOptionMandatory(),
    ...weightsOptions(),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Example:
  neurgrad atlas --model examples/models/facts-bert --prompt "The capital of France is [MASK]." --out runs/france

The folder holds layer-N.parquet as each layer is done; then atlas.parquet, a row a neuron, and atlas.html, a map of NeurGrad, G_E and linear range.
Column response is the neuron's whole curve as JSON, which the library's responseAt evaluates at any shift; null where all shifts were run.`,
    )
    .action(runAtlas);
}

const NAMES = Object.keys(ATLAS_COLUMNS) as (keyof typeof ATLAS_COLUMNS)[];

const rowOf = (neuron: AtlasNeuron): AtlasRow => ({
  ...neuron,
  linear: neuron.linear ? 1 : 0,
  flat: neuron.flat ? 1 : 0,
});

const columnsOf = (rows: readonly AtlasRow[]): (Column | ObjectColumn)[] => [
  ...NAMES.map((name) => ({ name, type: ATLAS_COLUMNS[name], data: rows.map((row) => row[name]) })),
  { name: 'response', type: 'JSON', data: rows.map(({ response }) => response) },
];

/** The rows of a layer that is there. @throws DamagedFile, UserError where they are none. */
async function readLayer(path: string, about: string, unit: string): Promise<AtlasRow[]> {
  const { numbers, objects } = await readWholePart(path, about, unit);
  return Array.from(numbers.get('index')!, (_, i) => {
    const response = (objects.get('response')?.[i] ?? null) as Response | null;
    if (response) checkResponse(path, response);
    return {
      ...(Object.fromEntries(NAMES.map((name) => [name, numbers.get(name)![i]!])) as Omit<
        AtlasRow,
        'response'
      >),
      response,
    };
  });
}

async function runAtlas(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  asksMany(options);
  checkFolder(options.out);
  const card = await readModelCard(options.model);
  const site = resolveSite(options.site, card);
  const prompt = await readOne(card, options, output);
  const wanted = chooseTarget(card, prompt, options);
  await withModel(
    card,
    async ({ model, tokenizer, folder }, held) => {
      const target = await held.run(({ model }) => targetOrArgmax(model, prompt, wanted));
      const { of, direction, sign, range: shifts } = options;
      const asked = { target, site, of, direction, sign, shifts };
      // Parts of another prompt, model or question are not taken for this one's.
      const { files } = stampModel(options.model, folder, model);
      const about = digestOf({
        files,
        ids: prompt.ids,
        position: prompt.position,
        dtype: options.dtype ?? null,
        ...asked,
      });
      makeFolder(options.out);
      using _lock = Lock.take(join(options.out, 'atlas.lock'), options.out);
      const { layers, width } = model.sizes;
      const rows: AtlasRow[] = [];
      const progress = startProgress('atlas', 'neurons');
      let found = 0;
      let record: PromptRecord | undefined;
      try {
        for (let layer = 0; layer < layers; layer++) {
          const path = join(options.out, `layer-${layer}.parquet`);
          const unit = `layer-${layer}`;
          if (existsSync(path)) {
            rows.push(...(await readLayer(path, about, unit)));
            found++;
          } else {
            const neurons = await held.run(async ({ model }) => {
              // One backward for all layers; on another device, anew.
              if (record?.model !== model)
                record = await recordPrompt(model, prompt, { target, of, sites: [site] });
              return atlas(model, prompt, {
                ...asked,
                record,
                layers: [layer],
                onProgress: (done, all) =>
                  progress.update(layer * width + Math.round((width * done) / all), layers * width),
              });
            });
            const own = neurons.map(rowOf);
            writeWhole(path, encodePart(about, unit, columnsOf(own)));
            rows.push(...own);
          }
          progress.update((layer + 1) * width, layers * width);
        }
      } finally {
        progress.stop();
        record?.dispose();
      }
      const token = tokenText(tokenizer, target);
      const summary = {
        model: options.model,
        ...describePrompt(prompt),
        target: token,
        conventions: { site, of, direction, sign },
        layers,
        width,
        found,
        forwards: mean(rows.map(({ ran }) => ran)),
        shifts: shifts.filter((shift) => shift !== 0).length,
        linear: mean(rows.map(({ linear }) => linear)),
        flat: rows.reduce((sum, { flat }) => sum + flat, 0),
        pearson: pearson(
          rows.map(({ neurgrad }) => neurgrad),
          rows.map(({ slope }) => slope),
        ),
        linearByLayer: Array.from({ length: layers }, (_, layer) =>
          mean(rows.filter((row) => row.layer === layer).map(({ linear }) => linear)),
        ),
      };
      await writePage(
        join(options.out, 'atlas.html'),
        atlasPage(rows, { ...summary, files, token: showToken(token) }),
        [[join(options.out, 'atlas.parquet'), encodePart(about, 'atlas', columnsOf(rows))]],
      );
      const strongest = [...rows].sort((a, b) => Math.abs(b.slope) - Math.abs(a.slope)).slice(0, 10);
      output.result(summary, () =>
        [
          `${rows.length} neurons for p(${showToken(token)}), ${figure(summary.forwards)} of ${summary.shifts} points run a neuron${found > 0 ? `; ${found} of ${layers} layers were there` : ''}`,
          table(
            ['neuron', 'NeurGrad', 'G_E', 'r', 'linear within ±'],
            strongest.map((row) => [
              formatNeuron({ layer: row.layer, index: row.index, site }, model.paperSite),
              signed(row.neurgrad),
              signed(row.slope),
              row.flat ? 'flat' : signed(row.r),
              figure(row.range),
            ]),
          ),
          `${(100 * summary.linear).toFixed(2)}% are linear within ±2, ${summary.flat} flat; Pearson of NeurGrad and G_E over all ${summary.pearson.toFixed(4)}`,
          `wrote ${join(options.out, 'atlas.parquet')}, atlas.html and figures/`,
        ].join('\n'),
      );
    },
    options,
  );
}
