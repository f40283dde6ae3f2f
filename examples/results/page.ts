/**
 * The results page, and the README's part of it, as Markdown from the entries alone: the tables are those of `neurgrad report` and
 * `neurgrad probe report`, the words beside them say what is chance and what differs from the paper.
 */

import { markdown as studyMarkdown, studyTables, whoWeighs, whySign } from '../../cli/linearityReport.ts';
import { chance, counted, type ProbeSummary, markdown as probeMarkdown } from '../../cli/probeTable.ts';
import { figure, withInterval } from '../../cli/table.ts';
import type { Estimate } from '../../neurgrad/intervals.ts';
import { modelName, PAPER_MODELS } from '../../neurgrad/study/paper.ts';
import { REASONS } from '../../neurgrad/study/select.ts';
import type { ModelSummary, StudySummary } from '../../neurgrad/study/summary.ts';
import type { Entry, Part } from './entry.ts';
import { QUESTIONS } from './plans.ts';

/** What is said of curves that were not run at every shift. */
const curves = (engine: string): string =>
  engine === 'curve'
    ? 'Curves of Tables 1 and 2 by `--engine curve`: as few of their 20 shifts run as make the others known within a stated bound ([conventions](conventions.md)). '
    : '';

/** Made for tests and lessons: what they show of the paper's claims is whether the machinery works. */
const CHECKS: ReadonlySet<string> = new Set(['facts-bert', 'stories260k']);

/** Models that somebody with a GPU may run, smallest first. */
const WANTED = [
  'Qwen/Qwen2.5-0.5B-Instruct',
  'meta-llama/Llama-3.2-1B-Instruct',
  'Qwen/Qwen2.5-1.5B-Instruct',
  'meta-llama/Llama-3.2-3B-Instruct',
  'Qwen/Qwen2.5-7B-Instruct',
  'meta-llama/Llama-2-7b-hf',
];

/** Ranges of Figure 2 that the page lists; the figure has all. */
const RANGES = [0.4, 1, 2, 4, 6, 8, 10];

const percent = (value: number): string => `${(100 * value).toFixed(1)}%`;
const digits = (value: number): string => value.toFixed(4);
const shareOf = (found: Estimate): string => withInterval(found, percent);
const pearsonOf = (found: Estimate): string => withInterval(found, digits);

const isCheck = ({ name }: Entry): boolean => CHECKS.has(name);

/** Measured models first, the largest of them first; checks last. */
const sorted = (entries: readonly Entry[]): Entry[] =>
  [...entries].sort(
    (a, b) =>
      Number(isCheck(a)) - Number(isCheck(b)) || neuronsOf(b) - neuronsOf(a) || (a.name < b.name ? -1 : 1),
  );

const modelOf = ({ studies }: Entry): ModelSummary => studies.table!.models[0]!;
const neuronsOf = (entry: Entry): number => modelOf(entry).stamp.layers * modelOf(entry).stamp.width;

