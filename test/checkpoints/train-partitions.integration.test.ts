import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  checkpoint,
  clipByGlobalNorm,
  encodeEvent,
  epochBoundary,
  fromTransport,
  gradientBatch,
  joinShards,
  KafkaCheckpoints,
  momentum,
  Parameters,
  recover,
  shardGradients,
  shardParameters,
  shardPlan,
  stepLR,
  type TrainingEvent,
  trainPartitions,
} from 'rxgrad';
import { from, lastValueFrom, pipe, type Subscription, tap } from 'rxjs';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { eventually } from '../eventually.ts';
import { bitsOf } from '../sources/one-log.ts';

const brokers = inject('brokers')?.split(',') ?? [];
const steps = 1500;
const shards = 3;

const model = () => Parameters.create({ emb: { dims: [40, 6] }, w: { dims: [7, 5] }, bias: { dims: [5] } });
const plan = shardPlan(model(), { shards });
const rule = (params: Parameters) =>
  pipe(clipByGlobalNorm(1), momentum(params, { lr: stepLR({ baseLr: 0.1, stepSize: 2, gamma: 0.7 }), momentum: 0.9 }));

const wave = (length: number, seed: number) => Float32Array.from({ length }, (_, i) => Math.sin(seed * 7.3 + i));
const batchAt = (i: number) =>
  gradientBatch({
    gradients: {
      emb:
        i % 3 === 0
          ? { dims: [40, 6], data: wave(240, i) }
          : { dims: [2, 6], indices: [i % 40, (i + 17) % 40], values: wave(12, i) },
      ...(i % 5 === 0 ? {} : { w: { dims: [7, 5], data: wave(35, i + 0.5) } }),
      bias: wave(5, i + 0.25),
    },
    worker: 'w',
    sequence: i,
  });

/** Writes the whole log: a record for each partition, and each of them twice now and then. */
function recordsAt(i: number) {
  const parts = shardGradients(batchAt(i), plan).map((part, partition) => ({ ...encodeEvent(part), partition }));
  const epochs = parts.map((_, partition) => ({ ...encodeEvent(epochBoundary(i)), partition }));
  return [...parts, ...(i % 11 === 0 ? parts : []), ...(i % 100 === 99 ? epochs : [])];
}

describe.skipIf(brokers.length === 0)('training the partitions of a group', () => {
  async function setUp(context: TestContext) {
    const name = randomUUID();
    const topic = `shards-${name}`;
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    await transport.createTopic(topic, { partitions: shards });
    const members: { end(): Promise<void> }[] = [];
    context.onTestFinished(async () => {
      await Promise.all(members.map((member) => member.end()));
    });
    const storeOf = (of: typeof transport, partition: number, transactionalId?: string) =>
      new KafkaCheckpoints(of, {
        topic: `checkpoints-${name}`,
        model: `shard-${partition}`,
        ...(transactionalId ? { transactionalId } : {}),
      });
    const versions = new Array<number>(shards).fill(0);
    const problems: string[] = [];
    const finals: Parameters[] = [];
    const join = () => {
      const own = kafkaTransport({ brokers });
      const subscription: Subscription = trainPartitions(own, {
        topic,
        group: `group-${name}`,
        params: (partition) => shardParameters(plan, partition, model()),
        store: (partition) => storeOf(own, partition, `${topic}-${partition}`),
        train: ({ params, store, partition }) =>
          pipe(
            rule(params),
            tap(({ version }) => {
              if (version === steps) finals[partition] = Parameters.fromStateDict(params.stateDict());
            }),
            checkpoint(store, { everySteps: 100 }),
          ),
      }).subscribe({
        next({ version, position }) {
          versions[position!.partition] = Math.max(versions[position!.partition]!, version);
        },
        error: (error: Error) => problems.push(error.message),
      });
      const member = {
        async end() {
          subscription.unsubscribe();
          await own.close();
        },
      };
      members.push(member);
      return member;
    };
    return { topic, transport, storeOf, versions, finals, problems, join };
  }

  it('leads to the bits of the whole, while members come and go', async (context) => {
    const { topic, transport, storeOf, versions, finals, problems, join } = await setUp(context);
    const whole = model();
    const events = Array.from({ length: steps }, (_, i): TrainingEvent[] => [
      batchAt(i),
      ...(i % 100 === 99 ? [epochBoundary(i)] : []),
    ]);
    await lastValueFrom(from(events.flat()).pipe(rule(whole)));

    const producing = (async () => {
      for (let i = 0; i < steps; i += 10) {
        await transport.produce(topic, Array.from({ length: 10 }, (_, j) => recordsAt(i + j)).flat());
        await delay(60);
      }
    })();
    const members = [join(), join()];
    for (let round = 0; round < 4; round++) {
      await delay(2000);
      members.push(join());
      await delay(1000);
      await members.shift()!.end();
    }
    await producing;
    await eventually(() => expect(versions).toEqual(new Array(shards).fill(steps)));
    await Promise.all(members.map((member) => member.end()));
    expect(problems).toEqual([]);

    expect(bitsOf(joined(finals))).toEqual(bitsOf(whole));

    // The checkpoints that were written meanwhile lead there, too.
    const parts = await Promise.all(
      finals.map(async (_, partition) => {
        const params = shardParameters(plan, partition, model());
        const { version, source } = await recover(params, storeOf(transport, partition), {
          transport,
          topic,
          partitions: [partition],
        });
        expect(version).toBeGreaterThan(0);
        const rest$ = fromTransport(transport, { topic, ...source, until: 'end' }).pipe(rule(params));
        await lastValueFrom(rest$, { defaultValue: null });
        return params;
      }),
    );
    expect(bitsOf(joined(parts))).toEqual(bitsOf(whole));
  });
});

function joined(parts: readonly Parameters[]): Parameters {
  const weights = joinShards(plan, parts);
  return Parameters.create(Object.fromEntries([...model()].map(({ name, dims }) => [name, { dims, data: weights[name]! }])));
}
