import { type CheckpointStore, FileCheckpoints, memoryTransport, type Observation, observations, recover } from 'rxgrad';
import { describe, expect, it, onTestFinished } from 'vitest';
import { newestWhole, openVersion } from '../../src/checkpoints/opened-checkpoint.ts';
import { changed } from './changed-checkpoints.ts';
import { batches, checkpointOf, folders, model, topic, train, warningsOf } from './courses.ts';

const place = folders();

async function trained(): Promise<{ store: FileCheckpoints; transport: ReturnType<typeof memoryTransport> }> {
  const transport = memoryTransport();
  await transport.createTopic(topic);
  await transport.produce(topic, batches('a', 30));
  const store = new FileCheckpoints(place());
  await train(transport, store, 10);
  return { store, transport };
}

describe('the newest checkpoint that is whole', () => {
  it('is that up to a version, with those after it', async () => {
    const { store } = await trained();
    const versions = async (upTo?: number) => {
      const found = await newestWhole(store, upTo);
      return found && [found.facts.version, ...found.later];
    };
    expect(await versions()).toEqual([30]);
    expect(await versions(29)).toEqual([20, 30]);
    expect(await versions(20)).toEqual([20, 30]);
    expect(await versions(9)).toEqual([0, 30, 20, 10]);
    expect(await versions(-1)).toBeNull();
    expect(await newestWhole(new FileCheckpoints(place()))).toBeNull();
  });

  it('is the one before others, each of which is told of', async () => {
    const { store } = await trained();
    for (const version of [30, 20]) await store.write(version, new Uint8Array(version));
    const heard = await warningsOf(async () => {
      expect(await newestWhole(store)).toMatchObject({ facts: { version: 10 }, later: [30, 20] });
    });
    expect(heard).toMatchObject([
      { code: 'RXGRAD_CHECKPOINT_SKIPPED', message: expect.stringContaining('version 30') },
      { code: 'RXGRAD_CHECKPOINT_SKIPPED', message: expect.stringContaining('version 20') },
    ]);
  });

  it('is no file whose state has other facts than a scan keeps', async () => {
    const { store } = await trained();
    const state = (file: Uint8Array, facts: object) =>
      changed(file, (metadata) => ({ ...metadata, 'rxgrad.state': JSON.stringify(facts) }));
    await store.write(30, state(await store.read(30), { positions: 5 }));
    await warningsOf(async () => {
      expect(await newestWhole(store)).toMatchObject({ facts: { version: 20 } });
    });
  });

  it('fails where there is none, with what is wrong with the newest', async () => {
    const { store } = await trained();
    const versions = (await store.list()).map(({ version }) => version);
    for (const version of versions) await store.write(version, new Uint8Array(version + 1));
    const refused = {
      key: 'noValidCheckpoint',
      details: { count: versions.length, last: expect.stringContaining('version 30') },
    };
    await expect(newestWhole(store)).rejects.toMatchObject(refused);
  });

  it('is not looked for where the store cannot be read', async () => {
    const { store } = await trained();
    const broken = (error: unknown) =>
      Object.assign(Object.create(store) as CheckpointStore, {
        name: 'store',
        list: () => store.list(),
        read: () => Promise.reject(error),
      });
    await expect(newestWhole(broken(new Error('no such disk')))).rejects.toThrow('no such disk');
    const unreadable = await store.read(99).catch((error: unknown) => error);
    await expect(newestWhole(broken(unreadable))).rejects.toBe(unreadable);
  });
});

describe('a version', () => {
  it('is opened where it is there', async () => {
    const { store } = await trained();
    const opened = await openVersion(store, 20);
    expect(opened).toMatchObject({ facts: { version: 20 }, later: [30], where: `${store.name}, version 20` });
    await expect(openVersion(store, 21)).rejects.toMatchObject({ key: 'unknownVersion', details: { expected: '30, 20, 10, 0' } });
    const empty = new FileCheckpoints(place());
    await expect(openVersion(empty, 21)).rejects.toMatchObject({ key: 'unknownVersion', details: { expected: 'none' } });
  });

  it('is no checkpoint of another version', async () => {
    const { store } = await trained();
    await store.write(20, await store.read(10));
    const refused = { key: 'invalidCheckpoint', message: expect.stringContaining('expected version 20, got version 10') };
    await expect(openVersion(store, 20)).rejects.toMatchObject(refused);
  });
});

