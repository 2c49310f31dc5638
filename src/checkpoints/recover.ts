import { isRxgradError, RxgradError } from '../errors.ts';
import type { OnceState } from '../events.ts';
import { channels } from '../observe/channels.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Transport } from '../sources/transport.ts';
import { type CheckpointFacts, movedTo, openCheckpoint } from './checkpoint-file.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { Sealer } from './sealer.ts';

export interface RecoverOptions {
  /** The log that is read on. Its topic must still hold what comes behind the checkpoint. */
  readonly transport: Transport;
  readonly topic: string;
  /** The partitions that are trained here. Default: all. */
  readonly partitions?: readonly number[];
  /** The newest version to begin from. Default: the newest there is. */
  readonly upTo?: number;
  /**
   * Whether a scan with another configuration than the one that wrote the checkpoint (optimizer, options, stages) may go on from it.
   * Default false: it fails before its first step.
   */
  readonly allowChanges?: boolean;
}

/** Where a stream goes on: `fromTransport(transport, { topic, ...source })`. */
export interface Recovered {
  readonly version: number;
  readonly source: { readonly from: ReadonlyMap<number, number>; readonly seen?: OnceState | undefined };
}

/**
 * Loads the newest checkpoint that is whole into parameters; the scan that steps them next goes on from its state, and a source
 * with what is returned from its place in the log: with the same bits as if nothing had happened. What is not whole is passed
 * over with a warning. Where there is none yet, the parameters as they are become the first one, and the log is read from its
 * beginning.
 *
 * @example
 * const { source } = await recover(params, store, { transport, topic: 'gradients' });
 * fromTransport(transport, { topic: 'gradients', ...source }).pipe(momentum(params), checkpoint(store, { everyMs: 10_000, params }))
 */
export async function recover(params: Parameters, store: CheckpointStore, options: RecoverOptions): Promise<Recovered> {
  await store.takeOver?.();
  const found = await newestWhole(store, options.upTo);
  if (!found) {
    return { version: params.version, source: { from: await begin(params, store, options) } };
  }
  const { file, facts, where } = found;
  params.loadStateDict(file, { exact: !options.allowChanges });
  const from = await placeInLog(facts, options, where);
  if (channels.recovery.hasSubscribers) channels.recovery.publish({ kind: 'recovery', at: store.name, version: facts.version });
  return { version: facts.version, source: { from, seen: facts.seen } };
}

/** A checkpoint that was read and found whole. */
export interface OpenedCheckpoint {
  readonly file: Uint8Array;
  readonly facts: CheckpointFacts;
  readonly where: string;
  /** Milliseconds since 1970 (UTC). */
  readonly savedAtMs: number;
}

/** The newest checkpoint that is whole, or null where there is none at all. Those that are not whole are told by warnings. */
export async function newestWhole(store: CheckpointStore, upTo = Number.POSITIVE_INFINITY): Promise<OpenedCheckpoint | null> {
  const entries = (await store.list()).filter(({ version }) => version <= upTo);
  let last = '';
  for (const { version, savedAtMs } of entries) {
    const where = placeOf(store, version);
    try {
      const file = await store.read(version);
      return { file, facts: openCheckpoint(file, where), where, savedAtMs };
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
  const entry = entries.find((one) => one.version === version);
  if (!entry) {
    const expected = entries.map((one) => one.version).join(', ') || 'none';
    throw new RxgradError('unknownVersion', { store: store.name, expected, got: version });
  }
  const where = placeOf(store, version);
  const file = await store.read(version);
  return { file, facts: openCheckpoint(file, where), where, savedAtMs: entry.savedAtMs };
}

/** The offsets at which the log goes on behind a checkpoint. Fails where it does not hold them any more. */
export async function placeInLog(
  { positions, version }: CheckpointFacts,
  { transport, topic }: Pick<RecoverOptions, 'transport' | 'topic'>,
  where: string,
): Promise<ReadonlyMap<number, number>> {
  const others = positions.filter(([of]) => of !== topic).map(([of]) => of);
  if (others.length > 0 && others.length === positions.length) {
    throw new RxgradError('invalidOption', { option: 'topic', expected: `that of ${where} ("${others[0]}")`, got: topic });
  }
  const from = new Map(positions.flatMap(([of, partition, next]) => (of === topic ? [[partition, next] as const] : [])));
  const [starts, ends] = await Promise.all([transport.startOffsets(topic), transport.endOffsets(topic)]);
  for (const [partition, next] of from) {
    const [first = 0, last = 0] = [starts[partition], ends[partition]];
    if (next >= first && next <= last) continue;
    throw new RxgradError('logTooShort', { where: `${topic}/${partition}`, expected: next, version, first, last });
  }
  return from;
}

/** The weights that training begins with are the first checkpoint: after a crash they are the same, wherever they came from. */
async function begin(
  params: Parameters,
  store: CheckpointStore,
  { transport, topic, partitions }: RecoverOptions,
): Promise<ReadonlyMap<number, number>> {
  const starts = [...(await transport.startOffsets(topic)).entries()];
  const from = new Map(starts.filter(([partition]) => !partitions || partitions.includes(partition)));
  const sealer = new Sealer();
  try {
    await store.write(params.version, movedTo(await sealer.seal(params), topic, from, store.name));
  } finally {
    await sealer.close();
  }
  return from;
}

function placeOf(store: CheckpointStore, version: number): string {
  return `${store.name}, version ${version}`;
}
