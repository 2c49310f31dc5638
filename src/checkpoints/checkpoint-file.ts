import { createHash } from 'node:crypto';
import { RxgradError } from '../errors.ts';
import type { OnceState } from '../events.ts';
import type { Recipe, StageRecipe } from '../optimizers/recipe.ts';
import { parsePartialFacts, seenOf } from '../optimizers/scan-facts.ts';
import { readArrays, readTensorFileHeader, tensorFileHeader } from '../params/tensor-file.ts';

/** What a checkpoint says of itself, its tensors aside. */
export interface CheckpointFacts {
  readonly version: number;
  /** The next offset by topic and partition. */
  readonly positions: readonly (readonly [topic: string, partition: number, next: number])[];
  readonly steps: number;
  readonly epochs: number;
  /** What was counted, where a scan has run. */
  readonly seen?: OnceState | undefined;
  /** How the scan was set up, where one has run. */
  readonly recipe?: Recipe | undefined;
  /** The stages that its last batch came through. */
  readonly stages: readonly StageRecipe[];
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
  const facts = readFacts(file, where);
  if (!/^[0-9a-f]{64}$/.test(facts.checksum)) {
    throw invalid(where, `a ${CHECKSUM} of ${DIGITS} digits`, facts.checksum || 'none');
  }
  const got = digest(file, checksumPlace(file));
  if (got !== facts.checksum) throw invalid(where, `the checksum ${facts.checksum}`, `${got}: it was changed, or cut off`);
  return facts;
}

/** The same state, to go on at other offsets: `next` by partition replaces those of the topic. */
export function movedTo(file: Uint8Array, topic: string, next: ReadonlyMap<number, number>, where: string): Uint8Array {
  const { begin, metadata, entries } = readTensorFileHeader(file, failing(where));
  const state = JSON.parse(metadata['rxgrad.state'] ?? '{}') as { positions?: [string, number, number][] };
  const kept = (state.positions ?? []).filter(([of, partition]) => of !== topic || !next.has(partition));
  const positions = [...kept, ...[...next].map(([partition, offset]) => [topic, partition, offset] as const)];
  const moved = { ...metadata, 'rxgrad.state': JSON.stringify({ ...state, positions }), ...unsealedMetadata };
  const changed = Buffer.concat([tensorFileHeader({ __metadata__: moved, ...entries }), file.subarray(begin)]);
  seal(changed);
  return changed;
}

/** Reads what a state dict says of itself; its checksum is not looked at. */
export function readFacts(file: Uint8Array, where: string): CheckpointFacts {
  const { begin, metadata, entries } = readTensorFileHeader(file, failing(where));
  const version = Number(metadata['rxgrad.version']);
  if (!Number.isSafeInteger(version)) throw invalid(where, 'a version', String(metadata['rxgrad.version']));
  const facts = parsePartialFacts(stateOf(metadata, where), where);
  const { steps = 0, epochs = 0, positions = [], recipe, stages = [] } = facts;
  const seen = seenOf(facts, readArrays(file, begin, entries, failing(where)));
  return { version, steps, epochs, positions, seen, recipe, stages, checksum: metadata[CHECKSUM] ?? '' };
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
