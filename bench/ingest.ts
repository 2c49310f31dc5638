import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedLog, type NewRecord, type Transport } from '../src/index.ts';
import { kafkaTransport } from '../src/sources/kafka/index.ts';
import { findBroker } from '../test/broker/find-broker.ts';
import { encodedGradients } from './encoded-gradients.ts';
import { type Filled, kafkajsRate, pipelineRate, transportRate } from './ingest-runs.ts';
import { type Aim, atLeast, type Report, type Table, tableOf } from './report.ts';
import { pairedRatio } from './statistics.ts';

const sizes = [
  { kilobytes: 4, messages: 60_000 },
  { kilobytes: 64, messages: 6000 },
  { kilobytes: 400, messages: 1000 },
];
const rounds = 9;
const appendBytes = 4 * 2 ** 20;

type Rates = Record<string, number[]>;

/** Steps a second from a log to live weights, beside what can be read from the same topic at all. */
export default async function ingest(): Promise<Report> {
  const tables: Table[] = [];
  const aims: Aim[] = [];
  const notRun: string[] = [];
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-bench-'));
  const log = embeddedLog(join(folder, 'bench.log'), { synchronous: 'normal' });
  const broker = await findBroker();
  try {
    for (const { kilobytes, messages } of sizes) {
      const filled = await fill(log, kilobytes, messages);
      const rates = await alternate({
        'embedded log, read alone': () => transportRate(log, filled),
        'embedded log → weights': () => pipelineRate(log, filled),
      });
      tables.push(ratesTable(`embedded log, ${kilobytes} KB`, rates));
    }
    if (broker.brokers) await measureKafka(broker.brokers.split(','), tables, aims);
    else notRun.push(`Kafka: ${broker.how}`);
  } finally {
    await log.close();
    await broker.stop();
    await rm(folder, { recursive: true, force: true });
  }
  const measures = 'gradient messages → clip, clip, decay → momentum → swap, one thread; from src/, Node strips the types';
  return { name: 'ingest', measures, tables, aims, notRun };
}

async function measureKafka(brokers: string[], tables: Table[], aims: Aim[]): Promise<void> {
  const transport = kafkaTransport({ brokers });
  try {
    for (const { kilobytes, messages } of sizes) {
      const filled = await fill(transport, kilobytes, messages);
      const rates = await alternate({
        'kafkajs, consumed alone': () => kafkajsRate(brokers, filled),
        'rxgrad transport, consumed alone': () => transportRate(transport, filled),
        'Kafka → weights': () => pipelineRate(transport, filled),
      });
      tables.push(ratesTable(`Kafka, ${kilobytes} KB`, rates));
      if (kilobytes !== 64) continue;
      const ratio = pairedRatio(rates['Kafka → weights']!, rates['kafkajs, consumed alone']!);
      aims.push(atLeast('steps a second from Kafka against kafkajs that only counts, 64 KB', 0.7, ratio));
    }
  } finally {
    await transport.close();
  }
}

/** Makes a topic of messages of about this size. Later ones are copies of few, but for their numbers. */
async function fill(transport: Transport, kilobytes: number, messages: number): Promise<Filled> {
  const topic = `bench-${kilobytes}-${Date.now()}`;
  const parameters = kilobytes * 256;
  await transport.createTopic(topic);
  const first = encodedGradients(parameters, 0);
  const perAppend = Math.max(1, Math.floor(appendBytes / first.value!.byteLength));
  for (let from = 0; from < messages; from += perAppend) {
    const records = Array.from({ length: Math.min(perAppend, messages - from) }, (_, i): NewRecord => {
      const sequence = from + i;
      return { ...first, headers: { ...first.headers, ce_id: String(sequence) } };
    });
    await transport.produce(topic, records);
  }
  return { topic, messages, parameters };
}

/** Runs all of them in every round, each time beginning with another; the first round warms up and does not count. */
async function alternate(runs: Readonly<Record<string, () => Promise<number>>>): Promise<Rates> {
  const names = Object.keys(runs);
  const rates: Rates = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      const rate = await runs[name]!();
      if (round > 0) rates[name]!.push(rate);
    }
  }
  return rates;
}

function ratesTable(title: string, rates: Rates): Table {
  const [reference] = Object.keys(rates) as [string];
  return tableOf(rates, { title, unit: 'messages/s', reference, best: Math.max });
}
