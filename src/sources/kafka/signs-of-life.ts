/** A topic that the cluster has not known for so long, in seconds, was deleted: a broker that has just started may not know all of them yet. */
export const deletedAfterS = 8;

export interface SignsContext {
  /** How long brokers may be out of reach. */
  readonly reconnectForMs: number;
  readonly onSilence: () => void;
  readonly onDeleted: () => void;
}

/** What a consumption hears of its brokers. `tick` is to be called for each second in which this process ran: only those count. */
export class SignsOfLife {
  readonly #context: SignsContext;
  #silentS = 0;
  #missingS = 0;
  #missing = false;
  #fetchS = 0;

  constructor(context: SignsContext) {
    this.#context = context;
  }

  /** A broker has answered. */
  heard(): void {
    this.#silentS = 0;
  }

  fetched(): void {
    this.#fetchS = 0;
    this.heard();
  }

  /** The cluster has said whether it knows the topic. */
  exists(exists: boolean): void {
    this.#missing = !exists;
    if (exists) this.#missingS = 0;
    this.heard();
  }

  /** Whether brokers have been out of reach for longer than they may. */
  get areLost(): boolean {
    return this.#silentS * 1000 > this.#context.reconnectForMs;
  }

  get description(): string {
    return `last fetch ${this.#fetchS} s ago, last answer of any kind ${this.#silentS} s ago`;
  }

  tick(): void {
    this.#silentS += 1;
    this.#fetchS += 1;
    if (this.#missing) this.#missingS += 1;
    if (this.#missingS >= deletedAfterS) this.#context.onDeleted();
    else if (this.areLost) this.#context.onSilence();
  }
}