describe('a recovery', () => {
  it('is told to whoever observes, but not where there was nothing to recover', async () => {
    const seen: Observation[] = [];
    const observing = observations().subscribe((one) => seen.push(one));
    onTestFinished(() => observing.unsubscribe());
    const { store, transport } = await trained();
    expect(seen.filter(({ kind }) => kind === 'recovery')).toEqual([]);
    await recover(model(), store, { transport, topic });
    expect(seen.filter(({ kind }) => kind === 'recovery')).toEqual([{ kind: 'recovery', at: store.name, version: 30 }]);
  });

  it('takes the store over', async () => {
    const { store, transport } = await trained();
    const folder = store.name.replace('checkpoints in ', '');
    await store.confirmOwner();
    await recover(model(), new FileCheckpoints(folder), { transport, topic });
    await expect(store.confirmOwner()).rejects.toMatchObject({ key: 'fenced' });
  });

  it('sets nothing aside where nothing is later, and tells of one or several', async () => {
    const { store, transport } = await trained();
    expect(await warningsOf(() => recover(model(), store, { transport, topic, upTo: 30 }))).toEqual([]);
    const one = await warningsOf(() => recover(model(), store, { transport, topic, upTo: 20 }));
    expect(one.map(({ message }) => message)).toEqual([expect.stringContaining('so version 30 of the course that it leaves is')]);
    const several = await warningsOf(() => recover(model(), store, { transport, topic, upTo: 0 }));
    expect(several[0]!.message).toContain('so versions 20, 10 of the course that it leaves are');
  });

  it('begins where the log does, of a store that has nothing', async () => {
    const { transport } = await trained();
    const start = { ...transport, startOffsets: async () => [7] };
    const store = new FileCheckpoints(place());
    const { id } = await transport.describeTopic!(topic);
    const { source } = await recover(model(), store, { transport: start, topic, partitions: [0], upTo: 5 });
    expect(source).toMatchObject({ from: new Map([[0, 7]]), partitions: [0], topicId: id });
    const { describeTopic: _, ...unnamed } = start;
    const { watch: __, ...plain } = (await recover(model(), new FileCheckpoints(place()), { transport: unnamed, topic })).source;
    expect(plain).toEqual({ from: new Map([[0, 7]]) });
    const again = await recover(model(), store, { transport: start, topic });
    expect(again.source.from).toEqual(new Map([[0, 7]]));
  });

  it('begins in the partition that it is told, of several', async () => {
    const transport = memoryTransport();
    await transport.createTopic(topic, { partitions: 3 });
    const { source } = await recover(model(), new FileCheckpoints(place()), { transport, topic, partitions: [2] });
    expect(source.from).toEqual(new Map([[2, 0]]));
    const all = await recover(model(), new FileCheckpoints(place()), { transport, topic, partitions: 'any-order' });
    expect([...all.source.from.keys()]).toEqual([0, 1, 2]);
  });

  it('has no version up to what is older than all', async () => {
    const { store, transport } = await trained();
    await store.remove(0);
    const refused = { key: 'unknownVersion', details: { expected: '30, 20, 10', got: 'up to 5' } };
    await expect(recover(model(), store, { transport, topic, upTo: 5 })).rejects.toMatchObject(refused);
  });

  it('goes on with the weights of its checkpoint', async () => {
    const { store, transport } = await trained();
    const params = model();
    await recover(params, store, { transport, topic, upTo: 20 });
    expect(params.version).toBe(20);
    const other = model();
    other.loadStateDict(checkpointOf(params));
    expect([...other.get('w').data]).toEqual([...params.get('w').data]);
  });
});
