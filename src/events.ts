import type { RejectionReason, RxgradError } from './errors.ts';
import { type GradientInput, pack, type SparseRows } from './pack.ts';
import type { PlacedTensor, TensorLayout } from './payload.ts';
import { afterReading, type Materialised, materialise, normOf, type Pending } from './pending.ts';
import type { LogRecord } from './record.ts';

/** A place in the log: the record at `offset` of a topic's partition. */
export interface Position {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

/** Where events come from: told which are done with. */
export interface EventSource {
  done(position: Position): void;
  /** Is told of one that is done with before others that came before it: it takes no room any more, but is not acknowledged. */
  release?(position: Position): void;
  /** What was counted before the source began, where it goes on from a checkpoint. */
  readonly seen?: OnceState | undefined;
}

/** Where an event stood, and the record that it was read from, as it came. */
export interface Place {
  readonly position: Position;
  readonly record?: LogRecord | undefined;
  /** The topic's id, where its transport knows one. */
  readonly topicId?: string | undefined;
}

/** Where an event came from, and whom to tell when it is done with. */
export interface Delivery extends Place {
  readonly source: EventSource;
  /** The places of the parts, where it was merged. */
  readonly parts?: readonly Place[] | undefined;
  /**
   * How far the log is contained in a state once this event is dealt with: each place with all before it in its partition. None
   * where a later event says it. Default: the event's own place.
   */
  readonly covers?: readonly Place[] | undefined;
  /** Batches whose parts have been seen once this event is dealt with, whatever became of them. */
  readonly merged?: readonly MergedBatch[] | undefined;
}

/** A batch that was merged from others: what it says of its parts. */
export interface MergedBatch {
  readonly facts: GradientFacts;
  readonly delivery: Delivery | null;
}

/** A column of numbers, as a tensor of a file holds it. */
export type ColumnArray = BigInt64Array | Int32Array | Int16Array | Uint8Array;

/** What was seen of a stream, for a stage or a scan to go on with. */
export interface OnceState {
  /** The last epoch; −1 before the first. */
  readonly epoch: number;
  /** Where workers were seen; null: in events made in process. */
  readonly partitions: readonly (readonly [topic: string, partition: number] | null)[];
  /** The workers and their sequences, as columns; none where there were no workers. */
  readonly arrays: Readonly<Record<string, ColumnArray>>;
}

/** What a producer says of its gradients beside the numbers. */
export interface GradientFacts {
  /** Who computed them; with `sequence` it tells a record that is seen twice. */
  readonly worker?: string | undefined;
  /** The worker's own count, rising from record to record. */
  readonly sequence?: number | undefined;
  /** Which life of the worker: a higher one begins its sequences anew. Default 0. */
  readonly incarnation?: number | undefined;
  /** Version of the weights that they were computed from. */
  readonly base?: number | undefined;
  /** Examples in the batch. */
  readonly batchSize?: number | undefined;
  readonly epoch?: number | undefined;
  /** Global norm of the whole model's gradients, of which these may be a shard. Clipping goes by it. */
  readonly norm?: number | undefined;
  readonly loss?: number | undefined;
  /** W3C trace context. */
  readonly traceparent?: string | undefined;
  /** The facts of each batch that this one was merged from. */
  readonly members?: readonly MemberFacts[] | undefined;
}

/** The facts of a batch that was merged with others, and where it stood. */
export interface MemberFacts extends GradientFacts {
  readonly position?: Position | undefined;
}

/** Whether it is known what the norm of the whole model's gradients is, or was of each batch that they were merged from. */
export function knowsNorm({ norm, members = [] }: GradientFacts): boolean {
  return norm !== undefined || (members.length > 0 && members.every(knowsNorm));
}

/** What is left to say of gradients that became others. */
export function withoutNorm<T extends GradientFacts>({ norm: _, ...facts }: T): Omit<T, 'norm'> {
  return facts.members ? { ...facts, members: facts.members.map(withoutNorm) } : facts;
}

/** A batch as it came; what stages add to it is kept beside it. */
export interface GradientMessage {
  readonly layout: TensorLayout;
  readonly payload: Uint8Array;
  readonly facts: GradientFacts;
  readonly delivery: Delivery | null;
}

/**
 * One message of gradients: tensors by parameter name, and what stages have asked to be done to them. Immutable; cheap to
 * derive from, since derived batches share the payload.
 */
export class GradientBatch {
  readonly kind = 'gradients';
  readonly message: GradientMessage;
  readonly pending: Pending | null;

  constructor(message: GradientMessage, pending: Pending | null) {
    this.message = message;
    this.pending = pending;
  }

  get facts(): GradientFacts {
    return this.message.facts;
  }

  get delivery(): Delivery | null {
    return this.message.delivery;
  }

  /**
   * The dense gradients by name as float32, with all pending operations done: copies, yours to keep. Slower than leaving them
   * to the scan, never different.
   */
  get gradients(): Record<string, Float32Array> {
    return this.#part(({ at, length }, { elements }, rows) => (rows ? null : elements.subarray(at >> 2, (at >> 2) + length)));
  }

