import { concat, concatMap, defer, finalize, type OperatorFunction } from 'rxjs';
import {
  acknowledge,
  type Delivery,
  type EventSource,
  GradientBatch,
  type GradientFacts,
  rejection,
  type TrainingEvent,
  withoutNorm,
} from '../events.ts';
import { Once } from '../once.ts';
import { count, parseOptions } from '../options.ts';
import { operationsOf } from '../pending.ts';
import { Accumulator } from './accumulator.ts';

/**
 * Merges every `k` gradient batches into one: their mean, weighted by batch size (1 where a batch has none), for each parameter
 * over the batches that carry it. What stages asked for before is done to each first. An epoch's end and the end of the stream
 * merge what has come. Other events wait for the merged batch that they fell into; batches that cannot be used (duplicates,
 * values that are not finite, other shapes) become rejections.
 *
 * A merged batch is acknowledged as all of its parts; so a source must hand out more than `k` events at a time (`maxInFlight`).
 *
 * Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour" (2017); optax.MultiSteps.
 */
export function accumulate(k: number): OperatorFunction<TrainingEvent, TrainingEvent> {
  const size = parseOptions(count, k, 'accumulate');
  return (events$) =>
    defer(() => {
      const merging = new Merging(size);
      return concat(
        events$.pipe(concatMap((event) => merging.take(event))),
        defer(() => merging.flush()),
      ).pipe(finalize(() => merging.dispose()));
    });
}

/** One subscription's batches that wait to be merged, and what came between them. */
class Merging {
  readonly #size: number;
  readonly #once = new Once();
  readonly #accumulator = new Accumulator();
  #parts: GradientBatch[] = [];
  #held: TrainingEvent[] = [];
  #source: EventSource | null = null;

  constructor(size: number) {
    this.#size = size;
  }

  /** Takes an event in, and returns what is to be passed on. */
  take(event: TrainingEvent): TrainingEvent[] {
    this.#goOn(event.delivery?.source ?? null);
    if (!(event instanceof GradientBatch)) {
      if (event.kind === 'epoch') return [...this.flush(), event];
      return this.#holdOrPass(event);
    }
    const error = this.#once.refuse(event) ?? (this.#size === 1 ? null : this.#accumulator.add(event));
    if (error) return this.#holdOrPass(rejection(error, event.delivery, event.facts, { at: 'accumulate', event }));
    this.#once.applied(event);
    this.#parts.push(event);
    return this.#parts.length === this.#size ? this.flush() : [];
  }

  /** Merges what has come, in the order in which it came. */
  flush(): TrainingEvent[] {
    const parts = this.#parts;
    const held = this.#held;
    this.#parts = [];
    this.#held = [];
    if (parts.length === 0) return held;
    // One batch is its own mean, to the bit.
    const merged =
      parts.length === 1 ? parts[0]! : this.#accumulator.mean(factsOf(parts), deliveryOf(parts), parts.at(-1)!.pending);
    this.#accumulator.clear();
    return [merged, ...held];
  }

  dispose(): void {
    this.#accumulator.clear();
  }

  /** What was counted before a source began comes no second time. */
  #goOn(source: EventSource | null): void {
    if (source === this.#source) return;
    this.#source = source;
    if (source?.seen) this.#once.restore(source.seen);
  }

  /** Who acknowledges an event acknowledges all before it: it must not pass batches that are not applied yet. */
  #holdOrPass(event: TrainingEvent): TrainingEvent[] {
    if (this.#parts.length === 0) return [event];
    this.#held.push(event);
    return [];
  }
}

function factsOf(parts: readonly GradientBatch[]): GradientFacts {
  const facts = parts.map((part) => (clipsByOwnNorm(part) ? withoutNorm(part.facts) : part.facts));
  const weighed = facts.filter(({ loss }) => loss !== undefined).map(({ loss, batchSize = 1 }) => ({ loss: loss!, batchSize }));
  const examples = weighed.reduce((sum, { batchSize }) => sum + batchSize, 0);
  const bases = facts.flatMap(({ base }) => (base === undefined ? [] : [base]));
  return {
    base: bases.length === 0 ? undefined : Math.min(...bases),
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

function deliveryOf(parts: readonly GradientBatch[]): Delivery | null {
  const last = parts.findLast(({ delivery }) => delivery)?.delivery;
  if (!last) return null;
  const places = parts.flatMap(({ delivery }) => (delivery ? (delivery.parts ?? [delivery]) : []));
  const source = { done: () => parts.forEach(acknowledge), seen: last.source.seen };
  return { position: last.position, source, parts: places, covers: places };
}
