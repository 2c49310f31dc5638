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
    try {
      return { ...(await opened(store, version)), later: laterThan(version, all) };
    } catch (error) {
      // Whoever writes to the store may have removed it since: then there are newer ones.
      if (isRxgradError(error) && error.key === 'checkpointFailed' && !(await isListed(store, version))) {
        return newestWhole(store, upTo);
      }
      if (!isRxgradError(error) || (error.key !== 'invalidCheckpoint' && error.key !== 'invalidOption')) throw error;
      last ||= error.message;
      process.emitWarning(`${error.message}. The one before it is tried`, { code: 'RXGRAD_CHECKPOINT_SKIPPED' });
    }
  }
  if (entries.length > 0) throw new RxgradError('noValidCheckpoint', { store: store.name, count: entries.length, last });
  return null;
}

async function isListed(store: CheckpointStore, version: number): Promise<boolean> {
  return (await store.list()).some((entry) => entry.version === version);
}

/** Reads one version and checks it. */
export async function openVersion(store: CheckpointStore, version: number): Promise<OpenedCheckpoint> {
  const entries = await store.list();
  if (!entries.some((one) => one.version === version)) {
    const expected = entries.map((one) => one.version).join(', ') || 'none';
    throw new RxgradError('unknownVersion', { store: store.name, expected, got: version });
  }
  return { ...(await opened(store, version)), later: laterThan(version, entries) };
}

async function opened(store: CheckpointStore, version: number): Promise<Omit<OpenedCheckpoint, 'later'>> {
  const where = `${store.name}, version ${version}`;
  const file = await store.read(version);
  const facts = openCheckpoint(file, where);
  if (facts.version === version) return { file, facts, where };
  throw new RxgradError('invalidCheckpoint', { where, expected: `version ${version}`, got: `version ${facts.version}` });
}

function laterThan(version: number, entries: readonly CheckpointEntry[]): number[] {
  return entries.flatMap((entry) => (entry.version > version ? [entry.version] : []));
}