  /**
   * The sparse gradients by name: numbers of the touched rows, each there once, and their values one row after the other.
   * Otherwise as {@link gradients}.
   */
  get rows(): Record<string, SparseRows> {
    return this.#part(({ at, length, rows: { count } = { count: 0 } }, { elements }, indices) => {
      if (!indices) return null;
      const values = elements.subarray(at >> 2, (at >> 2) + (count === 0 ? 0 : (length / count) * indices.length));
      return { indices, values };
    });
  }

  /** Norm of the gradients that are here, all pending operations done; undefined where the scan alone can do those. */
  norm(): number | undefined {
    return normOf(this.message, this.pending);
  }

  /**
   * The same message with other gradients, and what was pending done: for a `map` that changes them. Sparse ones stay by default.
   * What the producer said of their norm is left out.
   */
  withGradients(
    gradients: Readonly<Record<string, GradientInput>>,
    rows: Readonly<Record<string, SparseRows>> = this.rows,
  ): GradientBatch {
    const { tensors } = this.message.layout;
    const dims = new Map(tensors.map((tensor) => [tensor.name, tensor.dims]));
    const given = new Map(Object.entries({ ...gradients, ...rows }));
    // In the order in which they were, which the sum of squares follows.
    const names = new Set([...tensors.map(({ name }) => name), ...given.keys()]);
    const inputs = Object.fromEntries([...names].filter((name) => given.has(name)).map((name) => [name, given.get(name)!]));
    const { layout, payload } = pack(inputs, (name) => dims.get(name) ?? null);
    return new GradientBatch({ ...this.message, layout, payload, facts: withoutNorm(this.facts) }, afterReading(this.pending));
  }

  #part<T>(of: (tensor: PlacedTensor, all: Materialised, rows: Int32Array | null) => T | null): Record<string, T> {
    const { layout } = this.message;
    const all = materialise(this.message, this.pending);
    const parts = layout.tensors.map((tensor, i) => [tensor.name, of(tensor, all, all.rows[i]!)] as const);
    return Object.fromEntries(parts.filter((entry): entry is readonly [string, T & {}] => entry[1] !== null));
  }
}

/** An epoch ended: the schedule ticks once, if its number is higher than those seen. */
export interface EpochBoundary {
  readonly kind: 'epoch';
  readonly epoch: number;
  readonly delivery: Delivery | null;
}

/** A measurement that arrives in the stream: feeds ReduceLROnPlateau, gates and drift detectors. */
export interface MetricReport {
  readonly kind: 'metric';
  readonly name: string;
  readonly value: number;
  readonly delivery: Delivery | null;
}

/** An event that could not be used, as a value: why, where it stood, and the error that says it in words. */
export interface Rejection {
  readonly kind: 'rejection';
  readonly reason: RejectionReason;
  readonly error: RxgradError;
  /** What rejected it: `source`, a stage, or the rule of a scan. */
  readonly at: string;
  readonly position: Position | null;
  readonly worker: string | undefined;
  readonly sequence: number | undefined;
  readonly delivery: Delivery | null;
  /** What was rejected, where it could be read. */
  readonly event: GradientBatch | EpochBoundary | null;
}

export type TrainingEvent = GradientBatch | EpochBoundary | MetricReport | Rejection;

/**
 * Makes a gradient batch of arrays by parameter name. The arrays are copied. For a table of which few rows were touched:
 * `{ indices, values }`, where rows with the same number are added up.
 *
 * @example
 * gradientBatch({ gradients: { 'dense.weight': new Float32Array(12) }, worker: 'w1', sequence: 7, batchSize: 32 })
 */
export function gradientBatch(
  batch: { readonly gradients: Readonly<Record<string, GradientInput>> } & GradientFacts,
): GradientBatch {
  const { gradients, ...facts } = batch;
  const { layout, payload } = pack(gradients, () => null);
  return new GradientBatch({ layout, payload, facts, delivery: null }, null);
}

/** Makes the event that ends an epoch. Epochs are numbered upwards; a number that is not higher is rejected. */
export function epochBoundary(epoch: number): EpochBoundary {
  return { kind: 'epoch', epoch, delivery: null };
}

/** Makes the event that reports a metric. */
export function metricReport(report: { readonly name: string; readonly value: number }): MetricReport {
  return { kind: 'metric', name: report.name, value: report.value, delivery: null };
}

/** Makes a rejection of an error whose disposition is to skip. */
export function rejection(
  error: RxgradError<RejectionReason>,
  delivery: Delivery | null,
  facts: GradientFacts = {},
  { at = 'source', event = null }: Partial<Pick<Rejection, 'at' | 'event'>> = {},
): Rejection {
  return {
    kind: 'rejection',
    reason: error.key,
    error: error as RxgradError,
    at,
    position: delivery?.position ?? null,
    worker: facts.worker,
    sequence: facts.sequence,
    delivery,
    event,
  };
}

/**
 * Tells the source that an event was dealt with, and everything before it in its partition. Scans do it by themselves; who
 * ends a pipe without one, or drops events in it for good, has to, or the source stops at its limit of events in flight.
 */
export function acknowledge(event: TrainingEvent): void {
  event.delivery?.source.done(event.delivery.position);
}

/** Words for where an event stood, for errors. */
export function placeOf(delivery: Place | null): string {
  if (!delivery) return 'gradient batch';
  const { topic, partition, offset } = delivery.position;
  return `${topic}/${partition}@${offset}`;
}
