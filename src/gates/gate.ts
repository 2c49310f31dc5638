import { type MonoTypeOperatorFunction, Observable } from 'rxjs';
import type { Labels } from '../autodiff/mlp-gradients.ts';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import { type GateOptions, parseGateOptions } from './gate-options.ts';
import { RunningGate } from './running-gate.ts';

/**
 * Lets weights go live only when they are not worse. It stands between a scan and `hotSwap`: the newest weights are frozen as a
 * candidate, which is scored beside the live version on the same labelled examples, and passed on once a sequential test shows
 * that its mean loss is at most `margin` above. All other updates are swallowed; the scan goes on meanwhile. A version that
 * went live and turns out worse than the one before it is rolled back by the same test.
 *
 * @example
 * const session = await HotSwapSession.load('model.onnx');
 * gradients$.pipe(momentum(session.params), gate({ session, labelled: labelled$, loss: 'bceWithLogits', margin: 0.02 }), hotSwap(session))
 */
export function gate<L = Labels>(options: GateOptions<L>): MonoTypeOperatorFunction<WeightsUpdate> {
  const parsed = parseGateOptions(options);
  return (updates$) =>
    new Observable((out) => {
      const running = new RunningGate(parsed, out);
      const subscription = updates$.subscribe({
        next: (update) => running.see(update),
        error: (error) => out.error(error),
        complete: () => running.end(),
      });
      subscription.add(
        parsed.labelled?.subscribe({
          next: (examples) => running.take(examples),
          error: (error) => out.error(error),
          complete: () => running.endLabels(),
        }),
      );
      return () => {
        running.close();
        subscription.unsubscribe();
      };
    });
}
