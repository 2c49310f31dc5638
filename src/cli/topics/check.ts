import { Command, Option } from 'commander';
import { checkTopic, inWords, type TopicFinding, type TopicRole } from '../../sources/check-topic.ts';
import { addConnectionOptions, openConnection } from '../connection.ts';
import { parseNumber } from '../options.ts';
import { requiredSettings } from './settings.ts';

interface CheckOptions {
  readonly as: TopicRole;
  readonly recordBytes?: number;
  readonly json?: boolean;
}

/** What a chunk of a checkpoint, or a part of weights, comes to by default, with its key and headers. */
const USUAL_RECORD_BYTES = 902_048;

/** Makes the command `topics check`. */
export function checkCommand(): Command {
  const command = new Command('check')
    .summary('check whether the settings of topics fit what they hold')
    .description(
      'Checks whether the settings of topics fit what they hold, and prints the command that changes each one that does not. Exit code 1 if one of them loses or skips records; warnings alone leave it at 0.',
    )
    .argument('<topics...>', 'their names')
    .addOption(
      new Option('--as <role>', 'what they hold')
        .choices(['gradients', 'checkpoints', 'weights', 'dead-letters'])
        .makeOptionMandatory(),
    )
    .addOption(
      new Option(
        '--record-bytes <count>',
        `largest record that is written, in bytes (default: ${USUAL_RECORD_BYTES} of checkpoints and weights, not checked of others)`,
      ).argParser((text) => parseNumber(text, 'whole')),
    )
    .option('--json', 'as JSON');
  addConnectionOptions(command);
  return command.action(async (topics: string[], options: CheckOptions) => {
    const { transport, close } = await openConnection(command);
    try {
      // What cannot be seen is not in order.
      for (const topic of topics) await requiredSettings(transport, topic);
      const checked = topics.map((topic) => checkTopic(transport, topic, options.as, needsOf(options)));
      const found = (await Promise.all(checked)).flat();
      print(topics, found, options);
      if (found.some(({ severity }) => severity === 'error')) process.exitCode = 1;
    } finally {
      await close();
    }
  });
}

function needsOf({ as, recordBytes }: CheckOptions) {
  const isCut = as === 'checkpoints' || as === 'weights';
  return { byTime: true, recordBytes: recordBytes ?? (isCut ? USUAL_RECORD_BYTES : undefined) };
}

function print(topics: readonly string[], found: readonly TopicFinding[], { as, json }: CheckOptions): void {
  if (json) {
    console.log(JSON.stringify(found, null, 2));
    return;
  }
  for (const topic of topics) {
    const own = found.filter((finding) => finding.topic === topic);
    if (own.length === 0) console.log(`${topic}: fits ${as}`);
    for (const finding of own) console.log(`${topic}: ${finding.severity}: ${inWords(finding)}`);
  }
}
