import { RxgradError } from '../errors.ts';
import type { KeptState } from './state-dict.ts';

/** The offset of the next record by topic and partition. */
type Positions = readonly (readonly [topic: string, partition: number, next: number])[];

/** A scan, as far as the parameters that it steps keep it. */
export interface KeptScan {
  /** Whether other threads are writing. */
  readonly busy: boolean;
  /** Whether it has applied all events that reached it. */
  readonly settled: boolean;
  /** How many events its state contains, whether they made a version or not. */
  readonly handled: number;
  /** How far it has read its logs: the next offset by topic and partition. */
  readonly positions: Positions;
  /** What it would need to go on. */
  state(): KeptState;
  /** Resolves when all that it has left out is kept. */
  rejectionsKept(): Promise<void>;
  dispose(): void;
}

/** The place of the one scan that may step some parameters at a time, the state that is there for the next one, and what it waits for. */
export class ScanSeat {
  #taken = false;
  // The scan that is under way, or the last one.
  #scan: KeptScan | null = null;
  #loaded: KeptState | null = null;
  #held: Promise<void> | null = null;

  /** Takes the place. Returns what was loaded for the scan, and how far the one before it has read. */
  enter(): { readonly loaded: KeptState | null; readonly before: Positions } {
    this.assertFree();
    const before = this.#scan?.positions ?? [];
    this.forget();
    this.#taken = true;
    const loaded = this.#loaded;
    this.#loaded = null;
    return { loaded, before };
  }

  /** Notes the scan that was entered, whose state stays when it leaves. */
  keep(scan: KeptScan): void {
    this.#scan = scan;
  }

  leave(): void {
    this.#taken = false;
  }

  assertFree(): void {
    if (this.#taken) throw new RxgradError('parametersInUse', {});
  }

  /** Gives the next scan a state to go on from. */
  load(state: KeptState | null): void {
    this.forget();
    this.#loaded = state;
  }

  /** The state of the scan that is under way or was last, or what was loaded. To be asked for between two steps. */
  state(): KeptState | null {
    if (this.busy) {
      const advice = 'ask where an update arrives';
      throw new RxgradError('stepUnderWay', { what: 'a state dict to be asked for', advice });
    }
    return this.#scan?.state() ?? this.#loaded;
  }

  /** Whether other threads are at a step. */
  get busy(): boolean {
    return this.#scan?.busy ?? false;
  }

  /** Whether no event waits for its step. */
  get settled(): boolean {
    return this.#scan?.settled ?? true;
  }

  /** How many events the state contains beyond what was loaded: where it has changed, so has the state. */
  get handled(): number {
    return this.#scan?.handled ?? 0;
  }

  async rejectionsKept(): Promise<void> {
    await this.#scan?.rejectionsKept();
  }

  /** Keeps weights and state as they are, while others copy them: the next step waits until the promise settles. */
  hold(until: Promise<void>): void {
    const held = Promise.allSettled([this.#held, until]).then(() => {
      if (this.#held === held) this.#held = null;
    });
    this.#held = held;
  }

  /** Resolves when weights and state may change again; null where they may. */
  get held(): Promise<void> | null {
    return this.#held;
  }

  forget(): void {
    this.#scan?.dispose();
    this.#scan = null;
  }
}
