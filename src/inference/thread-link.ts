import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Tensor } from 'onnxruntime-node';
import type { Slot, SlotFacts } from '../params/left-right.ts';
import { frameBytes, readFrame, writeFrame } from './tensor-frame.ts';

/** What both ends of a link know. Survives `workerData`; the port is to be transferred. */
export interface SharedLink {
  readonly words: Int32Array;
  readonly port: MessagePort;
}

/** Requests on their way at once: one that is being computed, and the next. */
export const LANES = 2;

// Each word has a cache line of its own.
const WORDS = 16;
/** How many requests were made, up to {@link COUNTS}. That bit says that there will be no more, the sign that the thread is to stop. */
export const REQUESTED = 0;
/** How many were answered, up to {@link COUNTS}. */
export const ANSWERED = WORDS;
/** Whether the thread is at work (1), or waits. */
export const BUSY = 2 * WORDS;
export const COUNTS = 2 ** 30;
export const STOPPED = -(2 ** 31);
// What is on its way in a lane, beside what is in memory.
const BESIDE = 3 * WORDS;
const NOTHING = 0;
const BUFFER = 1;
const PROBLEM = 2;

/** Where a frame begins, behind numbers in float64: the slot of a request, or the facts of an answer. */
const FRAME = 64;
const SMALLEST_BYTES = 2 ** 12;

export function linkWords(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * WORDS * (3 + 2 * LANES)));
}

/**
 * One direction of a link: tensors in shared memory that is used again, one piece a lane. A wake by Atomics and a look at
 * memory take half the time of a message (measured 24 instead of 46 µs there and back). A port beside it carries what is rare:
 * larger memory, and problems.
 */
export class TensorLane {
  readonly #link: SharedLink;
  readonly #beside: number;
  #buffer = new SharedArrayBuffer(0);
  #numbers = new Float64Array(this.#buffer);

  /** `direction` 0 leads to the thread, 1 back. */
  constructor(link: SharedLink, direction: 0 | 1, lane: number) {
    this.#link = link;
    this.#beside = BESIDE + (direction * LANES + lane) * WORDS;
  }

  write(numbers: readonly number[], tensors: readonly Tensor[]): void {
    const bytes = FRAME + frameBytes(tensors);
    const isLarger = bytes > this.#buffer.byteLength;
    if (isLarger) this.#use(new SharedArrayBuffer(Math.max(SMALLEST_BYTES, 2 ** Math.ceil(Math.log2(bytes)))));
    this.#numbers.set(numbers);
    writeFrame(this.#buffer, FRAME, tensors);
    if (isLarger) this.#link.port.postMessage(this.#buffer);
    this.#link.words[this.#beside] = isLarger ? BUFFER : NOTHING;
  }

  fail(problem: string): void {
    this.#link.port.postMessage(problem);
    this.#link.words[this.#beside] = PROBLEM;
  }

  /** What was written last: tensors, lent until the next is written, or a problem. */
  read(names: readonly string[]): { numbers: Float64Array; tensors: Record<string, Tensor> } | string {
    const beside = this.#link.words[this.#beside];
    const received = beside === NOTHING ? null : this.#receive();
    if (typeof received === 'string') return received;
    if (received) this.#use(received);
    return { numbers: this.#numbers, tensors: readFrame(this.#buffer, FRAME, names) };
  }

  #receive(): SharedArrayBuffer | string {
    // Nothing comes where the other end is gone.
    return receiveMessageOnPort(this.#link.port)?.message ?? 'what belongs to it was lost';
  }

  #use(buffer: SharedArrayBuffer): void {
    this.#buffer = buffer;
    this.#numbers = new Float64Array(buffer, 0, FRAME / 8);
  }
}

/** The numbers before a request: where the weights lie that it is to be run with. */
export function requestNumbers(slot: Slot | null): number[] {
  return [slot ?? -1];
}

export function slotOf(numbers: Float64Array): Slot | null {
  return numbers[0]! < 0 ? null : numbers[0]!;
}

/** The numbers before an answer. */
export function answerNumbers({ version, madeAtMs, topic, partition, offset }: SlotFacts, durationMs: number): number[] {
  return [version, madeAtMs, topic, partition, offset, durationMs];
}

export function answerOf(numbers: Float64Array): { weights: SlotFacts; durationMs: number } {
  const [version, madeAtMs, topic, partition, offset, durationMs] = numbers as unknown as number[];
  return {
    weights: { version: version!, madeAtMs: madeAtMs!, topic: topic!, partition: partition!, offset: offset! },
    durationMs: durationMs!,
  };
}