/** `docs/results.md`. */
export function renderPage(entries: readonly Entry[]): string {
  const all = sorted(entries);
  const measured = all.filter((entry) => !isCheck(entry));
  const checks = all.filter(isCheck);
  return `${[
    `# Results

What the paper's studies give here, on real models. One command measures a model and writes this page:

\`\`\`sh
npm run results -- --model SmolLM2-135M-Instruct.Q4_1.gguf --data mceval8k      # a GGUF file, a folder or a Hub id
npm run results -- --model Qwen/Qwen2.5-0.5B-Instruct --data mceval8k --paper   # the paper's numbers of prompts, on a GPU
npm run results -- --page                                                       # only the page, from what is there
\`\`\`

It can be stopped and started again (\`--minutes\` stops by itself); \`--help\` lists sizes and tasks. Each model is one file of
[\`results/\`](results), from which alone the page is drawn, so that a model measured elsewhere joins by its file. MCEval8K comes from its own release and is
no part of this repository.`,
    overview(all),
    ...measured.map((entry) => section(entry)),
    wanted(measured),
    differences(),
    `## Checks

These models were trained for this project's tests. They show that the machinery works from end to end on a machine without a GPU, and answer the tasks at
or near chance level; their numbers say nothing about language models. Of the tasks they have those whose zero-shot prompts and labels fit them.`,
    ...checks.map((entry) => section(entry, '###')),
  ].join('\n\n')}\n`;
}

function overview(entries: readonly Entry[]): string {
  const rows = entries.map((entry) => {
    const { linear, table1, whole, table2, stamp, prompts } = modelOf(entry);
    const { gradient, neurgrad } = whole ?? table1;
    const ig = igOf(entry);
    return [
      `[${entry.name}](#${anchor(entry.name)})${isCheck(entry) ? ' (check)' : ''}`,
      `${stamp.layers} × ${stamp.width}`,
      `${prompts.count} × ${entry.studies.table!.plan.neurons.perPrompt}`,
      shareOf(linear),
      pearsonOf(gradient.pearson),
      ig ? `${pearsonOf(ig.integrated!.pearson)}, ${counted(ig.prompts, 'prompt')}` : '–',
      pearsonOf(neurgrad.pearson),
      digits(neurgrad.spearman),
      digits(table2.lg.value),
      digits(table2.pg.value),
    ];
  });
  const paper = PAPER_MODELS.map((model) => [
    `paper: ${model.name}`,
    `${model.layers} × ${model.width}`,
    model.name === 'Llama2 70B' ? '200 × 100' : '1000 × 100',
    percent(model.linear),
    digits(model.gradient),
    model.integrated === null ? '–' : digits(model.integrated),
    digits(model.neurgrad),
    '–',
    digits(model.lg),
    digits(model.pg),
  ]);
  return `## All models beside the paper's

${table(
  [
    'model',
    'layers × neurons',
    'prompts × neurons',
    'linear, \\|r\\| ≥ .95',
    'corr(G_C, G_E)',
    'corr(IG, G_E)',
    'corr(NeurGrad, G_E)',
    'Spearman',
    'LG',
    'PG',
  ],
  [...rows, ...paper],
)}

In brackets: 95% intervals over prompts, as in the tables below. G_E is the measured slope of p against a neuron's shift within ±2, G_C one backward pass, IG
integrated gradients, NeurGrad the estimate of this project ([conventions](conventions.md)).`;
}

/** Table 1 of the study with integrated gradients. */
const igOf = ({ studies }: Entry) => {
  const found = studies.integrated?.models[0]?.table1;
  return found?.integrated ? found : null;
};

