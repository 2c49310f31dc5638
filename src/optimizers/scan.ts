import { Observable, type Observer, type OperatorFunction, Subject, type Subscriber, takeUntil } from 'rxjs';
import * as v from 'valibot';
import { type RejectionReason, RxgradError } from '../errors.ts';
import { acknowledge, GradientBatch, type Rejection, rejection, type TrainingEvent } from '../events.ts';
import { channels } from '../observe/channels.ts';
import { Once } from '../once.ts';
import { parseOptions } from '../options.ts';
import type { KeptScan, Parameters } from '../params/parameters.ts';
import type { KeptState } from '../params/state-dict.ts';
import type { LearningRate } from '../schedules/from-config.ts';
import type { Schedule } from '../schedules/schedule.ts';
import type { PerParameter } from '../setting.ts';
import { Average, type AverageOptions, averageSchema } from './average.ts';
import { InPlace, OnPool, threadsFor } from './execution.ts';
import { Groups, groupsSchema, type ParameterGroup } from './groups.ts';
import type { Rule } from './rule.ts';
import { Stepper } from './stepper.ts';
import type { WeightsUpdate } from './weights-update.ts';

/** What every scan takes beside its rule's own options. */
export interface ScanOptions {
  /** Default 1e-3. */
  readonly lr?: LearningRate;
  /** Whether rates change as epochs end, or with every step. Default: epoch. */
  readonly tickOn?: 'epoch' | 'step';
  /** Parameters with a rate of their own, or frozen. */
  readonly groups?: readonly ParameterGroup[];
  /** Gets every event that was left out. They are counted in the metrics in any case. */
  readonly rejections?: Partial<Observer<Rejection>>;
  /**
   * Bad events without a good batch between them, after which the stream fails (records that merely came twice do not
   * count). Default 1000.
   */
  readonly maxRejectionsInARow?: number;
  /**
   * Threads that run the kernels while this one stays free: 0 for none, in place. Results are the same bits. Default: none
   * for small models; from 1,048,576 parameters on all cores but one, four at most.
   */
  readonly threads?: number;
  /** An average of the weights, to be served in their place. Default: none. */
  readonly average?: AverageOptions;
}

/** The schema of {@link ScanOptions}, to be spread into a rule's own. */
export const scanEntries = {
  lr: v.optional(
    v.custom<LearningRate>(() => true),
    1e-3,
  ),
  tickOn: v.optional(v.picklist(['epoch', 'step']), 'epoch'),
  groups: groupsSchema,
  rejections: v.optional(
    v.custom<Partial<Observer<Rejection>>>((value) => typeof value === 'object' && value !== null, 'an observer'),
  ),
  maxRejectionsInARow: v.optional(v.pipe(v.number(), v.minValue(1)), 1000),
  threads: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0), v.maxValue(64))),
  average: v.optional(averageSchema),
};

export interface ParsedScanOptions {
  readonly lr: LearningRate;
  readonly tickOn: 'epoch' | 'step';
  readonly groups: v.InferOutput<typeof groupsSchema>;
  readonly rejections?: Partial<Observer<Rejection>> | undefined;
  readonly maxRejectionsInARow: number;
  readonly threads?: number | undefined;
  readonly average?: v.InferOutput<typeof averageSchema> | undefined;
}

/** What a scan keeps beside its tensors, as plain data. Metrics are text: JSON has no NaN. */
const factsSchema = v.object({
  rule: v.string(),
  steps: v.number(),
  counts: v.array(v.number()),
  averaged: v.optional(v.array(v.number())),
  history: v.optional(
    v.object({ versions: v.array(v.number()), rows: v.array(v.tuple([v.string(), v.number(), v.array(v.number())])) }),
  ),
  epochs: v.number(),
  once: v.object({ sequences: v.array(v.tuple([v.string(), v.number()])), epoch: v.number() }),
  schedules: v.array(v.record(v.string(), v.number())),
  metrics: v.array(v.tuple([v.string(), v.string()])),
});

type ScanFacts = v.InferOutput<typeof factsSchema>;

const noDecay: PerParameter = { uniform: 0, patterns: [], of: () => 0 };

/**
 * Lifts a rule to an operator: gradient batches in, one {@link WeightsUpdate} out for each that was applied. State (buffers,
 * schedule, sequences seen) is made per subscription. One step at a time, in order.
 */
