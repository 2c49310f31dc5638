import { createHash } from 'node:crypto';
import { RxgradError } from '../errors.ts';
import type { OnceState } from '../events.ts';
import type { Recipe, StageRecipe } from '../optimizers/recipe.ts';
import { parsePartialFacts, seenOf } from '../optimizers/scan-facts.ts';
import { requireFormat } from '../params/state-dict.ts';
import { readArrays, readTensorFileHeader, tensorFileHeader } from '../params/tensor-file.ts';
import type { LogFacts, Positions } from '../reached.ts';
import type { RecordMark } from '../record-mark.ts';

/** What a checkpoint says of itself, its tensors aside. */
export interface CheckpointFacts {
  readonly version: number;
  /** The next offset by topic and partition. */
  readonly positions: readonly (readonly [topic: string, partition: number, next: number])[];
  /** What tells the log that they are of; undefined where it was written before there was any. */
  readonly log?: LogFacts | undefined;
  readonly steps: number;
  readonly epochs: number;
  /** What was counted, where a scan has run. */
  readonly seen?: OnceState | undefined;
  /** How the scan was set up, where one has run. */
  readonly recipe?: Recipe | undefined;
  /** The stages that its last batch came through; null where none has come since they may have changed. */
  readonly stages: readonly StageRecipe[] | null;
  /** SHA-256 of the file with zeros in the place of these 64 digits. */
  readonly checksum: string;
}

const CHECKSUM = 'rxgrad.checksum';
const DIGITS = 64;
const unsealed = '0'.repeat(DIGITS);

/** The metadata that a state dict gets, to be sealed as a checkpoint. */
export const unsealedMetadata = { [CHECKSUM]: unsealed };

/** Writes the checksum into a file that was planned with {@link unsealedMetadata}. */
export function seal(file: Uint8Array): void {
  const at = checksumPlace(file);
  Buffer.from(digest(file, at)).copy(file, at);
}

/** Checks a file's checksum and reads what it says of itself. Whatever is wrong with it is an error that names `where`. */
export function openCheckpoint(file: Uint8Array, where: string): CheckpointFacts {
  const { metadata } = readTensorFileHeader(file, failing(where));
  const checksum = metadata[CHECKSUM] ?? '';
  // What a later version has written may have none, and says so before it is called broken.
  if (!/^[0-9a-f]{64}$/.test(checksum)) {
    requireFormat(metadata['rxgrad.format'], where);
    throw invalid(where, `a ${CHECKSUM} of ${DIGITS} digits`, checksum || 'none');
  }
  const got = digest(file, checksumPlace(file));
  if (got !== checksum) throw invalid(where, `the checksum ${checksum}`, `${got}: it was changed, or cut off`);
  return readFacts(file, where);
}

/** Where a state goes on in a topic: the next offset by partition, and what tells its log from others. */
export interface PlaceInTopic {
  readonly topic: string;
  readonly topicId: string | null;
  readonly next: ReadonlyMap<number, number>;
  /** The records before, by partition, where they are still held. */
  readonly last: ReadonlyMap<number, RecordMark>;
}

/** The same state, to go on at another place: it replaces what the state says of these partitions, or of the topic where it is another one of that name. */
export function movedTo(file: Uint8Array, place: PlaceInTopic, where: string): Uint8Array {
  const { begin, metadata, entries } = readTensorFileHeader(file, failing(where));
  const state = stateOf(metadata, where) as Record<string, unknown>;
  const { topic, topicId, next, last } = place;
  const { positions = [], log } = parsePartialFacts(state, where);
  const knownId = log?.topics.find(([of]) => of === topic)?.[1] ?? null;
  const isOther = topicId !== null && knownId !== null && topicId !== knownId;
  const isKept = ([of, partition]: readonly [string, number, ...number[]]): boolean =>
    of !== topic || !(isOther || next.has(partition));
  const moved: { positions: Positions; log: LogFacts } = {
    positions: [
      ...positions.filter(isKept),
      ...[...next].map(([partition, offset]): Positions[number] => [topic, partition, offset]),
    ],
    log: {
      // Before the first step nothing is contained; of what was written without these facts, it is not known.
      ...(log ? { newestMs: log.newestMs } : 'rule' in state ? {} : { newestMs: null }),
      topics: [
        ...(log?.topics ?? []).filter(([of]) => of !== topic),
        ...(topicId === null ? [] : [[topic, topicId] as [string, string]]),
      ],
      last: [
        ...(log?.last ?? []).filter(isKept),
        ...[...last].map(([partition, { offset, timestampMs, crc }]): LogFacts['last'][number] => [
          topic,
          partition,
          offset,
          timestampMs,
          crc,
        ]),
      ],
    },
  };
  const all = { ...metadata, 'rxgrad.state': JSON.stringify({ ...state, ...moved }), ...unsealedMetadata };
  const changed = Buffer.concat([tensorFileHeader(all, Object.entries(entries)), file.subarray(begin)]);
  seal(changed);
  return changed;
}

/** Reads what a state dict says of itself; null where it says nothing, as those that others wrote. */
export function factsIfAny(file: Uint8Array, where: string): CheckpointFacts | null {
  const header = readTensorFileHeader(file, failing(where));
  return header.metadata['rxgrad.version'] === undefined ? null : factsOf(file, header, where);
}

/** Reads what a state dict says of itself; its checksum is not looked at. */
export function readFacts(file: Uint8Array, where: string): CheckpointFacts {
  return factsOf(file, readTensorFileHeader(file, failing(where)), where);
}

function factsOf(
  file: Uint8Array,
  { begin, metadata, entries }: ReturnType<typeof readTensorFileHeader>,
  where: string,
): CheckpointFacts {
  requireFormat(metadata['rxgrad.format'], where);
  const version = Number(metadata['rxgrad.version']);
  if (!Number.isSafeInteger(version)) throw invalid(where, 'a version', String(metadata['rxgrad.version']));
  const facts = parsePartialFacts(stateOf(metadata, where), where);
  const { steps = 0, epochs = 0, positions = [], log, recipe, stages = null } = facts;
  const seen = seenOf(facts, readArrays(file, begin, entries, failing(where)));
  return { version, steps, epochs, positions, log, seen, recipe, stages, checksum: metadata[CHECKSUM] ?? '' };
}

function stateOf(metadata: Readonly<Record<string, string>>, where: string): unknown {
  try {
    return JSON.parse(metadata['rxgrad.state'] ?? '{}');
  } catch {
    throw invalid(where, 'JSON as rxgrad.state', 'something else');
  }
}

function checksumPlace(file: Uint8Array): number {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  const label = `"${CHECKSUM}":"`;
  const found = bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE(0))).indexOf(label);
  return found + label.length;
}

function digest(file: Uint8Array, at: number): string {
  const hash = createHash('sha256').update(file.subarray(0, at)).update(unsealed);
  return hash.update(file.subarray(at + DIGITS)).digest('hex');
}

function failing(where: string): (expected: string, got: string) => never {
  return (expected, got) => {
    throw invalid(where, expected, got);
  };
}

function invalid(where: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidCheckpoint', { where, expected, got });
}
