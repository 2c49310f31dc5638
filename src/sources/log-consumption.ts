import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { countWhole } from './offset-gap.ts';
import { type PartitionBounds, requireOffset, requirePartition, startingOffsets } from './topic-bounds.ts';
import type { ConsumeOptions, Consumption, LogRecord } from './transport.ts';

/** A log in reach of a synchronous call, as {@link consumeLog} reads it. Every method throws for an unknown topic. */
export interface ReadableLog {
  bounds(topic: string): PartitionBounds[];
  /** Consecutive records at and behind `offset`, as many as make a good bite; none at the end. */
  read(topic: string, partition: number, offset: number): LogRecord[];
  /** The next offset by partition that a group has acknowledged. */
  acknowledged(group: string, topic: string): Map<number, number>;
  acknowledge(group: string, topic: string, next: ReadonlyMap<number, number>): void | Promise<void>;
  /** Calls back after records may have come to any topic; returns what ends that. */
  onAppend(callback: () => void): () => void;
}

interface Lane {
  readonly partition: number;
  next: number;
  /** What `onReached` was told last. */
  reached: number | null;
  /** Set while the lane has nothing to read. */
  wake: (() => void) | null;
}

const acknowledgeIntervalMs = 1000;

/** Consumes a log that is read, not received: one loop per partition, which waits for `deliver` and for records. */
export function consumeLog(log: ReadableLog, options: ConsumeOptions): Consumption {
  const { topic, group, whole = false } = options;
  const acknowledged = group === undefined ? new Map<number, number>() : log.acknowledged(group, topic);
  const starts = startingOffsets(topic, log.bounds(topic), options.from, acknowledged);
  const lanes = starts.map((next, partition): Lane => ({ partition, next, reached: null, wake: null }));
  let unwritten = new Map<number, number>();
  let written: Promise<void> = Promise.resolve();
  let stopped = false;
  let stopping: Promise<void> | null = null;

  const wakeAll = (): void => {
    for (const lane of lanes) lane.wake?.();
  };
  const ignoreAppends = log.onAppend(wakeAll);
  const writing = setInterval(() => write().catch(fail), acknowledgeIntervalMs).unref();
  const started = start();
  const pumps = lanes.map((lane) => pump(lane).catch(fail));

  async function start(): Promise<void> {
    // The caller has its Consumption before the first call.
    await eventLoopTurn();
    if (stopped || !options.onAssigned) return;
    const asked = await options.onAssigned(lanes.map(({ partition }) => partition));
    const bounds = log.bounds(topic);
    for (const [partition, offset] of asked) {
      requirePartition(topic, bounds.length, partition);
      lanes[partition]!.next = requireOffset(topic, partition, bounds[partition]!, offset);
    }
  }

  async function pump(lane: Lane): Promise<void> {
    await started;
    while (!stopped) {
      const read = log.read(topic, lane.partition, lane.next);
      const records = whole ? read.slice(0, countWhole(topic, lane.partition, lane.next, read)) : read;
      const last = records.at(-1);
      if (last === undefined) {
        reach(lane);
        await new Promise<void>((resolve) => {
          lane.wake = resolve;
        });
        lane.wake = null;
        continue;
      }
      lane.next = last.offset + 1;
      await options.deliver(topic, lane.partition, records);
      // Records that are always at hand never starve I/O.
      await eventLoopTurn();
    }
  }

  function reach(lane: Lane): void {
    if (lane.reached === lane.next) return;
    lane.reached = lane.next;
    options.onReached?.(lane.partition, lane.next);
  }

  /** One after another: the log may let one wait. */
  function write(): Promise<void> {
    written = written.then(async () => {
      if (group === undefined || unwritten.size === 0) return;
      const next = unwritten;
      unwritten = new Map();
      await log.acknowledge(group, topic, next);
    });
    return written;
  }

  function end(): void {
    stopped = true;
    ignoreAppends();
    clearInterval(writing);
    wakeAll();
  }

  function fail(error: unknown): void {
    if (stopped) return;
    end();
    options.onError(error instanceof Error ? error : new Error(String(error)));
  }

  return {
    acknowledge({ partition, offset }) {
      unwritten.set(partition, offset + 1);
    },
    async seek(partition, offset) {
      const bounds = log.bounds(topic);
      requirePartition(topic, bounds.length, partition);
      const lane = lanes[partition]!;
      lane.next = requireOffset(topic, partition, bounds[partition]!, offset);
      lane.reached = null;
      lane.wake?.();
    },
    stop() {
      stopping ??= (async () => {
        end();
        await Promise.all(pumps);
        await write();
      })();
      return stopping;
    },
  };
}
