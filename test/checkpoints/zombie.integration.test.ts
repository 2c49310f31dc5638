import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KafkaCheckpoints } from 'rxgrad';
import { describe, expect, inject, it } from 'vitest';
import { Members } from '../../chaos/members.ts';
import { Random } from '../../chaos/random.ts';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { eventually } from '../eventually.ts';

const brokers = inject('brokers') ?? '';
const perPartition = 3000;

describe.skipIf(brokers === '')('a member of a group that is paused for longer than its session', () => {
  it('wakes without fencing the members that took its partitions over', async ({ onTestFinished }) => {
    const folder = await mkdtemp(join(tmpdir(), 'rxgrad-zombie-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const transport = kafkaTransport({ brokers: brokers.split(',') });
    onTestFinished(() => transport.close());
    const group = await Members.create(transport, new Random(1), {
      brokers,
      folder,
      partitions: [perPartition, perPartition],
      checkpointEvery: 1e9,
      checkpointEveryMs: 10_000,
    });
    const stores = [0, 1].map(
      (partition) => new KafkaCheckpoints(transport, { topic: group.checkpoints, model: `model-${partition}` }),
    );
    /** The newest version that both partitions have a checkpoint of, or a later one. */
    const kept = async () =>
      Math.min(...(await Promise.all(stores.map(async (store) => (await store.list())[0]?.version ?? -1))));

    // The first checkpoints are written by a member that leaves: the next one reads them, and writes nothing when it begins.
    const before = group.start();
    await Promise.all([before.says('begins 0 '), before.says('begins 1 ')]);
    before.signal('SIGTERM');
    await before.exit();
    const zombie = group.start();
    await group.produce(0, 0.1, 0);
    await Promise.all([zombie.says('0 is at version 100.'), zombie.says('1 is at version 100.')]);
    zombie.signal('SIGSTOP');

    const owner = group.start();
    await Promise.all([owner.says('begins 0 '), owner.says('begins 1 ')]);
    await group.produce(0.1, 0.5, 0);
    await eventually(async () => expect(await kept()).toBeGreaterThan(0.45 * perPartition));
    zombie.signal('SIGCONT');
    // Its timer rings at once, and it joins the group again.
    await eventually(() => expect(zombie.said.split('begins ').length - 1).toBeGreaterThan(2));
    // The members write on, each what the group says is its own.
    await group.produce(0.5, 0.75, 0);
    await eventually(async () => expect(await kept()).toBeGreaterThan(0.7 * perPartition));
    await group.produce(0.75, 1, 0);
    expect(await group.finished(120_000)).toEqual([]);
    expect(await group.end()).toEqual([]);
  });
});
