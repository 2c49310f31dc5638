import { memoryTransport, publishWeights, type WeightsUpdate } from 'rxgrad';
import { Subject } from 'rxjs';
import { expect, it, vi } from 'vitest';

const base = { topic: 'weights', model: 'm', everySteps: 1 };

it('a stream that fails says why, whatever was published', () => {
  const failed = vi.fn();
  const updates$ = new Subject<WeightsUpdate>();
  updates$.pipe(publishWeights(memoryTransport(), base)).subscribe({ error: failed });
  updates$.error('why');
  expect(failed).toHaveBeenCalledExactlyOnceWith('why');
});

it('a stream that is left is left by its source', () => {
  const updates$ = new Subject<WeightsUpdate>();
  const subscription = updates$.pipe(publishWeights(memoryTransport(), base)).subscribe();
  expect(updates$.observed).toBe(true);
  subscription.unsubscribe();
  expect(updates$.observed).toBe(false);
});

it.each<[object, RegExp]>([
  [{ everySteps: undefined }, /expected everySteps or everyMs/],
  [{ everyMs: 5 }, /expected everySteps or everyMs/],
  [{ topic: '' }, /topic: expected a name/],
  [{ model: '' }, /model: expected a name/],
  [{ model: 'é'.repeat(101) }, /model: expected/],
  [{ everySteps: 0 }, /everySteps: expected >=1/],
  [{ snapshotEvery: 0 }, /snapshotEvery: expected >=1/],
  [{ shard: 1 }, /publishWeights: shard: expected less than shards, 1, got 1/],
  [{ shard: -1 }, /shard: expected >=0/],
  [{ shards: 1025 }, /shards: expected <=1024/],
  [{ shards: 2, everySteps: undefined, everyMs: 5 }, /everyMs: expected everySteps, where there are several shards/],
  [{ shards: 2, conflate: true }, /conflate: expected false, where there are several shards/],
  [{ dtype: 'F64' }, /dtype: expected/],
  [{ maxPartBytes: 4095 }, /maxPartBytes: expected >=4096/],
  [{ maxPartBytes: 4096.5 }, /maxPartBytes: expected a whole number/],
  [{ requests: '' }, /requests: expected a name/],
  [{ writer: '' }, /writer: expected a name/],
  [{ takeOver: 1 }, /takeOver: expected/],
  [{ often: true }, /often: expected no such option/],
])('refuses %o', (own, message) => {
  const options = Object.fromEntries(Object.entries({ ...base, ...own }).filter(([, value]) => value !== undefined));
  expect(() => publishWeights(memoryTransport(), options as typeof base)).toThrow(message);
});

it.each([
  { model: 'é'.repeat(100) },
  { shards: 1024, shard: 1023 },
  { shards: 2, shard: 0, conflate: false },
  { maxPartBytes: 4096 },
  { dtype: 'BF16' as const },
])('takes %o', (own) => {
  expect(publishWeights(memoryTransport(), { ...base, ...own })).toBeInstanceOf(Function);
});
