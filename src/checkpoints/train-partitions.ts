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
 * from there. Emits the updates of all of them. A partition's state follows from its log alone, so a member that was taken for dead and
 * goes on does no harm: what it still writes is the same, or is refused where writers have a transactional id.
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
  const prepare = async (partition: number) => {
    const training = { partition, params: options.params(partition), store: options.store(partition) };
    const { source } = await recover(training.params, training.store, {
      transport,
      topic,
      partitions: [partition],
      takeOver: false,
    });
    const start = { next: source.from.get(partition)!, seen: source.seen };
    return { start, prepared: { ...training, watch: source.watch } };
  };
  const limits = { ...(maxInFlight === undefined ? {} : { maxInFlight }), ...(maxBytes === undefined ? {} : { maxBytes }) };
  return fromGroup(transport, { topic, group, prepare, ...limits }).pipe(
    mergeMap(({ prepared: { watch, ...prepared }, events$, finished }) => {
      const unwatch = everyMinute(watch);
      return events$.pipe(
        options.train(prepared),
        // Another member has this partition now; this one is told soon.
        catchError((error: unknown) => (isFenced(error) ? EMPTY : throwError(() => error))),
        finalize(() => {
          unwatch();
          finished();
          void prepared.store.close().catch(() => {});
        }),
      );
    }),
  );
}