function section(entry: Entry, level = '##'): string {
  const { name, studies, probe } = entry;
  const { table: study, figure: ranges, integrated } = studies;
  const model = modelOf(entry);
  const { stamp } = model;
  const files = Object.entries(stamp.files).map(([file, hash]) => `\`${file}\` ${hash.slice(0, 16)}…`);
  const all = studyTables(study!);
  const part = (tables: Parameters<typeof studyMarkdown>[0] | undefined): string =>
    tables ? studyMarkdown(tables).replace(/^## /gm, `${level}## `).trimEnd() : '';
  return [
    `${level} ${name}`,
    `${stamp.family}, ${stamp.layers} layers × ${stamp.width.toLocaleString('en')} neurons, weights on the device as ${study!.plan.dtype}. ${curves(study!.plan.engine)}${measuredWhen(entry)} Files (sha256): ${files.join(', ')}.`,
    sizes(entry),
    scatters(entry),
    `${level}# The studies`,
    part(all.get('table1')),
    [whySign(model, study!.plan.direction), whoWeighs(model)].filter(Boolean).join('\n\n'),
    igOf(entry)
      ? part(studyTables(integrated!).get('table1')).replace('Table 1:', 'Table 1 with integrated gradients:')
      : '',
    part(all.get('table2')),
    ranges
      ? [
          picture(
            entry,
            'range',
            `Mean |r| of ${name}'s curves against the range of shifts (the paper's Figure 2)`,
          ),
          part(studyTables(ranges, ranges.models.map(shortened)).get('figure2')),
          ranges.models[0]!.cost ? part(studyTables(ranges).get('cost')) : '',
        ].join('\n\n')
      : '',
    probe
      ? [
          `${level}# Skill neurons`,
          verdict(probe),
          picture(
            entry,
            'tasks',
            `Accuracy of ${name} on each task: its own answer, Polar and Magn, with 95% intervals; grey: nulls`,
          ),
          probeMarkdown(probe).trimEnd(),
        ].join('\n\n')
      : '',
  ]
    .filter(Boolean)
    .join('\n\n');
}

/** The parts as the page calls them. */
const TITLES: Readonly<Record<Part, string>> = {
  table: 'Tables 1 and 2',
  figure: 'Figure 2',
  integrated: 'integrated gradients',
  probe: 'skill neurons',
};

/** When, by which commit and where each part was last gone on with; one clause an occasion. */
function measuredWhen({ occasions, studies }: Entry): string {
  const clauses = new Map<string, string[]>();
  for (const part of ['table', 'figure', 'integrated', 'probe'] as const) {
    const occasion = occasions[part];
    if (!occasion) continue;
    const { date, commit, cores } = occasion;
    const clause = `on ${date}, with commit \`${commit}\`, ${counted(cores, 'core')}`;
    clauses.set(clause, [...(clauses.get(clause) ?? []), TITLES[part]]);
  }
  const told = [...clauses].map(([clause, parts]) =>
    clauses.size === 1 ? clause : `${clause}: ${parts.join(', ')}`,
  );
  return `Last gone on with ${told.join('; ')}. Adapter: ${studies.table!.adapter}.`;
}

const shortened = (model: ModelSummary): ModelSummary => ({
  ...model,
  figure2: model.figure2.filter(({ range }) => RANGES.some((each) => Math.abs(each - range) < 1e-9)),
});

/** How much was measured, of how much, and what all of it would take. */
function sizes({ studies, estimate }: Entry): string {
  const { plan, units } = studies.table!;
  const { prompts } = studies.table!.models[0]!;
  const wrong = prompts.dropped[REASONS[4]];
  const asked = wrong + taken(studies.table!);
  const told = [
    plan.prompts.answeredRight
      ? `Prompts are questions that the model answers right, drawn by seed: of ${prompts.tried.toLocaleString('en')} looked at, ${asked.toLocaleString('en')} could be asked (answer of one token, not in the prompt, no fact twice) and ${taken(studies.table!)} of these, ${percent(taken(studies.table!) / asked)}, were answered right.`
      : '',
    units.done < units.all
      ? `Not finished: ${prompts.count} of ${plan.prompts.count} prompts are measured; the same command goes on.`
      : '',
    estimate
      ? `By its own estimate on that machine the table of ${plan.prompts.count} prompts × ${plan.neurons.perPrompt} neurons takes ${duration(estimate.points / estimate.pointsPerSecond)} (${figure(estimate.pointsPerSecond, 2)} points a second), the paper's 1000 × 100 ${duration(2e6 / estimate.pointsPerSecond)}${estimate.integrated.prompts > 0 ? `, and integrated gradients ${duration(estimate.integrated.seconds)} a prompt${studies.integrated ? '' : ', which are not measured yet'}` : ''}.`
      : '',
  ];
  return told.filter(Boolean).join(' ');
}

/** Prompts that were chosen, measured or not. */
const taken = ({ plan, models }: StudySummary): number => {
  const { tried, dropped } = models[0]!.prompts;
  return Math.min(plan.prompts.count, tried - Object.values(dropped).reduce((sum, n) => sum + n, 0));
};

function duration(seconds: number): string {
  if (seconds < 100) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds / 3600)} hours`;
}

/** What of a model's probers is more than chance, in words. */
export function verdict({ tasks, macro, settings, skipped, incomplete }: ProbeSummary): string {
  const better = (['polar', 'magn'] as const).map((kind) => {
    const title = kind === 'polar' ? 'Polar' : 'Magn';
    const corrected = macro.holm[kind].permutation;
    if (!corrected) return `${title} was not tested against chance.`;
    const [above, not] = [true, false].map((wanted) =>
      tasks.flatMap(({ task }, t) => (corrected[t]! < 0.05 === wanted ? [task] : [])),
    ) as [string[], string[]];
    const overall = macro[kind].null;
    return `${title} does better than chance (permuted labels, p corrected for ${counted(tasks.length, 'task')}) on ${above.length === 0 ? 'none of them' : above.join(', ')}${not.length === 0 ? '' : `; on ${not.join(', ')} what it answers is chance`}${overall ? `. Over all tasks ${digits(macro[kind].accuracy)} against a null of ${overall.interval ? overall.interval.map(digits).join(' to ') : digits(overall.mean)}, p ${chance(overall.p)}` : ''}.`;
  });
  const { train, test } = tasks[0]!.prompts;
  const own = tasks.flatMap(({ task, lmProb, rand }) =>
    lmProb.interval && lmProb.interval[0] > rand ? [task] : [],
  );
  return [
    `${counted(tasks.length, 'task')} of MCEval8K, up to ${train} prompts to train on and ${test} to test by, ${settings.shots === 0 ? 'zero-shot' : `${settings.shots} demonstration of each label`}, ${settings.splits} splits.`,
    settings.rows < QUESTIONS.rows
      ? `The command takes ${QUESTIONS.rows} and ${QUESTIONS.evaluationRows} by itself; with so few, intervals and nulls are wide, and only large effects can show.`
      : '',
    ...better,
    `The model's own answer (LM-Prob) has its interval above guessing on ${own.length === 0 ? 'none' : own.join(', ')}.`,
    incomplete.length > 0 ? `Not complete yet: ${incomplete.map(({ task }) => task).join(', ')}.` : '',
    skipped.length > 0
      ? `Left out: ${skipped.map(({ reason }) => reason.replace(/\s+/g, ' ')).join('; ')}.`
      : '',
  ]
    .filter(Boolean)
    .join(' ');
}

