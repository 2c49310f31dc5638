import { type Command, InvalidArgumentError, Option } from 'commander';
import { RxgradError } from '../../errors.ts';
import { type DeadLetter, readDeadLetter } from '../../sinks/dead-letter.ts';
import { idOf, readRetryMark } from '../../sinks/retried-record.ts';
import { readAll } from '../../sources/read-all.ts';
import type { LogRecord, Transport } from '../../sources/transport.ts';

/** A letter as it is listed: without its bytes, and what takes much room. */
export interface ListedLetter extends Omit<DeadLetter, 'message' | 'code'> {
  /** Where its record stood; where a topic of that name was made since, with the id of the one before. */
  readonly id: string;
  /** Where it was sent again, the last time. */
  readonly retriedAs: string | null;
}

export interface Filter {
  readonly reason?: readonly string[];
  readonly since?: number;
}

/** Reads the letters of a topic, each once: what a scan rejects a second time behind a crash stands there twice. */
export async function readLetters(transport: Transport, topic: string): Promise<ListedLetter[]> {
  const letters = new Map<string, ListedLetter>();
  await readAll(transport, topic, {}, (record, partition) => {
    const mark = readRetryMark(record);
    const marked = mark && letters.get(keyOf(mark));
    if (marked) letters.set(keyOf(mark), { ...marked, retriedAs: mark.as });
    const letter = readDeadLetter(record, partition);
    if (!letter) return;
    const { message: _, code: __, ...rest } = letter;
    const listed = { ...rest, id: idOf(letter), retriedAs: null };
    if (!letters.has(keyOf(listed))) letters.set(keyOf(listed), listed);
  });
  const all = [...letters.values()];
  const present = new Map(all.map(({ position, topicId }) => [position?.topic, topicId]));
  const isPresent = ({ position, topicId }: ListedLetter): boolean =>
    topicId === null || topicId === present.get(position?.topic);
  return all.map((letter) => (isPresent(letter) ? letter : { ...letter, id: keyOf(letter) }));
}

function keyOf({ id, topicId }: Pick<ListedLetter, 'id' | 'topicId'>): string {
  return `${id}#${topicId}`;
}

/** Reads the records of some letters. */
export async function readRecords(
  transport: Transport,
  topic: string,
  letters: readonly ListedLetter[],
  onRecord: (letter: ListedLetter, record: LogRecord) => void | Promise<void>,
): Promise<void> {
  const byPlace = new Map(letters.map((letter) => [`${letter.partition}@${letter.offset}`, letter]));
  await readAll(transport, topic, {}, (record, partition) => {
    const letter = byPlace.get(`${partition}@${record.offset}`);
    return letter && onRecord(letter, record);
  });
}

/** The letters that fit a filter. */
export function filtered(letters: readonly ListedLetter[], { reason, since = 0 }: Filter): ListedLetter[] {
  return letters.filter((letter) => letter.rejectedMs >= since && (!reason || reason.includes(letter.reason)));
}

/** The letters at some positions, or an error that names one where none is. */
export function atPositions(letters: readonly ListedLetter[], positions: readonly string[], topic: string): ListedLetter[] {
  const byId = new Map(letters.map((letter) => [letter.id, letter]));
  return positions.map((position) => {
    const letter = byId.get(position);
    if (letter) return letter;
    throw new RxgradError('invalidOption', { option: 'position', expected: `one that \`list ${topic}\` shows`, got: position });
  });
}

/** Adds the options of a {@link Filter}. */
export function addFilterOptions(command: Command): Command {
  return command
    .option('--reason <reason...>', 'letters of these reasons, as notFinite')
    .addOption(
      new Option('--since <time>', 'letters since then: 30s, 15m, 2h, 7d, or a date as 2030-01-31T12:00Z').argParser(parseSince),
    );
}

/** Text of a producer's, with what could steer a terminal written out, and cut. */
export function printable(text: string, most = 60): string {
  const shown = [...text].map((letter) =>
    /[\p{C}\u2028\u2029]/u.test(letter) ? `\\u{${letter.codePointAt(0)!.toString(16)}}` : letter,
  );
  const joined = shown.join('');
  return joined.length > most ? `${joined.slice(0, most - 1)}…` : joined;
}

/** How long ago, in the largest unit. */
export function ageOf(timeMs: number): string {
  const seconds = Math.max(0, Math.round((Date.now() - timeMs) / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

const seconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

function parseSince(text: string): number {
  const [, count, unit] = /^(\d+)([smhd])$/.exec(text) ?? [];
  const timeMs = unit === undefined ? Date.parse(text) : Date.now() - 1000 * Number(count) * seconds[unit]!;
  if (Number.isFinite(timeMs)) return timeMs;
  throw new InvalidArgumentError('Expected a time as 30s, 15m, 2h, 7d, or a date.');
}
