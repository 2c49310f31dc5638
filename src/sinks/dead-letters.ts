import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import { isRxgradError, RxgradError } from '../errors.ts';
import type { Rejection } from '../events.ts';
import type { RejectionSink } from '../optimizers/rejections.ts';
import { count, parseOptions } from '../options.ts';
import { requireFit } from '../sources/check-topic.ts';
import type { NewRecord, Transport } from '../sources/transport.ts';
import { deadLettersOf, sizeOf } from './dead-letter.ts';

export interface DeadLettersOptions {
  /** Another one than that of the events. */
  readonly topic: string;
  /** Whether the topic is created, with one partition, where it is missing. Default true. */
  readonly create?: boolean;
  /** Whether what merely came twice (status 409) is sent, too. It is counted in any case. Default false. */
  readonly duplicates?: boolean;
  /** Letters that are not durable yet, at most: then the scan waits. Default 1000. */
  readonly maxInFlight?: number;
  /** Bytes of such letters; a larger one still goes through. Default 16 MiB. */
  readonly maxBytes?: number;
}

const schema = v.strictObject({
  topic: v.pipe(v.string(), v.nonEmpty('a name')),
  create: v.optional(v.boolean(), true),
  duplicates: v.optional(v.boolean(), false),
  maxInFlight: v.optional(count, 1000),
  maxBytes: v.optional(count, 16 << 20),
});

const RETRY_MS = 200;
const RETRY_FOR_MS = 30_000;

interface Waiter {
  readonly met: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Sends what a scan leaves out to a topic, for its option `rejections`: the record as it came, to the byte, with the reason and
 * the position in headers beside its own. None is lost: the scan acknowledges, completes and fails behind them, and where one
 * cannot be written the stream fails.
 *
 * @example
 * momentum(params, { rejections: deadLetters(transport, { topic: 'gradients.dead' }) })
 */
export function deadLetters(
  transport: Pick<Transport, 'createTopic' | 'endOffsets' | 'produce' | 'topicSettings'>,
  options: DeadLettersOptions,
): Required<RejectionSink> {
  const { topic, create, duplicates, maxInFlight, maxBytes } = parseOptions(schema, options, 'deadLetters');
  let queue: NewRecord[] = [];
  let writing = false;
  let [added, kept, bytes] = [0, 0, 0];
  let failure: unknown = null;
  let waiters: Waiter[] = [];
  let ready: Promise<void> | null = null;

  async function prepare(): Promise<void> {
    await (create ? transport.createTopic(topic) : transport.endOffsets(topic));
    await requireFit(transport, topic, 'dead-letters');
  }

  async function write(): Promise<void> {
    try {
      ready ??= prepare();
      await ready;
      while (queue.length > 0) {
        const letters = queue;
        queue = [];
        await append(letters);
        kept += letters.length;
        for (const letter of letters) bytes -= sizeOf(letter).bytes;
        settle();
      }
    } catch (error) {
      failure = failureOf(topic, error);
      queue = [];
      settle();
    } finally {
      writing = false;
    }
  }

  async function append(letters: readonly NewRecord[]): Promise<void> {
    const giveUpAtMs = Date.now() + RETRY_FOR_MS;
    for (;;) {
      try {
        await transport.produce(topic, letters);
        return;
      } catch (error) {
        if (!isRxgradError(error)) throw error;
        if (error.key === 'oversizedRecord') {
          if (letters.length === 1) throw oversized(topic, letters[0]!, error);
          // One by one: those before the one that is too large are kept.
          for (const letter of letters) await append([letter]);
          return;
        }
        if (error.disposition !== 'retry' || Date.now() > giveUpAtMs) throw error;
        await delay(RETRY_MS);
      }
    }
  }

  function settle(): void {
    const asked = waiters;
    waiters = asked.filter(({ met }) => failure === null && !met());
    for (const { met, resolve, reject } of asked) {
      if (failure !== null) reject(failure);
      else if (met()) resolve();
    }
  }

  function until(met: () => boolean): Promise<void> {
    const promise = new Promise<void>((resolve, reject) => {
      waiters.push({ met, resolve, reject });
      settle();
    });
    // Who does not wait for it is told by the next call.
    promise.catch(() => {});
    return promise;
  }

  const hasRoom = (): boolean => added - kept < maxInFlight && bytes < maxBytes;

  return {
    next(rejected: Rejection): Promise<void> | undefined {
      if (failure !== null) throw failure;
      if (rejected.error.status === 409 && !duplicates) return undefined;
      if (rejected.position?.topic === topic) {
        const expected = 'another topic than that of the events';
        throw new RxgradError('invalidOption', { option: 'deadLetters: topic', expected, got: topic });
      }
      for (const letter of deadLettersOf(rejected)) {
        queue.push(letter);
        added += 1;
        bytes += sizeOf(letter).bytes;
      }
      if (!writing) {
        writing = true;
        void write();
      }
      return hasRoom() ? undefined : until(hasRoom);
    },
    flushed(): Promise<void> {
      const upTo = added;
      return until(() => kept >= upTo);
    },
  };
}

function oversized(topic: string, letter: NewRecord, cause: RxgradError): RxgradError {
  const { rxgrad_topic: from, rxgrad_partition: partition, rxgrad_offset: offset } = letter.headers ?? {};
  const { bytes, added } = sizeOf(letter);
  const place = from === undefined ? 'an event made in process' : `${from}/${partition}@${offset}`;
  const problem = `the letter of ${place} has ${bytes} bytes, ${added} of them in the headers that say why, but a record may have ${cause.details.expected}`;
  const advice = "Let this topic take larger records than the events' own (max.message.bytes), then start again";
  return new RxgradError('deadLettersFailed', { topic, problem, advice }, { cause });
}

/** Says that nothing is lost by it. */
function failureOf(topic: string, cause: unknown): unknown {
  if (!isRxgradError(cause) || cause.key === 'deadLettersFailed') return cause;
  const advice = 'Nothing was acknowledged that is not kept: start again when this is mended';
  return new RxgradError('deadLettersFailed', { topic, problem: cause.message.replace(/\.$/, ''), advice }, { cause });
}
