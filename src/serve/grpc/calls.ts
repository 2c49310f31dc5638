import { once } from 'node:events';
import type { Message } from '@bufbuild/protobuf';
import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  type Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  status,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { isRxgradError } from '../../errors.ts';
import type { InferContext } from '../infer-request.ts';
import { requestIdOf, traceOf } from '../tracing.ts';
import type { Received } from './service-definition.ts';
import { statusOf } from './status.ts';

export interface CallSettings {
  readonly log: Logger;
  /** How long an answer may take where the client names no deadline, or a later one. */
  readonly deadlineMs: number | undefined;
}

type AnyCall = ServerUnaryCall<unknown, unknown> | ServerDuplexStream<unknown, unknown>;

/** One call from its beginning to the line in the log. */
class Call {
  readonly #call: AnyCall;
  readonly #settings: CallSettings;
  readonly #method: string;
  readonly #startedAt = performance.now();
  readonly #giveUp = new AbortController();
  readonly #onCancelled = () => this.#giveUp.abort();
  readonly id: string;

  constructor(call: AnyCall, settings: CallSettings, method: string) {
    this.#call = call;
    this.#settings = settings;
    this.#method = method;
    this.id = requestIdOf(textOf(call.metadata, 'x-request-id'));
    call.once('cancelled', this.#onCancelled);
  }

  get context(): InferContext {
    const deadline = this.#call.getDeadline();
    const leftMs = Number(deadline) - Date.now();
    const { deadlineMs: most = Number.POSITIVE_INFINITY } = this.#settings;
    const deadlineMs = Math.min(most, Math.max(1, leftMs));
    return { signal: this.#giveUp.signal, deadlineMs: Number.isFinite(deadlineMs) ? deadlineMs : undefined };
  }

  /** Notes how it ended; `error` is null where it went well. */
  end(error: unknown): ReturnType<typeof statusOf> | null {
    this.#call.off('cancelled', this.#onCancelled);
    const failed = error === null ? null : statusOf(error);
    failed?.metadata.set('x-request-id', this.id);
    // What the client does not wait for any more ended for it as it says, whatever came of it here.
    const code = this.#giveUp.signal.aborted ? this.#lostAs() : (failed?.code ?? status.OK);
    const facts = {
      requestId: this.id,
      ...traceOf(textOf(this.#call.metadata, 'traceparent')),
      method: this.#method,
      status: status[code],
      durationMs: Math.round((performance.now() - this.#startedAt) * 1000) / 1000,
    };
    const { log } = this.#settings;
    if (failed?.code === status.INTERNAL && !isRxgradError(error)) log.error({ ...facts, err: error }, 'a call failed');
    else if (failed) log.info({ ...facts, error: failed.details }, 'call');
    else log.info(facts, 'call');
    return failed;
  }

  #lostAs(): status {
    return Number(this.#call.getDeadline()) <= Date.now() ? status.DEADLINE_EXCEEDED : status.CANCELLED;
  }
}

/** Answers one message with another. */
export function unary<I extends Message, O extends Message>(
  settings: CallSettings,
  method: string,
  answer: (request: I, call: Call) => O | Promise<O>,
): handleUnaryCall<Received<I>, O> {
  return async (call, callback) => {
    const context = new Call(call, settings, method);
    try {
      if (isRxgradError(call.request)) throw call.request;
      const response = await answer(call.request as I, context);
      context.end(null);
      callback(null, response);
    } catch (error) {
      callback(context.end(error));
    }
  };
}

/** Answers each message of a stream, one after the other. `answer` does not fail; what it makes of a failure is an answer. */
export function streamed<I extends Message, O extends Message>(
  settings: CallSettings,
  method: string,
  answer: (request: Received<I>, call: Call) => Promise<O>,
): handleBidiStreamingCall<Received<I>, O> {
  return async (call) => {
    const context = new Call(call, settings, method);
    try {
      for await (const request of call) {
        const hasRoom = call.write(await answer(request as Received<I>, context));
        if (!hasRoom) await once(call, 'drain', { signal: context.context.signal });
      }
      context.end(null);
      call.end();
    } catch (error) {
      context.end(error);
      // Who is gone gets no answer; anything else ends the stream with its status.
      if (!call.cancelled) call.emit('error', statusOf(error));
    }
  };
}

function textOf(metadata: Metadata, name: string): string | undefined {
  const [value] = metadata.get(name);
  return typeof value === 'string' ? value : undefined;
}