export function scanWith(
  params: Parameters,
  rule: Rule,
  options: ParsedScanOptions,
  weightDecay: PerParameter = noDecay,
): OperatorFunction<TrainingEvent, WeightsUpdate> {
  // Made here too, so that what does not fit fails before the first event.
  new Groups(params, options.lr, options.groups);
  if (options.average) new Average(params, options.average);
  return (events$) =>
    new Observable((out) => {
      const average = options.average ? new Average(params, options.average) : null;
      const loaded = enter(params, average?.params);
      const groups = new Groups(params, options.lr, options.groups);
      const threads = options.threads ?? threadsFor(params);
      const execution = threads === 0 ? new InPlace(params.arena) : new OnPool(params.arena, threads);
      const stepper = new Stepper(params, rule, weightDecay, groups, execution, average);
      const scan = new Scan(stepper, execution, rule.name, groups.schedules, options, out);
      params.keepScan(scan);
      const leave = async (): Promise<void> => {
        if (execution instanceof OnPool) await execution.close();
        params.leaveScan();
        average?.params.leaveScan();
      };
      try {
        if (loaded) scan.restore(loaded);
      } catch (error) {
        out.error(error);
        return () => leave();
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
        // A step that is under way goes to its end first: weights are never left half written.
        scan.whenIdle(leave);
      };
    });
}

/** Takes parameters, and those of their average, for one scan. */
function enter(params: Parameters, average: Parameters | undefined): KeptState | null {
  const loaded = params.enterScan();
  try {
    average?.enterScan();
  } catch (error) {
    params.leaveScan();
    throw error;
  }
  return loaded;
}

/**
 * One subscription's scan: takes events one by one, waiting where a step runs on other threads, or where a reader still holds
 * what it would write.
 */
class Scan implements KeptScan {
  readonly failed$ = new Subject<void>();
  readonly #stepper: Stepper;
  readonly #execution: InPlace | OnPool;
  readonly #name: string;
  readonly #schedules: readonly Schedule[];
  readonly #options: ParsedScanOptions;
  readonly #out: Subscriber<WeightsUpdate>;
  readonly #once = new Once();
  #queue: TrainingEvent[] = [];
  #waiting = false;
  // A part of a step that other threads are at: memory must stay.
  #writing: Promise<unknown> | null = null;
  // Set while what was queued is handled: what subscribers send in the meantime goes to the end of the line.
  #draining = false;
  #sourceDone = false;
  #rejectionsInARow = 0;
  #epochs = 0;
  #metrics = new Map<string, number>();
  #lrs: readonly number[];

  constructor(
    stepper: Stepper,
    execution: InPlace | OnPool,
    name: string,
    schedules: readonly Schedule[],
    options: ParsedScanOptions,
    out: Subscriber<WeightsUpdate>,
  ) {
    this.#stepper = stepper;
    this.#execution = execution;
    this.#name = name;
    this.#schedules = schedules;
    this.#lrs = schedules.map(({ lr }) => lr);
    this.#options = options;
    this.#out = out;
  }

