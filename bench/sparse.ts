import type { TrainingEvent } from '../src/events.ts';
import type { OptimizerConfig } from '../src/optimizers/optimizer.ts';
import { type Own, openWithReasons, raceBesidePeers } from './beside-peers.ts';
import { type Aim, atMost, type Report, type Table, tableOf } from './report.ts';
import { decodedBatches, dims, madeBatches, randomSets, setCount, table, touched } from './sparse-contestants.ts';
import { median } from './statistics.ts';
import { stepReceived } from './step-contestants.ts';

const rounds = 30;
const lr = 1e-3;
const inPlace = 'rxgrad, in place';
const limitUs = 50;

/** A config, and torch's rule, or why there is none. */
const cases: readonly { config: OptimizerConfig; rule: 'sgd' | 'adagrad' | 'adam' | null; without?: string }[] = [
  { config: { type: 'SGD', lr }, rule: 'sgd' },
  { config: { type: 'Momentum', momentum: 0.9, lr }, rule: null, without: 'its velocity moves rows that no gradient touches' },
  { config: { type: 'Adagrad', lr }, rule: 'adagrad' },
  { config: { type: 'Adam', lr }, rule: 'adam' },
  { config: { type: 'FTRL', lr }, rule: null, without: 'it has none' },
];

/** Microseconds of a step that touches few rows of a large table. */
export default async function sparse(): Promise<Report> {
  const { peers, versions, notRun } = await openWithReasons();
  const tables: Table[] = [];
  const aims: Aim[] = [];
  const left = [...notRun];
  const sets = randomSets();
  const rising = sets.map((rows) => rows.toSorted((a, b) => a - b));
  const batches = madeBatches(rising);
  const others = {
    'rxgrad, rows in random order': madeBatches(sets),
    'rxgrad, decoded from the wire': () => decodedBatches(rising),
  };
  for (const { config, rule, without } of cases) {
    const { type } = config;
    if (without && peers) left.push(`${type}, torch: ${without}`);
    const own = ownSteps(config, batches, type === 'Adam' ? others : {});
    const problem = rule && ({ rule, mode: 'rows', dims, rows: rising } as const);
    const { laps, notRun } = await raceBesidePeers(own, peers, problem, { rounds, settling: setCount });
    left.push(...notRun.map((reason) => `${type}, ${reason}`));
    tables.push(tableOf(laps, { title: type, unit: 'µs', divisor: 1000, reference: inPlace }));
    aims.push(atMost(`µs a step in place, ${type}`, limitUs, median(laps[inPlace]!) / 1000));
  }
  await peers?.close();
  const shape = `${touched.toLocaleString('en')} random rows of ${dims.map((dim) => dim.toLocaleString('en')).join(' × ')}`;
  const beside = versions.torch ? `; beside torch ${versions.torch}` : '';
  return { name: 'sparse', measures: `one step that touches ${shape}, others in each call${beside}`, tables, aims, notRun: left };
}

type Batches = () => () => TrainingEvent;

/** In place, and where the threads are left to rxgrad; with others, also beside a reader, for whom the sides change each time. */
function ownSteps(config: OptimizerConfig, batches: Batches, others: Readonly<Record<string, Batches>>): Record<string, Own> {
  const special = Object.entries(others).map(([name, batches]) => [name, own(config, 0, batches)] as const);
  return {
    [inPlace]: own(config, 0, batches),
    'rxgrad, threads by default': own(config, undefined, batches),
    ...(special.length > 0 ? { 'rxgrad, left-right': own(config, 0, batches, true) } : {}),
    ...Object.fromEntries(special),
  };
}

function own(config: OptimizerConfig, threads: number | undefined, batches: Batches, read = false): Own {
  const params = table();
  if (read) params.reader();
  return { params, step: stepReceived(params, { config }, threads, batches()) };
}
