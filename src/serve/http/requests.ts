import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { requestIdOf } from '../request-id.ts';
import { shownText } from '../shown-text.ts';
import { type TraceContext, traceContext, traceparentOf } from '../trace-context.ts';

/** The id that the caller gave its request, if it is a plain one; else a new one. */
export function requestId({ headers }: IncomingMessage): string {
  return requestIdOf(headers['x-request-id']);
}

const traces = new WeakMap<FastifyRequest, TraceContext>();

/** Where a request stands in a trace. Made when first asked for, as most requests are neither traced nor logged. */
export function traceOf(request: FastifyRequest): TraceContext {
  let trace = traces.get(request);
  if (!trace) {
    trace = traceContext(request.headers.traceparent);
    traces.set(request, trace);
  }
  return trace;
}

/** Says which request an answer belongs to. */
export function nameAnswer(request: FastifyRequest, reply: FastifyReply): void {
  reply.header('x-request-id', request.id);
  if (request.headers.traceparent !== undefined) reply.header('traceresponse', traceparentOf(traceOf(request)));
}

const lost = Symbol('lost');

/** Is aborted when the connection ends. One for all requests of a connection, so that it costs none of them anything. */
export function connectionSignal(socket: Socket & { [lost]?: AbortSignal }): AbortSignal {
  let signal = socket[lost];
  if (!signal) {
    const controller = new AbortController();
    socket.once('close', () => controller.abort());
    signal = controller.signal;
    socket[lost] = signal;
  }
  return signal;
}

/** Which requests leave a line in the log. */
export interface RequestLog {
  readonly log: Logger;
  /** One in so many of those that went well is logged at `info`, the others at `debug`; 0 for none. */
  readonly logEvery: number;
}

/** Makes what writes a request's line: no body, no header but the ids. */
export function requestLogger({ log, logEvery }: RequestLog): (request: FastifyRequest, reply: FastifyReply) => void {
  let wentWell = 0;
  const debugs = log.isLevelEnabled('debug');
  return (request, reply) => {
    const status = reply.raw.writableFinished ? reply.statusCode : 499;
    let level: 'debug' | 'info' | 'warn' = status >= 500 ? 'warn' : 'info';
    if (status < 400 && !request.url.startsWith('/admin')) {
      wentWell++;
      if (logEvery === 0 || wentWell % logEvery !== 0) {
        if (!debugs) return;
        level = 'debug';
      }
    }
    const { traceId, spanId, parentId } = traceOf(request);
    log[level](
      {
        requestId: request.id,
        traceId,
        spanId,
        ...(parentId === null ? {} : { parentId }),
        method: request.method,
        path: shownText(request.url),
        status,
        durationMs: Math.round(reply.elapsedTime * 1000) / 1000,
      },
      'request',
    );
  };
}
