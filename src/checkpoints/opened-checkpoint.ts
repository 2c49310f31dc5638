import { isRxgradError, RxgradError } from '../errors.ts';
import { type CheckpointFacts, openCheckpoint } from './checkpoint-file.ts';
import type { CheckpointEntry, CheckpointStore } from './checkpoint-store.ts';

/** A checkpoint that was read and found whole. */
export interface OpenedCheckpoint {
  readonly file: Uint8Array;
  readonly facts: CheckpointFacts;
  readonly where: string;
  /** Versions after it that the store holds. */
  readonly later: readonly number[];
}

/** The newest checkpoint that is whole, or null where there is none at all. Those that are not whole are told by warnings. */
export async function newestWhole(store: CheckpointStore, upTo = Number.POSITIVE_INFINITY): Promise<OpenedCheckpoint | null> {
  const all = await store.list();
  const entries = all.filter(({ version }) => version <= upTo);
  let last = '';
  for (const { version } of entries) {
    const where = placeOf(store, version);
    try {
      const file = await store.read(version);
      return { file, facts: openCheckpoint(file, where), where, later: laterThan(version, all) };
    } catch (error) {
      if (!isRxgradError(error) || (error.key !== 'invalidCheckpoint' && error.key !== 'invalidOption')) throw error;
      last ||= error.message;
      process.emitWarning(`${error.message}. The one before it is tried`, { code: 'RXGRAD_CHECKPOINT_SKIPPED' });
    }
  }
  if (entries.length > 0) throw new RxgradError('noValidCheckpoint', { store: store.name, count: entries.length, last });
  return null;
}

/** Reads one version and checks it. */
export async function openVersion(store: CheckpointStore, version: number): Promise<OpenedCheckpoint> {
  const entries = await store.list();
  if (!entries.some((one) => one.version === version)) {
    const expected = entries.map((one) => one.version).join(', ') || 'none';
    throw new RxgradError('unknownVersion', { store: store.name, expected, got: version });
  }
  const where = placeOf(store, version);
  const file = await store.read(version);
  return { file, facts: openCheckpoint(file, where), where, later: laterThan(version, entries) };
}

function laterThan(version: number, entries: readonly CheckpointEntry[]): number[] {
  return entries.flatMap((entry) => (entry.version > version ? [entry.version] : []));
}

function placeOf(store: CheckpointStore, version: number): string {
  return `${store.name}, version ${version}`;
}
