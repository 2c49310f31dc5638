import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedLog, KafkaCheckpoints, memoryTransport, type Transport } from 'rxgrad';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { storeConformance } from './store-conformance.ts';

let folder = '';
let topics = 0;
let log: Transport;
const memory = memoryTransport();
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rxgrad-checkpoints-'));
  log = embeddedLog(join(folder, 'log.db'), { synchronous: 'normal' });
});
afterAll(async () => {
  await log.close();
  await rm(folder, { recursive: true, force: true });
});

const opening = (transport: () => Transport, own: object) => async () => {
  const topic = `checkpoints-${topics++}`;
  return async (keep?: number) => new KafkaCheckpoints(transport(), { topic, ...own, ...(keep === undefined ? {} : { keep }) });
};

storeConformance(
  'KafkaCheckpoints in memory',
  opening(() => memory, {}),
);
storeConformance(
  'KafkaCheckpoints in memory, in small records',
  opening(() => memory, { chunkBytes: 1024 }),
);
storeConformance(
  'KafkaCheckpoints in an embedded log, in transactions',
  opening(() => log, { transactionalId: 'writer' }),
);

it('keeps models apart', async () => {
  const [a, b] = ['a', 'b'].map((model) => new KafkaCheckpoints(memory, { topic: 'shared', model }));
  await a!.write(1, new Uint8Array(5));
  await b!.write(2, new Uint8Array(6));
  expect((await a!.list()).map(({ version }) => version)).toEqual([1]);
  expect((await b!.list()).map(({ version }) => version)).toEqual([2]);
});

it('does not know a checkpoint whose writer died before its end', async () => {
  const store = new KafkaCheckpoints(memory, { topic: 'died', chunkBytes: 1024 });
  await store.write(1, new Uint8Array(5000));
  let left = 3;
  const dying: Transport = {
    ...memory,
    async produce(topic, records) {
      left -= 1;
      if (left < 0) throw new Error('died');
      return memory.produce(topic, records);
    },
  };
  await expect(new KafkaCheckpoints(dying, { topic: 'died', chunkBytes: 1024 }).write(2, new Uint8Array(5000))).rejects.toThrow(
    'died',
  );
  expect((await store.list()).map(({ version }) => version)).toEqual([1]);
  left = 2;
  // One that is written over in part is the one before no more, and says so.
  await expect(new KafkaCheckpoints(dying, { topic: 'died', chunkBytes: 1024 }).write(1, new Uint8Array(4000))).rejects.toThrow(
    'died',
  );
  expect((await store.read(1)).byteLength).toBe(5000);
});

it('is taken over by its transactional id before the newer one looks at what is there', async () => {
  const open = () => new KafkaCheckpoints(memory, { topic: 'owned', transactionalId: 'trainer' });
  const [older, newer] = [open(), open()];
  await older.takeOver();
  await older.write(1, new Uint8Array(5));
  await newer.takeOver();
  await expect(older.write(2, new Uint8Array(5))).rejects.toMatchObject({ key: 'fenced' });
  expect((await newer.list()).map(({ version }) => version)).toEqual([1]);
  await newer.write(2, new Uint8Array(6));
  await older.takeOver();
  await expect(newer.remove(1)).rejects.toMatchObject({ key: 'fenced' });
  expect((await older.list()).map(({ version, bytes }) => [version, bytes])).toEqual([
    [2, 6],
    [1, 5],
  ]);
});

it('is fenced where a newer owner removes what it has just written, before it was read back', async () => {
  const open = () => new KafkaCheckpoints(memory, { topic: 'removed', transactionalId: 'trainer' });
  const [older, newer] = [open(), open()];
  const read = older.read.bind(older);
  older.read = async (version) => {
    await newer.takeOver();
    await newer.remove(version);
    return read(version);
  };
  await expect(older.write(1, new Uint8Array(5))).rejects.toMatchObject({ key: 'fenced' });
});
