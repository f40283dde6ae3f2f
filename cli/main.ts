#!/usr/bin/env node
/** Entry of the `neurgrad` binary. */

import { fileError } from '../models/byteSource.ts';
import { EXIT, reportError } from './exit.ts';
import { main } from './program.ts';

// `neurgrad … | head` closes the pipe early; that is no error. A full disk behind `>` is the user's.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.done);
  const exitCode = reportError(fileError('standard output', error), (text) =>
    process.stderr.write(`${text}\n`),
  );
  process.exit(exitCode);
});

// What nobody waited for ends like any other fault.
for (const event of ['uncaughtException', 'unhandledRejection'])
  process.on(event, (error: unknown) =>
    process.exit(reportError(error, (text) => process.stderr.write(`${text}\n`))),
  );

process.exitCode = await main(process.argv.slice(2));
