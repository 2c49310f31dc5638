import type { Asked } from './asked.ts';

interface Link {
  readonly asked: Asked;
  before: Link | null;
  after: Link | null;
}

/** Predictions of one signature, oldest first. */
interface Group {
  first: Link | null;
  last: Link | null;
  rows: number;
}

const ALONE = 'alone';

/** Predictions that wait, in the order in which they came, grouped by what can be one run. Each is taken out in no time. */
export class PredictionQueue {
  readonly #groups = new Map<string, Group>();
  readonly #links = new Map<Asked, Link>();
  readonly #maxRows: number;
  readonly #maxDelayMs: number;

  constructor({ maxBatch, maxDelayMs }: { readonly maxBatch: number; readonly maxDelayMs: number }) {
    this.#maxRows = maxBatch;
    this.#maxDelayMs = maxDelayMs;
  }

  get size(): number {
    return this.#links.size;
  }

  add(asked: Asked): void {
    const key = keyOf(asked);
    const group = this.#groups.get(key) ?? { first: null, last: null, rows: 0 };
    this.#groups.set(key, group);
    const link: Link = { asked, before: group.last, after: null };
    if (group.last) group.last.after = link;
    else group.first = link;
    group.last = link;
    group.rows += asked.rows;
    this.#links.set(asked, link);
  }

  /** Takes one out. False where it is not there any more. */
  remove(asked: Asked): boolean {
    const link = this.#links.get(asked);
    if (!link) return false;
    this.#links.delete(asked);
    const key = keyOf(asked);
    const group = this.#groups.get(key)!;
    if (link.before) link.before.after = link.after;
    else group.first = link.after;
    if (link.after) link.after.before = link.before;
    else group.last = link.before;
    group.rows -= asked.rows;
    if (!group.first) this.#groups.delete(key);
    return true;
  }

  /** Takes out what is to be run next, in one run: nothing where all that is there still waits for company. */
  take(now: number): Asked[] {
    let oldest: Group | null = null;
    for (const [key, group] of this.#groups) {
      if (this.#dueAt(key, group) > now) continue;
      if (!oldest || group.first!.asked.askedAt < oldest.first!.asked.askedAt) oldest = group;
    }
    if (!oldest) return [];
    const taken: Asked[] = [];
    let rows = 0;
    for (let link = oldest.first; link; link = link.after) {
      const { asked } = link;
      if (taken.length > 0 && (asked.signature === null || rows + asked.rows > this.#maxRows)) break;
      taken.push(asked);
      rows += asked.rows;
    }
    for (const asked of taken) this.remove(asked);
    return taken;
  }

  /** When there will be something to take; Infinity where nothing waits. */
  get dueAt(): number {
    let due = Infinity;
    for (const [key, group] of this.#groups) due = Math.min(due, this.#dueAt(key, group));
    return due;
  }

  /** Takes out all. */
  clear(): Asked[] {
    const all = [...this.#links.keys()];
    for (const asked of all) this.remove(asked);
    return all;
  }

  #dueAt(key: string, group: Group): number {
    if (key === ALONE || group.rows >= this.#maxRows) return 0;
    return group.first!.asked.askedAt + this.#maxDelayMs;
  }
}

function keyOf({ signature, slot }: Asked): string {
  return signature === null ? ALONE : `${slot ?? 'live'} ${signature}`;
}
