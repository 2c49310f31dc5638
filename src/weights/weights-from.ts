import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Observable, type Observer } from 'rxjs';
import * as v from 'valibot';
import { type RejectionReason, RxgradError } from '../errors.ts';
import { type Position, type Rejection, rejection } from '../events.ts';
import { channels } from '../observe/channels.ts';
import { WeightsUpdate } from '../optimizers/weights-update.ts';
import { count, parseOptions } from '../options.ts';
import { Parameters } from '../params/parameters.ts';
import { requireFit } from '../sources/check-topic.ts';
import { Ending } from '../sources/ending.ts';
import { excerpt } from '../sources/excerpt.ts';
import type { Consumption, LogRecord, Transport } from '../sources/transport.ts';
import { Replica, type Shown } from './replica.ts';
import { parseWeightsHeader } from './weights-header.ts';
import { headerOf, requestRecord, requestType, weightsType } from './weights-record.ts';

export interface WeightsFromOptions {
  readonly topic: string;
  /** The model's name, as it is published under. A topic may hold several. */
  readonly model: string;
  /** What takes the weights, with the names and shapes of the model: a session's parameters, say. Default: new ones. */
  readonly into?: Parameters;
  /** Where to ask for a snapshot when something was missing: see the same option of `publishWeights`. Default: it waits for one. */
  readonly requests?: string;
  /** Is told of records that are of no use, and why: damaged ones, gaps, what is no record of weights. */
  readonly rejections?: Partial<Observer<Rejection>>;
  /** Bytes that the model's weights may have. Default 1 GiB. Twice as many may wait besides, for shards that are behind. */
  readonly maxBytes?: number;
  /** Completes behind what the topic held when it was subscribed to. Default: never completes. */
  readonly until?: 'end';
}

const name = v.pipe(v.string(), v.nonEmpty('a name'));
const schema = v.strictObject({
  topic: name,
  model: name,
  into: v.optional(v.custom<Parameters>((value) => value instanceof Parameters, 'Parameters')),
  requests: v.optional(name),
  rejections: v.optional(v.custom<Partial<Observer<Rejection>>>((value) => typeof value === 'object', 'an observer')),
  maxBytes: v.optional(count, 1 << 30),
  until: v.optional(v.literal('end')),
});

/** After which a request that nobody has answered is repeated. */
const REQUEST_AGAIN_MS = 10_000;

/**
 * Keeps a replica of a model's weights, from a topic that `publishWeights` writes to: emits an update for each version that
 * became visible, which is whole, and live in its parameters already. Versions rise, also where `retry` subscribes again with
 * `into`. Updates are what a scan's are: for `hotSwap`, `tapMetrics`, or to be published again.
 *
 * @example
 * weightsFrom(transport, { topic: 'weights', model: 'ctr', into: params }).subscribe(({ version }) => console.log(version))
 */
