import { threadId } from 'node:worker_threads';
import type { Arena } from '../kernels/arena.ts';
import { endedThreads, followThreads, wokenAt } from '../threads.ts';
import { MARKS_BYTES, ReaderMarks } from './reader-marks.ts';
import { ATTACHED, SLOTS, type Slot, type SlotTable } from './slot-table.ts';

/** Half seconds in which nobody has let go, after which a warning says so. */
const LOOKS_BEFORE_WARNING = 20;

/** A reader that was announced: where its marks are, and whose. */
export interface AnnouncedReader {
  readonly address: number;
  readonly id: number;
}

/**
 * Who reads the weights, as the thread that writes them knows it. A reader lives as long as its thread does, however long it reads;
 * one whose thread has ended holds nothing. This thread learns that of the threads that it started itself, and is told of others
 * by {@link letGo}.
 */
export class Readers {
  /** What the writer's own thread reads. It counts as no reader. */
  readonly own: ReaderMarks;
  readonly #arena: Arena;
  readonly #table: SlotTable;
  #all: ReaderMarks[] = [];
  /** Of readers that have gone: used again. */
  readonly #unused: ReaderMarks[] = [];
  #nextId = 1;
  #endedSeen = 0;
  #waiting = 0;

  constructor(arena: Arena, table: SlotTable) {
    this.#arena = arena;
    this.#table = table;
    this.own = this.#make();
    followThreads();
  }

  /** Whether there is any. */
  get any(): boolean {
    this.#lookForEnded();
    return Atomics.load(this.#table.words, ATTACHED) > 0;
  }

  announce(): AnnouncedReader {
    this.#lookForEnded();
    this.#sortOut();
    const marks = this.#unused.pop() ?? this.#make();
    const id = this.#nextId++;
    marks.announce(id);
    this.#all.push(marks);
    return { address: marks.address, id };
  }

  /** Takes leave for a reader whose thread has ended, and lets go of what it held. */
  letGo({ id }: AnnouncedReader): void {
    this.#all.find((marks) => marks.id === id)?.clear();
  }

  /** Whether anybody reads a slot. */
  isReading(slot: Slot): boolean {
    this.#lookForEnded();
    return this.own.holds(slot) || this.#all.some((marks) => marks.holds(slot));
  }

  /** Waits, without blocking the thread, until nobody reads a slot: the one that `target` tells, which may change meanwhile. */
  async untilFree(target: () => Slot): Promise<void> {
    const table = this.#table;
    this.#waiting += 1;
    try {
      for (let looks = 0; ; ) {
        const slot = target();
        table.wanted = this.#waiting > 1 ? null : slot;
        const { index, count } = table.signals;
        if (!this.isReading(slot)) return;
        // Counted, not timed: a process that stood still for an hour looks again before it warns.
        if (!(await wokenAt(table.words, index, count)) && ++looks === LOOKS_BEFORE_WARNING) this.#warn();
      }
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) table.wanted = undefined;
    }
  }

  #make(): ReaderMarks {
    // First, since memory that grows has another buffer.
    const address = this.#arena.allocate(MARKS_BYTES);
    return new ReaderMarks(this.#table, this.#arena.memory.buffer, address);
  }

  #lookForEnded(): void {
    const ended = endedThreads();
    if (ended.size === this.#endedSeen) return;
    this.#endedSeen = ended.size;
    for (const marks of this.#all) if (ended.has(marks.thread)) marks.clear();
    this.#sortOut();
  }

  /** Keeps the marks of readers that have gone for others, once they hold nothing. */
  #sortOut(): void {
    for (const marks of this.#all) if (isGone(marks)) this.#unused.push(marks);
    this.#all = this.#all.filter((marks) => !isGone(marks));
  }

  #warn(): void {
    const held = this.#all.filter((marks) => slots.some((slot) => marks.holds(slot)));
    const readers = held.map(({ thread }) => (thread === threadId ? 'this thread' : `thread ${thread}`));
    const seconds = LOOKS_BEFORE_WARNING / 2;
    const message =
      `Weights have been read for ${seconds} s by ${[...new Set(readers)].join(', ') || 'this thread'}, and the next version waits for that. ` +
      'If the thread of a reader has ended, call params.letGo() with what params.share() returned for it';
    process.emitWarning(message, { code: 'RXGRAD_READER_HOLDS' });
  }
}

const slots = Array.from({ length: SLOTS }, (_, slot) => slot);

function isGone(marks: ReaderMarks): boolean {
  return marks.isClosed && !slots.some((slot) => marks.holds(slot));
}
