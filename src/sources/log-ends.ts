import { closeSync, constants, fstatSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';

const slotBytes = 32;

/** What was acknowledged of a partition: it has held the records up to `end`. */
export interface KnownEnd {
  readonly end: number;
  /** Whether a loss of power can have taken the last ones: they were written with `synchronous: 'normal'` before the machine was started again. */
  readonly mayBeLess: boolean;
}

/**
 * A small file beside a log (`-ends`): where each partition ended after the last append that resolved. A log that ends before has lost
 * records: its write-ahead log was taken away, cut off or damaged, or an older copy came back. It may lag, and it may be missing.
 */
export class LogEnds {
  readonly path: string;
  readonly #file: number;
  readonly #seed: number;
  readonly #flag: number;
  readonly #boot = crc32(bootId());

  constructor(log: string, logId: string, synchronous: 'full' | 'normal') {
    this.path = `${log}-ends`;
    // Of another log that was here before, nothing is believed.
    this.#seed = crc32(logId);
    this.#flag = synchronous === 'full' ? 1 : 0;
    this.#file = openSync(this.path, constants.O_RDWR | constants.O_CREAT);
  }

  /** Null where nothing is known of a partition. */
  read(id: number): KnownEnd | null {
    const slot = Buffer.alloc(slotBytes);
    if ((id + 1) * slotBytes > fstatSync(this.#file).size) return null;
    readSync(this.#file, slot, 0, slotBytes, id * slotBytes);
    if (slot.readUInt32LE(slotBytes - 4) !== this.#checksum(slot, id)) return null;
    const sameBoot = slot.readUInt32LE(12) === this.#boot && this.#boot !== 0;
    return { end: slot.readDoubleLE(0), mayBeLess: slot.readUInt32LE(8) === 0 && !sameBoot };
  }

  write(id: number, end: number): void {
    const slot = Buffer.alloc(slotBytes);
    slot.writeDoubleLE(end, 0);
    slot.writeUInt32LE(this.#flag, 8);
    slot.writeUInt32LE(this.#boot, 12);
    slot.writeUInt32LE(this.#checksum(slot, id), slotBytes - 4);
    writeSync(this.#file, slot, 0, slotBytes, id * slotBytes);
  }

  close(): void {
    closeSync(this.#file);
  }

  #checksum(slot: Buffer, id: number): number {
    return crc32(slot.subarray(0, slotBytes - 4), crc32(String(id), this.#seed));
  }
}

/** Tells one start of the machine from the next, where the system says it. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');
  } catch {
    return '';
  }
}
