/** `neurgrad report`: tables, figures and one page from a study's folder, or from the folders of its shards. */

import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { checkFile, checkFolder, makeFolder, writeTogether } from '../../engine/disk.ts';
import { StudyFolder } from '../../neurgrad/study/folder.ts';
import { summarise } from '../../neurgrad/study/summary.ts';
import { markdown, renderStudy, studyTables } from '../linearityReport.ts';
import { jsonOption } from '../options.ts';
import { openOutput } from '../output.ts';
import { version } from '../package.ts';
import { table } from '../table.ts';

interface Options {
  readonly out?: string;
  readonly partial?: boolean;
  readonly json?: boolean;
}

export function addReport(program: Command): void {
  program
    .command('report')
    .description("a study's tables and figures beside the paper's: report.html, summary.json, tables/*.md")
    .argument('<dir...>', 'folder of the study; several where each shard wrote its own')
    .addOption(new Option('--out <dir>', 'where to write; default the first folder'))
    .addOption(new Option('--partial', 'of a study that is not finished: what is there so far'))
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  neurgrad report runs/linearity')
    .action(runReport);
}

async function runReport(dirs: readonly string[], options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const folders = dirs.map((dir) => StudyFolder.read(dir));
  const out = options.out ?? dirs[0]!;
  checkFolder(out);
  for (const name of ['summary.json', 'report.html']) checkFile(join(out, name));
  const { partial = false } = options;
  const summary = await summarise(folders, { partial });
  const tables = studyTables(summary);
  makeFolder(join(out, 'tables'));
  writeTogether([
    ...[...tables].map(([name, cells]) => [join(out, 'tables', `${name}.md`), markdown(cells)] as const),
    [join(out, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`],
    [join(out, 'report.html'), renderStudy(summary, version)],
  ]);
  output.result(summary, () =>
    [
      ...summary.models.flatMap((model) => {
        const own = studyTables(summary, [model]);
        return (['table1', 'table2', 'cost'] as const).flatMap((name) =>
          own.get(name)!.flatMap(({ title, head, rows }) => [title, table(head, rows)]),
        );
      }),
      `wrote ${join(out, 'report.html')}, summary.json and tables/`,
    ].join('\n'),
  );
}
