import { kafkaTransport } from '../../../src/sources/kafka/index.ts';

// A member of a group in a process of its own, which begins at the end of what it is assigned, and prints what it is told.
const [brokers, topic, group] = process.argv.slice(2) as [string, string, string];
const transport = kafkaTransport({ brokers: [brokers] });
const print = (kind: string, what: unknown) => process.stdout.write(`${JSON.stringify([kind, what])}\n`);

await transport.consume({
  topic,
  group,
  deliver: (_, partition, records) => {
    for (const { offset } of records) print('deliver', [partition, offset]);
  },
  async onAssigned(partitions) {
    print('assigned', partitions.toSorted());
    const ends = await transport.endOffsets(topic);
    return new Map(partitions.map((partition) => [partition, ends[partition]!]));
  },
  onRevoked: (partitions) => void print('revoked', partitions.toSorted()),
  onError(error) {
    print('error', error.message);
    process.exit(1);
  },
});
