import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { Subject, type Subscriber } from 'rxjs';
import { type RejectionReason, RxgradError } from '../errors.ts';
import { GradientBatch, type Rejection, type TrainingEvent } from '../events.ts';
import { channels } from '../observe/channels.ts';
import type { KeptScan } from '../params/scan-seat.ts';
import type { KeptState } from '../params/state-dict.ts';
import { type InPlace, OnPool, TOGETHER } from './execution.ts';
import type { Rates } from './rates.ts';
import { Rejections } from './rejections.ts';
import type { ScanShape } from './scan-facts.ts';
import { ScanMemory } from './scan-memory.ts';
import type { ParsedScanOptions } from './scan-options.ts';
import type { Stepper } from './stepper.ts';
import type { WeightsUpdate } from './weights-update.ts';

/**
 * One subscription's scan: takes events one by one, waiting where a step runs on other threads, or where a reader still holds
 * what it would write.
 */
export class RunningScan implements KeptScan {
  readonly failed$ = new Subject<void>();
  readonly #stepper: Stepper;
  readonly #execution: InPlace | OnPool;
  readonly #rule: string;
  readonly #options: ParsedScanOptions;
  readonly #out: Subscriber<WeightsUpdate>;
  readonly #memory: ScanMemory;
  readonly #rejections: Rejections;
  #queue: TrainingEvent[] = [];
  #waiting = false;
  // A part of a step that other threads are at: memory must stay.
  #writing: Promise<unknown> | null = null;
  // Set while what was queued is handled: what subscribers send in the meantime goes to the end of the line.
  #draining = false;
  #sourceDone = false;
  #handled = 0;
  // Set once no event is taken any more, though the stream has yet to end.
  #ending = false;

  constructor(
    stepper: Stepper,
    execution: InPlace | OnPool,
    rates: Rates,
    shape: ScanShape,
    options: ParsedScanOptions,
    out: Subscriber<WeightsUpdate>,
  ) {
    this.#stepper = stepper;
    this.#execution = execution;
    this.#memory = new ScanMemory(stepper, rates, shape);
    this.#rule = shape.rule;
    this.#options = options;
    this.#out = out;
    const { rejections = {}, maxRejectionsInARow } = options;
    this.#rejections = new Rejections(rejections, maxRejectionsInARow, shape.rule, (error) => this.fail(error));
  }

