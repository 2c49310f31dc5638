import type { Tensor } from 'onnxruntime-node';
import {
  clipByGlobalNorm,
  clipByValue,
  epochBoundary,
  gradientBatch,
  HotSwapSession,
  hotSwap,
  momentum,
  nextFigures,
  noFigures,
  type Observation,
  observations,
  Parameters,
} from 'rxgrad';
import { of, scan } from 'rxjs';
import { describe, expect, it, type TestContext, vi } from 'vitest';
import { channels } from '../../src/observe/channels.ts';
import { example, feedsOf } from '../inference/onnx/example-models.ts';

const batch = (value: number) => gradientBatch({ gradients: { w: Float32Array.of(value) } });

function train(): void {
  const params = Parameters.create({ w: { dims: [1] } });
  of(batch(4), batch(Number.NaN), epochBoundary(3), batch(0.5))
    .pipe(clipByGlobalNorm(1), clipByValue(1), momentum(params, { lr: 0.5 }), hotSwap({ params, swap: () => params.swap() }))
    .subscribe();
}

function listen(t: TestContext): Observation[] {
  const seen: Observation[] = [];
  const subscription = observations().subscribe((observation) => seen.push(observation));
  t.onTestFinished(() => subscription.unsubscribe());
  return seen;
}

describe('observations', () => {
  it('tell what stages, scans and sinks do, in their order', (t) => {
    const seen = listen(t);
    train();
    const stages = ['stage clipByGlobalNorm', 'stage clipByValue'];
    expect(seen.map(({ kind, at }) => `${kind} ${at}`)).toEqual([
      ...stages,
      'step Momentum',
      'swap hotSwap',
      ...stages,
      'rejection Momentum',
      'epoch Momentum',
      ...stages,
      'step Momentum',
      'swap hotSwap',
    ]);
    expect(seen[2]).toMatchObject({ version: 1, lr: 0.5, gradientNorm: 4, clipped: true });
    expect(seen[6]).toMatchObject({ rejection: { reason: 'notFinite' } });
    expect(seen[7]).toMatchObject({ epoch: 1, lr: 0.5 });
  });

  it('tell of predictions', async (t) => {
    const session = await HotSwapSession.load(example('mlp').path);
    t.onTestFinished(() => session.dispose());
    const seen = listen(t);
    await session.predict(feedsOf(example('mlp')) as Record<string, Tensor>);
    expect(seen).toMatchObject([{ kind: 'prediction', at: session.model, version: 0, durationMs: expect.any(Number) }]);
  });

  it('add up to figures', () => {
    let figures = noFigures;
    const subscription = observations()
      .pipe(scan(nextFigures, noFigures))
      .subscribe((next) => {
        figures = next;
      });
    train();
    subscription.unsubscribe();
    expect(figures).toMatchObject({ batches: 2, clippedShare: 0.5, epochs: 1, rejections: { notFinite: 1 }, version: 2 });
  });

  it('are not made while nobody listens', (t) => {
    const listening = observations().subscribe();
    expect(Object.values(channels).every(({ hasSubscribers }) => hasSubscribers)).toBe(true);
    listening.unsubscribe();
    expect(Object.values(channels).some(({ hasSubscribers }) => hasSubscribers)).toBe(false);
    // Channels without a subscriber share a `publish` that does nothing: what matters is that it is not called.
    const published = Object.values(channels).map((channel) => vi.spyOn(channel, 'publish'));
    t.onTestFinished(() => void vi.restoreAllMocks());
    train();
    for (const publish of published) expect(publish).not.toHaveBeenCalled();
  });
});
