import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { RxgradError } from '../errors.ts';
import type { CheckpointStore } from './checkpoint-store.ts';

/** So much is compared between two turns of the event loop: about half a millisecond. */
const SLICE_BYTES = 4 << 20;

/**
 * Reads a checkpoint that was written; where it is not what was to be written, removes it and fails. Every store does so before
 * it removes older ones: none counts as written that cannot be read.
 */
export async function assertReadBack(
  store: Pick<CheckpointStore, 'name' | 'read' | 'remove'>,
  version: number,
  file: Uint8Array,
): Promise<void> {
  const found = await store.read(version);
  const problem = await differenceOf(found, file);
  if (!problem) return;
  await store.remove(version).catch(() => {});
  throw new RxgradError('checkpointFailed', { store: store.name, what: `reading version ${version} back`, problem });
}

async function differenceOf(found: Uint8Array, file: Uint8Array): Promise<string | null> {
  if (found.byteLength !== file.byteLength) return `expected ${file.byteLength} bytes, found ${found.byteLength}`;
  for (let at = 0; at < file.byteLength; at += SLICE_BYTES) {
    if (at > 0) await eventLoopTurn();
    const [ours, theirs] = [found.subarray(at, at + SLICE_BYTES), file.subarray(at, at + SLICE_BYTES)];
    if (Buffer.compare(ours, theirs) !== 0) return `another byte at ${at + ours.findIndex((byte, i) => byte !== theirs[i])}`;
  }
  return null;
}
