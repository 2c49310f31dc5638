#!/usr/bin/env -S node --disable-warning=ExperimentalWarning --disable-warning=TimeoutNegativeWarning
import '../runtime.ts';
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { isFenced, isRxgradError } from '../errors.ts';
import { blameCommand } from './blame.ts';
import { checkpointCommand } from './checkpoint.ts';
import { deadLettersCommand } from './dead-letters.ts';
import { exportCommand } from './export.ts';
import { replayCommand } from './replay.ts';
import { runCommand } from './run.ts';
import { serveCommand } from './serve.ts';
import { topicsCommand } from './topics.ts';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string };

try {
  const program = new Command('rxgrad')
    .description('Online learning as a stream: gradients in, hot-swapped weights out.')
    .version(version)
    // `export` has a --version of its own.
    .enablePositionalOptions()
    .addCommand(await runCommand(process.argv.slice(2)))
    .addCommand(serveCommand())
    .addCommand(checkpointCommand())
    .addCommand(exportCommand())
    .addCommand(replayCommand())
    .addCommand(blameCommand())
    .addCommand(deadLettersCommand())
    .addCommand(topicsCommand());
  await program.parseAsync();
} catch (error) {
  // One line says what to do; a stack is of use only where rxgrad itself is at fault.
  console.error(isRxgradError(error) ? `rxgrad: ${error.message} (${error.code})` : error);
  // A supervisor that starts it again would end the one that took over.
  process.exitCode = isFenced(error) ? 3 : 1;
}
