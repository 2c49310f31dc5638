import kafkajs from 'kafkajs';
import { identity, type MonoTypeOperatorFunction } from 'rxjs';
import {
  addDecayedWeights,
  clipByGlobalNorm,
  fromTransport,
  hotSwap,
  momentum,
  Parameters,
  type Transport,
  type WeightsUpdate,
} from '../src/index.ts';
import { shapesOf } from './encoded-gradients.ts';
import type { FilledTopic } from './filled-topic.ts';

/** What a pipeline did with a topic. */
export interface PipelineRun {
  /** Messages a second. */
  readonly rate: number;
  /** The first few of those that the messages came to. */
  readonly weights: readonly number[];
}

const shownWeights = 16;

/**
 * Messages a second. The clock starts at the first delivery's end and leaves out what was in it: connecting and joining a
 * group are none of the throughput.
 */
class Clock {
  readonly #expected: number;
  readonly #done = Promise.withResolvers<number>();
  #seen = 0;
  #first = 0;
  #start = 0;

  constructor(expected: number) {
    this.#expected = expected;
  }

  get rate(): Promise<number> {
    return this.#done.promise;
  }

  count(messages: number): void {
    this.#seen += messages;
    if (this.#seen < this.#expected) return;
    const seconds = (performance.now() - this.#start) / 1000;
    this.#done.resolve((this.#seen - this.#first) / seconds);
  }

  delivered(): void {
    if (this.#start !== 0) return;
    this.#first = this.#seen;
    this.#start = performance.now();
  }

  fail(error: unknown): void {
    this.#done.reject(error);
  }
}

/** Everything: decode, stages, momentum, swap; as a pipeline is written. `tail` comes behind the swap. */
export async function pipelineRun(
  transport: Transport,
  { topic, messages, parameters }: FilledTopic,
  tail: MonoTypeOperatorFunction<WeightsUpdate> = identity,
): Promise<PipelineRun> {
  const clock = new Clock(messages);
  const params = Parameters.create(shapesOf(parameters));
  params.reader();
  const session = { params, swap: () => params.swap() };
  const timed: Transport = {
    ...transport,
    consume: (options) =>
      transport.consume({
        ...options,
        deliver(...delivery) {
          const delivered = options.deliver(...delivery);
          clock.delivered();
          return delivered;
        },
      }),
  };
  const subscription = fromTransport(timed, { topic, from: 'beginning' })
    .pipe(
      clipByGlobalNorm(1),
      addDecayedWeights(1e-4),
      momentum(params, { lr: 1e-3, rejections: { next: ({ error }) => clock.fail(error) } }),
      hotSwap(session),
      tail,
    )
    .subscribe({ next: () => clock.count(1), error: (error) => clock.fail(error) });
  try {
    const rate = await clock.rate;
    const [first] = params;
    return { rate, weights: [...first!.data.subarray(0, shownWeights)] };
  } finally {
    subscription.unsubscribe();
  }
}

/** What a transport delivers to a consumer that only counts. */
export async function transportRate(transport: Transport, { topic, messages }: FilledTopic): Promise<number> {
  const clock = new Clock(messages);
  const consumption = await transport.consume({
    topic,
    from: 'beginning',
    deliver(_topic, _partition, records) {
      clock.count(records.length);
      clock.delivered();
    },
    onError: (error) => clock.fail(error),
  });
  return clock.rate.finally(() => consumption.stop());
}

/** What kafkajs consumes by itself, with its own sockets and as large fetches, into a handler that only counts. */
export async function kafkajsRate(brokers: readonly string[], { topic, messages }: FilledTopic): Promise<number> {
  const clock = new Clock(messages);
  const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING });
  const consumer = kafka.consumer({
    groupId: `bench-${topic}-${performance.now()}`,
    maxBytesPerPartition: 8 * 2 ** 20,
    maxBytes: 64 * 2 ** 20,
    maxWaitTimeInMs: 100,
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      clock.count(batch.messages.length);
      clock.delivered();
    },
  });
  return clock.rate.finally(() => consumer.disconnect());
}
