import { Command } from 'commander';
import { RxgradError } from '../../errors.ts';
import type { Position } from '../../events.ts';
import { idOf, retriedRecord, retryMark } from '../../sinks/retried-record.ts';
import type { NewRecord, Transport } from '../../sources/transport.ts';
import { addConnectionOptions, openConnection } from '../connection.ts';
import {
  addFilterOptions,
  atPositions,
  type Filter,
  filtered,
  type ListedLetter,
  printable,
  readLetters,
  readRecords,
} from './letters.ts';

interface RetryOptions extends Filter {
  readonly all?: boolean;
  readonly to?: string;
  readonly again?: boolean;
  readonly dryRun?: boolean;
}

interface Retry {
  readonly letter: ListedLetter;
  readonly topic: string;
  readonly record: NewRecord;
}

const MOST_RECORDS = 500;
const MOST_BYTES = 8 << 20;

/** Makes the command `dead-letters retry`. */
export function retryCommand(): Command {
  const command = new Command('retry')
    .summary('send letters back to where they came from')
    .description(
      "Sends the records of letters back to their topic and partition, to the byte, and marks the letters. Each gradient is applied once at most, however often it is sent: it comes from a worker of its own. Its base stays what it was, so a staleness policy may refuse it again. Don't retry what its worker has sent again by itself.",
    )
    .argument('<topic>', 'dead-letter topic')
    .argument('[positions...]', 'letters, by where their records stood, as `list` shows it: gradients/0@77')
    .option('--all', 'all letters')
    .option('--to <topic>', 'send them there instead, into the partition they came from, or 0 where there is none such')
    .option('--again', 'also those that were retried before')
    .option('--dry-run', 'only say what would be sent');
  addFilterOptions(addConnectionOptions(command));
  return command.action(async (topic: string, positions: string[], options: RetryOptions) => {
    requireSelection(topic, positions, options);
    const { transport, close } = await openConnection(command);
    try {
      await retry(transport, topic, positions, options);
    } finally {
      await close();
    }
  });
}

async function retry(transport: Transport, topic: string, positions: readonly string[], options: RetryOptions): Promise<void> {
  const letters = await readLetters(transport, topic);
  const selected = positions.length > 0 ? atPositions(letters, positions, topic) : filtered(letters, options);
  const chosen = selected.filter(({ retriedAs }) => options.again || retriedAs === null);
  const targetOf = ({ position }: ListedLetter): string => options.to ?? position?.topic ?? '';
  const lost = chosen.find((letter) => targetOf(letter) === '');
  if (lost) throw invalid('--to', 'it, since no topic is known of a letter', lost.id);
  if (chosen.some((letter) => targetOf(letter) === topic)) throw invalid('--to', 'another topic than that of the letters', topic);
  if (options.dryRun) for (const letter of chosen) console.log(`would send ${printable(letter.id, 300)} to ${targetOf(letter)}`);
  else await sendAll(transport, topic, chosen, targetOf);
  const before = selected.length - chosen.length;
  const skipped = before === 0 ? '' : `, ${before} left out that were retried before (--again sends them, too)`;
  console.log(`letters ${options.dryRun ? 'to send' : 'sent'}: ${chosen.length}${skipped}`);
}

/** Sends them in portions, and marks each portion when it is durable. A process that dies in between sends it once more. */
async function sendAll(
  transport: Transport,
  topic: string,
  chosen: readonly ListedLetter[],
  targetOf: (letter: ListedLetter) => string,
): Promise<void> {
  const targets = [...new Set(chosen.map(targetOf))];
  const ends = await Promise.all(targets.map((target) => transport.endOffsets(target)));
  const partitions = new Map(targets.map((target, i) => [target, ends[i]!.length]));
  let [portion, bytes]: [Retry[], number] = [[], 0];

  async function flush(): Promise<void> {
    const sending = portion;
    [portion, bytes] = [[], 0];
    for (const [target, retries] of Map.groupBy(sending, (one) => one.topic)) {
      const sent = await transport.produce(
        target,
        retries.map(({ record }) => record),
      );
      await transport.produce(
        topic,
        retries.map(({ letter }, i) => retryMark({ id: idOf(letter), topicId: letter.topicId, as: placeOf(sent[i]!) })),
      );
      for (const [i, { letter }] of retries.entries()) console.log(`${printable(letter.id, 300)} sent as ${placeOf(sent[i]!)}`);
    }
  }

  if (chosen.length === 0) return;
  await readRecords(transport, topic, chosen, async (letter, record) => {
    const target = targetOf(letter);
    const from = letter.position?.partition ?? 0;
    const partition = from < partitions.get(target)! ? from : 0;
    portion.push({ letter, topic: target, record: { ...retriedRecord(record, topic, letter), partition } });
    bytes += record.value?.byteLength ?? 0;
    if (portion.length >= MOST_RECORDS || bytes >= MOST_BYTES) await flush();
  });
  await flush();
}

/** Letters are named, or chosen, but never all by accident. */
function requireSelection(topic: string, positions: readonly string[], { all, reason, since, to }: RetryOptions): void {
  const chosen = all || reason !== undefined || since !== undefined;
  if (to === topic) throw invalid('--to', 'another topic than that of the letters', topic);
  if (positions.length > 0 && chosen) throw invalid('positions', 'none with --all, --reason or --since', positions.join(' '));
  if (positions.length === 0 && !chosen) throw invalid('positions', 'some, or --reason, --since or --all', 'none');
}

function placeOf(position: Position): string {
  return idOf({ position, partition: 0, offset: 0 });
}

function invalid(option: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidOption', { option, expected, got });
}
