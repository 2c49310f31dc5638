import { Command, InvalidArgumentError, Option } from 'commander';
import { addConnectionOptions, openConnection } from '../connection.ts';
import { createReporter } from '../reporter.ts';
import { addFilterOptions, ageOf, type Filter, filtered, type ListedLetter, printable, readLetters } from './letters.ts';

interface ListOptions extends Filter {
  readonly limit: number;
  readonly json?: boolean;
}

/** Makes the command `dead-letters list`. */
export function listCommand(): Command {
  const command = new Command('list')
    .summary('list letters, and count them by reason')
    .description('Lists the newest letters of a dead-letter topic, and counts all of them by reason.')
    .argument('<topic>', 'dead-letter topic')
    .addOption(new Option('--limit <count>', 'letters to list, at most').argParser(parseLimit).default(50))
    .option('--json', 'as JSON');
  addFilterOptions(addConnectionOptions(command));
  return command.action(async (topic: string, options: ListOptions) => {
    const { transport, close } = await openConnection(command);
    try {
      print(filtered(await readLetters(transport, topic), options), options);
    } finally {
      await close();
    }
  });
}

function print(letters: readonly ListedLetter[], { limit, json }: ListOptions): void {
  const counts = new Map<string, number>();
  for (const { reason } of letters) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const shown = limit === 0 ? [] : letters.slice(-limit);
  if (json) {
    console.log(JSON.stringify({ total: letters.length, reasons: Object.fromEntries(counts), letters: shown }, null, 2));
    return;
  }
  const report = createReporter(process.stdout);
  const rows = shown.map(({ id, reason, at, worker, sequence, attempt, rejectedMs, retriedAs }) => [
    printable(id),
    ...[reason, at, worker ?? '–', sequence ?? '–'].map((text) => printable(text, 40)),
    String(attempt),
    ageOf(rejectedMs),
    retriedAs === null ? '–' : printable(retriedAs),
  ]);
  if (rows.length > 0) report.table(['position', 'reason', 'at', 'worker', 'sequence', 'attempt', 'age', 'retried as'], rows);
  report.table(
    ['reason', 'letters'],
    [...[...counts].map(([reason, count]) => [printable(reason, 40), String(count)]), ['all', String(letters.length)]],
  );
}

function parseLimit(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a whole number of at least 0.');
}
