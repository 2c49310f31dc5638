import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkpoint, encodeEvent, FileCheckpoints, fromTransport, memoryTransport, recover, sgd } from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { eventually } from '../eventually.ts';
import { model, recordedLog } from '../sources/one-log.ts';

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
  const older = new FileCheckpoints(folder, { keep: 1 });
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
  await first.write(1, bytes(1));
  await second.write(2, bytes(2));
  await expect(first.write(3, bytes(3))).rejects.toMatchObject(fenced);
  await first.takeOver();
  await first.write(3, bytes(3));
  await expect(second.write(4, bytes(4))).rejects.toMatchObject(fenced);
  expect(await versions()).toEqual([3, 2, 1]);
});

it('says so where the folder was emptied, and tries again where only a file of its own was taken', async () => {
  const store = new FileCheckpoints(folder);
  await store.write(1, bytes(1));
  const [own] = await ownersIn();
  await rm(join(folder, own!), { recursive: true });
  await expect(store.write(2, bytes(2))).rejects.toThrow('the folder was emptied, or removed, while it was written to');
});

it('is pinned and read by others while one writes to it', async () => {
  const trainer = new FileCheckpoints(folder, { keep: 1 });
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
  const older = new FileCheckpoints(folder);
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
