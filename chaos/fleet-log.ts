import { encodeEvent, gradientBatch, type NewRecord } from '../src/index.ts';
import { workerOf } from '../src/worker-id.ts';
import { Random } from './random.ts';
import { dims, type RecordedLog } from './recorded-log.ts';

/** A worker of the fleet, and what its next record is. */
interface Worker {
  readonly source: string | Uint8Array;
  readonly id: string;
  incarnation: number;
  sequence: number;
}

// What a training remembers of a worker: its last 1,024 sequences.
const remembered = 1024;
const swappedWithin = 40;

/**
 * A log of so many workers, each of which sends some batches: neighbours are swapped, records come twice, sequences are left out,
 * workers begin anew with a higher incarnation, and some send what is too late. Ids are of text, of bytes, and too long.
 */
export function fleetLog(seed: number, workers: number, batchesEach: number): RecordedLog {
  const random = new Random(seed);
  const fleet = Array.from({ length: workers }, (_, i) => workerAt(i, random));
  const sends = Array.from({ length: workers * batchesEach }, (_, i) => fleet[i % workers]!);
  shuffle(sends, random);
  const all = sends.flatMap((worker) => recordsOf(worker, random));
  // As a producer swaps them that has several requests in flight and repeats one.
  for (let i = 0; i + swappedWithin < all.length; i += swappedWithin) {
    const [a, b] = [i + random.below(swappedWithin), i + random.below(swappedWithin)];
    [all[a], all[b]] = [all[b]!, all[a]!];
  }
  return { ...counted(all), records: all.map(({ record }) => record) };
}

interface Sent {
  readonly record: NewRecord;
  readonly id: string;
  readonly incarnation: number;
  readonly sequence: number;
}

function workerAt(index: number, random: Random): Worker {
  const kind = random.below(100);
  const source =
    kind === 0
      ? Buffer.from([0xff, 0xe9, index & 255, (index >> 8) & 255, (index >> 16) & 255])
      : kind === 1
        ? `${index}`.padEnd(1100, 'x')
        : `worker-${index}`;
  return { source, id: workerOf(source)!, incarnation: 0, sequence: random.chance(0.5) ? 0 : random.below(2 ** 40) };
}

function recordsOf(worker: Worker, random: Random): Sent[] {
  if (random.chance(0.01)) {
    worker.incarnation += 1;
    worker.sequence = 0;
  }
  const sent = sentBy(worker, worker.sequence, random);
  worker.sequence += 1 + (random.chance(0.05) ? random.below(3) : 0);
  const twice = random.chance(0.03) ? [sent] : [];
  const late = worker.sequence > 2 * remembered && random.chance(0.005) ? [sentBy(worker, random.below(remembered), random)] : [];
  return [sent, ...twice, ...late];
}

function sentBy({ source, id, incarnation }: Worker, sequence: number, random: Random): Sent {
  const gradients = { '0.bias': Float32Array.from({ length: dims['0.bias'][0]! }, () => random.element()) };
  const facts = { sequence, ...(incarnation > 0 ? { incarnation } : {}) };
  const { headers, ...record } = encodeEvent(gradientBatch({ gradients, ...facts }), { key: 'model' });
  return { record: { ...record, headers: { ...headers, ce_source: source } }, id, incarnation, sequence };
}

/** What has to come of it, by a reckoning that forgets nothing. */
function counted(all: readonly Sent[]): Omit<RecordedLog, 'records'> {
  const known = new Map<string, { incarnation: number; highest: number; seen: Set<number> }>();
  let batches = 0;
  for (const { id, incarnation, sequence } of all) {
    let worker = known.get(id);
    if (!worker || incarnation > worker.incarnation) {
      worker = { incarnation, highest: -1, seen: new Set() };
      known.set(id, worker);
    }
    const isLate = incarnation < worker.incarnation || sequence <= worker.highest - remembered;
    if (isLate || worker.seen.has(sequence)) continue;
    worker.seen.add(sequence);
    worker.highest = Math.max(worker.highest, sequence);
    batches += 1;
  }
  const sequences = new Map([...known].map(([id, { highest }]) => [id, highest]));
  return { batches, sequences, rejected: all.length - batches };
}

function shuffle<T>(items: T[], random: Random): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
}
