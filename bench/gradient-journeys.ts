import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Tensor } from 'onnxruntime-node';
import { encodeEvent, fromTransport, gradientBatch, HotSwapSession, hotSwap, momentum, type Transport } from '../src/index.ts';
import { denseModel } from './dense-model.ts';

/** When a gradient was where, in milliseconds from the call of `produce`. */
export interface Journey {
  /** The broker has it: `produce` resolved. */
  readonly appended: number;
  /** kafkajs handed it over. */
  readonly delivered: number;
  /** Its weights are live. */
  readonly swapped: number;
  /** A prediction with them, or with newer ones, is there. */
  readonly served: number;
}

export interface Line {
  /** Sends a gradient and waits until it is served. */
  oneAtATime(count: number): Promise<Journey[]>;
  /** Sends so many a second, whatever becomes of them. */
  atRate(count: number, perSecond: number): Promise<Journey[]>;
  close(): Promise<void>;
}

type Underway = { -readonly [Stop in keyof Journey]: number } & { readonly start: number; readonly done: () => void };

const width = 128;

/** A pipeline from a topic of its own to a live session, which is asked for a prediction after each swap. */
export async function openLine(transport: Transport): Promise<Line> {
  const topic = `latency-${randomUUID()}`;
  await transport.createTopic(topic);
  const session = await HotSwapSession.load(denseModel(width));
  const feeds = { x: new Tensor('float32', new Float32Array(width).fill(0.5), [1, width]) };
  const data = Float32Array.from({ length: width * width }, (_, i) => Math.sin(i));
  const underway: Underway[] = [];
  let served = 0;
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});

  const passing: Transport = {
    ...transport,
    consume: (options) =>
      transport.consume({
        ...options,
        deliver(deliveredTopic, partition, records) {
          const now = performance.now();
          for (const { offset } of records) underway[offset]!.delivered = now - underway[offset]!.start;
          return options.deliver(deliveredTopic, partition, records);
        },
      }),
  };

  async function predict(version: number): Promise<void> {
    underway[version - 1]!.swapped = performance.now() - underway[version - 1]!.start;
    const prediction = await session.predict(feeds);
    const now = performance.now();
    for (; served < prediction.version; served++) {
      const gradient = underway[served]!;
      gradient.served = now - gradient.start;
      gradient.done();
    }
  }

  const rejections = { next: ({ error }: { error: Error }) => failure.reject(error) };
  const subscription = fromTransport(passing, { topic, from: 'beginning' })
    .pipe(momentum(session.params, { lr: 1e-3, rejections }), hotSwap(session))
    .subscribe({ next: ({ version }) => void predict(version).catch(failure.reject), error: failure.reject });

  /** Resolves when the gradient is served, to its journey. */
  function send(): Promise<Journey> {
    const sequence = underway.length;
    const arrived = Promise.withResolvers<void>();
    const gradient: Underway = {
      start: performance.now(),
      done: arrived.resolve,
      appended: 0,
      delivered: 0,
      swapped: 0,
      served: 0,
    };
    underway.push(gradient);
    const batch = gradientBatch({ gradients: { w: { dims: [width, width], data } }, worker: 'w1', sequence });
    const appended = transport.produce(topic, [encodeEvent(batch, { key: 'model' })]).then(() => {
      gradient.appended = performance.now() - gradient.start;
    });
    const journey = Promise.all([arrived.promise, appended]).then(() => gradient);
    return Promise.race([journey, failure.promise]);
  }

  return {
    async oneAtATime(count) {
      const journeys: Journey[] = [];
      for (let i = 0; i < count; i++) journeys.push(await send());
      return journeys;
    },
    async atRate(count, perSecond) {
      const journeys: Promise<Journey>[] = [];
      const start = performance.now();
      while (journeys.length < count) {
        journeys.push(send());
        await delay(Math.max(0, start + (1000 * journeys.length) / perSecond - performance.now()));
      }
      return Promise.all(journeys);
    },
    async close() {
      subscription.unsubscribe();
      await session.dispose();
    },
  };
}
