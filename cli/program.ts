/** The `neurgrad` command: one file a subcommand, all under one roof of help, version and exit codes. */

import { Command } from 'commander';
import { UserError } from '../engine/errors.ts';
import { isUrl } from '../models/index.ts';
import { checkUtf8 } from './arguments.ts';
import { addAdditivity } from './commands/additivity.ts';
import { addAtlas } from './commands/atlas.ts';
import { addData } from './commands/data.ts';
import { addDemo } from './commands/demo.ts';
import { addDoctor } from './commands/doctor.ts';
import { addGenerate } from './commands/generate.ts';
import { addGradients } from './commands/gradients.ts';
import { addIntegrated } from './commands/integrated.ts';
import { addModels } from './commands/models.ts';
import { addPlan } from './commands/plan.ts';
import { addPredict } from './commands/predict.ts';
import { addProbe } from './commands/probe.ts';
import { addReport } from './commands/report.ts';
import { addSteer } from './commands/steer.ts';
import { addStudy } from './commands/study.ts';
import { addSweep } from './commands/sweep.ts';
import { addSynth } from './commands/synth.ts';
import { addVerify } from './commands/verify.ts';
import { errorLine, reportError } from './exit.ts';
import { BY_OLD_NAME, RENAMED } from './options.ts';
import { note, print } from './output.ts';
import { version } from './package.ts';

/** The parser, its errors thrown instead of ending the process. */
export function buildProgram(): Command {
  const program = new Command('neurgrad')
    .description('Neuron empirical gradients of language models on WebGPU.')
    .version(version)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => write(`${errorLine(text.replace(/^error: /, '').trimEnd())}\n`),
      writeOut: print,
      // Commander's lines end by themselves.
      writeErr: (text) => note(text.replace(/\n$/, '')),
    })
    .addHelpText(
      'after',
      `
Examples:
  neurgrad doctor
  neurgrad demo
  neurgrad predict --model facts-bert --prompt "The capital of France is [MASK]."

Exit codes: 0 done, 2 a mistake in options or files, 1 a check that failed (verify, doctor), or a fault of neurgrad or of the GPU's driver. NO_COLOR is honoured.`,
    );
  for (const add of [
    addDoctor,
    addDemo,
    addPredict,
    addGenerate,
    addGradients,
    addSweep,
    addIntegrated,
    addAtlas,
    addAdditivity,
    addModels,
    addPlan,
    addSynth,
    addData,
    addProbe,
    addStudy,
    addReport,
    addVerify,
    addSteer,
  ])
    add(program);
  program.hook('preAction', (_, command) => {
    for (const option of command.options) {
      const to = RENAMED.get(option);
      if (to === undefined || command.getOptionValue(option.attributeName()) === undefined) continue;
      const now = command.options.find((other) => other.attributeName() === to)!;
      if (command.getOptionValueSource(to) !== BY_OLD_NAME)
        throw new UserError('option', `${option.long} is ${now.long} now; give one of them`);
      note(`note: ${option.long} is called ${now.long} now`);
    }
    const { model, file } = command.opts<{ model?: string | readonly string[]; file?: string }>();
    if (file === undefined) return;
    const models = [model ?? []].flat();
    if (models.length !== 1)
      throw new UserError('option', '--file goes with one --model; name the file of each as DIR:FILE');
    const [one] = models as [string];
    const whole = `${one}${isUrl(one) ? '/' : ':'}${file}`;
    command.setOptionValue('model', Array.isArray(model) ? [whole] : whole);
  });
  return program;
}

/**
 * Runs the command line.
 * @param argv arguments without `node` and the script.
 * @returns the exit code.
 */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    checkUtf8(argv);
    const program = buildProgram();
    if (argv.length === 0) program.help();
    await program.parseAsync([...argv], { from: 'user' });
    // A command that has told its own failure (doctor) leaves its code here.
    return Number(process.exitCode ?? 0);
  } catch (error) {
    return reportError(error, note);
  }
}
