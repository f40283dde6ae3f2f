#!/usr/bin/env node
/** Entry of the `neurgrad` binary. */

import { adapters } from '../engine/device.ts';
import { fileError } from '../engine/errors.ts';
import { EXIT, reportError } from './exit.ts';
import { withoutKnownWarnings } from './nativeWarnings.ts';
import { note } from './output.ts';
import { main } from './program.ts';

// `neurgrad … | head` closes the pipe early; that is no error. A full disk behind `>` is the user's.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.done);
  process.exit(reportError(fileError('standard output', error), note));
});

// What nobody waited for ends like any other fault.
for (const event of ['uncaughtException', 'unhandledRejection'])
  process.on(event, (error: unknown) => process.exit(reportError(error, note)));
// What the library remarks holds names from files, too.
console.warn = (...parts: unknown[]) => note(parts.join(' '));

adapters.ask = withoutKnownWarnings;
process.exitCode = await main(process.argv.slice(2));
