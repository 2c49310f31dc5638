import kafkajs from 'kafkajs';
import { clipByGlobalNorm, clipByValue, fromTransport, hotSwap, momentum, Parameters, type Transport } from '../src/index.ts';
import { addDecayedWeights } from '../src/stages/add-decayed-weights.ts';
import { shapesOf } from './encoded-gradients.ts';

/** A topic that holds so many messages, of gradients for so many parameters. */
export interface Filled {
  readonly topic: string;
  readonly messages: number;
  readonly parameters: number;
}

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

/** Everything: decode, stages, momentum, swap; as a pipeline is written. */
export async function pipelineRate(transport: Transport, { topic, messages, parameters }: Filled): Promise<number> {
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
      clipByValue(0.01),
      addDecayedWeights(1e-4),
      momentum(params, { lr: 1e-3, rejections: { next: ({ error }) => clock.fail(error) } }),
      hotSwap(session),
    )
    .subscribe({ next: () => clock.count(1), error: (error) => clock.fail(error) });
  return clock.rate.finally(() => subscription.unsubscribe());
}

/** What a transport delivers to a consumer that only counts. */
export async function transportRate(transport: Transport, { topic, messages }: Filled): Promise<number> {
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
export async function kafkajsRate(brokers: readonly string[], { topic, messages }: Filled): Promise<number> {
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
