import type { TestContext } from 'vitest';
import type { ConsumeOptions, Consumption, LogRecord, Transport } from '../../src/sources/transport.ts';
import { eventually } from '../eventually.ts';

export interface Delivered extends LogRecord {
  readonly partition: number;
}

export interface Collector extends Consumption {
  /** Everything delivered so far, in the order of delivery. */
  readonly delivered: readonly Delivered[];
  readonly errors: readonly Error[];
  /** What `onReached` was told last, by partition. */
  readonly reached: ReadonlyMap<number, number>;
  /** Resolves to everything delivered once it is at least `count` records. */
  until(count: number): Promise<readonly Delivered[]>;
  /** The values delivered from a partition, as text. */
  texts(partition?: number): string[];
}

type Options = Partial<ConsumeOptions> & { readonly topic: string };

/** Consumes into an array; stops when the test ends. `deliver` may hold a delivery up after it was written down. */
export async function collect(context: TestContext, transport: Transport, options: Options): Promise<Collector> {
  const delivered: Delivered[] = [];
  const errors: Error[] = [];
  const reached = new Map<number, number>();
  const consumption = await transport.consume({
    onError: (error) => errors.push(error),
    ...options,
    deliver(topic, partition, records) {
      for (const record of records) delivered.push({ ...record, partition });
      return options.deliver?.(topic, partition, records);
    },
    onReached(partition, nextOffset) {
      reached.set(partition, nextOffset);
      options.onReached?.(partition, nextOffset);
    },
  });
  context.onTestFinished(() => consumption.stop());
  return {
    ...consumption,
    delivered,
    errors,
    reached,
    async until(count) {
      await eventually(() => requireCount(delivered.length, count, errors));
      return delivered;
    },
    texts: (partition) =>
      delivered.filter((record) => partition === undefined || record.partition === partition).map(({ value }) => textOf(value)),
  };
}

export function textOf(bytes: Uint8Array | string | null | undefined): string {
  return typeof bytes === 'string' ? bytes : Buffer.from(bytes ?? []).toString();
}

function requireCount(got: number, expected: number, errors: readonly Error[]): void {
  if (errors[0]) throw errors[0];
  if (got < expected) throw new Error(`expected ${expected} records, got ${got}`);
}
