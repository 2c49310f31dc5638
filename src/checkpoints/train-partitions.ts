import { catchError, EMPTY, finalize, mergeMap, type Observable, type OperatorFunction, throwError } from 'rxjs';
import { isFenced } from '../errors.ts';
import type { TrainingEvent } from '../events.ts';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import type { Parameters } from '../params/parameters.ts';
import { type FromGroupOptions, fromGroup } from '../sources/from-group.ts';
import { everyMinute } from '../sources/topic-watch.ts';
import type { Transport } from '../sources/transport.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { recover } from './recover.ts';

/** What is trained of a partition, and where its checkpoints are. */
export interface PartitionTraining {
  readonly partition: number;
  readonly params: Parameters;
  readonly store: CheckpointStore;
}

export interface TrainPartitionsOptions extends Pick<FromGroupOptions<never>, 'topic' | 'group' | 'maxInFlight' | 'maxBytes'> {
  /** The weights that a partition's training begins with, made anew: those of a shard, for instance. */
  readonly params: (partition: number) => Parameters;
  /** Where all members find the checkpoints of a partition. */
  readonly store: (partition: number) => CheckpointStore;
  /** Stages, scan and sinks of a partition; `checkpoint(store, …)` among them. */
  readonly train: (training: PartitionTraining) => OperatorFunction<TrainingEvent, WeightsUpdate>;
}

/**
 * Trains the partitions that this member of a group is given, each from its newest checkpoint; when it dies, others take them over
 * from there. Emits the updates of all of them. A store that can have an owner is taken over as its partition is given to a member, before its
 * newest checkpoint is read, and at no other time: a member that was taken for dead and goes on can write nothing any more. Where the store
 * of a partition was fenced that the group leaves with this member, a warning (`RXGRAD_PARTITION_FENCED`) says so, and the member leaves the
 * group and joins it again; the other partitions that it has end with a checkpoint, and whoever gets them goes on. Fails with `fenced` where that
 * happens to one partition more than five times in a row, each within a minute: something outside the group writes to its store.
 *
 * @example
 * trainPartitions(transport, {
 *   topic: 'gradients',
 *   group: 'trainers',
 *   params: (partition) => shardParameters(plan, partition, params),
 *   store: (partition) => new KafkaCheckpoints(transport, { topic: 'checkpoints', model: `ranking-${partition}` }),
 *   train: ({ params, store }) => pipe(clipByGlobalNorm(1), momentum(params), checkpoint(store, { everyMs: 10_000, params })),
 * }).subscribe();
 */
export function trainPartitions(transport: Transport, options: TrainPartitionsOptions): Observable<WeightsUpdate> {
  const { topic, group, maxInFlight, maxBytes } = options;
  const close = (store: CheckpointStore) => void store.close().catch(() => {});
  const prepare = async (partition: number) => {
    const training = { partition, params: options.params(partition), store: options.store(partition) };
    try {
      const { source } = await recover(training.params, training.store, { transport, topic, partitions: [partition] });
      const start = { next: source.from.get(partition)!, seen: source.seen };
      return { start, prepared: { ...training, watch: source.watch } };
    } catch (error) {
      close(training.store);
      throw error;
    }
  };
  const discard = ({ store }: PartitionTraining) => close(store);
  const limits = { ...(maxInFlight === undefined ? {} : { maxInFlight }), ...(maxBytes === undefined ? {} : { maxBytes }) };
  return fromGroup(transport, { topic, group, prepare, discard, ...limits }).pipe(
    mergeMap(({ prepared: { watch, ...prepared }, events$, finished, giveBack }) => {
      const unwatch = everyMinute(watch);
      return events$.pipe(
        options.train(prepared),
        catchError((error: unknown) => {
          if (!isFenced(error)) return throwError(() => error);
          giveBack(error as Error);
          return EMPTY;
        }),
        finalize(() => {
          unwatch();
          finished();
          close(prepared.store);
        }),
      );
    }),
  );
}