function wanted(measured: readonly Entry[]): string {
  const there = new Set(measured.map(({ name }) => name));
  const rows = WANTED.filter((id) => !there.has(modelName(id))).map((id) => [
    id,
    'not measured yet',
    `\`npm run results -- --model ${id} --data mceval8k --paper\``,
  ]);
  return `## Larger models

Small models cannot answer most of these tasks, so the table of skill neurons needs larger ones, and they a GPU. Whoever has one runs a line of these and
opens a pull request with the files of \`docs/\` that it writes; Llama needs a token (\`HF_TOKEN\`).

${table(['model', '', 'command'], rows)}`;
}

const differences = (): string => `## What differs from the paper, and why

- **Models.** The paper has BERT base to large and Llama 2 from 7B on. A model of 135M parameters knows fewer facts, and its tasks are mostly beyond it; that NeurGrad agrees
  with measured slopes does not depend on that.
- **Prompts.** The paper draws from MyriadLAMA; here they are ParaRel's facts, one prompt a fact, none that holds its answer. stories260k knows none: its prompts are words of its own stories.
- **Neurons** are drawn anew for each prompt (\`sampling: perPrompt\`); the released code takes the same for all.
- **Sizes.** The paper has 1000 prompts × 100 neurons; intervals say what fewer leave open. A pooled Pearson is decided by the few prompts with the largest effects, so Spearman and the
  mean within prompts stand beside it.
- **The sign of corr(G_C, G_E)** follows from the signs of activations, not from the quality of gradients: below each Table 1 it is worked out.
- **Splits.** The released test rows stand partly in train; here they are rebuilt disjoint. The nulls repeat the whole procedure, so that choosing |N_s| among seventeen is not taken for skill.
- **Costs.** Times of a machine without a GPU that others use too; NeurGrad's ratio to G_C is taken in turn and comparable, seconds are not.`;

