import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { RxgradError } from '../errors.ts';
import { copyBytes } from '../kernels/kernels.ts';
import { expectOption } from '../options.ts';
import type { Origin, Slot } from './left-right.ts';
import type { WeightsFacts } from './origins.ts';
import { MOST_KEPT, WRITER_SLOTS } from './slot-table.ts';
import { viewsAt, type Weights } from './slot-views.ts';
import type { WeightBuffers } from './weight-buffers.ts';

/** A version whose weights are kept in memory: to show it is the flip of an index. */
export interface KeptVersion extends WeightsFacts {
  readonly slot: Slot;
  readonly labels: readonly string[];
}

export interface KeepOptions {
  /** Names to find it by, such as `stable`. A name belongs to one version: it moves. */
  readonly labels?: readonly string[];
}

/** Bytes that are copied before others have their turn: about a millisecond. */
const PORTION_BYTES = 1 << 22;
const DEFAULT_LIMIT = 5;
const LONGEST_LABEL = 64;

interface Kept extends WeightsFacts {
  readonly slot: Slot;
  readonly address: number;
  readonly labels: Set<string>;
}

/**
 * Versions of the weights that stay in memory, as copies that readers on every thread can be shown. The oldest goes when there
 * are more than {@link limit}; one that has a label, is live or is being read stays.
 */
export class KeptVersions {
  readonly #owner: WeightBuffers;
  /** Oldest first. */
  #kept: Kept[] = [];
  #free: Slot[] = Array.from({ length: MOST_KEPT }, (_, i) => WRITER_SLOTS + i);
  #limit = DEFAULT_LIMIT;
  /** One copy at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(owner: WeightBuffers) {
    this.#owner = owner;
  }

  /** How many are kept. Default 5. */
  get limit(): number {
    return this.#limit;
  }

  set limit(limit: number) {
    expectOption(
      Number.isInteger(limit) && limit >= 1 && limit <= MOST_KEPT,
      'versions to be kept',
      `1 to ${MOST_KEPT}`,
      String(limit),
    );
    this.#limit = limit;
  }

  /** Newest first. */
  list(): KeptVersion[] {
    return this.#kept.map(shown).sort((a, b) => b.version - a.version);
  }

  has(version: number | string): boolean {
    return this.#kept.some((kept) => isNamed(kept, version));
  }

