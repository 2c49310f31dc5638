import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkpoint, encodeEvent, FileCheckpoints, fromTransport, memoryTransport, recover, sgd } from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { FolderOwner } from '../../src/checkpoints/folder-owner.ts';
import { withCalls } from '../builtin-calls.ts';
import { eventually } from '../eventually.ts';
import { model, recordedLog } from '../sources/one-log.ts';
import { owned } from './owned.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-owner-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
});

const bytes = (fill: number, length = 1000) => new Uint8Array(length).fill(fill);
const versions = async () => (await new FileCheckpoints(folder).list()).map(({ version }) => version);
const ownersIn = async () => (await readdir(folder)).filter((name) => name.startsWith('.'));
const fenced = {
  key: 'fenced',
  disposition: 'stop',
  message: expect.stringMatching(
    new RegExp(
      `^checkpoints in .*: another writer has taken over \\(process ${process.pid} on host .*, since .*\\)\\. This one writes no more`,
    ),
  ),
};

it('belongs to the newest: what the one before tries is refused, with who has taken over', async () => {
  const older = await owned(new FileCheckpoints(folder, { keep: 1 }));
  await older.write(1, bytes(1));
  const newer = new FileCheckpoints(folder);
  await newer.takeOver();
  await expect(older.write(2, bytes(2))).rejects.toMatchObject(fenced);
  await expect(older.remove(1)).rejects.toMatchObject(fenced);
  await expect(older.confirmOwner()).rejects.toMatchObject(fenced);
  await newer.write(2, bytes(3));
  await expect(older.write(2, bytes(4))).rejects.toMatchObject(fenced);
  expect(await versions()).toEqual([2, 1]);
  expect(Buffer.from(await newer.read(2)).equals(bytes(3))).toBe(true);
  expect(await ownersIn()).toHaveLength(1);
});

it('changes no more from the moment it was taken over, whatever the one before was doing', async () => {
  for (let round = 0; round < 20; round++) {
    const older = new FileCheckpoints(folder, { keep: 2 });
    await older.takeOver();
    let version = 1000 * round;
    const writing = (async () => {
      for (;;) await older.write(++version, bytes(round, 200_000));
    })();
    const refused = expect(writing).rejects.toMatchObject({ key: 'fenced' });
    await eventually(() => expect(version).toBeGreaterThan(1000 * round + 1));
    for (let turn = 0; turn < round; turn++) await new Promise(setImmediate);
    await new FileCheckpoints(folder, { keep: 2 }).takeOver();
    const found = (await readdir(folder)).sort();
    await refused;
    expect((await readdir(folder)).sort()).toEqual(found);
    for (const one of await versions()) expect(await new FileCheckpoints(folder).read(one)).toHaveLength(200_000);
  }
});