  next(event: TrainingEvent): void {
    if (this.#waiting || this.#draining) this.#queue.push(event);
    else this.#handle(event);
  }

  complete(): void {
    this.#sourceDone = true;
    if (!this.#waiting && !this.#draining) this.#out.complete();
  }

  /** Ends the stream with an error. The error goes first: the source, once let go, would complete the stream. */
  fail(error: unknown): void {
    this.#out.error(error);
    this.failed$.next();
  }

  /** Does something once no other thread is at a step: now, or later. */
  whenIdle(then: () => void): void {
    if (this.#writing) this.#writing.then(then, then);
    else then();
  }

  get busy(): boolean {
    return this.#writing !== null;
  }

  get settled(): boolean {
    return !this.#waiting && this.#queue.length === 0;
  }

  state(): KeptState {
    const stepper = this.#stepper.facts;
    const facts: ScanFacts = {
      rule: this.#name,
      ...stepper,
      counts: [...stepper.counts],
      averaged: stepper.averaged && [...stepper.averaged],
      epochs: this.#epochs,
      once: this.#once.state(),
      schedules: this.#schedules.map((schedule) => schedule.state()),
      metrics: [...this.#metrics].map(([name, value]) => [name, String(value)]),
    };
    return { tensors: this.#stepper.tensors, facts: { ...facts }, strict: true };
  }

  /** Goes on from where another scan was. */
  restore(kept: KeptState): void {
    if (!kept.facts) {
      this.#stepper.restore(kept, null);
      return;
    }
    const facts = parseOptions(factsSchema, kept.facts, 'state dict');
    const parameters = this.#stepper.facts.counts.length;
    const differences = [
      ...(facts.rule === this.#name ? [] : [`the state is of ${facts.rule}, the scan of ${this.#name}`]),
      ...(facts.schedules.length === this.#schedules.length
        ? []
        : [`the state has rates of ${facts.schedules.length} groups, the scan of ${this.#schedules.length}`]),
      ...(facts.counts.length === parameters
        ? []
        : [`the state is of ${facts.counts.length} parameters, the scan of ${parameters}`]),
    ];
    if (differences.length > 0) throw new RxgradError('parametersDiffer', { differences: differences.join('; ') });
    this.#stepper.restore(kept, facts);
    this.#epochs = facts.epochs;
    this.#once.restore(facts.once);
    for (const [i, schedule] of this.#schedules.entries()) schedule.restore(facts.schedules[i]!);
    this.#metrics = new Map(facts.metrics.map(([name, value]) => [name, Number(value)]));
    this.#lrs = this.#schedules.map(({ lr }) => lr);
  }

  dispose(): void {
    this.#stepper.dispose();
  }

  #handle(event: TrainingEvent): void {
    if (event instanceof GradientBatch) {
      this.#step(event);
    } else if (event.kind === 'rejection') {
      this.#reject(event);
    } else if (event.kind === 'epoch') {
      this.#tick(event);
    } else {
      this.#metrics.set(event.name, event.value);
      acknowledge(event);
    }
  }

  #step(batch: GradientBatch): void {
    const execution = this.#execution;
    const duplicate = this.#once.refuse(batch);
    if (duplicate) {
      this.#refuse(batch, duplicate);
    } else if (execution instanceof OnPool) {
      this.#later(batch, async () => (await this.#onPool(execution, this.#stepper.admit(batch))) ?? this.#applyWhenFree());
    } else {
      const refusal = execution.finish(this.#stepper.admit(batch));
      if (refusal) this.#refuse(batch, refusal);
      else if (this.#stepper.blocked) this.#later(batch, () => this.#applyWhenFree());
      else this.#applied(batch, execution.finish(this.#stepper.apply(this.#lrs, this.#epochs)));
    }
  }

  /** Null where nobody listens any more. */
  async #applyWhenFree(): Promise<WeightsUpdate | null> {
    if (!this.#out.closed && this.#stepper.blocked) await this.#stepper.whenFree();
    if (this.#out.closed) return null;
    const step = this.#stepper.apply(this.#lrs, this.#epochs);
    return this.#execution instanceof OnPool ? this.#onPool(this.#execution, step) : this.#execution.finish(step);
  }

  async #onPool<T>(pool: OnPool, step: Generator<void, T>): Promise<T> {
    const result = pool.finish(step);
    this.#writing = result;
    try {
      return await result;
    } finally {
      this.#writing = null;
    }
  }

  #applied(batch: GradientBatch, update: WeightsUpdate): void {
    this.#once.applied(batch.facts);
    this.#rejectionsInARow = 0;
    if (this.#options.tickOn === 'step') this.#tickSchedules();
    if (channels.step.hasSubscribers) channels.step.publish({ ...update.facts, kind: 'step', at: this.#name });
    this.#out.next(update);
    acknowledge(batch);
  }

  /** Does a step that has to wait. Events that come in the meantime stand in line. */
  #later(batch: GradientBatch, step: () => Promise<WeightsUpdate | RxgradError<RejectionReason> | null>): void {
    this.#waiting = true;
    step()
      .then((result) => {
        if (this.#out.closed || !result) return;
        this.#waiting = false;
        this.#draining = true;
        if (result instanceof RxgradError) this.#refuse(batch, result);
        else this.#applied(batch, result);
        this.#drain();
      })
      .catch((error: unknown) => this.fail(error));
  }

  #drain(): void {
    let handled = 0;
    while (handled < this.#queue.length && !this.#waiting && !this.#out.closed) this.#handle(this.#queue[handled++]!);
    this.#draining = false;
    this.#queue.splice(0, handled);
    if (this.#sourceDone && !this.#waiting) this.#out.complete();
  }

  #tick(event: TrainingEvent & { kind: 'epoch' }): void {
    const refusal = this.#once.refuseEpoch(event);
    if (refusal) {
      this.#refuse(event, refusal);
      return;
    }
    if (this.#options.tickOn === 'epoch') this.#tickSchedules();
    this.#epochs += 1;
    const lr = this.#lrs[0]!;
    if (channels.epoch.hasSubscribers) channels.epoch.publish({ kind: 'epoch', at: this.#name, epoch: this.#epochs, lr });
    acknowledge(event);
  }

  /** Changes the rates of the next step. A schedule that looks at a metric gets what was reported since the last tick. */
  #tickSchedules(): void {
    const last = [...this.#metrics.values()].at(-1);
    for (const schedule of this.#schedules) schedule.tick(schedule.metric ? this.#metrics.get(schedule.metric) : last);
    this.#metrics.clear();
    this.#lrs = this.#schedules.map(({ lr }) => lr);
  }

  #refuse(event: TrainingEvent, error: RxgradError<RejectionReason>): void {
    this.#reject(rejection(error, event.delivery, event instanceof GradientBatch ? event.facts : {}));
  }

  #reject(rejected: Rejection): void {
    if (channels.rejection.hasSubscribers) channels.rejection.publish({ kind: 'rejection', at: this.#name, rejection: rejected });
    this.#options.rejections?.next?.(rejected);
    acknowledge(rejected);
    // 409: the record itself was fine, it only came twice.
    if (rejected.error.status === 409) return;
    this.#rejectionsInARow += 1;
    if (this.#rejectionsInARow < this.#options.maxRejectionsInARow) return;
    const { message } = rejected.error;
    const { error: cause } = rejected;
    this.fail(new RxgradError('tooManyRejections', { count: this.#rejectionsInARow, last: message }, { cause }));
  }
}
