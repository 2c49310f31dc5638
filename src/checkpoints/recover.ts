import { isDeepStrictEqual } from 'node:util';
import { RxgradError } from '../errors.ts';
import type { OnceState } from '../events.ts';
import { channels } from '../observe/channels.ts';
import type { Parameters } from '../params/parameters.ts';
import { requireFit } from '../sources/check-topic.ts';
import { chosenPartition, type PartitionChoice } from '../sources/partition-choice.ts';
import type { Transport } from '../sources/transport.ts';
import { movedTo } from './checkpoint-file.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { newestWhole, type OpenedCheckpoint } from './opened-checkpoint.ts';
import { placeInLog, placeOfOffsets, type SourcePlace } from './place-in-log.ts';
import { placeOfState } from './place-of-state.ts';
import { RetentionWatch } from './retention-watch.ts';
import { Sealer } from './sealer.ts';

export interface RecoverOptions {
  /** The log that is read on. Its topic must still hold what comes behind the checkpoint. */
  readonly transport: Transport;
  readonly topic: string;
  /**
   * Of a topic with several partitions: the one that is trained here, in a list, or `'any-order'` for all of them as their records arrive, with
   * other bits each time. Default: the topic must have one partition.
   */
  readonly partitions?: PartitionChoice | undefined;
  /** The newest version to begin from; later ones are set aside. Default: the newest there is. */
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
  readonly source: SourcePlace & {
    readonly seen?: OnceState | undefined;
    /** Warns before the log lets go of what a recovery needs; for a source to call now and then. */
    readonly watch: () => Promise<void>;
  };
}

/**
 * Loads the newest checkpoint that is whole into parameters; the scan that steps them next goes on from its state, and a source
 * with what is returned from its place in the log: with the same bits as if nothing had happened. What is not whole is passed
 * over with a warning, and versions after the one that is taken are set aside. The store is taken over before that: its owner before fails
 * with `fenced` at its next write. Where there is none yet, the parameters as they are become the
 * first one, and the log is read from its beginning. Another log of the same name is refused.
 *
 * @example
 * const { source } = await recover(params, store, { transport, topic: 'gradients' });
 * fromTransport(transport, { topic: 'gradients', ...source }).pipe(momentum(params), checkpoint(store, { everyMs: 10_000, params }))
 */
export async function recover(params: Parameters, store: CheckpointStore, options: RecoverOptions): Promise<Recovered> {
  await requireFit(options.transport, options.topic, 'gradients');
  const start = await ownBeginningOf(store, options);
  const retention = new RetentionWatch(store, options);
  const watch = () => retention.look();
  if (!start) return { version: params.version, source: { ...(await begin(params, store, options)), watch } };
  const { file, facts, later, place } = start;
  params.loadStateDict(file, { exact: !options.allowChanges });
  await setAside(store, facts.version, later);
  await retention.check(facts);
  if (channels.recovery.hasSubscribers) channels.recovery.publish({ kind: 'recovery', at: store.name, version: facts.version });
  return { version: facts.version, source: { ...place, seen: facts.seen, watch } };
}

/** Takes the store over, but not where training cannot go on: whoever is pointed at another log, say, ends nobody that runs. */
async function ownBeginningOf(store: CheckpointStore, options: RecoverOptions): ReturnType<typeof beginningOf> {
  const listed = await store.list();
  const start = await beginningOf(store, options);
  if (!store.takeOver) return start;
  await store.takeOver();
  // Until then the owner before may write and remove: what it wrote last is gone on from, and what was read may be a mixture.
  return isDeepStrictEqual(await store.list(), listed) ? start : beginningOf(store, options);
}

/** The checkpoint to begin from, and its place in the log; null where there is none yet. */
async function beginningOf(
  store: CheckpointStore,
  options: RecoverOptions,
): Promise<(OpenedCheckpoint & { readonly place: SourcePlace }) | null> {
  const found = await newestWhole(store, options.upTo);
  if (found) return { ...found, place: await placeInLog(found.facts, options, found.where) };
  if (options.upTo !== undefined) await requireNone(store, options.upTo);
  chosenPartition(options.topic, options.partitions, (await options.transport.startOffsets(options.topic)).length);
  return null;
}

/** What comes after the version that training goes on from is of a course that it leaves: it would count as newer than what is yet to come. */
async function setAside(store: CheckpointStore, version: number, later: readonly number[]): Promise<void> {
  if (later.length === 0) return;
  const place = await store.setAside(later);
  process.emitWarning(
    `${store.name}: training goes on from version ${version}, so ${later.length === 1 ? 'version' : 'versions'} ${later.join(', ')} ` +
      `of the course that it leaves ${later.length === 1 ? 'is' : 'are'} set aside, as ${place}`,
    { code: 'RXGRAD_CHECKPOINTS_SET_ASIDE' },
  );
}

/** Nothing begins anew beside checkpoints that are all later than the one that was asked for. */
async function requireNone(store: CheckpointStore, upTo: number): Promise<void> {
  const versions = (await store.list()).map(({ version }) => version);
  if (versions.length === 0) return;
  throw new RxgradError('unknownVersion', { store: store.name, expected: versions.join(', '), got: `up to ${upTo}` });
}

/**
 * The weights that training begins with are the first checkpoint: after a crash they are the same, wherever they came from. A state that was
 * loaded goes on behind what it contains of the topic.
 */
async function begin(
  params: Parameters,
  store: CheckpointStore,
  { transport, topic, partitions }: RecoverOptions,
): Promise<SourcePlace & { readonly seen?: OnceState | undefined }> {
  const sealer = new Sealer();
  try {
    const file = await sealer.seal(params);
    // A state that was loaded may contain a part of the log.
    const contained = await placeOfState(file, { transport, topic, partitions });
    if (contained) {
      await store.write(params.version, file);
      return contained;
    }
    const starts = await transport.startOffsets(topic);
    const only = chosenPartition(topic, partitions, starts.length);
    const from = new Map([...starts.entries()].filter(([partition]) => only === null || partition === only));
    const place = await placeOfOffsets(transport, topic, from);
    await store.write(params.version, movedTo(file, place, store.name));
    const { topicId } = place;
    return { from, ...(partitions === undefined ? {} : { partitions }), ...(topicId === null ? {} : { topicId }) };
  } finally {
    await sealer.close();
  }
}
