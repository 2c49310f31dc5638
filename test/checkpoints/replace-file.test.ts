import { existsSync, fstatSync, readFileSync } from 'node:fs';
import { type FileHandle, mkdir, mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileCheckpoints } from 'rxgrad';
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { replaceFile } from '../../src/checkpoints/replace-file.ts';
import { owned } from './owned.ts';

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-replace-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
});

const bytes = (fill: number, length = 1000) => new Uint8Array(length).fill(fill);

/** Calls back before whatever is synchronised with the disk: with the bytes of a file, or null of a folder. */
async function onSync(call: (size: number | null) => void | Promise<void>) {
  const handle = await open(folder);
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const { sync } = prototype;
  const spy = vi.spyOn(prototype, 'sync').mockImplementation(async function (this: FileHandle) {
    const found = fstatSync(this.fd);
    await call(found.isDirectory() ? null : found.size);
    return sync.call(this);
  });
  onTestFinished(() => void spy.mockRestore());
}

it('a file is on the disk before it has its name, and its name before it counts as written', async () => {
  const path = join(folder, 'file');
  await writeFile(path, bytes(1));
  const synchronised: (number | string | null)[] = [];
  await onSync((size) => void synchronised.push(size, readFileSync(path)[0]!));
  await replaceFile(path, join(folder, 'part'), bytes(2, 70_000));
  expect(synchronised).toEqual([70_000, 1, null, 2]);
  expect(await readdir(folder)).toEqual(['file']);
});

it('a file that cannot be written leaves nothing beside the one before', async () => {
  const path = join(folder, 'file');
  await writeFile(path, bytes(1));
  await onSync(() => Promise.reject(new Error('the disk is full')));
  await expect(replaceFile(path, join(folder, 'part'), bytes(2))).rejects.toThrow('the disk is full');
  expect(await readdir(folder)).toEqual(['file']);
  expect(readFileSync(path)[0]).toBe(1);
});

it('a file that cannot get its name leaves nothing', async () => {
  await mkdir(join(folder, 'taken', 'deeper'), { recursive: true });
  await expect(replaceFile(join(folder, 'taken'), join(folder, 'part'), bytes(2))).rejects.toThrow();
  expect(await readdir(folder)).toEqual(['taken']);
});

it('a file system that cannot synchronise folders takes files all the same', async () => {
  await onSync((size) => (size === null ? Promise.reject(new Error('EPERM')) : undefined));
  await replaceFile(join(folder, 'file'), join(folder, 'part'), bytes(2));
  expect(readFileSync(join(folder, 'file'))).toHaveLength(1000);
});

it('a pin is on the disk when it counts', async () => {
  const store = await owned(new FileCheckpoints(folder));
  await store.write(7, bytes(1));
  const pinned: boolean[] = [];
  await onSync((size) => void (size === null && pinned.push(existsSync(join(folder, '0000000000000007.pinned')))));
  await store.pin(7, true);
  expect(pinned).toEqual([true]);
});

it('versions are on the disk where they are set aside before they go where they were', async () => {
  const store = await owned(new FileCheckpoints(folder));
  await store.write(7, bytes(1));
  const there: boolean[] = [];
  await onSync((size) => {
    if (size === null) {
      there.push(...['', 'abandoned-1'].map((place) => existsSync(join(folder, place, '0000000000000007.safetensors'))));
    }
  });
  await store.setAside([7]);
  expect(there).toEqual([true, true]);
});

it('a pin of what is removed at the same time is none, and says so', async () => {
  const store = await owned(new FileCheckpoints(folder));
  await store.write(7, bytes(1));
  await onSync(() => rm(join(folder, '0000000000000007.safetensors'), { force: true }));
  await expect(store.pin(7, true)).rejects.toMatchObject({ key: 'checkpointFailed' });
  expect((await readdir(folder)).filter((name) => !name.startsWith('.'))).toEqual([]);
});
