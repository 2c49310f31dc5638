import { kafkaTransport } from '../src/sources/kafka/index.ts';
import { findBroker } from '../test/broker/find-broker.ts';
import { type Journey, openLine } from './gradient-journeys.ts';
import { atMost, type Report, rowOf, type Table } from './report.ts';
import { median, quantile } from './statistics.ts';

const rounds = 9;
const gradients = 200;
const perSecond = 200;
const limits = { p50: 5, p99: 20 };
const stops = { appended: 'appended', delivered: 'delivered', swapped: 'live', served: 'predicted with' } as const;

/** Milliseconds from the call that sends a gradient to Kafka until a prediction has its weights. */
export default async function latency(): Promise<Report> {
  const measures = 'from `produce` of 16,384 gradients over Kafka to a prediction with their weights, in one process';
  const broker = await findBroker();
  try {
    if (!broker.brokers) return { name: 'latency', measures, tables: [], aims: [], notRun: [`Kafka: ${broker.how}`] };
    const transport = kafkaTransport({ brokers: broker.brokers.split(',') });
    const line = await openLine(transport);
    const ways = {
      'one at a time': () => line.oneAtATime(gradients),
      [`${perSecond} a second`]: () => line.atRate(gradients, perSecond),
    };
    const found = await takeRounds(ways);
    await line.close();
    await transport.close();
    return { name: 'latency', measures, tables: tablesOf(found), aims: aimsOf(found), notRun: [] };
  } finally {
    await broker.stop();
  }
}

/** By way, the journeys of each round. */
type Found = Readonly<Record<string, Journey[][]>>;

/** Ways take turns; the first round warms up and does not count. */
async function takeRounds(ways: Readonly<Record<string, () => Promise<Journey[]>>>): Promise<Found> {
  const found: Found = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const [way, travel] of Object.entries(ways)) {
      const journeys = await travel();
      if (round > 0) found[way]!.push(journeys);
    }
  }
  return found;
}

function tablesOf(found: Found): Table[] {
  return Object.entries(found).map(([title, ofRounds]) => {
    const figures = (stop: keyof Journey, fraction: number): number[] =>
      ofRounds.map((journeys) => ofStop(journeys, stop, fraction));
    const until = Object.entries(stops).map(([stop, words]) => rowOf(`${words}, p50`, figures(stop as keyof Journey, 0.5)));
    const tail = [0.95, 0.99].map((fraction) => rowOf(`predicted with, p${100 * fraction}`, figures('served', fraction)));
    return { title, unit: 'ms', rows: [...until, ...tail] };
  });
}

function aimsOf(found: Found) {
  return Object.entries(found).flatMap(([way, ofRounds]) => {
    const figure = (fraction: number): number => median(ofRounds.map((journeys) => ofStop(journeys, 'served', fraction)));
    return [
      atMost(`ms until a prediction has a gradient's weights, ${way}, p50`, limits.p50, figure(0.5)),
      atMost(`the same, p99`, limits.p99, figure(0.99)),
    ];
  });
}

function ofStop(journeys: readonly Journey[], stop: keyof Journey, fraction: number): number {
  return quantile(
    journeys.map((journey) => journey[stop]),
    fraction,
  );
}
