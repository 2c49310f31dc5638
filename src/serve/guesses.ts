import { createHash, timingSafeEqual } from 'node:crypto';
import { RxgradError } from '../errors.ts';

const WINDOW_MS = 60_000;
const FROM_ONE_ADDRESS = 10;
const FROM_ALL = 100;
const ADDRESSES = 10_000;

/** Wrong tokens of an address, or of all, in a window of a minute that began with the first. */
interface Failures {
  count: number;
  readonly sinceMs: number;
}

/**
 * Tells whether a token is the right one, and slows down who guesses: after ten wrong ones within a minute an address is heard no more
 * until that minute is over; where all addresses together sent a hundred, after one. An address that sent none wrong is always heard.
 */
export class Guesses {
  readonly #digest: Buffer;
  readonly #onRefused: () => void;
  /** By address, the oldest first. */
  readonly #failures = new Map<string, Failures>();
  #all: Failures = { count: 0, sinceMs: Number.NEGATIVE_INFINITY };
  #wrong = 0;
  #refused = 0;

  constructor(token: string, onRefused: () => void = () => {}) {
    this.#digest = digestOf(token);
    this.#onRefused = onRefused;
  }

  /** Wrong tokens, and those that were not looked at, since the server began. */
  get figures(): { readonly wrong: number; readonly refused: number } {
    return { wrong: this.#wrong, refused: this.#refused };
  }

  /** Whether it is the token. Throws where the address has to wait: whether the token was right is not told then. */
  isRight(token: string, remoteAddress: string | undefined): boolean {
    const now = performance.now();
    const address = networkOf(remoteAddress ?? '');
    const before = this.#failuresOf(address, now);
    const most = countAt(this.#all, now) >= FROM_ALL ? 1 : FROM_ONE_ADDRESS;
    if (before && before.count >= most) {
      this.#refused += 1;
      this.#onRefused();
      throw new RxgradError('tooManyGuesses', { seconds: Math.ceil((before.sinceMs + WINDOW_MS - now) / 1000) });
    }
    // Digests have one length, so the time tells neither that of the token nor how much of it is right.
    const isRight = timingSafeEqual(digestOf(token), this.#digest);
    if (!isRight) this.#note(address, before, now);
    return isRight;
  }

  #note(address: string, before: Failures | null, now: number): void {
    this.#wrong += 1;
    if (countAt(this.#all, now) === 0) this.#all = { count: 0, sinceMs: now };
    this.#all.count += 1;
    if (before) {
      before.count += 1;
      return;
    }
    this.#failures.set(address, { count: 1, sinceMs: now });
    if (this.#failures.size > ADDRESSES) this.#failures.delete(this.#failures.keys().next().value!);
  }

  #failuresOf(address: string, now: number): Failures | null {
    const found = this.#failures.get(address);
    if (!found || countAt(found, now) > 0) return found ?? null;
    this.#failures.delete(address);
    return null;
  }
}

function countAt({ count, sinceMs }: Failures, now: number): number {
  return now - sinceMs < WINDOW_MS ? count : 0;
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** Whoever has an IPv6 address has all those of its first 64 bits. */
function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address.replace('::ffff:', '');
  const [left = '', right] = address.split('::');
  const groups = left === '' ? [] : left.split(':');
  const after = right ? right.split(':') : [];
  const whole =
    right === undefined ? groups : [...groups, ...Array(Math.max(0, 8 - groups.length - after.length)).fill('0'), ...after];
  return whole.slice(0, 4).join(':');
}
