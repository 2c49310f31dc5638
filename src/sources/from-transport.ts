import { Observable } from 'rxjs';
import * as v from 'valibot';
import type { OnceState, Position, TrainingEvent } from '../events.ts';
import { count, parseOptions } from '../options.ts';
import { EventDecoder } from './codec.ts';
import { InFlight } from './in-flight.ts';
import type { ConsumeOptions, Consumption, LogRecord, Transport } from './transport.ts';

export interface FromTransportOptions extends Pick<ConsumeOptions, 'topic' | 'from' | 'group'> {
  /** Events handed out and not acknowledged, at most. Default 1000. */
  readonly maxInFlight?: number;
  /** Bytes of such events, at most; a single larger event still goes through, alone. Default 64 MiB. */
  readonly maxBytes?: number;
  /** Completes behind the last record that the topic held when it was subscribed to; not with `group`. Default: never completes. */
  readonly until?: 'end';
  /** What was counted before, where the stream goes on from a checkpoint: see `recover`. */
  readonly seen?: OnceState | undefined;
  /** Leaves events out before anybody sees them, and acknowledges them. */
  readonly where?: (event: TrainingEvent) => boolean;
}

const name = v.pipe(v.string(), v.nonEmpty('a name'));
const schema = v.pipe(
  v.strictObject({
    topic: name,
    from: v.optional(v.union([v.picklist(['beginning', 'end']), v.map(v.number(), v.number())])),
    group: v.optional(name),
    maxInFlight: v.optional(count, 1000),
    maxBytes: v.optional(count, 64 << 20),
    until: v.optional(v.literal('end')),
    seen: v.optional(v.custom<OnceState>((value) => typeof value === 'object' && value !== null, 'what `recover` gave')),
    where: v.optional(v.function()),
  }),
  v.check(({ until, group }) => !until || !group, '`until` without `group` (where a group begins is not known beforehand)'),
);

/**
 * Turns a topic into events. At most `maxInFlight` events and `maxBytes` are handed out before they are acknowledged (scans
 * do that); meanwhile the log is read no further. What cannot be decoded comes as a rejection, in its place.
 *
 * @example
 * fromTransport(transport, { topic: 'gradients' }).pipe(clipByGlobalNorm(1), momentum(params, { lr: 0.1 })).subscribe()
 */
export function fromTransport(transport: Transport, options: FromTransportOptions): Observable<TrainingEvent> {
  const parsed = parseOptions(schema, options, 'fromTransport');
  const where = options.where;
  return new Observable((out) => {
    const decoder = new EventDecoder();
    let consumption: Consumption | null = null;
    const inFlight = new InFlight(parsed.maxInFlight, parsed.maxBytes, (position) => consumption?.acknowledge(position));
    const source = { done: (position: Position) => inFlight.done(position), seen: parsed.seen };
    let ends: number[] | null = null;

    const hand = (topic: string, partition: number, record: LogRecord): void => {
      const position = { topic, partition, offset: record.offset };
      const event = decoder.decode(record, { position, source, record });
      if (where && !where(event)) {
        inFlight.skip(position);
        return;
      }
      inFlight.add(position, bytesOf(record));
      out.next(event);
    };

    const deliver = (topic: string, partition: number, records: readonly LogRecord[]): void | Promise<void> => {
      for (let i = 0; i < records.length; i++) {
        if (out.closed) return;
        if (ends && records[i]!.offset >= ends[partition]!) break;
        if (!inFlight.hasRoom(bytesOf(records[i]!)))
          return inFlight.whenRoom().then(() => deliver(topic, partition, records.slice(i)));
        hand(topic, partition, records[i]!);
      }
      if (ends) completeAtEnd(partition, records.at(-1)?.offset);
    };

    const completeAtEnd = (partition: number, offset: number | undefined): void => {
      if (offset !== undefined && offset + 1 >= ends![partition]!) ends![partition] = 0;
      if (ends!.every((end) => end === 0)) out.complete();
    };

    const start = async (): Promise<void> => {
      if (parsed.until) ends = await remaining(transport, options);
      if (ends?.every((end) => end === 0)) return out.complete();
      if (out.closed) return;
      const { topic, from, group } = options;
      consumption = await transport.consume({
        topic,
        ...(from === undefined ? {} : { from }),
        ...(group === undefined ? {} : { group }),
        deliver,
        onError: (error) => out.error(error),
      });
      if (out.closed) await consumption.stop();
    };

    start().catch((error: unknown) => out.error(error));
    return () => {
      inFlight.close();
      consumption?.stop().catch(() => {});
    };
  });
}

function bytesOf(record: LogRecord): number {
  return record.value?.byteLength ?? 0;
}

/** The end of each partition, 0 where there is nothing to be read before it. */
async function remaining(transport: Transport, { topic, from }: FromTransportOptions): Promise<number[]> {
  const [starts, ends] = await Promise.all([transport.startOffsets(topic), transport.endOffsets(topic)]);
  if (from === 'end') return ends.map(() => 0);
  return ends.map((end, partition) => {
    const asked = from instanceof Map ? (from.get(partition) ?? 0) : 0;
    return end > Math.max(starts[partition] ?? 0, asked) ? end : 0;
  });
}