/** What one backward foretells, without and with the sign of the activation. */
const scatters = (entry: Entry): string => {
  const both = [
    picture(entry, 'gradient', `The raw gradient of ${entry.name} against measured slopes`),
    picture(entry, 'neurgrad', `NeurGrad of ${entry.name} against measured slopes`),
  ].filter(Boolean);
  return both.length === 0
    ? ''
    : `${both.join(' ')}\n\nOne dot a neuron and prompt; blue: activations ≥ 0, grey: below; root axes. Left the gradient as backpropagation gives it, right along the axis of the shift.`;
};

const picture = (entry: Entry, name: string, label: string): string =>
  entry.figures.includes(name) ? `![${label}](results/${entry.name}-${name}.svg)` : '';

/** As GitHub makes them of headings. */
const anchor = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map((_, i) => (i === 0 ? '---' : '--:')).join('|')}|`, ...rows.map(line)].join(
    '\n',
  );
}

/** What the README says of the largest model that was measured; null where none was. */
export function readmePart(entries: readonly Entry[]): string | null {
  const entry = sorted(entries).find((each) => !isCheck(each));
  if (!entry) return null;
  const { linear, table1, whole, prompts } = modelOf(entry);
  const { gradient, neurgrad } = whole ?? table1;
  const cost = entry.studies.figure?.models[0]?.cost;
  const { plan } = entry.studies.table!;
  const probe = entry.probe;
  return `On [${entry.name}](docs/results.md#${anchor(entry.name)}), ${modelOf(entry).stamp.layers} layers, ${prompts.count} facts that it knows × ${plan.neurons.perPrompt} random neurons each:

| | | 95% over prompts |
|---|--:|--:|
| curves that are straight within ±2, \\|r\\| ≥ .95 | ${percent(linear.value)} | ${ends(linear, percent)} |
| NeurGrad, one backward, against measured slopes: Pearson | ${digits(neurgrad.pearson.value)} | ${ends(neurgrad.pearson, digits)} |
| … Spearman; same sign | ${digits(neurgrad.spearman)}; ${percent(neurgrad.signAgreement)} | |
| the raw gradient against them: Pearson | ${digits(gradient.pearson.value)} | ${ends(gradient.pearson, digits)} |
${igRow(entry)}${cost?.neurgrad?.interval ? `| cost of NeurGrad, where the backward alone is 1 | ${cost.neurgrad.ratio.toFixed(2)} | ${cost.neurgrad.interval.low.toFixed(2)} to ${cost.neurgrad.interval.high.toFixed(2)}, over rounds |\n` : ''}
${picture(entry, 'neurgrad', 'NeurGrad against measured slopes, one dot a neuron and prompt').replace('(results/', '(docs/results/')}

${probe ? `${skill(probe)} ` : ''}[The results page](docs/results.md) has the tables beside the paper's, what is chance in them, and how to add a larger model.`;
}

/** What its skill neurons answer, and whether that is more than chance. */
function skill({ tasks, macro }: ProbeSummary): string {
  const of = (name: string, { accuracy, null: permuted }: ProbeSummary['macro']['polar']): string =>
    `${name} has ${digits(accuracy)}${permuted ? `, ${permuted.p < 0.05 ? 'more than' : 'no more than'} chance (p ${chance(permuted.p)} against permuted labels)` : ''}`;
  return `On ${counted(tasks.length, 'task')} of MCEval8K, where guessing has ${digits(macro.rand)} and its own answers ${digits(macro.lmProb.accuracy)}, ${of('Polar', macro.polar)} and ${of('Magn', macro.magn)}.`;
}

const ends = ({ interval }: Estimate, text: (value: number) => string): string =>
  interval ? `${text(interval.low)} to ${text(interval.high)}` : '–';

const igRow = (entry: Entry): string => {
  const ig = igOf(entry);
  if (!ig) return '';
  const { pearson } = ig.integrated!;
  return `| integrated gradients against them (${counted(ig.prompts, 'prompt')}): Pearson | ${digits(pearson.value)} | ${ends(pearson, digits)} |\n`;
};
