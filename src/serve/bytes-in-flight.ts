import { RxgradError } from '../errors.ts';

/** What a server holds of requests. */
export interface InFlightFigures {
  readonly bytes: number;
  readonly limit: number;
  /** Requests that were refused for it since the server began. */
  readonly refused: number;
}

/**
 * The bytes of all requests that a server holds, over HTTP and gRPC together: while they come, and until they are answered. Where
 * there is no room for more, the request that is still coming and has the most is refused, so that those who send much, and slowly,
 * do not keep others out.
 */
export class BytesInFlight {
  readonly #limit: number;
  readonly #onRefused: () => void;
  readonly #arriving = new Set<Lease>();
  #bytes = 0;
  #refused = 0;

  constructor(limit: number, onRefused: () => void = () => {}) {
    this.#limit = limit;
    this.#onRefused = onRefused;
  }

  get figures(): InFlightFigures {
    return { bytes: this.#bytes, limit: this.#limit, refused: this.#refused };
  }

  /** Begins to count a request that comes. `refuse` is called once, where it has to make room, and has to let go of it at once. */
  open(refuse: (error: RxgradError) => void): Lease {
    const lease = new Lease(refuse, {
      limit: this.#limit,
      reserve: (bytes) => this.#reserve(lease, bytes),
      add: (bytes) => {
        this.#bytes += bytes;
      },
      arriving: (isArriving) => void (isArriving ? this.#arriving.add(lease) : this.#arriving.delete(lease)),
    });
    lease.arriving();
    return lease;
  }

  /** Makes room for so many more bytes. False where there is none: the request was refused, or has to be. */
  #reserve(lease: Lease, bytes: number): boolean {
    while (this.#bytes + bytes > this.#limit) {
      const largest = this.#largestBeside(lease);
      if (largest && largest.bytes > lease.bytes + bytes) this.#refuse(largest);
      else {
        this.#refuse(lease);
        return false;
      }
    }
    return true;
  }

  #refuse(lease: Lease): void {
    this.#refused += 1;
    lease.close();
    lease.refuse(fullAt(this.#limit));
    this.#onRefused();
  }

  #largestBeside(one: Lease): Lease | null {
    let largest: Lease | null = null;
    for (const lease of this.#arriving) if (lease !== one && lease.bytes > (largest?.bytes ?? 0)) largest = lease;
    return largest;
  }
}

function fullAt(limit: number): RxgradError {
  return new RxgradError('serverFull', { limit });
}

interface Account {
  readonly limit: number;
  reserve(bytes: number): boolean;
  add(bytes: number): void;
  arriving(isArriving: boolean): void;
}

/** What one request holds. Closing it twice does no harm. */
export class Lease {
  readonly refuse: (error: RxgradError) => void;
  readonly #account: Account;
  #bytes = 0;
  #isOpen = true;

  constructor(refuse: (error: RxgradError) => void, account: Account) {
    this.refuse = refuse;
    this.#account = account;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether it is counted still: it is not where it was refused, or its request is over. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Counts what its bytes have become, in addition to them. Throws where there is no room. */
  decoded(bytes: number): void {
    const { limit } = this.#account;
    if (bytes > limit) {
      const expected = `what takes ${limit} bytes as tensors`;
      throw new RxgradError('requestTooLarge', { where: 'body', expected, got: `${bytes}` });
    }
    if (!this.take(bytes)) throw fullAt(limit);
  }

  /** Counts so many more (or, below 0, fewer). False where the request was refused. */
  take(bytes: number): boolean {
    if (!this.#isOpen || (bytes > 0 && !this.#account.reserve(bytes))) return false;
    this.#bytes += bytes;
    this.#account.add(bytes);
    return true;
  }

  /** The request is coming: it may have to make room. */
  arriving(): void {
    if (this.#isOpen) this.#account.arriving(true);
  }

  /** The request is there as a whole: it makes no room for others any more, but goes on to be counted. */
  arrived(): void {
    this.#account.arriving(false);
  }

  /** Counts nothing of it any more. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#account.arriving(false);
    this.#account.add(-this.#bytes);
    this.#bytes = 0;
  }
}
