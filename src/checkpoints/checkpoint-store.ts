import { RxgradError } from '../errors.ts';

/** A checkpoint as its store lists it. */
export interface CheckpointEntry {
  readonly version: number;
  readonly bytes: number;
  /** Milliseconds since 1970 (UTC). */
  readonly savedAtMs: number;
  /** Whether it stays, however many come after it. */
  readonly pinned: boolean;
}

/** Checkpoints that training has left behind, when it went on from an earlier one. */
export interface AbandonedCourse {
  /** Where they are, for a store over them. */
  readonly name: string;
  /** Newest version first. */
  readonly entries: readonly CheckpointEntry[];
}

/**
 * Where checkpoints are kept, by version: files of bytes, each of which is there whole or not at all. A store that can have an owner refuses
 * `write`, `remove` and `setAside` with `notOwner` before it was taken over; `list`, `read` and `pin` need no owner.
 */
export interface CheckpointStore {
  readonly name: string;
  /** What there is, newest version first. */
  list(): Promise<CheckpointEntry[]>;
  /** The bytes of one, as they are there. */
  read(version: number): Promise<Uint8Array>;
  /**
   * Writes one, reads it back, and only then removes those beyond the number that is kept. One of this version is replaced.
   */
  write(version: number, file: Uint8Array): Promise<void>;
  remove(version: number): Promise<void>;
  pin(version: number, pinned: boolean): Promise<void>;
  /**
   * Moves versions of a course that training leaves to a store of their own beside this one, pins included: here they are neither listed nor
   * counted any more. Returns that store's name.
   */
  setAside(versions: readonly number[]): Promise<string>;
  /** The courses that were set aside, in the order in which they were. */
  abandoned(): Promise<AbandonedCourse[]>;
  /**
   * Becomes the owner: the only one that may write, remove and set aside. The owner before fails with `fenced` from now on. `recover` and
   * `checkpoint` call it as a training starts. Nothing else takes a store over: a process that stood still since before another one took over
   * would take the store back at its first write.
   */
  takeOver?(): Promise<void>;
  /** Whether {@link takeOver} was called here, also where another owner has come since. A store without it has no owner. */
  readonly tookOver?: boolean;
  /** Fails with `fenced` where another one has taken over since. */
  confirmOwner?(): Promise<void>;
  /** Gives up what it holds open. */
  close(): Promise<void>;
}

/** The versions that are not kept any more: not pinned, and older than the newest `keep`. */
export function superseded(entries: readonly CheckpointEntry[], keep: number): number[] {
  const unpinned = entries.filter(({ pinned }) => !pinned).map(({ version }) => version);
  return unpinned.sort((a, b) => b - a).slice(keep);
}

/** The error of a change by a process that has not taken the store over. */
export function notOwner(store: string, what: string): RxgradError {
  return new RxgradError('notOwner', { store, what });
}
