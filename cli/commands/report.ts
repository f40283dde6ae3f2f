/** `neurgrad report`: tables, figures and one page from a study's folder, or from the folders of its shards. */

import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { checkFile, checkFolder, makeFolder } from '../../engine/disk.ts';
import { StudyFolder } from '../../neurgrad/study/folder.ts';
import { readStudy } from '../../neurgrad/study/read.ts';
import { summaryOf } from '../../neurgrad/study/summary.ts';
import { markdown, renderStudy, studyTables } from '../linearityReport.ts';
import { jsonOption, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import { version } from '../package.ts';
import { writePage } from '../reportPage.ts';
import { writeStudyRows } from '../studyRows.ts';
import { table } from '../table.ts';

interface Options {
  readonly out?: string;
  readonly partial?: boolean;
  readonly json?: boolean;
}

export function addReport(program: Command): void {
  withOptions(
    program
      .command('report')
      .description(
        "a study's tables and figures beside the paper's: report.html, summary.json, tables/*.md, figures/*.svg, .pdf and .csv; its rows: neurons.parquet, curves.parquet",
      )
      .argument('<dir...>', 'folder of the study; several where each shard wrote its own'),
    new Option('--partial', 'of a study that is not finished: what is there so far'),
    new Option('--out <dir>', 'folder to write into; default the first of the study'),
    jsonOption(),
  )
    .addHelpText('after', '\nExample:\n  neurgrad report runs/linearity')
    .action(runReport);
}

async function runReport(dirs: readonly string[], options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const folders = dirs.map((dir) => StudyFolder.read(dir));
  const out = options.out ?? dirs[0]!;
  checkFolder(out);
  const rows = { neurons: join(out, 'neurons.parquet'), curves: join(out, 'curves.parquet') };
  for (const name of ['summary.json', 'report.html']) checkFile(join(out, name));
  for (const path of Object.values(rows)) checkFile(path);
  const study = await readStudy(folders, options.partial);
  const summary = summaryOf(study);
  const tables = studyTables(summary);
  makeFolder(join(out, 'tables'));
  writeStudyRows(study, rows);
  await writePage(join(out, 'report.html'), renderStudy(summary, version), [
    ...[...tables].map(([name, cells]) => [join(out, 'tables', `${name}.md`), markdown(cells)] as const),
    [join(out, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`],
  ]);
  output.result(summary, () =>
    [
      ...summary.models.flatMap((model) => {
        const own = studyTables(summary, [model]);
        return (['table1', 'table2', 'cost'] as const).flatMap((name) =>
          own.get(name)!.flatMap(({ title, head, rows }) => [title, table(head, rows)]),
        );
      }),
      `wrote ${join(out, 'report.html')}, summary.json, tables/, figures/, neurons.parquet and curves.parquet`,
    ].join('\n'),
  );
}
