import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, take } from 'rxjs';
import {
  type CheckpointStore,
  checkpoint,
  FileCheckpoints,
  fromTransport,
  KafkaCheckpoints,
  momentum,
  Parameters,
  recover,
} from '../src/index.ts';
import { kafkaTransport } from '../src/sources/kafka/index.ts';
import { findBroker } from '../test/broker/find-broker.ts';
import { shapesOf } from './encoded-gradients.ts';
import { fillTopic } from './filled-topic.ts';
import { atMost, type Report, rowOf, type Table } from './report.ts';
import { median } from './statistics.ts';

const parameters = 1_048_576;
const rounds = 7;
const limitMs = 2000;

/** Milliseconds from nothing but the model's shapes to the first step that is taken again, from Kafka. */
export default async function recovery(): Promise<Report> {
  const measures = `recovery of ${parameters} parameters (Momentum, 8 MB): read the newest checkpoint, check it, load it, seek, and take the first step; a new connection each time`;
  const report = {
    name: 'recovery',
    measures,
    tables: [] as Table[],
    aims: [] as Report['aims'][number][],
    notRun: [] as string[],
  };
  const broker = await findBroker();
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-bench-'));
  try {
    if (!broker.brokers) return { ...report, notRun: [`Kafka: ${broker.how}`] };
    const brokers = broker.brokers.split(',');
    const transport = kafkaTransport({ brokers });
    const { topic } = await fillTopic(transport, { kilobytes: parameters / 256, messages: 8 });
    const stores: Readonly<Record<string, (of: typeof transport) => CheckpointStore>> = {
      'from a folder': () => new FileCheckpoints(folder),
      'from a topic': (of) => new KafkaCheckpoints(of, { topic: `checkpoints-${topic}` }),
    };
    for (const [name, storeOf] of Object.entries(stores)) {
      await train(transport, topic, storeOf(transport));
      const loaded: number[] = [];
      const stepped: number[] = [];
      for (let round = 0; round <= rounds; round++) {
        const times = await recoverOnce(brokers, topic, storeOf);
        if (round === 0) continue;
        loaded.push(times.loaded);
        stepped.push(times.stepped);
      }
      report.tables.push({ title: name, unit: 'ms', rows: [rowOf('loaded', loaded), rowOf('first step', stepped)] });
      report.aims.push(atMost(`ms until the first replayed step, ${name}`, limitMs, median(stepped)));
    }
    await transport.close();
    return report;
  } finally {
    await broker.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Leaves a checkpoint behind, and some of the log after it. */
async function train(transport: ReturnType<typeof kafkaTransport>, topic: string, store: CheckpointStore): Promise<void> {
  const params = Parameters.create(shapesOf(parameters));
  const { source } = await recover(params, store, { transport, topic });
  const updates$ = fromTransport(transport, { topic, ...source, until: 'end' }).pipe(
    take(4),
    momentum(params, { lr: 1e-3 }),
    checkpoint(store, { everySteps: 4 }),
  );
  await lastValueFrom(updates$);
}

async function recoverOnce(
  brokers: readonly string[],
  topic: string,
  storeOf: (of: ReturnType<typeof kafkaTransport>) => CheckpointStore,
) {
  const start = performance.now();
  const transport = kafkaTransport({ brokers });
  const params = Parameters.create(shapesOf(parameters));
  const { source } = await recover(params, storeOf(transport), { transport, topic });
  const loaded = performance.now() - start;
  const { version } = await firstValueFrom(fromTransport(transport, { topic, ...source }).pipe(momentum(params, { lr: 1e-3 })));
  const stepped = performance.now() - start;
  await transport.close();
  if (version !== 5) throw new Error(`expected version 5 behind a checkpoint of version 4, got ${version}`);
  return { loaded, stepped };
}
