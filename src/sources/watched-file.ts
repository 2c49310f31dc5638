import { type BigIntStats, statSync } from 'node:fs';

/** Notices that files were deleted, replaced or cut off while they are open: what is written to them then goes nowhere. */
export class WatchedFile {
  readonly #path: string;
  #last: BigIntStats;

  constructor(path: string) {
    this.#path = path;
    this.#last = statSync(path, { bigint: true });
  }

  /** What has become of it, in words; null where it is as it was, or has grown. `fewest` bytes are enough where it has shrunk. */
  problem(fewest: () => number): string | null {
    const now = statSync(this.#path, { bigint: true, throwIfNoEntry: false });
    if (!now) return `${this.#path} was deleted, or moved, while it was open`;
    const { dev, ino, size } = this.#last;
    if (now.ino !== ino || now.dev !== dev) return `${this.#path} was replaced while it was open`;
    if (now.size < size && Number(now.size) < fewest()) {
      return `${this.#path} was cut off while it was open, from ${size} bytes to ${now.size}`;
    }
    this.#last = now;
    return null;
  }
}
