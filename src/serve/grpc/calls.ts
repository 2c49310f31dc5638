import { once } from 'node:events';
import type { Message } from '@bufbuild/protobuf';
import {
  type handleBidiStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  status,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { isRxgradError } from '../../errors.ts';
import type { InferContext } from '../infer-request.ts';
import { requestIdOf } from '../request-id.ts';
import { shownText } from '../shown-text.ts';
import { type TraceContext, traceContext, traceparentOf } from '../trace-context.ts';
import { countAnswered, countDecoded } from './counted-calls.ts';
import type { Received } from './service-definition.ts';
import { statusOf } from './status.ts';

export interface CallSettings {
  readonly log: Logger;
  /** One in so many calls that went well is logged at `info`, the others at `debug`; 0 for none. */
  readonly logEvery: number;
  /** How long an answer may take where the client names no deadline, or a later one. */
  readonly predictMs: number;
}

type AnyCall = ServerUnaryCall<unknown, unknown> | ServerDuplexStream<unknown, unknown>;

/** Where the server is at fault, or cannot do what it should. */
const faults: ReadonlySet<status> = new Set([status.INTERNAL, status.UNAVAILABLE, status.DEADLINE_EXCEEDED]);

/** One call from its beginning to the line in the log. */
export class Call {
  readonly #call: AnyCall;
  readonly #settings: CallSettings;
  readonly #method: string;
  readonly #startedAt = performance.now();
  readonly #giveUp = new AbortController();
  readonly #onCancelled = () => this.#giveUp.abort();
  readonly #id: string;
  #knownTrace: TraceContext | undefined;

  constructor(call: AnyCall, settings: CallSettings, method: string) {
    this.#call = call;
    this.#settings = settings;
    this.#method = method;
    this.#id = requestIdOf(headerOf(call.metadata, 'x-request-id'));
    call.once('cancelled', this.#onCancelled);
  }

  get #trace(): TraceContext {
    this.#knownTrace ??= traceContext(headerOf(this.#call.metadata, 'traceparent'));
    return this.#knownTrace;
  }

  get context(): Required<InferContext> {
    const leftMs = Math.max(1, Number(this.#call.getDeadline()) - Date.now());
    return {
      signal: this.#giveUp.signal,
      deadlineMs: Math.min(this.#settings.predictMs, leftMs),
      origin: () => ({ requestId: this.#id, traceId: this.#trace.traceId, spanId: this.#trace.spanId }),
    };
  }

  /** Counts what the message that is being answered has become. */
  countDecoded(bytes: number): void {
    countDecoded(this.#call.metadata, bytes);
  }

  /** Says how it ended, to the client in the trailers, and to the log; `error` is null where it went well. */
  end(error: unknown): { readonly failed: ReturnType<typeof statusOf> | null; readonly trailers: Metadata } {
    this.#call.off('cancelled', this.#onCancelled);
    const failed = error === null ? null : statusOf(error);
    const trailers = failed?.metadata ?? new Metadata();
    trailers.set('x-request-id', this.#id);
    if (headerOf(this.#call.metadata, 'traceparent') !== undefined) trailers.set('traceresponse', traceparentOf(this.#trace));
    // What the client does not wait for any more ended for it as it says, whatever came of it here.
    const code = this.#giveUp.signal.aborted ? this.#lostAs() : (failed?.code ?? status.OK);
    this.#log(code, failed?.details, error);
    return { failed, trailers };
  }

  #log(code: status, details: string | undefined, error: unknown): void {
    const { log, logEvery } = this.#settings;
    let level: 'debug' | 'info' | 'warn' | 'error' = faults.has(code) ? 'warn' : 'info';
    if (code === status.INTERNAL && !isRxgradError(error)) level = 'error';
    if (code === status.OK) {
      wentWell += 1;
      if (logEvery === 0 || wentWell % logEvery !== 0) level = 'debug';
    }
    if (!log.isLevelEnabled(level)) return;
    const { traceId, spanId, parentId } = this.#trace;
    const facts = {
      requestId: this.#id,
      traceId,
      spanId,
      ...(parentId === null ? {} : { parentId }),
      method: this.#method,
      status: status[code],
      durationMs: Math.round((performance.now() - this.#startedAt) * 1000) / 1000,
      ...(details === undefined ? {} : { error: shownText(details) }),
      ...(level === 'error' ? { err: error } : {}),
    };
    log[level](facts, 'call');
  }

  #lostAs(): status {
    return Number(this.#call.getDeadline()) <= Date.now() ? status.DEADLINE_EXCEEDED : status.CANCELLED;
  }
}

let wentWell = 0;

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
      callback(null, response, context.end(null).trailers);
    } catch (error) {
      callback(context.end(error).failed);
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
        countAnswered(call.metadata);
        if (!hasRoom) await once(call, 'drain', { signal: context.context.signal });
      }
      call.end(context.end(null).trailers);
    } catch (error) {
      const { failed } = context.end(error);
      // Who is gone gets no answer.
      if (!call.cancelled) call.emit('error', failed);
    }
  };
}

function headerOf(metadata: Metadata, name: string): string | undefined {
  const [value] = metadata.get(name);
  return typeof value === 'string' ? value : undefined;
}