it('has one owner in the end where several start at the same time', async () => {
  const stores = Array.from({ length: 8 }, () => new FileCheckpoints(folder));
  const started = await Promise.allSettled(stores.map((store) => store.takeOver()));
  for (const start of started) if (start.status === 'rejected') expect(start.reason).toMatchObject({ key: 'fenced' });
  const written = await Promise.allSettled(stores.map((store, i) => store.write(i, bytes(i))));
  expect(written.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  for (const one of written) if (one.status === 'rejected') expect(one.reason).toMatchObject({ key: 'fenced' });
  expect(await versions()).toHaveLength(1);
});

it('goes back to one that takes it over again, by its own will only', async () => {
  const [first, second] = [new FileCheckpoints(folder), new FileCheckpoints(folder)];
  await first.takeOver();
  await first.write(1, bytes(1));
  await second.takeOver();
  await second.write(2, bytes(2));
  await expect(first.write(3, bytes(3))).rejects.toMatchObject(fenced);
  await first.takeOver();
  await first.write(3, bytes(3));
  await expect(second.write(4, bytes(4))).rejects.toMatchObject(fenced);
  expect(await versions()).toEqual([3, 2, 1]);
});

it('says so where the folder was emptied, and tries again where only a file of its own was taken', async () => {
  const store = await owned(new FileCheckpoints(folder));
  await store.write(1, bytes(1));
  const [own] = await ownersIn();
  await rm(join(folder, own!), { recursive: true });
  await expect(store.write(2, bytes(2))).rejects.toThrow('the folder was emptied, or removed, while it was written to');
});

it('is pinned and read by others while one writes to it', async () => {
  const trainer = await owned(new FileCheckpoints(folder, { keep: 1 }));
  await trainer.write(1, bytes(1));
  const other = new FileCheckpoints(folder);
  await other.pin(1, true);
  await trainer.write(2, bytes(2));
  await trainer.write(3, bytes(3));
  expect(await versions()).toEqual([3, 1]);
  expect(await other.read(1)).toHaveLength(1000);
  await other.pin(1, false);
  await trainer.write(4, bytes(4));
  expect(await versions()).toEqual([4]);
});

it('brings back what an owner that died had begun to remove, where it is pinned', async () => {
  const older = await owned(new FileCheckpoints(folder));
  for (const version of [1, 2]) await older.write(version, bytes(version));
  const [own] = await ownersIn();
  for (const name of ['0000000000000001.safetensors', '0000000000000002.safetensors']) {
    await rename(join(folder, name), join(folder, own!, name));
  }
  await writeFile(join(folder, '0000000000000002.pinned'), '');
  await new FileCheckpoints(folder).takeOver();
  expect(await versions()).toEqual([2]);
});

it('takes away what another one could not', async () => {
  await new FileCheckpoints(folder).takeOver();
  const [own] = await ownersIn();
  await rename(join(folder, own!), join(folder, own!.replace('owner', 'fenced')));
  await writeFile(join(folder, own!.replace('owner', 'fenced'), '0.part'), 'x');
  await new FileCheckpoints(folder).takeOver();
  const names = await ownersIn();
  expect(names).toEqual([expect.stringMatching(/^\.owner-2-/)]);
  expect(JSON.parse(await readFile(join(folder, names[0]!, 'owner.json'), 'utf8'))).toMatchObject({ pid: process.pid });
});

it('leaves alone what only looks like the subfolder of an owner', async () => {
  const names = [`x.owner-4-${randomUUID()}`, `.owner-5-${randomUUID()}.bak`, '.owner-6-none', `.owner-x-${randomUUID()}`];
  for (const name of names) await mkdir(join(folder, name));
  await (await owned(new FileCheckpoints(folder))).write(1, bytes(1));
  const found = await readdir(folder);
  expect(found).toEqual(expect.arrayContaining(names));
  expect(found.filter((name) => name.startsWith('.owner-1-'))).toHaveLength(1);
});

/** Makes subfolders of others as soon as one that starts has its own. */
function others(names: readonly string[]): void {
  const { writeFile: write } = withCalls({
    writeFile: async (...args: Parameters<typeof writeFile>) => {
      for (const name of names) await mkdir(join(folder, name));
      return write(...args);
    },
  });
}

const low = '00000000-0000-0000-0000-000000000000';
const high = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

it.each([[`.owner-1-${low}`], [`.owner-0-${high}`], [`.fenced-9-${high}`]])(
  'has the one that starts as its owner where %s came at the same time',
  async (other) => {
    others([other]);
    const store = new FileCheckpoints(folder);
    await store.takeOver();
    const found = await ownersIn();
    expect(found).toEqual([expect.stringMatching(/^\.owner-1-/)]);
    expect(found).not.toContain(other);
    await store.confirmOwner();
  },
);

it.each([[`.owner-1-${high}`], [`.owner-2-${low}`], [`.owner-10-${low}`]])(
  'has %s as its owner where that came at the same time as another one',
  async (other) => {
    others([other]);
    const store = new FileCheckpoints(folder);
    const refused = { key: 'fenced', message: expect.stringContaining('another writer has taken over. This one') };
    await expect(store.takeOver()).rejects.toMatchObject(refused);
    expect(await ownersIn()).toEqual([other]);
    // It does not try again by itself.
    await expect(store.write(1, bytes(1))).rejects.toMatchObject({ key: 'fenced' });
  },
);

it('is fenced where another one takes over before it could say who it is', async () => {
  const newer = new FileCheckpoints(folder);
  let first = true;
  const { writeFile: write } = withCalls({
    writeFile: async (...args: Parameters<typeof writeFile>) => {
      if (first) {
        first = false;
        await newer.takeOver();
      }
      return write(...args);
    },
  });
  await expect(new FileCheckpoints(folder).takeOver()).rejects.toMatchObject(fenced);
  await newer.write(1, bytes(1));
});

it('says which of several has taken over last', async () => {
  const store = new FileCheckpoints(folder);
  await store.takeOver();
  const [own] = await ownersIn();
  await rm(join(folder, own!), { recursive: true });
  const claims: [string, number][] = [
    [`.owner-3-${high}`, 3],
    [`.owner-12-${low}`, 12],
    [`.owner-4-${high}`, 4],
    [`.fenced-20-${high}`, 20],
  ];
  for (const [name, pid] of claims) {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'owner.json'), JSON.stringify({ host: 'h', pid, since: 'noon' }));
  }
  await expect(store.confirmOwner()).rejects.toThrow('(process 12 on host h, since noon)');
  await writeFile(join(folder, `.owner-12-${low}`, 'owner.json'), '{"host": 1}');
  await expect(store.confirmOwner()).rejects.toThrow('another writer has taken over. This one');
});

