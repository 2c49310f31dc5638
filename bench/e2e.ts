import { identity, type MonoTypeOperatorFunction } from 'rxjs';
import type { Transport, WeightsUpdate } from '../src/index.ts';
import { kafkaTransport } from '../src/sources/kafka/index.ts';
import { findBroker } from '../test/broker/find-broker.ts';
import { agree } from './beside-peers.ts';
import { type FillOptions, fillTopic, topicSizes } from './filled-topic.ts';
import { type IngestPeer, openIngestPeer } from './ingest-peer.ts';
import { takeTurns } from './race.ts';
import { type Aim, atLeast, type Report, type Table, tableOf } from './report.ts';
import { pairedRatio } from './statistics.ts';
import { kafkajsRate, type PipelineRun, pipelineRun, transportRate } from './topic-runs.ts';

const rounds = 7;
const raw = 'kafkajs, consumed alone';
const transported = 'rxgrad transport, consumed alone';
const ours = 'Kafka → weights';
const half = 'Kafka → weights, F16';
const rival = 'confluent-kafka → torch';
// How many times as many steps a second as kafkajs that only counts, and as the Python pipeline; and of F16 as of F32.
const limitsOf: Readonly<Record<number, { readonly raw: number; readonly rival: number; readonly half?: number }>> = {
  4: { raw: 0.75, rival: 6 },
  64: { raw: 0.85, rival: 1.3 },
  400: { raw: 0.85, rival: 1, half: 1.8 },
};

/** What comes behind the swap in rxgrad's pipeline, anew for each run. */
const tail = (): MonoTypeOperatorFunction<WeightsUpdate> => identity;

interface Found extends Report {
  readonly tables: Table[];
  readonly aims: Aim[];
  readonly notRun: string[];
}

/** Steps a second from Kafka to live weights, beside what kafkajs reads from the same topic at all, and a pipeline in Python. */
export default async function e2e(): Promise<Report> {
  const measures = 'gradient messages from Kafka → clip, decay → momentum → swap, one thread; from src/, Node strips the types';
  const found: Found = { name: 'e2e', measures, tables: [], aims: [], notRun: [] };
  const broker = await findBroker();
  try {
    if (!broker.brokers) return { ...found, notRun: [`Kafka: ${broker.how}`] };
    const peer = await openIngestPeer();
    if ('reason' in peer) found.notRun.push(`Python: ${peer.reason}`);
    const brokers = broker.brokers.split(',');
    const transport = kafkaTransport({ brokers });
    for (const size of topicSizes) await measure(brokers, transport, 'reason' in peer ? null : peer, size, found);
    await transport.close();
    if ('reason' in peer) return found;
    await peer.close();
    const versions = Object.entries(peer.versions).map((entry) => entry.join(' '));
    return { ...found, measures: `${measures}; beside ${versions.join(', ')}` };
  } finally {
    await broker.stop();
  }
}

async function measure(
  brokers: readonly string[],
  transport: Transport,
  peer: IngestPeer | null,
  { kilobytes, messages }: FillOptions,
  { tables, aims, notRun }: Found,
): Promise<void> {
  const filled = await fillTopic(transport, { kilobytes, messages });
  const limits = limitsOf[kilobytes]!;
  const filledHalf = limits.half === undefined ? null : await fillTopic(transport, { kilobytes, messages, dtype: 'F16' });
  const weights = new Map<string, readonly number[]>();
  const rateOf = async (name: string, running: Promise<PipelineRun>): Promise<number> => {
    const run = await running;
    weights.set(name, run.weights);
    return run.rate;
  };
  const contestants: Record<string, () => Promise<number>> = {
    [raw]: () => kafkajsRate(brokers, filled),
    [transported]: () => transportRate(transport, filled),
    [ours]: () => rateOf(ours, pipelineRun(transport, filled, tail())),
  };
  if (filledHalf) contestants[half] = () => rateOf(half, pipelineRun(transport, filledHalf, tail()));
  if (peer) contestants[rival] = () => rateOf(rival, peer.run(brokers, filled));
  const rates = await takeTurns(contestants, rounds);

  const title = `${kilobytes} KB`;
  if (peer && !agree(weights.get(rival)!, weights.get(ours)!)) {
    notRun.push(`${title}, ${rival}: expected rxgrad's weights, got ${weights.get(rival)!.slice(0, 3).join(', ')}, …`);
    delete rates[rival];
  }
  tables.push(tableOf(rates, { title, unit: 'steps/s', reference: raw, best: Math.max }));
  const { [half]: halves, ...whole } = rates;
  tables.push(tableOf(whole, { title, unit: 'MB/s', reference: raw, divisor: 1e6 / filled.bytes, best: Math.max }));
  const aim = (what: string, limit: number | undefined, ofRounds?: number[], others?: number[]): void => {
    if (limit !== undefined && ofRounds && others) aims.push(atLeast(`${title}, ${what}`, limit, pairedRatio(ofRounds, others)));
  };
  aim(`steps a second against ${raw}`, limits.raw, rates[ours], rates[raw]);
  aim(`steps a second against ${rival}`, limits.rival, rates[ours], rates[rival]);
  aim('steps a second as F16 against F32', limits.half, halves, rates[ours]);
}
