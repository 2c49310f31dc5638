import { type MonoTypeOperatorFunction, Observable, type Observer } from 'rxjs';
import { GradientBatch, type TrainingEvent } from '../events.ts';
import { WeightsUpdate } from '../optimizers/weights-update.ts';
import type { Observation } from './channels.ts';
import { type Figures, nextFigures, noFigures } from './figures.ts';

/**
 * Tells an observer the figures of what comes by, at any point of a pipe: before a scan batches, epochs, rejections and the
 * gradient norm (which is computed for it: one pass over the gradients), behind it all the rest too. The stream itself is
 * passed on untouched. What the observer throws ends the stream.
 *
 * @example
 * gradients$.pipe(tapMetrics(({ batches, gradientNorm }) => console.log(batches, gradientNorm)), momentum(params))
 */
export function tapMetrics<T extends TrainingEvent | WeightsUpdate>(
  observer: Partial<Observer<Figures>> | ((figures: Figures) => void),
): MonoTypeOperatorFunction<T> {
  const observing = typeof observer === 'function' ? { next: observer } : observer;
  return (values$) =>
    new Observable((out) => {
      let figures = noFigures;
      return values$.subscribe({
        next(value) {
          try {
            for (const observation of observationsOf(value)) figures = nextFigures(figures, observation);
            observing.next?.(figures);
          } catch (error) {
            out.error(error);
            return;
          }
          out.next(value);
        },
        error(error) {
          observing.error?.(error);
          out.error(error);
        },
        complete() {
          observing.complete?.();
          out.complete();
        },
      });
    });
}

function observationsOf(value: TrainingEvent | WeightsUpdate): Observation[] {
  const at = 'tapMetrics';
  if (value instanceof WeightsUpdate) {
    const { facts, swapMs, version } = value;
    return [
      { ...facts, kind: 'step', at },
      ...(facts.outlier ? [{ ...facts.outlier, kind: 'outlier', at, position: facts.position } as const] : []),
      ...(swapMs === undefined ? [] : [{ kind: 'swap', at, version, durationMs: swapMs } as const]),
    ];
  }
  if (value instanceof GradientBatch) return [{ kind: 'batch', at, batch: value, gradientNorm: value.norm() }];
  switch (value.kind) {
    case 'rejection':
      return [{ kind: 'rejection', at, rejection: value }];
    case 'epoch':
      return [{ kind: 'epoch', at, epoch: value.epoch }];
    case 'metric':
      return [];
  }
}
