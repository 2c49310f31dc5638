import { Command } from 'commander';
import { listCommand } from './dead-letters/list.ts';
import { retryCommand } from './dead-letters/retry.ts';
import { showCommand } from './dead-letters/show.ts';

/** Makes the command `dead-letters`. */
export function deadLettersCommand(): Command {
  return new Command('dead-letters')
    .summary('look at what was left out, and send it again')
    .description('Looks at a topic that `deadLetters` writes: what scans have left out, and why. Sends it again.')
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(retryCommand());
}
