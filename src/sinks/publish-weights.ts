import { type MonoTypeOperatorFunction, Observable } from 'rxjs';
import * as v from 'valibot';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import { count, expectOption, parseOptions } from '../options.ts';
import type { Transport } from '../sources/transport.ts';
import type { WeightsType } from '../weights/cut.ts';
import { Publishing } from '../weights/publishing.ts';

export interface PublishWeightsOptions {
  /** A compacted topic; made, with one partition, where it does not exist. */
  readonly topic: string;
  /** What replicas call the model. A topic may hold several. */
  readonly model: string;
  /** Publishes versions that are multiples of it. This, or `everyMs`. */
  readonly everySteps?: number;
  /** Publishes at most so often: the newest version each time. Not with several shards. */
  readonly everyMs?: number;
  /**
   * Whether versions that come due while one is being sent make place for the newest. False: all are published, and the next
   * step waits meanwhile. Default: true, but for several shards.
   */
  readonly conflate?: boolean;
  /** Every how many publications is a full snapshot, at least. Default 100. */
  readonly snapshotEvery?: number;
  /** Which of how many shards of the model these weights are; all publish the same versions. Default: 0 of 1. */
  readonly shard?: number;
  readonly shards?: number;
  /** F16 and BF16 halve the messages; replicas then have rounded weights. Default F32. */
  readonly dtype?: WeightsType;
  /** Bytes of a message, at most. Default 900,000, which fits Kafka's own default. */
  readonly maxPartBytes?: number;
  /** The topic on which replicas ask for snapshots; has to exist. Default: nobody can. */
  readonly requests?: string;
  /**
   * The transactional id; who opens it again fences the one before. Default: `rxgrad-weights-<model>-<shard>`.
   */
  readonly writer?: string;
  /**
   * Whether to publish where the topic holds weights of another course of training under this name. Replicas that follow that one stay with
   * it until they are restarted. Default false: the stream fails.
   */
  readonly takeOver?: boolean;
}

const name = v.pipe(v.string(), v.nonEmpty('a name'));
const index = v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0));
const schema = v.pipe(
  v.strictObject({
    topic: name,
    model: v.pipe(name, v.maxBytes(200)),
    everySteps: v.optional(count),
    everyMs: v.optional(count),
    conflate: v.optional(v.boolean()),
    snapshotEvery: v.optional(count, 100),
    shard: v.optional(index, 0),
    shards: v.optional(v.pipe(count, v.maxValue(1024)), 1),
    dtype: v.optional(v.picklist(['F32', 'F16', 'BF16']), 'F32'),
    maxPartBytes: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(4096)), 900_000),
    requests: v.optional(name),
    writer: v.optional(name),
    takeOver: v.optional(v.boolean(), false),
  }),
  v.check(({ everySteps, everyMs }) => (everySteps === undefined) !== (everyMs === undefined), 'everySteps or everyMs'),
);

/**
 * Publishes the weights of updates, or their average where there is one, for replicas elsewhere (`weightsFrom`), and passes
 * the updates on. Between full snapshots it sends what was touched. The first publication is a snapshot; a version that the
 * topic has already is not published again. Weights are copied between two steps; they are encoded and sent beside further ones.
 *
 * @example
 * gradients$.pipe(momentum(params, { lr: 0.1 }), publishWeights(transport, { topic: 'weights', model: 'ctr', everySteps: 100 }))
 */
export function publishWeights(transport: Transport, options: PublishWeightsOptions): MonoTypeOperatorFunction<WeightsUpdate> {
  const parsed = parseOptions(schema, options, 'publishWeights');
  const { shard, shards, everyMs, conflate = shards === 1 } = parsed;
  expectOption(shard < shards, 'publishWeights: shard', `less than shards, ${shards}`, shard);
  expectOption(
    shards === 1 || everyMs === undefined,
    'publishWeights: everyMs',
    'everySteps, where there are several shards',
    everyMs,
  );
  // Shards that leave out versions of their own would never have one in common.
  expectOption(shards === 1 || !conflate, 'publishWeights: conflate', 'false, where there are several shards', conflate);
  return (updates$) =>
    new Observable((out) => {
      const publishing = new Publishing(transport, { ...parsed, conflate }, (error) => out.error(error));
      const subscription = updates$.subscribe({
        next(update) {
          try {
            publishing.next(update);
          } catch (error) {
            out.error(error);
            return;
          }
          out.next(update);
        },
        error: (error) => out.error(error),
        complete() {
          publishing.finish().then(
            () => out.complete(),
            (error) => out.error(error),
          );
        },
      });
      return () => {
        subscription.unsubscribe();
        publishing.close();
      };
    });
}
