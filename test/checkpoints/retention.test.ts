import { FileCheckpoints, memoryTransport, recover, type Transport } from 'rxgrad';
import { afterEach, expect, it, vi } from 'vitest';
import { batches, folders, model, topic, train, warningsOf } from './courses.ts';

const place = folders();
const start = Date.parse('2026-01-01T00:00:00Z');
const hours = (n: number) => start + 3_600_000 * n;

afterEach(() => {
  vi.restoreAllMocks();
});

/** A topic that keeps its records for a day: ten are trained at once, ten come six hours later. */
async function trained() {
  const now = vi.spyOn(Date, 'now').mockReturnValue(start);
  const memory = memoryTransport();
  await memory.createTopic(topic);
  await memory.produce(topic, batches('a', 10));
  const transport: Transport = { ...memory, retentionMs: async () => 86_400_000 };
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
  const { retentionMs: _, ...endless } = transport;
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
