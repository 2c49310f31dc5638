import { Observable, type OperatorFunction, takeUntil } from 'rxjs';
import type { TrainingEvent } from '../events.ts';
import type { Parameters } from '../params/parameters.ts';
import type { ScanSeat } from '../params/scan-seat.ts';
import type { PerParameter } from '../setting.ts';
import { Average } from './average.ts';
import { InPlace, OnPool, threadsFor } from './execution.ts';
import { Groups } from './groups.ts';
import { Outliers } from './outliers.ts';
import { Rates } from './rates.ts';
import type { Recipe } from './recipe.ts';
import type { Rule } from './rule.ts';
import { RunningScan } from './running-scan.ts';
import type { ParsedScanOptions } from './scan-options.ts';
import { assertWhole } from './shards.ts';
import { Stepper } from './stepper.ts';
import type { WeightsUpdate } from './weights-update.ts';

/**
 * Lifts a rule to an operator: gradient batches in, one {@link WeightsUpdate} out for each that was applied. State (buffers,
 * schedule, sequences seen) is made per subscription. One step at a time, in order.
 */
export function scanWith(
  params: Parameters,
  rule: Rule,
  options: ParsedScanOptions,
  weightDecay: PerParameter,
  recipe: Recipe,
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  const make = () => ({
    groups: new Groups(params, options.lr, options.groups),
    average: options.average ? new Average(params, options.average) : null,
  });
  assertWhole(params, rule);
  // Made here too, so that what does not fit fails before the first event.
  make();
  return (events$) =>
    new Observable((out) => {
      const { groups, average } = make();
      const { loaded, before } = enter(params, average?.params);
      const threads = options.threads ?? threadsFor(params);
      const execution = threads === 0 ? new InPlace(params.arena) : new OnPool(params.arena, threads);
      const leave = (): void => {
        params.seat.leave();
        average?.params.seat.leave();
        // Threads that find nothing to do end in their own time.
        if (execution instanceof OnPool) void execution.close();
      };
      let scan: RunningScan;
      try {
        const outliers = options.outliers && options.outliers.policy !== 'off' ? new Outliers(options.outliers) : null;
        const stepper = new Stepper(params, rule, weightDecay, groups, execution, average, outliers);
        const shape = { rule: rule.name, names: params.names, groups: groups.indices, recipe };
        scan = new RunningScan(stepper, execution, new Rates(groups.schedules), shape, options, out);
        params.seat.keep(scan);
        scan.begin(before);
        if (loaded) scan.restore(loaded);
      } catch (error) {
        out.error(error);
        return leave;
      }
      // A source that emits while it is being subscribed to has no subscription yet that a failure could end.
      const subscription = events$.pipe(takeUntil(scan.failed$)).subscribe({
        next(event) {
          try {
            scan.next(event);
          } catch (error) {
            scan.fail(error);
          }
        },
        error: (error) => out.error(error),
        complete: () => scan.complete(),
      });
      return () => {
        subscription.unsubscribe();
        scan.close();
        // A step that is under way goes to its end first, and so does a copy: neither is ever left half done.
        scan.whenIdle(() => (params.seat.held ? void params.seat.held.then(leave) : leave()));
      };
    });
}

/** Takes parameters, and those of their average, for one scan. */
function enter(params: Parameters, average: Parameters | undefined): ReturnType<ScanSeat['enter']> {
  const entered = params.seat.enter();
  try {
    average?.seat.enter();
  } catch (error) {
    params.seat.leave();
    throw error;
  }
  return entered;
}
