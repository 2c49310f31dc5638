import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, inject, it, type TestContext, vi } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import type { Consumption, Transport } from '../../src/sources/transport.ts';
import { eventually } from '../eventually.ts';
import { collect } from '../sources/collector.ts';

const brokers = inject('brokers')?.split(',') ?? [];

interface Shards {
  /** The next offset to be processed, by partition: what the owners have in common. */
  readonly next: number[];
  /** Who took a partition over last. */
  readonly owners: number[];
  readonly problems: string[];
  assignments: number;
}

describe.skipIf(brokers.length === 0)('members of a group on Kafka', () => {
  async function setUp(context: TestContext, partitions: number) {
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    const topic = `groups-${randomUUID()}`;
    await transport.createTopic(topic, { partitions });
    const shards: Shards = {
      next: new Array(partitions).fill(0),
      owners: new Array(partitions).fill(0),
      problems: [],
      assignments: 0,
    };
    return { transport, topic, group: `group-${randomUUID()}`, shards };
  }

  /** Produces to all partitions in turn, until told to end. */
  function producing(transport: Transport, topic: string, partitions: number) {
    let on = true;
    const done = (async () => {
      for (let i = 0; on; i++) {
        const records = Array.from({ length: partitions }, (_, partition) => ({ partition, value: Buffer.from(`${i}`) }));
        await transport.produce(topic, records);
        await delay(5);
      }
    })();
    return {
      end: () => {
        on = false;
        return done;
      },
    };
  }

  /** A member that processes records as the owner of shards does: in the name of the last takeover, from where that began. */
  function member(transport: Transport, topic: string, group: string, shards: Shards): Promise<Consumption> {
    const tokens = new Map<number, { readonly token: number; next: number }>();
    return transport.consume({
      topic,
      group,
      async onAssigned(partitions) {
        await delay(20);
        for (const partition of partitions) {
          if (tokens.has(partition)) shards.problems.push(`${partition} assigned twice`);
          shards.assignments++;
          shards.owners[partition] = shards.assignments;
          tokens.set(partition, { token: shards.assignments, next: shards.next[partition]! });
        }
        return new Map(partitions.map((partition) => [partition, shards.next[partition]!]));
      },
      onRevoked(partitions) {
        for (const partition of partitions) {
          if (!tokens.delete(partition)) shards.problems.push(`${partition} revoked without being assigned`);
        }
      },
      async deliver(_, partition, records) {
        const own = tokens.get(partition);
        if (!own) {
          shards.problems.push(`${partition} delivered without being assigned`);
          return;
        }
        for (const { offset } of records) {
          if (offset !== own.next) shards.problems.push(`${partition}: expected ${own.next} of this owner, got ${offset}`);
          own.next = offset + 1;
          if (offset % 7 === 0) await delay(1);
          // Another one took it over: a writer would be fenced.
          if (shards.owners[partition] !== own.token) return;
          if (offset !== shards.next[partition])
            shards.problems.push(`${partition}: expected ${shards.next[partition]}, got ${offset}`);
          shards.next[partition] = offset + 1;
        }
      },
      onError: (error) => shards.problems.push(error.message),
    });
  }

  it('process every record in order, whoever joins and leaves', async (context) => {
    const { transport, topic, group, shards } = await setUp(context, 6);
    const producer = producing(transport, topic, 6);
    await member(transport, topic, group, shards);
    await member(transport, topic, group, shards);
    for (const endMs = Date.now() + 20_000; Date.now() < endMs; ) {
      const third = await member(transport, topic, group, shards);
      await delay(1000);
      await third.stop();
      await delay(1000);
    }
    await producer.end();
    const ends = await transport.endOffsets(topic);
    await eventually(() => expect(shards.next).toEqual(ends));
    expect(shards.problems).toEqual([]);
    expect(Math.min(...ends)).toBeGreaterThan(100);
    context.annotate(`${shards.assignments} assignments, ${ends.reduce((sum, end) => sum + end)} records`);
  });

  it('stay while a delivery takes longer than the session', async (context) => {
    const { transport, topic, group } = await setUp(context, 1);
    const gate = Promise.withResolvers<void>();
    const onAssigned = vi.fn(() => new Map<number, number>());
    const onRevoked = vi.fn();
    const options = { topic, group, deliver: () => gate.promise, onAssigned, onRevoked };
    const collector = await collect(context, transport, options);
    for (const text of ['a', 'b', 'c', 'd', 'e']) await transport.produce(topic, [{ value: Buffer.from(text) }]);
    await collector.until(1);
    setTimeout(gate.resolve, 17_000);
    await collector.until(5);
    expect(collector.texts()).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(collector.errors).toEqual([]);
    // It would be asked again after it had lost its membership.
    expect(onAssigned).toHaveBeenCalledTimes(1);
    expect(onRevoked).not.toHaveBeenCalled();
  });

  it('go on with their partitions while another one is being begun, for longer than the session', async (context) => {
    const { transport, topic, group } = await setUp(context, 4);
    const assigned: (readonly number[])[] = [];
    const revoked = vi.fn();
    const delivered: number[][] = [[], [], [], []];
    let slow = false;
    const stays = {
      topic,
      group,
      onRevoked: revoked,
      onError: (error: Error) => expect.unreachable(error.message),
      deliver(_: string, partition: number, records: readonly { readonly offset: number }[]) {
        for (const { offset } of records) delivered[partition]!.push(offset);
      },
    };
    const leaves = await transport.consume({ ...stays, onAssigned: () => new Map(), deliver: () => {} });
    await transport.consume({
      ...stays,
      async onAssigned(partitions) {
        assigned.push(partitions);
        if (slow) await delay(17_000);
        return new Map(partitions.map((partition) => [partition, 0]));
      },
    });
    await eventually(() => expect(assigned.flat()).toHaveLength(2));
    const kept = assigned[0]!;
    const gained = [0, 1, 2, 3].filter((partition) => !kept.includes(partition));
    await transport.produce(
      topic,
      [0, 1, 2, 3].map((partition) => ({ partition, value: null })),
    );
    revoked.mockClear();
    slow = true;
    await leaves.stop();
    await eventually(() => expect(assigned).toHaveLength(2));
    for (let i = 0; i < 30; i++) {
      await transport.produce(
        topic,
        [0, 1, 2, 3].map((partition) => ({ partition, value: null })),
      );
      await delay(500);
      for (const partition of kept) expect(delivered[partition]!.length).toBeGreaterThan(i);
      for (const partition of gained) expect(delivered[partition]).toEqual([]);
    }
    await eventually(() => expect(delivered.map(({ length }) => length)).toEqual([31, 31, 31, 31]));
    expect(assigned).toHaveLength(2);
    expect(revoked).not.toHaveBeenCalled();
  });

  it('lose their partitions while they are stopped, and are asked anew', async (context) => {
    const { transport, topic, group } = await setUp(context, 2);
    const child = spawn(process.execPath, [join(import.meta.dirname, '../sources/kafka/member.ts'), brokers[0]!, topic, group], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    context.onTestFinished(() => void child.kill('SIGKILL'));
    const lines: unknown[] = [];
    createInterface(child.stdout).on('line', (line) => lines.push(JSON.parse(line)));
    const told = (count: number) => eventually(() => expect(lines).toHaveLength(count));
    const produce = () => transport.produce(topic, [{ value: null }, { value: null, partition: 1 }]);
    await told(1);
    await eventually(async () => {
      await produce();
      expect(lines.length).toBeGreaterThan(2);
    });
    await delay(500);
    const before = lines.length;
    child.kill('SIGSTOP');
    await produce();
    const seen = new Set<number>();
    const other = await transport.consume({
      topic,
      group,
      deliver: (_, partition) => void seen.add(partition),
      onError: () => {},
    });
    await eventually(() => expect(seen.size).toBe(2));
    await other.stop();
    child.kill('SIGCONT');
    await told(before + 2);
    expect(lines.slice(before)).toEqual([
      ['revoked', [0, 1]],
      ['assigned', [0, 1]],
    ]);
    await delay(500);
    const [position] = await produce();
    await told(before + 4);
    expect(lines.slice(before + 2)).toContainEqual(['deliver', [0, position!.offset]]);
  });
});
