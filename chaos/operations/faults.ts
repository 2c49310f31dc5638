import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import type { Random } from '../random.ts';
import type { World } from './world.ts';

/** Lets something go wrong, and resolves when it is over: everything runs again that has to. */
export type Fault = (world: World, random: Random) => Promise<void>;

const mostHangMs = 20_000;

/** What happens to brokers and topics: one at a time. */
export const brokerFaults: Readonly<Record<string, Fault>> = {
  async 'broker shut down'({ cluster }, random) {
    const node = cluster.nodes[random.below(cluster.nodes.length)]!;
    await node.stop();
    await delay(random.below(5000));
    await node.start();
  },
  async 'broker killed'({ cluster }, random) {
    const node = cluster.nodes[random.below(cluster.nodes.length)]!;
    await node.kill();
    await delay(random.below(5000));
    await node.start();
  },
  async 'broker hung'({ cluster }, random) {
    const node = cluster.nodes[random.below(cluster.nodes.length)]!;
    node.hang();
    await delay(1000 + random.below(mostHangMs));
    node.goOn();
  },
  async 'leaders moved'({ admin, cluster, topics }, random) {
    const [topic, partitions] = [...topics][random.below(topics.size)]!;
    const ids = cluster.nodes.map(({ id }) => id);
    const gone = ids[random.below(ids.length)]!;
    const reassign = (replicasOf: (partition: number) => number[]) =>
      admin.alterPartitionReassignments({
        topics: [
          {
            topic,
            partitionAssignment: Array.from({ length: partitions }, (_, partition) => ({
              partition,
              replicas: replicasOf(partition),
            })),
          },
        ],
      });
    await reassign(() => ids.filter((id) => id !== gone));
    await delay(random.below(2000));
    await reassign((partition) => ids.map((_, i) => ids[(i + partition) % ids.length]!));
  },
  async 'topic created and deleted'({ admin, transport }, random) {
    const topic = `other-${randomUUID()}`;
    await transport.createTopic(topic);
    await transport.produce(topic, [{ value: null }]);
    await transport.endOffsets(topic);
    await delay(random.below(1000));
    await admin.deleteTopics({ topics: [topic] });
  },
  async 'topics compacted'({ admin, topics }, random) {
    const compacted = [...topics.keys()].filter((topic) => topic.startsWith('compacted-'));
    const configEntries = [
      { name: 'segment.ms', value: '500' },
      { name: 'min.cleanable.dirty.ratio', value: '0.001' },
      { name: 'max.compaction.lag.ms', value: '500' },
      { name: 'delete.retention.ms', value: String(random.below(2) * 500) },
      { name: 'cleanup.policy', value: 'compact' },
      { name: 'max.message.bytes', value: String(16 * 2 ** 20) },
    ];
    const resources = compacted.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name, configEntries }));
    await admin.alterConfigs({ validateOnly: false, resources });
  },
};

/** What happens to processes of rxgrad, beside brokers that go. */
export const processFaults: Readonly<Record<string, Fault>> = {
  async 'process killed'({ processes }, random) {
    const role = processes[random.below(processes.length)]!;
    await role.running[random.below(role.running.length)]?.kill();
    await delay(random.below(2000));
    role.start();
  },
  async 'process paused'({ processes }, random) {
    const role = processes[random.below(processes.length)]!;
    const process = role.running[random.below(role.running.length)];
    process?.signal('SIGSTOP');
    await delay(random.below(mostHangMs));
    process?.signal('SIGCONT');
  },
  async 'member joined and left'({ processes }, random) {
    const role = processes[processes.length - 1]!;
    role.start();
    await delay(random.below(5000));
    role.running.at(-1)?.signal('SIGTERM');
    await delay(random.below(1000));
  },
};
