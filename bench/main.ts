/**
 * `npm run bench`: what this engine does on this machine's adapter, beside its peers and the machine's own limits.
 */

import { availableParallelism, cpus } from 'node:os';
import { Command } from 'commander';
import { EXIT, runProgram } from '../cli/exit.ts';
import { version } from '../cli/package.ts';
import { table } from '../cli/table.ts';
import { checkFile, writeWhole } from '../engine/disk.ts';
import { openDevice } from '../engine/index.ts';
import { toChart } from './chart.ts';
import { loadPeers } from './peers.ts';
import { bySuite, grid, type Report, type Row, toMarkdown } from './rows.ts';
import { attentionSuite } from './suites/attention.ts';
import { backwardSuite } from './suites/backward.ts';
import { gpuSuite } from './suites/gpu.ts';
import { hostSuite } from './suites/host.ts';
import { integratedSuite } from './suites/integrated.ts';
import { limitsSuite } from './suites/limits.ts';
import { loadSuite } from './suites/load.ts';
import { matmulSuite } from './suites/matmul.ts';
import { modelSuite } from './suites/model.ts';
import { probingSuite } from './suites/probing.ts';
import { profileSuite } from './suites/profile.ts';
import { prologueSuite } from './suites/prologue.ts';
import { promptsSuite } from './suites/prompts.ts';
import { researcherSuite } from './suites/researcher.ts';
import { rowsSuite } from './suites/rows.ts';
import type { Suite } from './suites/suite.ts';
import { sweepSuite } from './suites/sweep.ts';
import { processorClock, wallClock } from './timing.ts';

const SUITES: Readonly<Record<string, Suite>> = {
  limits: limitsSuite,
  matmul: matmulSuite,
  attention: attentionSuite,
  rows: rowsSuite,
  model: modelSuite,
  prologue: prologueSuite,
  backward: backwardSuite,
  sweep: sweepSuite,
  integrated: integratedSuite,
  researcher: researcherSuite,
  probing: probingSuite,
  prompts: promptsSuite,
  profile: profileSuite,
  host: hostSuite,
  load: loadSuite,
  gpu: gpuSuite,
};
/** Suites that run only when they are named: each takes minutes without a GPU. */
const BY_NAME = new Set([
  'prologue',
  'backward',
  'sweep',
  'integrated',
  'researcher',
  'probing',
  'prompts',
  'load',
  'gpu',
]);

interface Options {
  readonly suite: readonly string[];
  readonly peers: boolean;
  readonly peersPython?: string;
  readonly small: boolean;
  readonly rounds: string;
  readonly only?: string;
  readonly adapter?: string;
  readonly json?: string;
  readonly markdown?: string;
  readonly svg?: string;
  readonly trace?: string;
}

/** One table a suite. */
function toText(rows: readonly Row[]): string {
  return [...bySuite(rows)]
    .map(([suite, part]) => {
      const { head, body } = grid(part);
      return `${suite}\n${table(head, body)}`;
    })
    .join('\n\n');
}

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('bench')
    .description("Measures this engine's kernels and models on this machine.")
    .option(
      '--suite <names...>',
      `some of ${Object.keys(SUITES).join(', ')}`,
      Object.keys(SUITES).filter((name) => !BY_NAME.has(name)),
    )
    .option('--peers', 'also the peers installed in bench/node_modules', false)
    .option(
      '--peers-python <path>',
      'a Python with PyTorch, for the researcher suite (bench/peers/requirements.txt)',
    )
    .option('--small', 'fewer and smaller shapes: about two minutes on a CPU', false)
    .option('--rounds <n>', 'times that each contender runs', '7')
    .option('--only <text>', 'only shapes whose name contains this')
    .option('--adapter <name>', "part of the adapter's name")
    .option('--json <file>', 'write all rows')
    .option('--markdown <file>', 'write the tables as a page of docs')
    .option('--svg <file>', 'write a chart')
    .option('--trace <file>', "write the profile suite's dispatches as a Chrome trace");
  program.parse([...argv], { from: 'user' });
  const options = program.opts<Options>();
  const unknown = options.suite.find((name) => !SUITES[name]);
  if (unknown) program.error(`unknown suite "${unknown}"; there are ${Object.keys(SUITES).join(', ')}`);
  // A machine that is lent for a day is measured in one command: its report is kept unasked.
  const unasked = (ending: string): string | undefined =>
    options.suite.includes('gpu') ? `neurgrad-gpu.${ending}` : undefined;
  const { json = unasked('json'), markdown = unasked('md') } = options;
  for (const file of [json, markdown, options.svg, options.trace]) if (file) checkFile(file);
  // Dawn offers matrix units with this alone.
  const toggles = ['allow_unsafe_apis'];
  const device = await openDevice({
    toggles,
    ...(options.adapter ? { adapterName: options.adapter } : {}),
  });
  const peers = options.peers ? await loadPeers() : [];
  const progress = (line: string): void => {
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}` : line && `${line}\n`);
  };
  const rows: Row[] = [];
  for (const name of options.suite)
    rows.push(
      ...(await SUITES[name]!({
        device,
        peers,
        rounds: Number(options.rounds),
        clock: device.info.software ? processorClock(availableParallelism()) : wallClock,
        small: options.small,
        only: options.only ?? '',
        progress,
        ...(options.peersPython ? { python: options.peersPython } : {}),
        ...(options.trace ? { trace: (json: string) => writeWhole(options.trace!, json) } : {}),
      })),
    );
  progress('');
  const { description, vendor, software } = device.info;
  const report: Report = {
    date: new Date().toISOString(),
    adapter: `${description || vendor}${software ? ' (software)' : ''}`,
    machine: `${cpus().length} x ${cpus()[0]?.model.trim()}, ${process.platform} ${process.arch}`,
    versions: {
      neurgrad: version,
      node: process.versions.node,
      ...Object.fromEntries(peers.map((peer) => [peer.name, peer.version])),
    },
    rows,
  };
  console.log(`${report.adapter}; ${report.machine}; ${report.date}\n\n${toText(rows)}`);
  const command = `npm run bench -- ${argv.filter((a, i) => !/^--(json|markdown|svg|trace)$/.test(a) && !/^--(json|markdown|svg|trace)$/.test(argv[i - 1] ?? '')).join(' ')}`;
  if (json) writeWhole(json, `${JSON.stringify(report, null, 1)}\n`);
  if (markdown) writeWhole(markdown, toMarkdown(report, command.trim()));
  if (options.svg) writeWhole(options.svg, toChart(report));
  device.destroy();
  if (!options.json && json) console.log(`\n${json} and ${markdown} hold all of this`);
  const faults = rows.flatMap(({ fault }) => fault ?? []);
  for (const fault of faults) console.error(fault);
  if (faults.length > 0) process.exitCode = EXIT.ours;
}

await runProgram(() => main(process.argv.slice(2)));
