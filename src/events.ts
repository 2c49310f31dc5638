import type { RejectionReason, RxgradError } from './errors.ts';
import { type TensorLayout, type TensorSpec, tensorLayout } from './payload.ts';
import { materialise, normOf, type Pending } from './pending.ts';

/** A place in the log: the record at `offset` of a topic's partition. */
export interface Position {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

/** Where an event came from, and whom to tell when it is done with. */
export interface Delivery {
  readonly position: Position;
  readonly source: { done(position: Position): void };
}

/** Gradients of one parameter: the elements in row-major order, with dims where the parameter's own are not meant. */
export type GradientInput = Float32Array | { readonly dims: readonly number[]; readonly data: Float32Array };

/** What a producer says of its gradients beside the numbers. */
export interface GradientFacts {
  /** Who computed them; with `sequence` it tells a record that is seen twice. */
  readonly worker?: string | undefined;
  /** The worker's own count, rising from record to record. */
  readonly sequence?: number | undefined;
  /** Version of the weights that they were computed from. */
  readonly base?: number | undefined;
  /** Examples in the batch. */
  readonly batchSize?: number | undefined;
  readonly epoch?: number | undefined;
  /** Global norm of the whole model's gradients, where this batch is a shard of it. */
  readonly norm?: number | undefined;
  readonly loss?: number | undefined;
  /** W3C trace context. */
  readonly traceparent?: string | undefined;
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
   * The gradients by name with all pending operations done: copies, yours to keep. Slower than leaving them to the scan,
   * never different.
   */
  get gradients(): Record<string, Float32Array> {
    const { layout, payload } = this.message;
    const elements = materialise(layout, payload, this.pending);
    return Object.fromEntries(
      layout.tensors.map(({ name, at, length }) => [name, elements.subarray(at >> 2, (at >> 2) + length)]),
    );
  }

  /** Global norm of the gradients with all pending operations done; undefined where those need weights that are not given. */
  norm(): number | undefined {
    const { layout, payload } = this.message;
    return normOf(layout, payload, this.pending);
  }

  /** The same message with other gradients and nothing pending: for a `map` that changes them. */
  withGradients(gradients: Readonly<Record<string, GradientInput>>): GradientBatch {
    const dims = new Map(this.message.layout.tensors.map((tensor) => [tensor.name, tensor.dims]));
    const { layout, payload } = pack(gradients, (name) => dims.get(name) ?? null);
    return new GradientBatch({ ...this.message, layout, payload }, null);
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
  readonly position: Position | null;
  readonly worker: string | undefined;
  readonly sequence: number | undefined;
  readonly delivery: Delivery | null;
}

export type TrainingEvent = GradientBatch | EpochBoundary | MetricReport | Rejection;

/**
 * Makes a gradient batch of arrays by parameter name. The arrays are copied.
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
export function rejection(error: RxgradError<RejectionReason>, delivery: Delivery | null, facts: GradientFacts = {}): Rejection {
  return {
    kind: 'rejection',
    reason: error.key,
    error: error as RxgradError,
    position: delivery?.position ?? null,
    worker: facts.worker,
    sequence: facts.sequence,
    delivery,
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
export function placeOf(delivery: Delivery | null): string {
  if (!delivery) return 'gradient batch';
  const { topic, partition, offset } = delivery.position;
  return `${topic}/${partition}@${offset}`;
}

let lastLayout = tensorLayout([], 0);

function pack(
  gradients: Readonly<Record<string, GradientInput>>,
  dimsOf: (name: string) => readonly number[] | null,
): { layout: TensorLayout; payload: Uint8Array } {
  const tensors: TensorSpec[] = [];
  const arrays: Float32Array[] = [];
  let begin = 0;
  for (const [name, input] of Object.entries(gradients)) {
    const data = input instanceof Float32Array ? input : input.data;
    const dims = input instanceof Float32Array ? dimsOf(name) : input.dims;
    tensors.push({ name, dims, dtype: 'F32', begin, length: data.length });
    arrays.push(data);
    begin += data.byteLength;
  }
  const payload = new Float32Array(begin >> 2);
  arrays.forEach((data, i) => {
    payload.set(data, tensors[i]!.begin >> 2);
  });
  if (!sameTensors(tensors, lastLayout.tensors)) lastLayout = tensorLayout(tensors, begin);
  return { layout: lastLayout, payload: new Uint8Array(payload.buffer) };
}

function sameTensors(a: readonly TensorSpec[], b: readonly TensorSpec[]): boolean {
  return (
    a.length === b.length &&
    a.every((tensor, i) => {
      const other = b[i]!;
      return tensor.name === other.name && tensor.length === other.length && String(tensor.dims) === String(other.dims);
    })
  );
}
