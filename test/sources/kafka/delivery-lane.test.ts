import fc from 'fast-check';
import { expect, it } from 'vitest';
import { deliveryLane } from '../../../src/sources/kafka/delivery-lane.ts';
import type { ConsumeOptions, LogRecord } from '../../../src/sources/transport.ts';

const recordAt = (offset: number) => ({ offset }) as LogRecord;

/** A lane whose user and whose group are the test: it says when it may deliver, and when a delivery ends. */
function laneOf(first: number | null = 0) {
  const delivered: number[] = [];
  const failures: unknown[] = [];
  let end: PromiseWithResolvers<void> | null = null;
  let may = true;
  const options: ConsumeOptions = {
    topic: 'gradients',
    deliver(_, __, records) {
      delivered.push(...records.map(({ offset }) => offset));
      end = Promise.withResolvers<void>();
      return end.promise;
    },
    onError: (error) => failures.push(error),
  };
  const lane = deliveryLane(options, 0, first, { mayDeliver: () => may, onFailure: (error) => failures.push(error) });
  return {
    lane,
    delivered,
    failures,
    may(value: boolean): void {
      may = value;
    },
    /** Ends the delivery that is under way, and lets what follows from that happen. */
    async end(): Promise<void> {
      end?.resolve();
      end = null;
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

it('delivers what came while it was not allowed to, once it is', async () => {
  const { lane, delivered, may, end } = laneOf();
  may(false);
  lane.push([recordAt(0)], 1);
  expect(delivered).toEqual([]);
  may(true);
  lane.resume();
  expect(delivered).toEqual([0]);
  await end();
  lane.push([recordAt(1)], 2);
  expect(delivered).toEqual([0, 1]);
});

it('never stands still: whatever happened, all that was not dropped is delivered once it may be', async () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('push' as const) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('may' as const), value: fc.boolean() }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('resume', 'end', 'seek', 'turn') }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const { lane, delivered, failures, may, end } = laneOf();
      let expected: number[] = [];
      let next = 0;
      for (const taken of steps) {
        if (taken.kind === 'push' && !lane.isFull()) {
          expected.push(next);
          lane.push([recordAt(next)], next + 1);
          next += 1;
        }
        if (taken.kind === 'may' && 'value' in taken) may(taken.value);
        if (taken.kind === 'resume') lane.resume();
        if (taken.kind === 'end') await end();
        if (taken.kind === 'seek') {
          lane.restart(next);
          expected = [...delivered];
        }
        if (taken.kind === 'turn') await new Promise((resolve) => setImmediate(resolve));
      }
      may(true);
      lane.resume();
      // One that is under way, and as many as a lane holds.
      for (let i = 0; i < 3; i++) await end();
      expect(delivered).toEqual(expected);
      expect(failures).toEqual([]);
      await lane.idle();
    }),
  );
});

it('is idle once no delivery is under way, however often it is asked', async () => {
  const { lane, end } = laneOf();
  let idle = 0;
  lane.push([recordAt(0)], 1);
  for (let i = 0; i < 2; i++) void lane.idle().then(() => (idle += 1));
  await new Promise((resolve) => setImmediate(resolve));
  expect(idle).toBe(0);
  await end();
  expect(idle).toBe(2);
  await lane.idle();
});

it('says that it fails where a delivery does, and delivers no more', async () => {
  const failures: unknown[] = [];
  let calls = 0;
  const options: ConsumeOptions = {
    topic: 'gradients',
    deliver() {
      calls += 1;
      throw new Error('no room');
    },
    onError: (error) => failures.push(error),
  };
  const lane = deliveryLane(options, 0, 0, { mayDeliver: () => true, onFailure: (error) => failures.push(error) });
  lane.push([recordAt(0)], 1);
  lane.push([recordAt(1)], 2);
  lane.resume();
  await lane.idle();
  expect(failures).toEqual([new Error('no room')]);
  expect(calls).toBe(1);
});
