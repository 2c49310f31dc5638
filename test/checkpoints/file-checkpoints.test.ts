import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FileCheckpoints } from 'rxgrad';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { superseded } from '../../src/checkpoints/checkpoint-store.ts';
import { withCalls } from '../builtin-calls.ts';
import { warningsOf } from './courses.ts';
import { owned } from './owned.ts';
import { storeConformance } from './store-conformance.ts';

let folder = '';
let folders = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-checkpoints-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const place = () => join(folder, String(folders++), 'deeper');

storeConformance('FileCheckpoints', async () => {
  const at = place();
  return async (keep) => owned(new FileCheckpoints(at, keep === undefined ? {} : { keep }));
});

/** What a folder shows, apart from the subfolder of its owner. */
const shown = async (at: string) => (await readdir(at)).filter((name) => !name.startsWith('.owner-')).sort();

it('removes what writers before have left half written, and nothing else', async () => {
  const at = place();
  await (await owned(new FileCheckpoints(at))).write(1, new Uint8Array(5));
  const [owner] = await readdir(at);
  await writeFile(join(at, owner!, '7.part'), 'x');
  await writeFile(join(at, 'notes.txt'), 'x');
  await (await owned(new FileCheckpoints(at))).write(2, new Uint8Array(5));
  expect(await shown(at)).toEqual(['0000000000000001.safetensors', '0000000000000002.safetensors', 'notes.txt']);
  expect((await readdir(at)).filter((name) => name.startsWith('.owner-'))).not.toContain(owner);
});

it('passes over a name with a number that no version has', async () => {
  const at = place();
  const store = await owned(new FileCheckpoints(at));
  await store.write(1, new Uint8Array(5));
  await writeFile(join(at, '9999999999999999.safetensors'), 'x');
  expect((await store.list()).map(({ version }) => version)).toEqual([1]);
});

it('passes over a folder that is named like a checkpoint, with a warning', async () => {
  const at = place();
  const store = await owned(new FileCheckpoints(at, { keep: 1 }));
  await store.write(1, new Uint8Array(5));
  await mkdir(join(at, '0000000000000009.safetensors'));
  const warned = await warningsOf(async () => {
    expect((await store.list()).map(({ version }) => version)).toEqual([1]);
    await store.write(2, new Uint8Array(5));
    expect((await store.list()).map(({ version }) => version)).toEqual([2]);
  });
  expect(warned).toMatchObject([
    {
      code: 'RXGRAD_CHECKPOINT_SKIPPED',
      message: expect.stringMatching(/0000000000000009\.safetensors has the name of a checkpoint, but is no file/),
    },
  ]);
});

it('takes nothing for a checkpoint, a pin or a course that is named otherwise', async () => {
  const at = place();
  const store = await owned(new FileCheckpoints(at));
  await store.write(1, new Uint8Array(5));
  for (const name of [
    'x0000000000000002.safetensors',
    '0000000000000003.safetensors.bak',
    '4.safetensors',
    '0000000000000001.pin',
  ]) {
    await writeFile(join(at, name), 'x');
  }
  for (const name of ['abandoned-7x', 'xabandoned-8', 'abandoned-']) await mkdir(join(at, name));
  expect((await store.list()).map(({ version, pinned }) => [version, pinned])).toEqual([[1, false]]);
  expect(await store.abandoned()).toEqual([]);
  expect(await store.setAside([1])).toBe(join(at, 'abandoned-1'));
});

it('says what is wrong with its folder, and goes on when that is mended', async () => {
  const at = place();
  await mkdir(dirname(at), { recursive: true });
  await writeFile(at, 'a file');
  const store = new FileCheckpoints(at);
  const failed = (what: string) => ({ key: 'checkpointFailed', message: expect.stringContaining(`${what} failed: E`) });
  await expect(store.list()).rejects.toMatchObject(failed('reading the folder'));
  await expect(store.takeOver()).rejects.toMatchObject(failed('taking the folder over'));
  await rm(at);
  await store.takeOver();
  await store.write(1, new Uint8Array(5));
  await store.confirmOwner();
  expect(await new FileCheckpoints(at).list()).toHaveLength(1);
});

it('that nobody has taken over has nothing to confirm', async () => {
  await expect(new FileCheckpoints(place()).confirmOwner()).resolves.toBeUndefined();
});

it('keeps what is pinned at the last moment', async () => {
  const at = place();
  const store = await owned(new FileCheckpoints(at, { keep: 1 }));
  await store.write(1, new Uint8Array(5));
  const list = store.list.bind(store);
  store.list = async () => {
    const entries = await list();
    await new FileCheckpoints(at).pin(1, true);
    return entries;
  };
  await store.write(2, new Uint8Array(5));
  expect((await new FileCheckpoints(at).list()).map(({ version, pinned }) => [version, pinned])).toEqual([
    [2, false],
    [1, true],
  ]);
});

it('is fenced where a newer owner removes what it has just written, before it was read back', async () => {
  const at = place();
  const [older, newer] = [await owned(new FileCheckpoints(at)), new FileCheckpoints(at)];
  const read = older.read.bind(older);
  older.read = async (version) => {
    await newer.takeOver();
    await newer.remove(version);
    return read(version);
  };
  await expect(older.write(1, new Uint8Array(5))).rejects.toMatchObject({ key: 'fenced' });
});

it('copies what it sets aside where no links can be made', async () => {
  const at = place();
  const store = await owned(new FileCheckpoints(at));
  await store.write(1, Uint8Array.of(1, 2, 3));
  await store.pin(1, true);
  withCalls({ link: () => Promise.reject(new Error('EPERM')) });
  const course = await store.setAside([1]);
  expect(await store.list()).toEqual([]);
  const aside = new FileCheckpoints(course);
  expect([...(await aside.read(1))]).toEqual([1, 2, 3]);
  expect((await aside.list()).map(({ pinned }) => pinned)).toEqual([true]);
});

it('sets aside what is there of the versions that it is told', async () => {
  const store = await owned(new FileCheckpoints(place()));
  await store.write(1, new Uint8Array(5));
  await store.setAside([3, 1]);
  expect((await store.abandoned()).map(({ entries }) => entries.map(({ version }) => version))).toEqual([[1]]);
});

it('removes the oldest that are not pinned, in whatever order they are listed', () => {
  const entry = (version: number, pinned = false) => ({ version, pinned, bytes: 1, savedAtMs: 0 });
  const entries = [entry(3), entry(9), entry(1, true), entry(2), entry(7)];
  expect(superseded(entries, 2)).toEqual([3, 2]);
  expect(superseded(entries, 4)).toEqual([]);
});

it('is changed by nobody that has not taken it over, and pinned and read by anybody', async () => {
  const at = place();
  const trainer = await owned(new FileCheckpoints(at));
  await trainer.write(1, new Uint8Array(5));
  const other = new FileCheckpoints(at);
  expect([trainer.tookOver, other.tookOver]).toEqual([true, false]);
  const refused = (what: string) => ({ key: 'notOwner', message: expect.stringContaining(what) });
  await expect(other.write(2, new Uint8Array(5))).rejects.toMatchObject(refused('writing version 2'));
  await expect(other.remove(1)).rejects.toMatchObject(refused('removing version 1'));
  await expect(other.setAside([1])).rejects.toMatchObject(refused('setting versions aside'));
  await other.pin(1, true);
  expect(await other.read(1)).toHaveLength(5);
  // The owner is still the one that it was.
  await trainer.write(2, new Uint8Array(5));
  expect((await trainer.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
    [2, false],
    [1, true],
  ]);
});
