import { RxgradError } from '../errors.ts';
import type { ColumnArray, OnceState, Position } from '../events.ts';
import { workerBytes, workerText } from '../worker-id.ts';
import { SeenWorker, type SeenWorkers } from './seen-workers.ts';
import { SequenceWindow, WINDOW } from './sequence-window.ts';

/** A partition, or null for what was made in process. */
type PartitionName = OnceState['partitions'][number];

/**
 * Workers as columns, a row for each from the least recently seen on. Of types that every safetensors library reads, and the
 * widest first, so that each lies aligned.
 */
interface Columns {
  /** The highest sequence. */
  readonly 'seen.highest': BigInt64Array;
  /** Left out where all are 0. */
  readonly 'seen.incarnations'?: BigInt64Array;
  /** Numbers of the partitions. */
  readonly 'seen.partitions': Int32Array;
  /** See {@link SequenceWindow.packed}: all bits, one worker's after the other's. */
  readonly 'seen.bits': Int32Array;
  readonly 'seen.runs': Int32Array;
  /** How many words of bits a worker has. */
  readonly 'seen.words': Uint8Array;
  readonly 'seen.idBytes': Int16Array;
  /** All ids, one after the other. */
  readonly 'seen.ids': Uint8Array;
}

/** Writes workers as columns: the same for the same workers, sequences and order. */
export function columnsOf(workers: SeenWorkers): Pick<OnceState, 'partitions' | 'arrays'> {
  const { count } = workers;
  if (count === 0) return { partitions: [], arrays: {} };
  const numbers = new Map<unknown, number>();
  const partitions: PartitionName[] = [];
  const highest = new BigInt64Array(count);
  const incarnations = new BigInt64Array(count);
  const partitionNumbers = new Int32Array(count);
  const runs = new Int32Array(count);
  const words = new Uint8Array(count);
  const idBytes = new Int16Array(count);
  const [highestHalves, incarnationHalves] = [new Uint32Array(highest.buffer), new Uint32Array(incarnations.buffer)];
  const ids = Buffer.alloc([...workers].reduce((bytes, worker) => bytes + worker.idBytes, 0));
  const bits: Uint32Array[] = [];
  let row = 0;
  let at = 0;
  let anew = false;
  for (const { partition, id, idBytes: bytes, incarnation, window } of workers) {
    let number = numbers.get(partition);
    if (number === undefined) {
      number = partitions.length;
      numbers.set(partition, number);
      partitions.push(partition.of && [partition.of.topic, partition.of.partition]);
    }
    setWhole(highestHalves, row, window.highest);
    setWhole(incarnationHalves, row, incarnation);
    anew ||= incarnation > 0;
    partitionNumbers[row] = number;
    const packed = window.packed();
    runs[row] = packed.run;
    words[row] = packed.bits.length;
    if (packed.bits.length > 0) bits.push(packed.bits);
    idBytes[row] = bytes;
    if (bytes === id.length) ids.write(id, at, 'latin1');
    else workerBytes(id).copy(ids, at);
    at += bytes;
    row += 1;
  }
  const columns: Columns = {
    'seen.highest': highest,
    ...(anew ? { 'seen.incarnations': incarnations } : {}),
    'seen.partitions': partitionNumbers,
    'seen.bits': joined(bits),
    'seen.runs': runs,
    'seen.words': words,
    'seen.idBytes': idBytes,
    'seen.ids': ids,
  };
  return { partitions, arrays: { ...columns } };
}

