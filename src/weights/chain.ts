import { type RejectionReason, RxgradError } from '../errors.ts';
import type { Position } from '../events.ts';
import { heldBytes, misfit, type Publication, type Shapes, shapesOf } from './publication.ts';
import { readWeightsFile, type WeightsFile } from './weights-file.ts';
import type { WeightsFacts } from './weights-header.ts';

type Refused = RxgradError<RejectionReason>;

interface Collecting {
  readonly facts: WeightsFacts;
  readonly files: Map<number, WeightsFile>;
  bytes: number;
}

/**
 * What one shard has published and nobody has applied yet: a snapshot or more, and deltas that follow without a gap. What does
 * not is left out until the next snapshot.
 */
export class Chain {
  readonly #maxBytes: number;
  #collecting: Collecting | null = null;
  #queue: Publication[] = [];
  /** The sequence that the next delta has to follow; null where only a snapshot helps. */
  #head: number | null = null;
  #shapes: Shapes = new Map();
  #last = -1;
  /** The course of training that is followed, once it is known, and one that is so no more. */
  #course: string | null = null;
  #left: string | null = null;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get course(): string | null {
    return this.#course;
  }

  /** Whether weights are of the course that is followed, which the first decide. */
  follows({ course }: WeightsFacts): boolean {
    if (course === undefined) return true;
    if (course === this.#left) return false;
    this.#course ??= course;
    return course === this.#course;
  }

  /** Goes on with what a chain of earlier followed. */
  follow(course: string): void {
    this.#course = course;
  }

  /** Begins anew with the next snapshot of another course. */
  leave(): void {
    this.#left = this.#course;
    this.#course = null;
    this.#last = -1;
    this.reset();
  }

  /** Whether something came that no longer leads anywhere: a snapshot is needed. */
  get isBroken(): boolean {
    return this.#head === null && this.#last >= 0;
  }

  get queue(): readonly Publication[] {
    return this.#queue;
  }

  /** Bytes that are held. */
  get bytes(): number {
    return (this.#collecting?.bytes ?? 0) + this.#queue.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Takes a part in. Returns why it is of no use; null where it is, or was seen, or is left out since something before it was. */
  add(facts: WeightsFacts, value: Uint8Array, position: Position): Refused | null {
    const { sequence, kind, base, part } = facts;
    if (sequence <= this.#last || sequence < (this.#collecting?.facts.sequence ?? 0)) return null;
    if (this.#collecting && this.#collecting.facts.sequence !== sequence) this.#collecting = null;
    const where = `${position.topic}/${position.partition}@${position.offset}`;
    if (kind === 'delta' && this.#head !== base) {
      const expected = this.#head;
      this.#break(sequence - 1);
      const gap = { where, shard: facts.shard, expected: expected ?? 0, got: base! };
      return expected === null ? null : new RxgradError('weightsGap', gap);
    }
    const file = readWeightsFile(value);
    if (typeof file === 'function') return this.#refuse(file(where), sequence);
    this.#collecting ??= { facts, files: new Map(), bytes: 0 };
    const collecting = this.#collecting;
    if (collecting.files.has(part)) return null;
    collecting.files.set(part, file);
    collecting.bytes += heldBytes(file);
    if (collecting.files.size < facts.parts) return null;
    return this.#complete(collecting, position, where);
  }

  /** Notes that a part came to nothing. */
  refuse(error: Refused, sequence: number): Refused | null {
    if (sequence <= this.#last) return null;
    return this.#refuse(error, sequence);
  }

  /** Lets go of what was applied, or is older. */
  dropUpTo(version: number): void {
    this.#queue = this.#queue.filter(({ facts }) => facts.version > version);
  }

  /** Lets go of what is older than the newest snapshot; without one of all. Tells whether anything is left. */
  shorten(): boolean {
    const newest = this.#queue.findLastIndex(({ facts }) => facts.kind === 'snapshot');
    if (newest > 0) {
      this.#queue = this.#queue.slice(newest);
      return true;
    }
    this.reset();
    return false;
  }

  /** Begins anew with the next snapshot. */
  reset(): void {
    this.#queue = [];
    this.#collecting = null;
    this.#head = null;
  }

  #complete({ facts, files, bytes }: Collecting, position: Position, where: string): Refused | null {
    this.#collecting = null;
    const inOrder = [...files].toSorted(([a], [b]) => a - b).map(([, file]) => file);
    const shapes = facts.kind === 'snapshot' ? shapesOf(inOrder, this.#maxBytes) : this.#shapes;
    const problem = typeof shapes === 'function' ? shapes : facts.kind === 'delta' ? misfit(inOrder, shapes) : null;
    if (typeof shapes === 'function' || problem) return this.#refuse(problem!(where), facts.sequence);
    this.#shapes = shapes;
    this.#head = facts.sequence;
    this.#last = facts.sequence;
    this.#queue.push({ facts, files: inOrder, bytes, position, shapes });
    return null;
  }

  #refuse(error: Refused, sequence: number): Refused {
    this.#break(sequence);
    return error;
  }

  #break(sequence: number): void {
    this.#collecting = null;
    this.#head = null;
    this.#last = Math.max(this.#last, sequence);
  }
}
