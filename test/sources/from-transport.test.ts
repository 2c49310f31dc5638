import {
  acknowledge,
  encodeEvent,
  epochBoundary,
  fromTransport,
  GradientBatch,
  gradientBatch,
  memoryTransport,
  type Rejection,
  type TrainingEvent,
  type Transport,
} from 'rxgrad';
import { firstValueFrom, lastValueFrom, tap, toArray } from 'rxjs';
import { expect, it, vi } from 'vitest';

async function logOf(count: number): Promise<Transport> {
  const log = memoryTransport();
  await log.createTopic('gradients');
  const records = Array.from({ length: count }, (_, sequence) =>
    encodeEvent(gradientBatch({ gradients: { w: new Float32Array(25) }, worker: 'w1', sequence, base: sequence })),
  );
  await log.produce('gradients', records);
  return log;
}

const all = { topic: 'gradients', from: 'beginning', until: 'end' } as const;

it('hands events out in order, with what their headers say', async () => {
  const events = await lastValueFrom(fromTransport(await logOf(3), all).pipe(tap(acknowledge), toArray()));
  expect(events.map((event) => (event as GradientBatch).facts.sequence)).toEqual([0, 1, 2]);
  expect((events[2] as GradientBatch).facts).toMatchObject({ worker: 'w1', sequence: 2, base: 2 });
  expect(events[2]!.delivery!.position).toEqual({ topic: 'gradients', partition: 0, offset: 2 });
});

it.each([
  { maxInFlight: 7, maxBytes: 1 << 20 },
  { maxInFlight: 100, maxBytes: 1000 },
])('hands out no more than %o before it is acknowledged', async (limits) => {
  const events: TrainingEvent[] = [];
  const subscription = fromTransport(await logOf(50), { topic: 'gradients', from: 'beginning', ...limits }).subscribe((event) =>
    events.push(event),
  );
  const bytes = encodeEvent(gradientBatch({ gradients: { w: new Float32Array(25) } })).value!.byteLength;
  const room = Math.min(limits.maxInFlight, Math.floor(limits.maxBytes / bytes));
  await vi.waitFor(() => expect(events).toHaveLength(room));
  await new Promise(setImmediate);
  expect(events).toHaveLength(room);
  acknowledge(events[2]!);
  await vi.waitFor(() => expect(events).toHaveLength(room + 3));
  await new Promise(setImmediate);
  expect(events).toHaveLength(room + 3);
  subscription.unsubscribe();
});

it('lets an event through alone that is larger than the limit', async () => {
  const source$ = fromTransport(await logOf(3), { ...all, maxBytes: 10 });
  expect(await lastValueFrom(source$.pipe(tap(acknowledge), toArray()))).toHaveLength(3);
});

it('leaves out what `where` does not want, however many in a row', async () => {
  const source$ = fromTransport(await logOf(100), {
    ...all,
    maxInFlight: 2,
    where: (event) => event instanceof GradientBatch && event.facts.sequence === 99,
  });
  expect(await lastValueFrom(source$.pipe(toArray()))).toHaveLength(1);
});

it('shows what it cannot read as a rejection in its place', async () => {
  const log = await logOf(1);
  const good = encodeEvent(gradientBatch({ gradients: { w: new Float32Array(1) } }));
  await log.produce('gradients', [
    { ...good, value: Buffer.from('no safetensors at all') },
    { ...good, value: good.value!.subarray(0, -1) },
    { ...good, headers: { ...good.headers, ce_type: 'something else' } },
    { ...good, headers: { ...good.headers, ce_gradient: 'base=-1' } },
    { ...good, headers: { ...good.headers, ce_id: 'x' } },
    { ...good, value: null },
    encodeEvent(epochBoundary(1)),
  ]);
  const events = await lastValueFrom(fromTransport(log, all).pipe(tap(acknowledge), toArray()));
  expect(events.map(({ kind }) => kind)).toEqual(['gradients', ...Array(6).fill('rejection'), 'epoch']);
  for (const [i, event] of events.slice(1, 7).entries()) {
    const { reason, position, error } = event as Rejection;
    expect(reason).toBe('undecodable');
    expect(position).toEqual({ topic: 'gradients', partition: 0, offset: i + 1 });
    expect(error.message).toMatch(/^gradients\/0@\d: expected .*, got /);
  }
});

it('fails on a topic that does not exist', async () => {
  await expect(firstValueFrom(fromTransport(memoryTransport(), all))).rejects.toMatchObject({ code: 'RXGRAD_UNKNOWN_TOPIC' });
});