  /** By its number or one of its labels. */
  find(version: number | string): KeptVersion {
    return shown(this.#find(version));
  }

  /** The weights of a kept version: views, lent until it is let go. */
  weights(version: number | string): Weights {
    const { arena, places } = this.#owner;
    return viewsAt(arena.memory.buffer, places, this.#find(version).address);
  }

  /** Keeps the live version. The scan goes on meanwhile, up to where it would write over it. */
  keep(options: KeepOptions = {}): Promise<KeptVersion> {
    const { leftRight } = this.#owner;
    return this.#keepHeld(leftRight.readers.own.acquire(), options);
  }

  /** Keeps the newest version, which may not be live. To be called between two steps. The scan goes on as with {@link keep}. */
  async keepLatest(options: KeepOptions = {}): Promise<KeptVersion> {
    const { leftRight, finiteness } = this.#owner;
    const { latest, readers } = leftRight;
    if (!finiteness.all) throw new RxgradError('weightsNotFinite', { version: leftRight.version(latest) });
    if (leftRight.written === latest) {
      const advice = 'keep it where an update arrives';
      throw new RxgradError('stepUnderWay', { what: `version ${leftRight.version(latest)} to be kept`, advice });
    }
    readers.own.hold(latest);
    return this.#keepHeld(latest, options);
  }

  /** Keeps weights that come from elsewhere, such as a checkpoint. */
  add({ version, madeAtMs, position }: WeightsFacts, weights: Weights, options: KeepOptions = {}): KeptVersion {
    const known = this.#kept.find((kept) => kept.version === version);
    if (known) return this.#labelled(known, options);
    const { arena, places, origins } = this.#owner;
    const kept = this.#make(version, origins.of(position, madeAtMs));
    for (const { name, offset, length } of places) arena.floats(kept.address + offset, length).set(weights[name]!);
    return this.#labelled(kept, options);
  }

  /** Gives a version a name; whichever had it loses it. */
  label(version: number | string, name: string): KeptVersion {
    return this.#labelled(this.#find(version), { labels: [name] });
  }

  unlabel(name: string): void {
    for (const { labels } of this.#kept) labels.delete(name);
  }

  /** Lets a version go, labels or not. One that is live or being read stays: says so by an error. */
  forget(version: number | string): void {
    const kept = this.#find(version);
    if (!this.#isIdle(kept)) {
      const advice = 'show another first';
      throw new RxgradError('stepUnderWay', { what: `version ${kept.version} to be let go`, advice });
    }
    this.#drop(kept);
  }

  #find(version: number | string): Kept {
    const found = this.#kept.find((kept) => isNamed(kept, version));
    if (found) return found;
    const { leftRight } = this.#owner;
    const kept = this.list().map((one) => [one.version, ...one.labels].join(' '));
    const live = leftRight.version(leftRight.live);
    const expected = [...(this.has(live) ? [] : [`${live}, which is live`]), ...kept].join(', ');
    throw new RxgradError('unknownVersion', { store: 'versions in memory', expected, got: version });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Keeps what lies in a slot that is marked, and lets go of it. */
  #keepHeld(slot: Slot, options: KeepOptions): Promise<KeptVersion> {
    const { own } = this.#owner.leftRight.readers;
    return this.#inTurn(() => this.#copy(slot, options)).finally(() => own.release(slot));
  }

  async #copy(slot: Slot, options: KeepOptions): Promise<KeptVersion> {
    const { arena, leftRight, byteLength } = this.#owner;
    const facts = leftRight.facts(slot);
    const known = this.#kept.find((kept) => kept.version === facts.version);
    if (known) return this.#labelled(known, options);
    const from = leftRight.address(slot);
    // First, so that the copy takes the place of what goes.
    this.#makeRoom();
    const address = arena.allocate(byteLength);
    for (let at = 0; at < byteLength; at += PORTION_BYTES) {
      if (at > 0) await eventLoopTurn();
      const end = Math.min(byteLength, at + PORTION_BYTES);
      copyBytes(arena.bytes, arena.bytes, address + at, from + at, from + end);
    }
    return this.#labelled(this.#make(facts.version, facts, address), options);
  }

  #make(version: number, origin: Origin, copied?: number): Kept {
    this.#makeRoom();
    const { arena, leftRight, origins, byteLength } = this.#owner;
    const slot = this.#free.shift()!;
    const address = copied ?? arena.allocate(byteLength);
    leftRight.table.place(slot, address);
    leftRight.table.describe(slot, version, origin);
    const kept = { ...origins.factsOf(leftRight.facts(slot)), slot, address, labels: new Set<string>() };
    this.#kept.push(kept);
    return kept;
  }

  #makeRoom(): void {
    while (this.#kept.length >= this.#limit) {
      const oldest = this.#kept.find((kept) => kept.labels.size === 0 && this.#isIdle(kept));
      if (!oldest) break;
      this.#drop(oldest);
    }
    const free = this.#free.length > 0;
    expectOption(free, 'versions to be kept', `at most ${MOST_KEPT}`, 'as many that have labels or are in use');
  }

  #isIdle({ slot }: Kept): boolean {
    return this.#owner.leftRight.isIdle(slot);
  }

  #drop(kept: Kept): void {
    const { arena, byteLength } = this.#owner;
    this.#kept = this.#kept.filter((other) => other !== kept);
    this.#free.push(kept.slot);
    arena.release(kept.address, byteLength);
  }

  #labelled(kept: Kept, { labels = [] }: KeepOptions): KeptVersion {
    for (const name of labels) {
      const isName = /^[\p{L}\p{N}_.-]+$/u.test(name) && !/^\d+$/.test(name) && name.length <= LONGEST_LABEL;
      expectOption(isName, 'label', `up to ${LONGEST_LABEL} letters, digits, "_", "." or "-", not digits alone`, name);
      this.unlabel(name);
      kept.labels.add(name);
    }
    return shown(kept);
  }
}

function shown({ slot, version, madeAtMs, position, labels }: Kept): KeptVersion {
  return { slot, version, madeAtMs, position, labels: [...labels] };
}

function isNamed({ version, labels }: Kept, name: number | string): boolean {
  return typeof name === 'number' ? version === name : labels.has(name);
}
