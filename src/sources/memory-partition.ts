import type { PartitionBounds } from './topic-bounds.ts';
import type { HeaderValue, LogRecord, NewRecord } from './transport.ts';

const recordsPerDelivery = 1000;
const leastSuperseded = 64;

/** The records of one partition in memory; of a compacted topic, those that were superseded go now and then. */
export class MemoryPartition {
  readonly compacted: boolean;
  readonly #newest = new Map<string, number>();
  #records: LogRecord[] = [];
  #end = 0;

  constructor(compacted: boolean) {
    this.compacted = compacted;
  }

  get bounds(): PartitionBounds {
    return { first: 0, end: this.#end };
  }

  /** Copies what the producer may go on writing to; gives back the record's offset. */
  append({ key, value, headers }: NewRecord, timestampMs: number): number {
    const offset = this.#end;
    this.#end += 1;
    const record = { offset, key: copyOf(key), value: copyOf(value), headers: copiedHeaders(headers), timestampMs };
    this.#records.push(record);
    if (this.compacted) {
      this.#newest.set(keyText(record), offset);
      if (this.#records.length > 2 * this.#newest.size + leastSuperseded) this.#compact();
    }
    return offset;
  }

  read(from: number): LogRecord[] {
    const first = this.compacted ? this.#records.findIndex(({ offset }) => offset >= from) : from;
    return first < 0 ? [] : this.#records.slice(first, first + recordsPerDelivery);
  }

  #compact(): void {
    this.#records = this.#records.filter((record) => this.#newest.get(keyText(record)) === record.offset);
  }
}

function keyText({ key }: LogRecord): string {
  return Buffer.from(key ?? []).toString('latin1');
}

function copyOf(bytes: string | Uint8Array | null | undefined): Uint8Array | null {
  if (typeof bytes === 'string') return new TextEncoder().encode(bytes);
  return bytes ? new Uint8Array(bytes) : null;
}

function copiedHeaders(headers: NewRecord['headers']): Record<string, HeaderValue> {
  const copied: Record<string, HeaderValue> = {};
  for (const header in headers) {
    const value = headers[header]!;
    copied[header] = typeof value === 'string' ? value : new Uint8Array(value);
  }
  return copied;
}
