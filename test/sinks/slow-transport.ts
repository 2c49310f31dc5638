import { memoryTransport, type NewRecord, type Transport } from 'rxgrad';

/** A transport in memory whose appends to one topic wait until they are let through, or fail. */
export function slowTransport(topic: string): {
  readonly transport: Transport;
  /** Appends that wait, each with its records. */
  readonly waiting: readonly { readonly records: readonly NewRecord[]; go(): void; fail(error: unknown): void }[];
} {
  const memory = memoryTransport();
  const waiting: { records: readonly NewRecord[]; go(): void; fail(error: unknown): void }[] = [];
  const transport: Transport = {
    ...memory,
    async produce(to, records) {
      if (to === topic) {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        waiting.push({ records, go: resolve, fail: reject });
        await promise;
      }
      return memory.produce(to, records);
    },
  };
  return { transport, waiting };
}
