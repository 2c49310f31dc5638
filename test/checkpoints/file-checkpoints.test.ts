import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileCheckpoints } from 'rxgrad';
import { afterAll, beforeAll, expect, it } from 'vitest';
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
  return async (keep) => new FileCheckpoints(at, keep === undefined ? {} : { keep });
});

/** What a folder shows, apart from the subfolder of its owner. */
const shown = async (at: string) => (await readdir(at)).filter((name) => !name.startsWith('.owner-')).sort();

it('removes what writers before have left half written, and nothing else', async () => {
  const at = place();
  await new FileCheckpoints(at).write(1, new Uint8Array(5));
  const [owner] = await readdir(at);
  await writeFile(join(at, owner!, '7.part'), 'x');
  await writeFile(join(at, 'notes.txt'), 'x');
  await new FileCheckpoints(at).write(2, new Uint8Array(5));
  expect(await shown(at)).toEqual(['0000000000000001.safetensors', '0000000000000002.safetensors', 'notes.txt']);
  expect((await readdir(at)).filter((name) => name.startsWith('.owner-'))).not.toContain(owner);
});

it('passes over a name with a number that no version has', async () => {
  const at = place();
  const store = new FileCheckpoints(at);
  await store.write(1, new Uint8Array(5));
  await writeFile(join(at, '9999999999999999.safetensors'), 'x');
  expect((await store.list()).map(({ version }) => version)).toEqual([1]);
});

it('passes over a folder that is named like a checkpoint, with a warning', async () => {
  const at = place();
  const store = new FileCheckpoints(at, { keep: 1 });
  await store.write(1, new Uint8Array(5));
  await mkdir(join(at, '0000000000000009.safetensors'));
  const warned = once(process, 'warning');
  expect((await store.list()).map(({ version }) => version)).toEqual([1]);
  expect(String((await warned)[0])).toMatch(/0000000000000009\.safetensors has the name of a checkpoint, but is no file/);
  await store.write(2, new Uint8Array(5));
  expect((await store.list()).map(({ version }) => version)).toEqual([2]);
});
