import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { ProcessBroker } from '../test/broker/process-broker.ts';
import { ProcessCluster } from '../test/broker/process-cluster.ts';
import type { Ground, Outcome } from './ground.ts';
import { Producing, partitions } from './producing.ts';
import { withTransport } from './topics.ts';

export interface AcknowledgedCounts {
  readonly faults: number;
  readonly hangMs: number;
}

export const full: AcknowledgedCounts = { faults: 30, hangMs: 20_000 };

const settleMs = 3000;

/** Lets brokers go, one at a time, under a producer of all partitions: what it was told must be what the log holds. */
export default async function acknowledged(ground: Ground, { faults, hangMs }: AcknowledgedCounts = full): Promise<Outcome> {
  const { random, say } = ground;
  const cluster = await ProcessCluster.start({ nodes: 3 });
  const kinds: Record<string, (node: ProcessBroker) => Promise<void>> = {
    'shut down': async (node) => {
      await node.stop();
      await delay(settleMs);
      await node.start();
    },
    killed: (node) => node.restart(),
    hung: async (node) => {
      node.hang();
      await delay(hangMs);
      node.goOn();
    },
  };
  const counts: Record<string, number> = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, 0]));
  try {
    return await withTransport(cluster.brokers, async (transport) => {
      const topic = `chaos-${randomUUID()}`;
      await transport.createTopic(topic, { partitions });
      const producing = new Producing(transport, topic);
      const end = producing.start();
      for (let fault = 0; fault < faults; fault++) {
        const [kind, act] = Object.entries(kinds)[fault % Object.keys(kinds).length]!;
        const node = cluster.nodes[random.below(cluster.nodes.length)]!;
        await act(node);
        counts[kind]! += 1;
        say(`acknowledged: broker ${node.id} ${kind} (${fault + 1} of ${faults}), ${producing.calls} calls`);
        await delay(settleMs);
      }
      await end();
      const { calls, rejected } = producing;
      return { counts: { ...counts, calls, rejected: rejected.size }, problems: await producing.wrongs() };
    });
  } finally {
    await cluster.stop();
  }
}
