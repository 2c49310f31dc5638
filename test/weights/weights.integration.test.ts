import { spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import kafkajs from 'kafkajs';
import {
  encodeEvent,
  fromTransport,
  gradientBatch,
  HotSwapSession,
  hotSwap,
  momentum,
  optimizer,
  Parameters,
  publishWeights,
  type Transport,
  type WeightsUpdate,
} from 'rxgrad';
import { from, lastValueFrom, tap } from 'rxjs';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { eventually } from '../eventually.ts';
import { example, feedsOf } from '../inference/onnx/example-models.ts';

const found = inject('brokers');
const brokers = found?.split(',') ?? [];

describe.skipIf(!found)('weights on Kafka', () => {
  function connect(context: TestContext) {
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    return transport;
  }

  /** What a replica in a process of its own prints. */
  function replica(context: TestContext, topic: string, model: string, ...args: string[]) {
    const child = spawn(
      process.execPath,
      [
        '--disable-warning=TimeoutNegativeWarning',
        join(import.meta.dirname, 'replica-process.ts'),
        found!,
        topic,
        model,
        ...args,
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    context.onTestFinished(() => void child.kill('SIGKILL'));
    const lines: Record<string, unknown>[] = [];
    createInterface(child.stdout!).on('line', (line) => lines.push(JSON.parse(line)));
    return lines;
  }

  const until = (lines: readonly Record<string, unknown>[], version: number) =>
    eventually(() => expect(lines.at(-1)).toMatchObject({ version }));

  it('reach a process of their own: large ones in parts, small changes, and over a restart', async (context) => {
    const transport = connect(context);
    const topics = { gradients: `gradients-${randomUUID()}`, weights: `weights-${randomUUID()}` };
    await transport.createTopic(topics.gradients);
    const rows = 50_000;
    const batches = Array.from({ length: 12 }, (_, seed) =>
      gradientBatch({
        gradients: {
          table: {
            indices: [seed, 1000 + 7 * seed, 49_000 + seed],
            values: Float32Array.from({ length: 60 }, (_, i) => Math.sin(seed + i)),
          },
          bias: Float32Array.of(seed, 1, 2),
        },
        worker: 'w',
        sequence: seed + 1,
      }),
    );
    await transport.produce(
      topics.gradients,
      batches.map((batch) => encodeEvent(batch)),
    );
    const hashes = new Map<number, string>();
    const model = () =>
      Parameters.create({ table: { dims: [rows, 20], data: new Float32Array(rows * 20).fill(0.5) }, bias: { dims: [3] } });
    const train = (params: Parameters, offset: number, end: number) =>
      lastValueFrom(
        fromTransport(transport, {
          topic: topics.gradients,
          from: new Map([[0, offset]]),
          until: { offsets: new Map([[0, end]]) },
        }).pipe(
          momentum(params, { lr: 0.1, threads: 0 }),
          tap((update: WeightsUpdate) => {
            const hash = createHash('sha256');
            for (const { data } of update.params)
              hash.update(Uint8Array.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
            hashes.set(update.version, hash.digest('hex'));
          }),
          publishWeights(transport, { topic: topics.weights, model: 'm', everySteps: 2, conflate: false }),
        ),
      );
    const params = model();
    await train(params, 0, 6);
    const state = params.stateDict();
    params.loadStateDict(state);
    await train(params, 6, 8);
    const early = replica(context, topics.weights, 'm');
    await until(early, 8);

    // Goes on from a state before the last publication: versions that are there are not sent again.
    const restarted = model();
    restarted.loadStateDict(state);
    // As a checkpoint would say.
    restarted.course = params.course;
    await train(restarted, 6, 12);
    const late = replica(context, topics.weights, 'm');
    await Promise.all([until(early, 12), until(late, 12)]);
    expect(early.map(({ version }) => version)).toEqual([2, 4, 6, 8, 10, 12]);
    for (const lines of [early, late]) {
      for (const { version, hash } of lines) expect(hash, `version ${version}`).toBe(hashes.get(version as number));
    }

    const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topics.weights, configNames: ['cleanup.policy'] }],
    });
    expect(resources[0]!.configEntries[0]).toMatchObject({ configValue: 'compact' });
  });

  it('stop with fenced where another has taken over', async (context) => {
    const topic = `weights-${randomUUID()}`;
    const batch = gradientBatch({ gradients: { w: Float32Array.of(1, 2) } });
    const publish = (params: Parameters, steps: number, transport = connect(context)) =>
      lastValueFrom(
        from(Array.from({ length: steps }, () => batch)).pipe(
          momentum(params, { lr: 0.1 }),
          publishWeights(transport, { topic, model: 'm', everySteps: 1, conflate: false, writer: `writer-${topic}` }),
        ),
      );
    const specs = { w: { dims: [2] } };
    const zombie = connect(context);
    const writer = await zombie.writer(`writer-${topic}`);
    const overtaken = Promise.withResolvers<void>();
    const slow: Transport = {
      ...zombie,
      writer: async () => ({ ...writer, write: (records) => overtaken.promise.then(() => writer.write(records)) }),
    };
    const [older, newer] = [Parameters.create(specs), Parameters.create(specs)];
    newer.course = older.course;
    const left = publish(older, 3, slow);
    const refused = expect(left).rejects.toMatchObject({ key: 'fenced', disposition: 'stop' });
    await publish(newer, 2);
    overtaken.resolve();
    await refused;
    const lines = replica(context, topic, 'm');
    await until(lines, 2);
    expect(lines.filter(({ rejection }) => rejection)).toEqual([]);
  });

  it('predict elsewhere what they do here', async (context) => {
    const transport = connect(context);
    const topic = `weights-${randomUUID()}`;
    const session = await HotSwapSession.load(example('transformer').path);
    context.onTestFinished(() => session.dispose());
    const gradients = Object.fromEntries(
      Object.entries(example('transformer').gradients).map(([name, { dims, data }]) => [
        name,
        { dims, data: Float32Array.from(data) },
      ]),
    );
    const updates$ = from(Array.from({ length: 4 }, () => gradientBatch({ gradients }))).pipe(
      optimizer(session.params, { type: 'Adam', lr: 0.01 }),
      hotSwap(session),
      publishWeights(transport, { topic, model: 'transformer', everySteps: 2 }),
    );
    await lastValueFrom(updates$);
    const lines = replica(context, topic, 'transformer', 'transformer');
    await until(lines, 4);
    const { outputs } = await session.predict(feedsOf(example('transformer')));
    expect(lines.at(-1)!.output).toEqual(Array.from(outputs[session.outputNames[0]!]!.data as Float32Array));
  });
});