  next(event: TrainingEvent): void {
    if (this.#ending) return;
    if (!this.#waiting && !this.#draining) this.#handle(event);
    else {
      this.#queue.push(event);
      this.#takeAhead();
    }
  }

  complete(): void {
    this.#sourceDone = true;
    if (!this.#waiting && !this.#draining) this.#endBehindRejections(() => this.#out.complete());
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

  /** Resolves when all that was left out is kept. */
  rejectionsKept(): Promise<void> {
    return this.#rejections.kept();
  }

  /** Acknowledges nothing any more. */
  close(): void {
    this.#rejections.close();
  }

  get busy(): boolean {
    return this.#writing !== null;
  }

  get settled(): boolean {
    return !this.#waiting && this.#queue.length === 0;
  }

  get handled(): number {
    return this.#handled;
  }

  get positions(): KeptScan['positions'] {
    return this.#memory.reached.state();
  }

  /** Is told what the weights contain of logs, though the state begins anew. */
  begin(before: KeptScan['positions']): void {
    this.#memory.reached.begin(before);
  }

  state(): KeptState {
    return this.#memory.state();
  }

  /** Goes on from where another scan was. */
  restore(kept: KeptState): void {
    this.#memory.restore(kept);
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
      this.#memory.rates.report(event.name, event.value);
      this.#done(event);
    }
  }

  #step(batch: GradientBatch): void {
    const execution = this.#execution;
    const duplicate = this.#memory.once.refuse(batch);
    if (duplicate) {
      this.#refuse(batch, duplicate);
    } else if (execution instanceof OnPool) {
      this.#later(batch, async () => (await this.#onPool(execution, this.#stepper.admit(batch))) ?? this.#applyWhenFree());
    } else {
      const refusal = execution.finish(this.#stepper.admit(batch));
      if (refusal) this.#refuse(batch, refusal);
      else if (this.#stepper.blocked) this.#later(batch, () => this.#applyWhenFree());
      else this.#applied(batch, execution.finish(this.#stepper.apply(this.#memory.rates.lrs, this.#memory.rates.epochs)));
    }
  }

  /** Null where nobody listens any more. */
  async #applyWhenFree(): Promise<WeightsUpdate | null> {
    while (!this.#out.closed && this.#stepper.blocked) await this.#stepper.whenFree();
    if (this.#out.closed) return null;
    const step = this.#stepper.apply(this.#memory.rates.lrs, this.#memory.rates.epochs);
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
    this.#memory.once.applied(batch);
    this.#memory.note(batch.delivery);
    this.#handled += 1;
    this.#rejections.applied();
    if (this.#options.tickOn === 'step') this.#memory.rates.tick();
    if (channels.step.hasSubscribers) channels.step.publish({ ...update.facts, kind: 'step', at: this.#rule });
    const { outlier, position } = update.facts;
    if (outlier && channels.outlier.hasSubscribers)
      channels.outlier.publish({ ...outlier, kind: 'outlier', at: this.#rule, position });
    this.#out.next(update);
    this.#rejections.acknowledge(batch);
  }

  /** Does a step that has to wait. */
  #later(batch: GradientBatch, step: () => Promise<WeightsUpdate | RxgradError<RejectionReason> | null>): void {
    this.#wait(step(), (result) => {
      if (result instanceof RxgradError) this.#refuse(batch, result);
      else if (result) this.#applied(batch, result);
    });
  }

  /** Waits for something, then does what follows from it. Events that come in the meantime stand in line. */
  #wait<T>(awaited: PromiseLike<T>, then: (result: T) => void): void {
    this.#waiting = true;
    Promise.resolve(awaited)
      .then((result) => {
        if (this.#out.closed) return;
        this.#waiting = false;
        this.#draining = true;
        then(result);
        this.#drain();
      })
      .catch((error: unknown) => this.fail(error));
  }

  #drain(): void {
    let handled = 0;
    while (handled < this.#queue.length && !this.#waiting && !this.#ending && !this.#out.closed)
      this.#handle(this.#queue[handled++]!);
    this.#draining = false;
    this.#queue.splice(0, handled);
    this.#takeAhead();
    if (this.#sourceDone && !this.#waiting) this.#endBehindRejections(() => this.#out.complete());
  }

  /** Takes in the batch that stands first in line, while a long step runs on other threads. */
  #takeAhead(): void {
    if (!this.#waiting || !(this.#execution instanceof OnPool) || this.#stepper.isAhead) return;
    const next = this.#queue.find((event) => event instanceof GradientBatch);
    if (!next || next.message.layout.elements <= TOGETHER) return;
    const taking = this.#stepper.takeAhead(next);
    const drive = async (): Promise<void> => {
      while (!this.#out.closed && !taking.next().done) await eventLoopTurn();
    };
    drive().catch((error: unknown) => this.fail(error));
  }

  #tick(event: TrainingEvent & { kind: 'epoch' }): void {
    const refusal = this.#memory.once.refuseEpoch(event);
    if (refusal) {
      this.#refuse(event, refusal);
      return;
    }
    if (this.#options.tickOn === 'epoch') this.#memory.rates.tick();
    this.#memory.rates.endEpoch();
    const lr = this.#memory.rates.lrs[0]!;
    if (channels.epoch.hasSubscribers)
      channels.epoch.publish({ kind: 'epoch', at: this.#rule, epoch: this.#memory.rates.epochs, lr });
    this.#done(event);
  }

  /** Ends what there was to do with an event that makes no version. */
  #done(event: TrainingEvent): void {
    this.#memory.note(event.delivery);
    this.#handled += 1;
    this.#rejections.acknowledge(event);
  }

  #refuse(event: TrainingEvent, error: RxgradError<RejectionReason>): void {
    this.#reject(this.#rejections.of(event, error));
  }

  #reject(rejected: Rejection): void {
    const room = this.#rejections.pass(rejected);
    this.#done(rejected);
    const failure = this.#rejections.count(rejected);
    if (failure) this.#endBehindRejections(() => this.fail(failure));
    else if (room) this.#wait(room, () => {});
  }

  /** Ends the stream once all that was left out is kept; the source is let go at once. */
  #endBehindRejections(end: () => void): void {
    if (this.#ending) return;
    const { keeping } = this.#rejections;
    if (!keeping) {
      end();
      return;
    }
    this.#ending = true;
    this.failed$.next();
    keeping.then(() => {
      if (!this.#out.closed) end();
    });
  }
}
