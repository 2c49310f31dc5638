import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, inject, it, vi } from 'vitest';
import { kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { eventually } from '../../eventually.ts';

const brokers = inject('brokers')?.split(',') ?? [];

describe.skipIf(brokers.length === 0)('a member whose group has not answered for a session', () => {
  afterEach(() => vi.restoreAllMocks());

  it('delivers what it fetched meanwhile as soon as the group knows it, each time', async () => {
    const transport = kafkaTransport({ brokers });
    const topic = `quiet-${randomUUID()}`;
    await transport.createTopic(topic, { partitions: 2 });
    const delivered = [0, 0];
    const failures: Error[] = [];
    const consumption = await transport.consume({
      topic,
      group: `quiet-${randomUUID()}`,
      onAssigned: () => new Map(),
      deliver(_, partition, records) {
        delivered[partition]! += records.length;
      },
      onError: (error) => failures.push(error),
    });
    const now = Date.now.bind(Date);
    let suspendedMs = 0;
    vi.spyOn(Date, 'now').mockImplementation(() => now() + suspendedMs);
    for (let time = 1; time <= 20; time++) {
      // As after a pause of the process: the next fetch is answered before the group is.
      suspendedMs += 20_000;
      await transport.produce(topic, [
        { value: new Uint8Array(8), partition: 0 },
        { value: new Uint8Array(8), partition: 1 },
      ]);
      await eventually(() => expect(delivered).toEqual([time, time]));
    }
    expect(failures).toEqual([]);
    await consumption.stop();
    await transport.close();
  });
});
