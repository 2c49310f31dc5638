import { describe, expect, it } from 'vitest';
import { deliveryLane } from '../../../src/sources/kafka/delivery-lane.ts';
import { stillLimitS, stillWatch } from '../../../src/sources/kafka/still-watch.ts';
import type { LogRecord } from '../../../src/sources/transport.ts';

const recordAt = (offset: number) => ({ offset }) as LogRecord;

/** One partition, its log, and whoever watches it: the test says what happens, and how many seconds pass. */
function watched(first: number | null = 0) {
  const state = { may: true, end: 0, committed: null as number | null, reachable: true, mine: true };
  const errors: Error[] = [];
  const busy: PromiseWithResolvers<void>[] = [];
  let isBusy = false;
  const lane = deliveryLane(
    {
      topic: 'gradients',
      deliver() {
        if (!isBusy) return;
        busy.push(Promise.withResolvers());
        return busy.at(-1)!.promise;
      },
      onError: (error) => errors.push(error),
    },
    0,
    first,
    { mayDeliver: () => state.may, onFailure: (error) => errors.push(error as Error) },
  );
  const answer = async <T>(value: T): Promise<T> => {
    if (!state.reachable) throw new Error('no broker can be reached');
    return value;
  };
  const watch = stillWatch({
    topic: 'gradients',
    bounds: () => answer([{ first: 0, end: state.end }]),
    acknowledged: () => answer(new Map(state.committed === null ? [] : [[0, state.committed]])),
    lanes: () => new Map(state.mine ? [[0, lane]] : []),
    lastHeard: () => 'last fetch 0 s ago',
    onStill: (error) => errors.push(error),
  });
  return {
    state,
    errors,
    lane,
    busy(value: boolean): void {
      isBusy = value;
      for (const { resolve } of busy.splice(0)) resolve();
    },
    push(offset: number): void {
      lane.push([recordAt(offset)], offset + 1);
    },
    async seconds(count: number): Promise<void> {
      for (let i = 0; i < count; i++) {
        watch.tick();
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}

describe('a partition that stands still', () => {
  it('is reported with where it stands, when records of it were fetched and none is delivered', async () => {
    const { state, push, seconds, errors } = watched();
    state.may = false;
    push(0);
    state.end = 7;
    await seconds(stillLimitS);
    expect(errors).toEqual([]);
    await seconds(stillLimitS);
    expect(errors[0]).toMatchObject({ code: 'RXGRAD_CONSUMPTION_STALLED', disposition: 'retry' });
    expect(errors[0]!.message).toMatch(
      /^gradients\/0: nothing was delivered for 60 s, .*ends at offset 7 and the next offset is 0: 1 batch/,
    );
    expect(errors[0]!.message).toContain('last fetch 0 s ago');
  });

  it('is reported when its log goes on and nothing is fetched', async () => {
    const { state, push, seconds, errors } = watched();
    push(0);
    state.end = 1;
    await seconds(3 * stillLimitS);
    expect(errors).toEqual([]);
    state.end = 3;
    await seconds(2 * stillLimitS);
    expect(errors[0]!.message).toMatch(/next offset is 1: nothing more of it was fetched/);
  });

  it('is reported where the group decides, and nothing of it was ever fetched', async () => {
    const { state, seconds, errors } = watched(null);
    state.end = 3;
    state.committed = 3;
    await seconds(3 * stillLimitS);
    expect(errors).toEqual([]);
    state.end = 4;
    await seconds(2 * stillLimitS);
    expect(errors[0]!.message).toMatch(/next offset is the one that the group has acknowledged/);
  });
});

describe('nothing is reported', () => {
  it('of a partition that moves, however seldom', async () => {
    const { state, push, seconds, errors } = watched();
    state.end = 1000;
    for (let offset = 0; offset < 10; offset++) {
      push(offset);
      await seconds(stillLimitS - 1);
    }
    expect(errors).toEqual([]);
  });

  it('while a delivery is under way', async () => {
    const { state, push, busy, seconds, errors } = watched();
    busy(true);
    for (let offset = 0; offset < 3; offset++) push(offset);
    state.end = 10;
    await seconds(5 * stillLimitS);
    busy(false);
    await seconds(stillLimitS - 10);
    expect(errors).toEqual([]);
  });

  it('while brokers do not answer: the limit begins anew when they do', async () => {
    const { state, push, seconds, errors } = watched();
    state.may = false;
    push(0);
    state.end = 1;
    await seconds(stillLimitS - 10);
    state.reachable = false;
    await seconds(5 * stillLimitS);
    state.reachable = true;
    await seconds(stillLimitS);
    expect(errors).toEqual([]);
  });

  it('where all was read up to the last stable offset', async () => {
    const { state, push, seconds, errors, lane } = watched();
    push(0);
    lane.pass(3);
    state.end = 3;
    await seconds(5 * stillLimitS);
    expect(errors).toEqual([]);
  });

  it('of a partition that another member has, or that waits for a call of the user', async () => {
    const { state, push, seconds, errors } = watched();
    state.may = false;
    push(0);
    state.end = 5;
    await seconds(stillLimitS - 1);
    state.mine = false;
    await seconds(5 * stillLimitS);
    state.mine = true;
    await seconds(stillLimitS);
    expect(errors).toEqual([]);
  });
});
