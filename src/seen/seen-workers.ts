import type { Position } from '../events.ts';
import { workerBytes } from '../worker-id.ts';
import { SequenceWindow } from './sequence-window.ts';

/** So many windows are kept: one for each worker and partition. */
export const MAX_WORKERS = 262_144;
/** Bytes of all their ids. */
export const MAX_ID_BYTES = 32 << 20;

/** What is known of a worker in a partition. */
export class SeenWorker {
  readonly partition: SeenPartition;
  readonly id: string;
  readonly idBytes: number;
  incarnation: number;
  window: SequenceWindow;
  /** Duplicates since a sequence was new. */
  repeats = 0;
  older: SeenWorker | null = null;
  newer: SeenWorker | null = null;

  constructor(
    partition: SeenPartition,
    id: string,
    incarnation: number,
    window: SequenceWindow,
    idBytes = workerBytes(id).byteLength,
  ) {
    this.partition = partition;
    this.id = id;
    this.idBytes = idBytes;
    this.incarnation = incarnation;
    this.window = window;
  }
}

/** A partition, or (null) what was made in process, and who was seen there. */
export interface SeenPartition {
  readonly of: Pick<Position, 'topic' | 'partition'> | null;
  readonly workers: Map<string, SeenWorker>;
}

/** The workers seen in each partition. Where there are too many, the least recently seen leave: by the log alone, not by a clock. */
export class SeenWorkers {
  readonly #partitions: SeenPartition[] = [];
  readonly #mostWorkers: number;
  readonly #mostIdBytes: number;
  #lastPartition: SeenPartition | null = null;
  #last: SeenWorker | null = null;
  #oldest: SeenWorker | null = null;
  #newest: SeenWorker | null = null;
  #count = 0;
  #idBytes = 0;

  constructor(mostWorkers = MAX_WORKERS, mostIdBytes = MAX_ID_BYTES) {
    this.#mostWorkers = mostWorkers;
    this.#mostIdBytes = mostIdBytes;
  }

  get count(): number {
    return this.#count;
  }

  /** Where workers of a position's partition are. */
  at(position: Pick<Position, 'topic' | 'partition'> | null): SeenPartition {
    const last = this.#lastPartition;
    if (last && isOf(last, position)) return last;
    let found = this.#partitions.find((partition) => isOf(partition, position));
    if (!found) {
      found = { of: position && { topic: position.topic, partition: position.partition }, workers: new Map() };
      this.#partitions.push(found);
    }
    this.#lastPartition = found;
    return found;
  }

  find(partition: SeenPartition, id: string): SeenWorker | undefined {
    const last = this.#last;
    if (last && last.partition === partition && last.id === id) return last;
    const found = partition.workers.get(id);
    if (found) this.#last = found;
    return found;
  }

  /** Notes a sequence of a worker as the newest that was seen. Returns who had to leave for it, or null. */
  note(partition: SeenPartition, id: string, incarnation: number, sequence: number): SeenWorker | null {
    const worker = this.find(partition, id);
    if (!worker) return this.add(new SeenWorker(partition, id, incarnation, new SequenceWindow(sequence)));
    if (incarnation === worker.incarnation) worker.window.note(sequence);
    else if (incarnation > worker.incarnation) {
      worker.incarnation = incarnation;
      worker.window = new SequenceWindow(sequence);
    }
    worker.repeats = 0;
    if (worker !== this.#newest) {
      this.#unlink(worker);
      this.#append(worker);
    }
    return null;
  }

  /** Adds a worker as the newest, in the place of what was known of it. Returns the last of those who had to leave for it, or null. */
  add(worker: SeenWorker): SeenWorker | null {
    const before = worker.partition.workers.get(worker.id);
    if (before) this.#remove(before);
    worker.partition.workers.set(worker.id, worker);
    this.#append(worker);
    this.#count += 1;
    this.#idBytes += worker.idBytes;
    let left: SeenWorker | null = null;
    while (this.#count > this.#mostWorkers || this.#idBytes > this.#mostIdBytes) {
      left = this.#oldest!;
      this.#remove(left);
    }
    return left;
  }

  /** From the least recently seen to the most recently seen. */
  *[Symbol.iterator](): Generator<SeenWorker> {
    for (let worker = this.#oldest; worker; worker = worker.newer) yield worker;
  }

  #remove(worker: SeenWorker): void {
    worker.partition.workers.delete(worker.id);
    this.#unlink(worker);
    this.#count -= 1;
    this.#idBytes -= worker.idBytes;
    if (this.#last === worker) this.#last = null;
  }

  #append(worker: SeenWorker): void {
    worker.older = this.#newest;
    worker.newer = null;
    if (this.#newest) this.#newest.newer = worker;
    else this.#oldest = worker;
    this.#newest = worker;
  }

  #unlink(worker: SeenWorker): void {
    const { older, newer } = worker;
    if (older) older.newer = newer;
    else this.#oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
  }
}

function isOf({ of }: SeenPartition, position: Pick<Position, 'topic' | 'partition'> | null): boolean {
  if (!of || !position) return of === position;
  return of.partition === position.partition && of.topic === position.topic;
}
