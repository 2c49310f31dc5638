import { concat, concatMap, defer, finalize, type OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import { type RejectionReason, RxgradError } from '../errors.ts';
import {
  acknowledge,
  type Delivery,
  GradientBatch,
  type GradientFacts,
  type MergedBatch,
  type OnceState,
  type Position,
  placeOf,
  type Rejection,
  rejection,
  type TrainingEvent,
  withoutNorm,
} from '../events.ts';
import { Once } from '../once.ts';
import { count, parseOptions } from '../options.ts';
import { afterReading, operationsOf, type Pending } from '../pending.ts';
import { RETRY } from '../worker-id.ts';
import { Accumulator } from './accumulator.ts';

export interface AccumulateOptions {
  /**
   * Whether the end of the stream merges the batches that have come, as the end of an epoch does. A run that goes on from there
   * then differs from one that was never ended. Default false: they are not applied, and are read again by the next run.
   */
  readonly applyAtEnd?: boolean;
}

const schema = v.strictObject({ applyAtEnd: v.optional(v.boolean(), false) });

/**
 * Merges every `k` gradient batches into one: their mean, weighted by batch size (1 where a batch has none), for each parameter
 * over the batches that carry it. Operations of earlier stages are done to each batch first. The end of an epoch merges the
 * batches that have come; the end of the stream does not, unless `applyAtEnd` says so. Other events pass at once; batches that
 * cannot be used (duplicates, values that are not finite, a parameter of another shape than those before it) become rejections.
 * Where more were rejected for their shape than wait, those that wait are the wrong ones, and are rejected, too.
 *
 * A retried dead letter is a step of its own, after the batches that have come, which are merged: only the scan knows whether it was
 * applied before.
 *
 * No state is kept here: until a merged batch is dealt with, the log counts as read up to its first part. So a run that goes on
 * from a checkpoint reads the parts again, and merges the same ones. A batch that was merged has been seen, also where the scan
 * rejects what came of it.
 *
 * A merged batch is acknowledged as all of its parts; so a source must hand out more than `k` batches at a time (`maxInFlight`).
 *
 * Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour" (2017); optax.MultiSteps.
 */
export function accumulate(k: number, options: AccumulateOptions = {}): OperatorFunction<TrainingEvent, TrainingEvent> {
  const size = parseOptions(count, k, 'accumulate');
  const { applyAtEnd } = parseOptions(schema, options, 'accumulate');
  return (events$) =>
    defer(() => {
      const merging = new Merging(size, applyAtEnd);
      return concat(
        events$.pipe(concatMap((event) => merging.take(event))),
        defer(() => merging.end()),
      ).pipe(finalize(() => merging.dispose()));
    });
}

/** One subscription's batches that wait to be merged. */
class Merging {
  readonly #size: number;
  readonly #applyAtEnd: boolean;
  readonly #once = new Once();
  readonly #accumulator = new Accumulator();
  readonly #mark: (pending: Pending | null, done: boolean) => Pending;
  #parts: GradientBatch[] = [];
  /** How many did not fit them. */
  #misfits = 0;
  /** The parts, and the events that have passed since the first of them. */
  #taken: TrainingEvent[] = [];
  /** Merged batches that nobody is known to have dealt with yet: a stage may have dropped them. */
  #unsettled: { readonly batch: MergedBatch; readonly serial: number }[] = [];
  #serial = 0;
  #seen: OnceState | undefined;

  constructor(size: number, applyAtEnd: boolean) {
    this.#size = size;
    this.#applyAtEnd = applyAtEnd;
    this.#mark = marker(size, applyAtEnd);
  }

  /** Takes an event in, and gives what is to be passed on; what comes next sees the weights that it came to. */
  *take(event: TrainingEvent): Generator<TrainingEvent> {
    this.#goOn(event.delivery?.source.seen);
    if (event instanceof GradientBatch) yield* this.#add(event);
    // One that does not count ends nothing: the scan rejects it.
    else if (event.kind !== 'epoch' || this.#once.refuseEpoch(event)) yield this.#pass(event);
    else {
      yield* this.#merge();
      yield this.#tell(event);
    }
  }

  /** What is to be passed on as the stream ends. */
  end(): TrainingEvent[] {
    if (this.#applyAtEnd || this.#parts.length === 0) return this.#merge();
    const { delivery } = this.#parts[0]!;
    const from = delivery
      ? `, from ${placeOf(delivery)} on. They are not applied; the next run reads them again`
      : '. They are not applied';
    process.emitWarning(
      `accumulate(${this.#size}): the stream ended after ${this.#parts.length} of ${this.#size} batches${from}. ` +
        'To apply them at the end, give { applyAtEnd: true }',
      { code: 'RXGRAD_PARTS_LEFT' },
    );
    return [];
  }

  dispose(): void {
    this.#begin();
  }

  #begin(): void {
    this.#accumulator.clear();
    this.#parts = [];
    this.#taken = [];
    this.#misfits = 0;
  }

  *#add(batch: GradientBatch): Generator<TrainingEvent> {
    if (batch.facts.worker?.startsWith(RETRY)) {
      // A step that stood between the parts could not be told from one before them.
      yield* this.#merge();
      yield this.#pass(new GradientBatch(batch.message, this.#mark(batch.pending, false)));
      return;
    }
    const repeated = this.#once.refuse(batch);
    const misfit = repeated ? null : this.#accumulator.misfit(batch);
    if (misfit && ++this.#misfits > this.#parts.length) {
      yield* this.#giveUp(batch, misfit);
      return;
    }
    const error = repeated ?? misfit ?? (this.#size === 1 ? null : this.#accumulator.add(batch));
    if (error) {
      yield this.#pass(refused(batch, error));
      return;
    }
    this.#once.applied(batch);
    this.#parts.push(batch);
    this.#taken.push(batch);
    if (this.#parts.length === this.#size) yield* this.#merge();
  }

  /** Rejects the batches that have come, and the one that says they are of the wrong shape, since most do: it covers them all. */
  *#giveUp(batch: GradientBatch, misfit: Refused): Generator<TrainingEvent> {
    const parts = this.#parts;
    const taken = this.#taken;
    const { parameter, expected: got, got: expected } = misfit.details;
    for (const part of parts) {
      const details = {
        where: placeOf(part.delivery),
        parameter: String(parameter),
        expected: String(expected),
        got: String(got),
      };
      yield this.#pass(refused(part, new RxgradError('wrongShape', details)));
    }
    this.#begin();
    const delivery = deliveryOf([batch], [...taken, batch]);
    yield this.#tell({
      ...refused(batch, misfit),
      delivery: delivery && { ...delivery, merged: [...(delivery.merged ?? []), ...parts] },
    });
  }

  /** Merges the batches that have come, in the order in which they came. */
  #merge(): TrainingEvent[] {
    const parts = this.#parts;
    const taken = this.#taken;
    if (parts.length === 0) return [];
    const delivery = deliveryOf(parts, taken);
    const { message, pending } = parts.at(-1)!;
    // One batch is its own mean, to the bit.
    const merged =
      parts.length === 1
        ? new GradientBatch({ ...message, delivery }, this.#mark(pending, false))
        : this.#accumulator.mean(factsOf(parts), delivery, this.#mark(pending, true));
    this.#begin();
    if (delivery) this.#unsettled.push({ batch: { facts: merged.facts, delivery }, serial: ++this.#serial });
    return [this.#tell(merged)];
  }

  /** What was counted before a source began comes no second time. */
  #goOn(seen: OnceState | undefined): void {
    if (!seen || seen === this.#seen) return;
    this.#seen = seen;
    this.#once.restore(seen);
  }

  /** Passes an event on. Whoever is done with it must not pass batches that are not applied yet. */
  #pass(event: TrainingEvent): TrainingEvent {
    const { delivery } = event;
    if (this.#parts.length === 0 || !delivery) return this.#tell(event);
    this.#taken.push(event);
    const { source, position } = delivery;
    const released = { done: () => source.release?.(position), seen: source.seen };
    return delivered(event, { ...delivery, source: released, covers: [], merged: [] });
  }

  /** Lets whoever deals with an event know what was merged until then. One that covers nothing cannot say that parts were seen. */
  #tell<E extends TrainingEvent>(event: E): E {
    const { delivery } = event;
    if (!delivery || delivery.covers?.length === 0 || this.#unsettled.length === 0) return event;
    const serial = this.#serial;
    const { source } = delivery;
    const merged = [...(delivery.merged ?? []), ...this.#unsettled.map(({ batch }) => batch)];
    const done = (position: Position): void => {
      this.#unsettled = this.#unsettled.filter((one) => one.serial > serial);
      source.done(position);
    };
    return delivered(event, { ...delivery, merged, source: { ...source, done } });
  }
}

type Refused = RxgradError<RejectionReason>;

function refused(batch: GradientBatch, error: Refused): Rejection {
  return rejection(error, batch.delivery, batch.facts, { at: 'accumulate', event: batch });
}

function delivered<E extends TrainingEvent>(event: E, delivery: Delivery): E {
  if (event instanceof GradientBatch) return new GradientBatch({ ...event.message, delivery }, event.pending) as E;
  return { ...event, delivery };
}

/** Makes what a merged batch, or a single one in its place, has pending: batches of the same stages share it. */
function marker(size: number, applyAtEnd: boolean): (pending: Pending | null, done: boolean) => Pending {
  let last: { asked: Pending | null; done: boolean; marked: Pending } | null = null;
  return (asked, done) => {
    if (last?.asked !== asked || last.done !== done) {
      const operation = { op: 'accumulate', size, applyAtEnd, asked: operationsOf(asked) } as const;
      last = { asked, done, marked: { operation, previous: done ? afterReading(asked) : asked } };
    }
    return last.marked;
  };
}

function factsOf(parts: readonly GradientBatch[]): GradientFacts {
  const facts = parts.map((part) => (clipsByOwnNorm(part) ? withoutNorm(part.facts) : part.facts));
  const weighed = facts.filter(({ loss }) => loss !== undefined).map(({ loss, batchSize = 1 }) => ({ loss: loss!, batchSize }));
  const examples = weighed.reduce((sum, { batchSize }) => sum + batchSize, 0);
  const bases = facts.flatMap(({ base }) => (base === undefined ? [] : [base]));
  return {
    base: bases.length === 0 ? undefined : bases.reduce((least, base) => Math.min(least, base)),
    batchSize: facts.reduce((sum, { batchSize = 1 }) => sum + batchSize, 0),
    epoch: facts.at(-1)!.epoch,
    loss: examples === 0 ? undefined : weighed.reduce((sum, { loss, batchSize }) => sum + loss * batchSize, 0) / examples,
    members: parts.flatMap(({ delivery }, i) => facts[i]!.members ?? [{ ...facts[i]!, position: delivery?.position }]),
  };
}

/** Whether a batch that was merged before was clipped since, by the norm of what is here. */
function clipsByOwnNorm({ facts, pending }: GradientBatch): boolean {
  return facts.norm === undefined && operationsOf(pending).some(({ op }) => op === 'clipByGlobalNorm');
}

function deliveryOf(parts: readonly GradientBatch[], taken: readonly TrainingEvent[]): Delivery | null {
  const last = parts.findLast(({ delivery }) => delivery)?.delivery;
  if (!last) return null;
  return {
    position: last.position,
    source: { done: () => taken.forEach(acknowledge), seen: last.source.seen },
    parts: parts.flatMap(({ delivery }) => (delivery ? (delivery.parts ?? [delivery]) : [])),
    covers: taken.flatMap(({ delivery }) => (delivery ? (delivery.covers ?? [delivery]) : [])),
    merged: taken.flatMap(({ delivery }) => delivery?.merged ?? []),
  };
}
