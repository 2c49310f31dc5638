import { channels } from '../observe/channels.ts';
import type { InFlight } from './in-flight.ts';
import type { Transport } from './transport.ts';

const intervalMs = 1000;

/** Publishes how far a topic was read, about once a second while somebody listens. */
export function progress(transport: Transport, topic: string, inFlight: InFlight) {
  const positions = new Map<number, number>();
  let asking = false;

  async function publish(): Promise<void> {
    const ends = await transport.endOffsets(topic);
    for (const [partition, position] of positions) {
      const end = Math.max(position, ends[partition] ?? 0);
      channels.progress.publish({
        kind: 'progress',
        at: 'fromTransport',
        topic,
        partition,
        position,
        end,
        lag: end - position,
        ...inFlight.of(partition),
      });
    }
  }

  const publishing = setInterval(() => {
    if (asking || positions.size === 0 || !channels.progress.hasSubscribers) return;
    asking = true;
    // A log that is out of reach is told by who reads it.
    publish()
      .catch(() => undefined)
      .finally(() => {
        asking = false;
      });
  }, intervalMs).unref();

  return {
    /** Notes that everything before `nextOffset` was handed out. */
    at(partition: number, nextOffset: number): void {
      positions.set(partition, nextOffset);
    },
    /** Forgets partitions that others read now. */
    leave(partitions: readonly number[]): void {
      for (const partition of partitions) {
        const position = positions.get(partition);
        if (position === undefined) continue;
        positions.delete(partition);
        if (!channels.progress.hasSubscribers) continue;
        const left = { kind: 'progress', at: 'fromTransport', topic, partition, position, end: position, lag: 0 } as const;
        channels.progress.publish({ ...left, ...inFlight.of(partition) });
      }
    },
    stop(): void {
      clearInterval(publishing);
    },
  };
}
