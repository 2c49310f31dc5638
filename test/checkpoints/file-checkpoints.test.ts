import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
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

it('removes what writers that died have left half written, and nothing else', async () => {
  const at = place();
  const store = new FileCheckpoints(at);
  await store.write(1, new Uint8Array(5));
  // No process has this number: Linux numbers them up to 4,194,304.
  await writeFile(join(at, '.9999999-3.part'), 'x');
  await writeFile(join(at, 'notes.txt'), 'x');
  await store.write(2, new Uint8Array(5));
  expect((await readdir(at)).sort()).toEqual(['0000000000000001.safetensors', '0000000000000002.safetensors', 'notes.txt']);
});