/** Adds the workers that {@link columnsOf} wrote. */
export function addColumns(workers: SeenWorkers, { partitions, arrays }: Pick<OnceState, 'partitions' | 'arrays'>): void {
  const all = checked(arrays as Partial<Columns>);
  if (!all) return;
  const places = partitions.map((name) => workers.at(name && positionOf(name)));
  const bits = new Uint32Array(all['seen.bits'].buffer, all['seen.bits'].byteOffset, all['seen.bits'].length);
  const incarnations = all['seen.incarnations'];
  let [bit, at] = [0, 0];
  for (let row = 0; row < all['seen.highest'].length; row++) {
    const partition = places[all['seen.partitions'][row]!];
    const end = at + all['seen.idBytes'][row]!;
    const words = all['seen.words'][row]!;
    const run = all['seen.runs'][row]!;
    if (!partition || words > WINDOW / 32 || run < 0) throw broken(`one of the partitions and of the lengths for row ${row}`);
    const window = SequenceWindow.of(Number(all['seen.highest'][row]), run, bits.subarray(bit, bit + words));
    const id = workerText(all['seen.ids'].subarray(at, end));
    workers.add(new SeenWorker(partition, id, Number(incarnations?.[row] ?? 0), window, end - at));
    bit += words;
    at = end;
  }
}

/**
 * What older files say, as JSON: the last sequence of each worker, whatever its partition. All below it counted as seen, and does so
 * in each partition that had been read.
 */
export function addSequences(
  workers: SeenWorkers,
  sequences: readonly (readonly [worker: string, sequence: number])[],
  positions: readonly (readonly [topic: string, partition: number, next: number])[],
): void {
  const places = positions.length === 0 ? [null] : positions.map(([topic, partition]) => ({ topic, partition }));
  for (const place of places) {
    for (const [worker, sequence] of sequences) {
      const window = SequenceWindow.of(sequence, sequence + 1, new Uint32Array(0));
      workers.add(new SeenWorker(workers.at(place), worker, 0, window));
    }
  }
}

function positionOf([topic, partition]: NonNullable<PartitionName>): Pick<Position, 'topic' | 'partition'> {
  return { topic, partition };
}

/** Columns of one length, with all that they point to; null where there are none. */
function checked(arrays: Partial<Columns>): Columns | null {
  if (Object.keys(arrays).length === 0) return null;
  for (const [name, type] of Object.entries(types)) {
    const array = (arrays as Readonly<Record<string, ColumnArray | undefined>>)[name];
    if (name === 'seen.incarnations' && !array) continue;
    if (!(array instanceof type)) throw broken(`"${name}" as ${type.name}`);
  }
  const columns = arrays as Columns;
  const rows = columns['seen.highest'].length;
  for (const name of ['seen.incarnations', 'seen.partitions', 'seen.runs', 'seen.words', 'seen.idBytes'] as const) {
    const column = columns[name];
    if (column && column.length !== rows) throw broken(`${rows} rows of "${name}"`);
  }
  if (sum(columns['seen.idBytes']) !== columns['seen.ids'].length) throw broken('as many bytes of "seen.ids" as are said');
  if (sum(columns['seen.words']) !== columns['seen.bits'].length) throw broken('as many words of "seen.bits" as are said');
  return columns;
}

const types = {
  'seen.highest': BigInt64Array,
  'seen.incarnations': BigInt64Array,
  'seen.partitions': Int32Array,
  'seen.bits': Int32Array,
  'seen.runs': Int32Array,
  'seen.words': Uint8Array,
  'seen.idBytes': Int16Array,
  'seen.ids': Uint8Array,
};

function sum(lengths: Int16Array | Uint8Array): number {
  let all = 0;
  for (const length of lengths) all += Math.max(0, length);
  return all;
}

function broken(expected: string): RxgradError {
  return new RxgradError('invalidCheckpoint', { where: 'state dict', expected, got: 'others' });
}

/** Writes a whole number as the two halves of an I64: several times faster than by way of a BigInt. */
function setWhole(halves: Uint32Array, row: number, whole: number): void {
  halves[2 * row] = whole;
  halves[2 * row + 1] = Math.floor(whole / 2 ** 32);
}

function joined(parts: readonly Uint32Array[]): Int32Array {
  const all = new Uint32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Int32Array(all.buffer);
}
