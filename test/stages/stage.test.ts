import {
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  epochBoundary,
  GradientBatch,
  gradientBatch,
  metricReport,
  type TrainingEvent,
} from 'rxgrad';
import { filter, from, lastValueFrom, of, tap, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { rejection } from '../../src/events.ts';

const stages = { clipByGlobalNorm: clipByGlobalNorm(1), clipByValue: clipByValue(1), addDecayedWeights: addDecayedWeights(0.1) };

describe.each(Object.entries(stages))('%s', (_, stage) => {
  it('passes events without gradients on untouched', async () => {
    const events: TrainingEvent[] = [
      epochBoundary(1),
      metricReport({ name: 'loss', value: 0.5 }),
      rejection(new RxgradError('emptyBatch', { where: 'a/0@1' }), null),
    ];
    const passed = await lastValueFrom(from(events).pipe(stage, toArray()));
    expect(passed).toHaveLength(3);
    for (const [i, event] of events.entries()) expect(passed[i]).toBe(event);
  });

  it('leaves the batch that it was given as it was', async () => {
    const batch = gradientBatch({ gradients: { w: Float32Array.of(3, -4) }, worker: 'w1', sequence: 7 });
    const derived = (await lastValueFrom(of(batch).pipe(stage))) as GradientBatch;
    expect(batch.pending).toBeNull();
    expect(batch.gradients.w).toEqual(Float32Array.of(3, -4));
    expect(derived.facts).toBe(batch.facts);
    expect(derived.message).toBe(batch.message);
  });
});

describe('ordinary operators between stages', () => {
  it('see the gradients as they are at that point', async () => {
    const seen: number[][] = [];
    const see = tap((event: TrainingEvent) => {
      if (event instanceof GradientBatch) seen.push([...event.gradients.w!]);
    });
    const batch = gradientBatch({ gradients: { w: Float32Array.of(6, -8) } });
    await lastValueFrom(of(batch).pipe(see, clipByGlobalNorm(5), see, clipByValue(3.5), see));
    expect(seen).toEqual([
      [6, -8],
      [3, -4],
      [3, -3.5],
    ]);
  });

  it('may leave batches out', async () => {
    const sizes$ = of(
      gradientBatch({ gradients: { w: Float32Array.of(1) }, batchSize: 1 }),
      gradientBatch({ gradients: { w: Float32Array.of(9) }, batchSize: 2 }),
    ).pipe(
      clipByValue(4),
      filter((event) => !(event instanceof GradientBatch) || event.facts.batchSize !== 1),
      clipByGlobalNorm(2),
      toArray(),
    );
    expect(await lastValueFrom(sizes$)).toMatchObject([{ gradients: { w: Float32Array.of(2) } }]);
  });

  it('may change gradients, which keeps what is known of the batch', async () => {
    const batch = gradientBatch({ gradients: { w: { dims: [2, 1], data: Float32Array.of(1, 2) } }, worker: 'w1', base: 3 });
    const [clipped] = await lastValueFrom(of(batch).pipe(clipByValue(1.5), toArray()));
    const changed = (clipped as GradientBatch).withGradients({ w: Float32Array.of(-1, 0) });
    expect(changed).toMatchObject({ facts: { worker: 'w1', base: 3 }, pending: null, gradients: { w: Float32Array.of(-1, 0) } });
    expect(changed.message.layout.tensors[0]!.dims).toEqual([2, 1]);
  });
});
