import { FileCheckpoints, memoryTransport, recover, type Transport } from 'rxgrad';
import { afterEach, expect, it, vi } from 'vitest';
import { RetentionWatch } from '../../src/checkpoints/retention-watch.ts';
import { settingsWithoutBrokers } from '../../src/sources/topic-settings.ts';
import { batches, folders, model, topic, train, warningsOf } from './courses.ts';

const place = folders();
const start = Date.parse('2026-01-01T00:00:00Z');
const hours = (n: number) => start + 3_600_000 * n;

/** The settings of a topic that deletes its records at an age. */
const keptFor = (retentionMs: number) => async () => ({
  ...settingsWithoutBrokers({ compacted: false, maxMessageBytes: null }),
  deletes: true,
  retentionMs,
});

afterEach(() => {
  vi.restoreAllMocks();
});

/** A topic that keeps its records for a day: ten are trained at once, ten come six hours later. */
async function trained() {
  const now = vi.spyOn(Date, 'now').mockReturnValue(start);
  const memory = memoryTransport();
  await memory.createTopic(topic);
  await memory.produce(topic, batches('a', 10));
  const transport: Transport = { ...memory, topicSettings: keptFor(86_400_000) };
  const store = new FileCheckpoints(place());
  await train(transport, store, 10);
  now.mockReturnValue(hours(6));
  await transport.produce(topic, batches('a', 10, 10));
  return { transport, store, now };
}

it('warns at the start where the log will soon let go of what a recovery reads', async () => {
  const { transport, store, now } = await trained();
  const recovering = () => warningsOf(() => recover(model(), store, { transport, topic }));
  now.mockReturnValue(hours(17.9));
  expect(await recovering()).toEqual([]);
  now.mockReturnValue(hours(18.5));
  expect(await recovering()).toMatchObject([
    {
      code: 'RXGRAD_RETENTION',
      message: expect.stringMatching(
        /newest version, 10, goes on at gradients\/0@10, a record that is 12.5 hours old; .* for 24.0 hours/,
      ),
    },
  ]);
});

it('warns of nothing where all is contained, or the topic keeps everything', async () => {
  const { transport, store, now } = await trained();
  now.mockReturnValue(hours(1000));
  const { topicSettings: _, ...endless } = transport;
  expect(await warningsOf(() => recover(model(), store, { transport: endless, topic }))).toEqual([]);
  await train(endless, store, 10);
  expect(await warningsOf(() => recover(model(), store, { transport, topic }))).toEqual([]);
});

it('warns now and then while training writes no checkpoint, once for each', async () => {
  const { transport, store, now } = await trained();
  const { source } = await recover(model(), store, { transport, topic });
  vi.spyOn(store, 'list').mockImplementation(async () => [{ version: 10, bytes: 1, savedAtMs: start, pinned: false }]);
  now.mockReturnValue(hours(10));
  expect(await warningsOf(source.watch)).toEqual([]);
  now.mockReturnValue(hours(20));
  expect((await warningsOf(source.watch)).map(({ code }) => code)).toEqual(['RXGRAD_RETENTION']);
  expect(await warningsOf(source.watch)).toEqual([]);
});

it('says so where the records are gone already, while training goes on', async () => {
  const { transport, store, now } = await trained();
  let first = 0;
  const cut: Transport = { ...transport, startOffsets: async () => [first] };
  const { source } = await recover(model(), store, { transport: cut, topic });
  now.mockReturnValue(hours(3_000_000));
  first = 15;
  expect(await warningsOf(source.watch)).toMatchObject([
    { code: 'RXGRAD_RETENTION', message: expect.stringContaining('gradients/0@10, which the topic has let go of') },
  ]);
});

/** A watch over a checkpoint at offset 4 of a topic with ten records, one a minute, which are kept for so long. */
async function watched(retentionMs: number | undefined, own: Partial<Transport> = {}, topics = [topic]) {
  const now = vi.spyOn(Date, 'now');
  const memory = memoryTransport();
  await memory.createTopic(topic);
  for (let i = 0; i < 10; i++) {
    now.mockReturnValue(minutes(i));
    await memory.produce(topic, batches('a', 1, i));
  }
  const transport: Transport = {
    ...memory,
    ...(retentionMs === undefined ? {} : { topicSettings: keptFor(retentionMs) }),
    ...own,
  };
  const watch = new RetentionWatch(new FileCheckpoints(place()), { transport, topic });
  const positions = topics.map((of): [string, number, number] => [of, 0, 4]);
  const facts = { version: 4, steps: 4, epochs: 0, stages: [], checksum: '', positions };
  const check = async (at: number, more: Partial<typeof facts> = {}) => {
    now.mockReturnValue(minutes(at));
    return (await warningsOf(() => watch.check({ ...facts, ...more }))).map(({ message }) => message);
  };
  return { check, watch };
}

const minutes = (n: number) => start + 60_000 * n;

it('warns from half of the retention on, in minutes where that is little', async () => {
  const { check } = await watched(100 * 60_000);
  expect(await check(4 + 49.9)).toEqual([]);
  expect(await check(4 + 50)).toEqual([expect.stringContaining('a record that is 50.0 minutes old')]);
  const { check: long } = await watched(240 * 60_000);
  expect(await long(4 + 119.9)).toEqual([]);
  expect(await long(4 + 120)).toEqual([expect.stringMatching(/is 2\.0 hours old; .* for 4\.0 hours/)]);
});

it('warns of nothing where a topic is kept for ever, has no more records, or is another one', async () => {
  expect(await (await watched(Number.POSITIVE_INFINITY)).check(1e9)).toEqual([]);
  expect(await (await watched(undefined)).check(1e9)).toEqual([]);
  const { check } = await watched(60_000);
  expect(await check(1e6, { positions: [[topic, 0, 10]] })).toEqual([]);
  expect(await check(1e6, { positions: [['other', 0, 4]] })).toEqual([]);
  expect(await check(1e6, { positions: [[topic, 1, 0]] })).toEqual([]);
  expect(
    await check(1e6, {
      positions: [
        ['other', 0, 4],
        [topic, 1, 0],
        [topic, 0, 4],
      ],
    }),
  ).toHaveLength(1);
});

it('warns of what is gone already, however young it was', async () => {
  const { check } = await watched(100 * 60_000, { startOffsets: async () => [5] });
  expect(await check(10)).toEqual([expect.stringContaining('gradients/0@4, which the topic has let go of')]);
  const { check: still } = await watched(100 * 60_000, { startOffsets: async () => [4] });
  expect(await still(10)).toEqual([]);
});

it('looks at nothing where there is no checkpoint', async () => {
  const { watch } = await watched(1);
  expect(await warningsOf(() => watch.look())).toEqual([]);
});

it('looks at a checkpoint itself where that is half as old as its topic keeps records, and not again', async () => {
  const { transport, store, now } = await trained();
  const read = vi.spyOn(store, 'read');
  vi.spyOn(store, 'list').mockImplementation(async () => [{ version: 10, bytes: 1, savedAtMs: start, pinned: false }]);
  const watch = new RetentionWatch(store, { transport, topic });
  now.mockReturnValue(hours(11.99));
  await watch.look();
  expect(read).not.toHaveBeenCalled();
  now.mockReturnValue(hours(12));
  expect(await warningsOf(() => watch.look())).toEqual([]);
  expect(read).toHaveBeenCalledOnce();
  now.mockReturnValue(hours(19));
  expect(await warningsOf(() => watch.look())).toHaveLength(1);
  expect(await warningsOf(() => watch.look())).toEqual([]);
  expect(read).toHaveBeenCalledTimes(2);
});