it.each(['ENOENT', 'ESTALE'])('is fenced where a rename fails with %s once another one has taken over', async (code) => {
  const older = await owned(new FileCheckpoints(folder));
  await older.write(1, bytes(1));
  await new FileCheckpoints(folder).takeOver();
  withCalls({ rename: () => Promise.reject(Object.assign(new Error(code), { code })) });
  await expect(older.remove(1)).rejects.toMatchObject(fenced);
});

it('does not call another failure that of a missing file', async () => {
  const store = await owned(new FileCheckpoints(folder));
  await store.write(1, bytes(1));
  const failing = (code: string) => Promise.reject(Object.assign(new Error(code), { code }));
  withCalls({ rename: () => failing('EIO') });
  const failed = { key: 'checkpointFailed', message: expect.stringContaining('version 1 failed: EIO') };
  await expect(store.remove(1)).rejects.toMatchObject(failed);
  await expect(store.write(1, bytes(2))).rejects.toMatchObject(failed);
  withCalls({ rename: () => failing('ENOENT') });
  // The file is there, and so is its owner: it is something else that is missing.
  await expect(store.remove(1)).rejects.toMatchObject({ key: 'checkpointFailed' });
  withCalls({ stat: () => failing('EIO') });
  await expect(store.confirmOwner()).rejects.toThrow('EIO');
});

it('fails where what an owner before has left cannot be taken away, and says so', async () => {
  await new FileCheckpoints(folder).takeOver();
  withCalls({ rename: () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' })) });
  await expect(new FileCheckpoints(folder).takeOver()).rejects.toThrow('taking the folder over failed: EIO');
});

it('does not mind that others take away at the same time what it takes away', async () => {
  const stays = async () => false;
  await FolderOwner.claim('store', folder, stays);
  const [own] = await ownersIn();
  for (const name of ['kept', 'removed']) await writeFile(join(folder, own!, name), 'x');
  const owner = await FolderOwner.claim('store', folder, async (name) => {
    await rm(join(folder, own!.replace('owner', 'fenced'), name));
    return name === 'kept';
  });
  await owner.confirm();
  expect(await readdir(folder)).toEqual([expect.stringMatching(/^\.owner-2-/)]);
  await writeFile(join(folder, 'file'), 'x');
  await owner.remove(join(folder, 'file'), async () => {
    await rm(join(folder, (await ownersIn())[0]!, 'file'));
    return false;
  });
  expect(await readdir(folder)).toHaveLength(1);
});

it('keeps nothing of what it removes, and puts back what stays', async () => {
  const owner = await FolderOwner.claim('store', folder, async () => false);
  const [own] = await ownersIn();
  for (const name of ['gone', 'stays']) await writeFile(join(folder, name), name);
  await owner.remove(join(folder, 'gone'));
  await owner.remove(join(folder, 'stays'), async () => {
    expect(await readdir(folder)).not.toContain('stays');
    return true;
  });
  await owner.remove(join(folder, 'never there'));
  expect((await readdir(folder)).sort()).toEqual([own, 'stays']);
  expect(await readFile(join(folder, 'stays'), 'utf8')).toBe('stays');
  expect(await readdir(join(folder, own!))).toEqual(['owner.json']);
});

it('ends a training that another one takes over from, also while it has nothing to write', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  const transport = memoryTransport();
  onTestFinished(() => transport.close());
  await transport.createTopic('gradients');
  await transport.produce(
    'gradients',
    recordedLog()
      .slice(0, 20)
      .map((event) => encodeEvent(event, { source: 'scheduler' })),
  );
  const run = async (until?: 'end') => {
    const params = model();
    const store = new FileCheckpoints(folder);
    const { source } = await recover(params, store, { transport, topic: 'gradients' });
    const seen = Promise.withResolvers<void>();
    const updates$ = fromTransport(transport, { topic: 'gradients', ...source, ...(until ? { until } : {}) }).pipe(
      sgd(params, { lr: 0.1 }),
      checkpoint(store, { everyMs: 60_000 }),
    );
    const ended = lastValueFrom(updates$, { defaultValue: null });
    return { ended, seen, params };
  };
  const older = await run();
  await eventually(() => expect(older.params.version).toBeGreaterThan(0));
  const refused = expect(older.ended).rejects.toMatchObject(fenced);
  const newer = await run('end');
  await vi.advanceTimersByTimeAsync(2_000);
  await refused;
  await newer.ended;
  expect((await versions())[0]).toBe(newer.params.version);
});
