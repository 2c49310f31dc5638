import { Observable, type Observer, type OperatorFunction, Subject, takeUntil } from 'rxjs';
import * as v from 'valibot';
import { type RejectionReason, RxgradError } from '../errors.ts';
import {
  acknowledge,
  GradientBatch,
  type GradientFacts,
  placeOf,
  type Rejection,
  rejection,
  type TrainingEvent,
} from '../events.ts';
import { channels } from '../observe/channels.ts';
import type { Parameters } from '../params/parameters.ts';
import { type LearningRate, scheduleOf } from '../schedules/from-config.ts';
import type { Rule } from './rule.ts';
import { Stepper } from './stepper.ts';
import type { WeightsUpdate } from './weights-update.ts';

/** What every scan takes beside its rule's own options. */
export interface ScanOptions {
  /** Default 1e-3. */
  readonly lr?: LearningRate;
  /** Gets every event that was left out. They are counted in the metrics in any case. */
  readonly rejections?: Partial<Observer<Rejection>>;
  /**
   * Bad events without a good batch between them, after which the stream fails (redelivered ones do not count). Default 1000.
   */
  readonly maxRejectionsInARow?: number;
}

export const scanEntries = {
  lr: v.optional(
    v.custom<LearningRate>(() => true),
    1e-3,
  ),
  rejections: v.optional(
    v.custom<Partial<Observer<Rejection>>>((value) => typeof value === 'object' && value !== null, 'an observer'),
  ),
  maxRejectionsInARow: v.optional(v.pipe(v.number(), v.minValue(1)), 1000),
};

interface ParsedScanOptions {
  lr: LearningRate;
  rejections?: Partial<Observer<Rejection>> | undefined;
  maxRejectionsInARow: number;
}

/**
 * Lifts a rule to an operator: gradient batches in, one {@link WeightsUpdate} out for each that was applied. State (buffers,
 * schedule, sequences seen) is made per subscription. One step at a time, in order.
 */
export function scanWith(
  params: Parameters,
  rule: Rule,
  options: ParsedScanOptions,
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  scheduleOf(options.lr);
  return (events$) =>
    new Observable((out) => {
      const leave = params.enterScan();
      const stepper = new Stepper(params, rule);
      const gate = new Gate();
      const rate = scheduleOf(options.lr);
      const waiting: TrainingEvent[] = [];
      const failed$ = new Subject<void>();
      let waitingForReaders = false;
      let sourceDone = false;
      let rejectionsInARow = 0;
      let epochs = 0;

      const reject = (rejected: Rejection): void => {
        if (channels.rejection.hasSubscribers)
          channels.rejection.publish({ kind: 'rejection', at: rule.name, rejection: rejected });
        options.rejections?.next?.(rejected);
        acknowledge(rejected);
        // 409: the record was fine, it only came twice.
        if (rejected.error.status === 409) return;
        rejectionsInARow += 1;
        if (rejectionsInARow < options.maxRejectionsInARow) return;
        failed$.next();
        out.error(
          new RxgradError(
            'tooManyRejections',
            { count: rejectionsInARow, last: rejected.error.message },
            { cause: rejected.error },
          ),
        );
      };

      const refuse = (event: TrainingEvent, error: RxgradError<RejectionReason>, facts?: GradientFacts): void =>
        reject(rejection(error, event.delivery, facts));

      const finish = (batch: GradientBatch): void => {
        const update = stepper.apply(rate.lr, epochs);
        gate.passed(batch.facts);
        rejectionsInARow = 0;
        if (channels.step.hasSubscribers) {
          const { version, epoch, lr, gradientNorm, clipped, staleness, durationMs, position } = update;
          channels.step.publish({
            kind: 'step',
            at: rule.name,
            version,
            epoch,
            lr,
            gradientNorm,
            clipped,
            staleness,
            durationMs,
            position,
          });
        }
        out.next(update);
        acknowledge(batch);
      };

      const step = (batch: GradientBatch): void => {
        const refusal = gate.admit(batch) ?? stepper.admit(batch);
        if (refusal) refuse(batch, refusal, batch.facts);
        else if (stepper.blocked) waitThenFinish(batch);
        else finish(batch);
      };

      const waitThenFinish = (batch: GradientBatch): void => {
        waitingForReaders = true;
        stepper
          .whenFree()
          .then(() => {
            if (out.closed) return;
            waitingForReaders = false;
            finish(batch);
            drain();
          })
          .catch((error: unknown) => out.error(error));
      };

      const drain = (): void => {
        while (!waitingForReaders && !out.closed) {
          const event = waiting.shift();
          if (!event) break;
          handle(event);
        }
        if (sourceDone && !waitingForReaders && waiting.length === 0) out.complete();
      };

      const handle = (event: TrainingEvent): void => {
        if (event instanceof GradientBatch) return step(event);
        switch (event.kind) {
          case 'rejection':
            return reject(event);
          case 'epoch': {
            const refusal = gate.admitEpoch(event.epoch, placeOf(event.delivery));
            if (refusal) return refuse(event, refusal);
            rate.tick();
            epochs += 1;
            if (channels.epoch.hasSubscribers)
              channels.epoch.publish({ kind: 'epoch', at: rule.name, epoch: epochs, lr: rate.lr });
            return acknowledge(event);
          }
          case 'metric':
            return acknowledge(event);
        }
      };

      // A source that emits while it is being subscribed to has no subscription yet that a failure could end.
      const subscription = events$.pipe(takeUntil(failed$)).subscribe({
        next: (event) => {
          if (waitingForReaders) waiting.push(event);
          else handle(event);
        },
        error: (error) => out.error(error),
        complete: () => {
          sourceDone = true;
          drain();
        },
      });

      return () => {
        subscription.unsubscribe();
        stepper.dispose();
        leave();
      };
    });
}

/** Lets each worker's sequence and each epoch through once, in rising order. */
class Gate {
  readonly #sequences = new Map<string, number>();
  #epoch = -1;

  admit({ facts: { worker, sequence }, delivery }: GradientBatch): RxgradError<RejectionReason> | null {
    if (worker === undefined || sequence === undefined) return null;
    const last = this.#sequences.get(worker);
    if (last === undefined || sequence > last) return null;
    return new RxgradError('duplicate', { where: placeOf(delivery), worker, expected: last, got: sequence });
  }

  passed({ worker, sequence }: GradientFacts): void {
    if (worker !== undefined && sequence !== undefined) this.#sequences.set(worker, sequence);
  }

  admitEpoch(epoch: number, where: string): RxgradError<RejectionReason> | null {
    if (!Number.isSafeInteger(epoch) || epoch < 0) {
      return new RxgradError('undecodable', { where, expected: 'an epoch as a whole number of at least 0', got: String(epoch) });
    }
    if (epoch <= this.#epoch) return new RxgradError('repeatedEpoch', { where, expected: this.#epoch, got: epoch });
    this.#epoch = epoch;
    return null;
  }
}