export function weightsFrom(transport: Transport, options: WeightsFromOptions): Observable<WeightsUpdate> {
  const { topic, model, into, requests, rejections, maxBytes, until } = parseOptions(schema, options, 'weightsFrom');
  // Subscribed to again, as `retry` does, the weights in `into` are what it has shown already.
  let before: Replica | null = null;
  return new Observable((out) => {
    const replica = new Replica(topic, into ?? null, maxBytes, into ? before : null);
    before = replica;
    // Until weights were shown, what the topic holds already may be of several courses of training.
    const isFirst = replica.visible < 0;
    const read = new Set<number>();
    const told = new Set<string | undefined>();
    const source = `${model}/replica-${randomUUID()}`;
    let ending: Ending | null = null;
    let consumption: Consumption | null = null;
    let turn: Promise<unknown> = Promise.resolve();
    let asked = 0;
    let askedAtMs = Number.NEGATIVE_INFINITY;
    let steps = 0;
    let lastShown = replica.visible;

    /** One at a time, whatever partitions they are of. */
    const inTurn = (work: () => Promise<void>): Promise<void> => {
      const done = turn.then(() => (out.closed ? undefined : work()));
      turn = done.catch((error: unknown) => out.error(error));
      return turn as Promise<void>;
    };

    const take = async (partition: number, records: readonly LogRecord[]): Promise<void> => {
      for (const record of records) {
        if (out.closed || ending?.isBehind(partition, record)) break;
        const refusal = accept(record, { topic, partition, offset: record.offset });
        if (refusal) tell(refusal);
        await show();
        ending?.reach(partition, record.offset + 1);
      }
      if (ending?.isReached) out.complete();
    };

    const accept = (record: LogRecord, position: Position): Rejection | null => {
      // The key of what is no longer there.
      if (record.value === null) return null;
      const refuse = (error: RxgradError<RejectionReason> | null) =>
        error && { ...rejection(error, null), position, worker: headerOf(record, 'ce_source') };
      const where = `${topic}/${position.partition}@${position.offset}`;
      const wrong = (expected: string, got: string) => refuse(new RxgradError('undecodable', { where, expected, got }));
      const type = headerOf(record, 'ce_type');
      if (type === requestType) return null;
      if (type !== weightsType) return wrong(`a ce_type header of ${weightsType}`, type === undefined ? 'none' : excerpt(type));
      const subject = headerOf(record, 'ce_subject');
      if (subject === undefined) return wrong('a model as ce_subject', 'none');
      if (subject !== model) return null;
      const text = headerOf(record, 'ce_weights') ?? '';
      const parsed = parseWeightsHeader(text);
      if ('problem' in parsed) return wrong('a ce_weights header as in RFC 9651', `${parsed.problem} in ${excerpt(text)}`);
      const { facts } = parsed;
      const sum = crc32(record.value);
      if (sum !== facts.crc32) {
        return refuse(replica.refuse(facts, new RxgradError('corrupted', { where, expected: facts.crc32, got: sum })));
      }
      const refusal = replica.add(facts, record.value, position, isFirst && !read.has(position.partition));
      if (refusal?.key === 'otherWeights' && !told.has(facts.course)) {
        told.add(facts.course);
        process.emitWarning(`Weights of "${model}": ${refusal.message}`, { code: 'RXGRAD_OTHER_WEIGHTS' });
      }
      return refuse(refusal);
    };

    const tell = (refused: Rejection): void => {
      if (channels.rejection.hasSubscribers)
        channels.rejection.publish({ kind: 'rejection', at: 'weightsFrom', rejection: refused });
      rejections?.next?.(refused);
    };

    const show = async (): Promise<void> => {
      const start = performance.now();
      const version = lastShown;
      const shown = await replica.advance();
      if (!shown) return;
      if (shown.version < version) {
        const was = `version ${shown.version} of another course of training takes the place of version ${version}`;
        process.emitWarning(`Weights of "${model}" on ${topic}: ${was}`, { code: 'RXGRAD_OTHER_WEIGHTS' });
      }
      lastShown = shown.version;
      if (out.closed) return;
      steps += 1;
      out.next(updateOf(shown, steps, performance.now() - start));
    };

    /** At the end of what there is: further down the log, a snapshot may follow by itself. */
    const ask = async (): Promise<void> => {
      if (requests === undefined || !replica.isBroken) return;
      const now = performance.now();
      if (now < askedAtMs + REQUEST_AGAIN_MS) return;
      askedAtMs = now;
      asked += 1;
      await transport.produce(requests, [requestRecord(model, source, asked)]);
    };
    const asking = requests === undefined ? undefined : setInterval(() => inTurn(ask), REQUEST_AGAIN_MS).unref();

    const start = async (): Promise<void> => {
      await requireFit(transport, topic, 'weights');
      if (until) ending = await Ending.of(transport, topic, 'beginning', until);
      if (out.closed) return;
      if (ending?.isReached) return out.complete();
      consumption = await transport.consume({
        topic,
        from: ending?.from ?? 'beginning',
        deliver: (_, partition, records) => inTurn(() => take(partition, records)),
        onReached(partition, nextOffset) {
          inTurn(async () => {
            read.add(partition);
            ending?.reach(partition, nextOffset);
            if (ending?.isReached) out.complete();
            else await ask();
          });
        },
        onError: (error) => out.error(error),
      });
      if (out.closed) await consumption.stop();
    };

    let entered = false;
    try {
      into?.seat.enter();
      entered = true;
      start().catch((error: unknown) => out.error(error));
    } catch (error) {
      out.error(error);
    }
    return () => {
      clearInterval(asking);
      consumption?.stop().catch(() => {});
      // What is being written is written to its end first.
      if (entered) turn.finally(() => into?.seat.leave());
    };
  });
}

/** What the publisher said of the step, as far as it did. */
function updateOf({ params, version, step, position }: Shown, count: number, durationMs: number): WeightsUpdate {
  const number = (key: string, otherwise: number): number => (typeof step[key] === 'number' ? step[key] : otherwise);
  return new WeightsUpdate(params, null, {
    version,
    step: number('step', count),
    epoch: number('epoch', 0),
    lr: number('lr', 0),
    gradientNorm: number('gradientNorm', 0),
    clipped: step.clipped === true,
    staleness: typeof step.staleness === 'number' ? step.staleness : undefined,
    position,
    durationMs,
  });
}
