import { Command } from 'commander';
import { checkCommand } from './topics/check.ts';
import { describeCommand } from './topics/describe.ts';

/** Makes the command `topics`. */
export function topicsCommand(): Command {
  return new Command('topics')
    .summary('show the settings of topics, and check them')
    .description('Shows the settings of topics that rxgrad depends on, and checks whether they fit what the topics hold.')
    .addCommand(describeCommand())
    .addCommand(checkCommand());
}
