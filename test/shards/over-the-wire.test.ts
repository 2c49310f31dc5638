import {
  adam,
  clipByGlobalNorm,
  encodeEvent,
  epochBoundary,
  fromTransport,
  type GradientBatch,
  gradientBatch,
  joinShards,
  memoryTransport,
  Parameters,
  shardGradients,
  shardParameters,
  shardPlan,
  type TrainingEvent,
} from 'rxgrad';
import { from, lastValueFrom, type Observable, toArray } from 'rxjs';
import { expect, it } from 'vitest';
import { wave } from '../stages/gradients.ts';

it('shards that take a partition each come to the weights of the whole', async (t) => {
  const model = () => Parameters.create({ emb: { dims: [50, 4], data: wave(200) }, bias: { dims: [9], data: wave(9, 1) } });
  const plan = shardPlan(model(), { shards: 3 });
  const batches = Array.from({ length: 20 }, (_, i): GradientBatch => {
    const indices = [i, 2 * i, 49 - i];
    const rows = i % 3 === 2 ? { emb: { indices, values: wave(12, i) } } : {};
    return gradientBatch({ gradients: { bias: wave(9, i), ...rows }, worker: 'w', sequence: i, base: i });
  });
  const transport = memoryTransport();
  t.onTestFinished(() => transport.close());
  await transport.createTopic('gradients', { partitions: 3 });
  const events: TrainingEvent[] = [];
  for (const [i, batch] of batches.entries()) {
    await transport.produce(
      'gradients',
      shardGradients(batch, plan).map((part, partition) => ({ ...encodeEvent(part), partition })),
    );
    events.push(batch);
    if (i % 6 !== 5) continue;
    await transport.produce(
      'gradients',
      [0, 1, 2].map((partition) => ({ ...encodeEvent(epochBoundary(i)), partition })),
    );
    events.push(epochBoundary(i));
  }

  const train = (events$: Observable<TrainingEvent>, params: Parameters) => {
    const lr = { type: 'StepLR', baseLr: 0.1, stepSize: 1, gamma: 0.5 } as const;
    return lastValueFrom(events$.pipe(clipByGlobalNorm(1), adam(params, { lr }), toArray()));
  };
  const whole = model();
  await train(from(events), whole);
  const parts = await Promise.all(
    plan.shards.map(async (_, shard) => {
      const params = shardParameters(plan, shard, model());
      const updates = await train(
        fromTransport(transport, { topic: 'gradients', partitions: [shard], from: 'beginning', until: 'end' }),
        params,
      );
      expect(updates).toHaveLength(20);
      return params;
    }),
  );
  expect(joinShards(plan, parts)).toEqual({ ...whole.latest });
});
